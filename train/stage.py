"""The train stage: configuration and photos in; h5 files, the resolved configuration and artifact.json out."""

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from portraitseg import files, identity, manifest, models, terms
from portraitseg.cli import console, say, warn
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.data.base import Dataset, hash_keys, set_of
from portraitseg.data.checking import DataCheck
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from portraitseg.runs import Run
from train import augmenter, function_matching, losses
from train.check import check_data
from train.evaluate import KerasEvaluator
from train.fit import FitResult, Plan, fit
from train.machines.cluster import Cluster
from train.machines.devices import choose
from train.machines.together import Together, begin
from train.optimize import check_losses, deployed
from train.stream import BatchMaker, maker_of
from train.weights import pretrained
from train.weights.terms import derived_from

#: Photos of a split of shards that are looked at before each training: a minute of one core.
_MOST_CHECKED = 10_000

_TOOLS = ("tensorflow", "tf-keras", "numpy", "opencv-python-headless", "pillow")


def train_run(
    run: Run,
    config: Config,
    init: Path | None = None,
    overwrite: bool = False,
    cluster: Cluster | None = None,
    wait_s: float = 50.0,
    device: str = "auto",
) -> FitResult:
    """Trains a run, or goes on with one that was stopped.

    Args:
        run: where the files go.
        config: everything that decides it.
        init: h5 of the same network to start from.
        overwrite: begin anew, whatever the folder holds.
        cluster: of this machine among several; the first alone reads `init` and writes.
        wait_s: for workers that have not come yet.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        InputError: unusable photos, configuration or checkpoint; no epochs, and nothing to begin with; workers that do
            not fit together.
        CheckFailed: a loss that is not finite, or another worker that failed.
        KeyboardInterrupt: stopped by the user, with the state saved.
    """
    is_chief = cluster is None or cluster.is_chief
    if config.train.epochs == 0 and init is None and is_chief:
        raise InputError("train.epochs=0 keeps the weights that it begins with: name them, INIT=<an h5>")
    with run.locked() if is_chief else nullcontext():
        # now, not when training ends: the checkout may have moved on by then
        commit = manifest.git_commit()
        # a misspelt name shows before photos are read, and before anything is cleared
        augmenter.build(config.augment)
        losses.needs(config.loss)
        devices = choose(device)
        dataset = open_dataset(config.data, config.seed)
        with Together(cluster, devices, config, identity.of_training(config), dataset, wait_s) as together:
            begin(config.seed)
            build = partial(models.build_for_training, config.model.name, config.model.size)
            model = build()
            needs = check_losses(model, config)
            maker = replace(maker_of(dataset, config, needs), share=together.share)
            function_matching.check(config)
            init_sha256, bound = "", tuple[manifest.Derived, ...]()
            if is_chief:
                load_start(deployed(model), config, init)
                # of what was loaded: by the time that all photos are read, another training may have replaced it
                init_sha256 = files.sha256(init) if init else ""
                bound = derived_from(config, dataset, maker.blank_keys, init, init_sha256)
            optimization = together.optimization(model, build, config)
            checked = _check_photos(maker, config) if is_chief else None
            if overwrite and is_chief:
                _check_kept(run, init)
                clear(run)
            plan = Plan(
                epochs=config.train.epochs,
                learning_rate=config.train.learning_rate,
                init_sha256=init_sha256,
            )
            result = fit(
                optimization,
                maker=maker,
                config=config,
                plan=plan,
                folder=run.folder,
                label=f"train {run.name}",
                on_start=lambda: _begin(run, config),
                team=together.team,
            )
        if checked is None:
            say(f"worker {together.team.task}: done; what was trained is with worker 0")
            return result
        began = {"file": init.name, "sha256": init_sha256} if init else None
        record(run, config, maker, result, commit, began, bound)
    say_of_background_only(model, dataset, config, checked)
    of_what = f"in epoch {result.best_epoch}" if result.best_epoch else "of the weights as they began"
    console.print(f"best validation IoU {100 * result.best_iou:.2f} % {of_what}: {run.best}")
    return result


def _check_photos(maker: BatchMaker, config: Config) -> DataCheck:
    """Reads all photos once, of shards some: those were read when they were packed. The chief's are those of all."""
    if config.train.blank_share and not maker.blank_keys:
        warn(
            f"train.blank_share: {maker.dataset.name} has no background-only photos in a set called "
            f"{' or '.join(config.data.blank_sets) or '(data.blank_sets names none)'}: training goes without"
        )
    mask_free = {"blank photos": maker.blank_keys} if maker.blank_keys else {}
    splits = (config.data.train_split, config.data.val_split)
    most = _MOST_CHECKED if maker.dataset.was_read else None
    return check_data(maker.dataset, splits, needs_masks=True, mask_free=mask_free, most=most)


def _begin(run: Run, config: Config) -> None:
    """Says, beside the configuration, what the training is known by: the teachers' files may change later."""
    files.write_text(run.config, config.model_dump_json(indent=2) + "\n")
    files.write_json(run.identity, {"training": identity.of_training(config)})


def say_of_background_only(model: Any, dataset: Dataset, config: Config, checked: DataCheck) -> None:
    """Says what the validation IoU owes to background-only photos, where there are some."""
    keys = dataset.keys(config.data.val_split)
    if checked.peopled[config.data.val_split] == checked.looked[config.data.val_split]:
        return
    scores = list(KerasEvaluator(dataset, keys, config.model.size).scores(deployed(model)))
    empty = [score for score, is_empty in scores if is_empty]
    others = [score for score, is_empty in scores if not is_empty]
    say(
        f"{len(empty)} of {len(keys)} validation photos show nobody; on {sum(map(bool, empty))} of them "
        f"nothing was found, which counts as IoU 1; the others alone have {100 * sum(others) / len(others):.2f} %"
    )


def _data_sources(dataset: Dataset, split: str) -> tuple[manifest.DataSource, ...]:
    names = dataset.sets(split)
    sources = []
    for name in names:
        terms = dataset.terms_of(name)
        sources.append(
            manifest.DataSource(
                set=name,
                split=split,
                sha256_16=dataset.split_hash(split),
                licence=terms.licence,
                use=terms.use,
                citation=terms.citation,
                weight=dataset.weights.get(name.partition("/")[0]),
            )
        )
    return tuple(sources)


def load_start(model: Any, config: Config, init: Path | None) -> None:
    """Loads what the configuration, and then `init`, begin with.

    Raises:
        InputError: another network, one of quantization-aware training, damaged, or no ImageNet weights for it.
    """
    chosen = config.model.pretrained
    with_imagenet = chosen == "imagenet" or (chosen == "auto" and pretrained.is_known(config.model.name))
    if with_imagenet:
        pretrained.load_imagenet(model)
    if init is not None:
        checkpoint.load_weights(model, init)


def clear(run: Run) -> None:
    """Takes away what an earlier training left in the run's folder, and nothing else."""
    for path in _leavings(run):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _leavings(run: Run) -> list[Path]:
    names = ("best.h5", "last.h5", "state.npz", "config.json", "identity.json", "artifact.json", "tensorboard", "qat")
    return [*(run.folder / name for name in names), *run.folder.glob("epoch_*.h5")]


def _check_kept(run: Run, init: Path | None) -> None:
    """Refuses to clear away what the training that comes begins with."""
    going = {path.resolve() for path in _leavings(run)}
    if init is not None and going & {init.resolve(), *init.resolve().parents}:
        raise InputError(f"INIT {init}: --overwrite would delete it: copy it elsewhere, or name another RUN")


def record(
    run: Run,
    config: Config,
    maker: BatchMaker,
    result: FitResult,
    commit: str,
    init: Mapping[str, str] | None = None,
    bound: tuple[manifest.Derived, ...] = (),
) -> None:
    """Writes artifact.json: where the weights come from (`commit`: of the code that trained), and how it went.

    What binds them (their photos, and `bound`) is written into best.h5 and last.h5 too, so that it goes with a copy.
    """
    dataset, split = maker.dataset, config.data.train_split
    source = manifest.Source(
        model=config.model.name,
        config_sha256=identity.of_config(config),
        git_commit=commit,
        seed=config.seed,
        weights_sha256=files.sha256(run.best),
        data=_data_sources(dataset, split),
        derived_from=bound,
        tools=manifest.tool_versions(*_TOOLS),
    )
    # the last epoch's are averaged and begun with as well; without epochs there are none
    for path in (run.best, run.best.with_name("last.h5")):
        if path.exists():
            checkpoint.annotate(path, terms.note(source))
    weights = files.sha256(run.best)
    source = source.model_copy(update={"weights_sha256": weights, "use": terms.use_of_source(source)})
    say(f"licence of the weights: {terms.sentence(source)}")
    if run.artifact.exists():
        earlier = manifest.read(manifest.Artifact, run.artifact).source
        if earlier.weights_sha256 == weights:
            # the command was repeated on a finished run: nothing of today went into its weights
            source = source.model_copy(update={"git_commit": earlier.git_commit, "tools": earlier.tools})
    facts: dict[str, Any] = {
        "best_val_iou": result.best_iou,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "val_sha256_16": dataset.split_hash(config.data.val_split),
    }
    if init is not None:
        # what these weights learnt from, they are bound by as well
        facts["init"] = dict(init)
    if blank := maker.blank_keys:
        sets = sorted({set_of(key) for key in blank})
        facts["blank_photos"] = {"sets": sets, "photos": len(blank), "sha256_16": hash_keys(blank)}
    if config.distill.files:
        facts["distill"] = {
            "files_sha256": identity.teachers(config),
            "blend": config.distill.blend,
            "mixup": config.distill.mixup,
        }
    manifest.add_stage(run.artifact, source, "train", facts)
