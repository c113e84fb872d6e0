"""The train stage: configuration and photos in; h5 files, the resolved configuration and artifact.json out."""

import hashlib
import json
import shutil
from pathlib import Path

from portraitseg import files, manifest, models
from portraitseg.cli import console
from portraitseg.config import Config, decisive
from portraitseg.data import Dataset, open_dataset
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras, tf
from portraitseg.runs import Run
from train import augment, losses, pretrained
from train.check import check_data
from train.fit import FitResult, Interrupted, Plan, fit

_TOOLS = ("tensorflow", "tf-keras", "numpy", "opencv-python-headless", "pillow")


def train_run(run: Run, config: Config, init: Path | None = None, overwrite: bool = False) -> FitResult:
    """Trains a run, or goes on with one that was stopped.

    Args:
        run: where the files go.
        config: everything that decides it.
        init: h5 of the same network to start from.
        overwrite: begin anew, whatever the folder holds.

    Raises:
        InputError: unusable photos, configuration or checkpoint.
        CheckFailed: a loss that is not finite.
        KeyboardInterrupt: stopped by the user, with the state saved.
    """
    with run.locked():
        # now, not when training ends: the checkout may have moved on by then
        commit = manifest.git_commit()
        # a misspelt name shows before photos are read, and before anything is cleared
        augment.build(config.augment)
        losses.build(config.loss)
        keras.utils.set_random_seed(config.seed)
        # resumed and uninterrupted runs are to agree to the last bit; measured cost on two cores: none
        tf.config.experimental.enable_op_determinism()
        model = models.build(config.model.name, config.model.size)
        if config.model.pretrained is not None:
            pretrained.load_imagenet(model)
        if init is not None:
            checkpoint.load_weights(model, init)
        dataset = open_dataset(config.data, config.seed)
        check_data(dataset, (config.data.train_split, config.data.val_split), needs_masks=True)
        if overwrite:
            clear(run)
        plan = Plan(
            epochs=config.train.epochs,
            learning_rate=config.train.learning_rate,
            init_sha256=files.sha256(init) if init else "",
        )
        try:
            result = fit(
                model,
                dataset=dataset,
                config=config,
                plan=plan,
                folder=run.folder,
                label=f"train {run.name}",
                on_start=lambda: files.write_text(run.config, config.model_dump_json(indent=2) + "\n"),
            )
        except Interrupted as error:
            console.print(f"{error}; the same command goes on from there")
            raise
        record(run, config, dataset, result, commit)
    console.print(f"best validation IoU {100 * result.best_iou:.2f} % in epoch {result.best_epoch}: {run.best}")
    return result


def clear(run: Run) -> None:
    """Takes away what an earlier training left in the run's folder, and nothing else."""
    for name in (
        "best.h5",
        "last.h5",
        "state.npz",
        "config.json",
        "artifact.json",
        *(p.name for p in run.folder.glob("epoch_*.h5")),
    ):
        (run.folder / name).unlink(missing_ok=True)
    for name in ("tensorboard", "qat"):
        if (run.folder / name).is_dir():
            shutil.rmtree(run.folder / name)


def record(run: Run, config: Config, dataset: Dataset, result: FitResult, commit: str) -> None:
    """Writes artifact.json: where the weights come from (`commit`: of the code that trained), and how it went."""
    split = config.data.train_split
    weights = files.sha256(run.best)
    source = manifest.Source(
        model=config.model.name,
        config_sha256=config_hash(config),
        git_commit=commit,
        seed=config.seed,
        weights_sha256=weights,
        data=tuple(
            manifest.DataSource(set=name, split=split, sha256_16=dataset.split_hash(split), licence=dataset.licence)
            for name in dataset.sets(split)
        ),
        tools=manifest.tool_versions(*_TOOLS),
    )
    if run.artifact.exists():
        earlier = manifest.read(manifest.Artifact, run.artifact).source
        if earlier.weights_sha256 == weights:
            # the command was repeated on a finished run: nothing of today went into its weights
            source = source.model_copy(update={"git_commit": earlier.git_commit, "tools": earlier.tools})
    facts = {
        "best_val_iou": result.best_iou,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "val_sha256_16": dataset.split_hash(config.data.val_split),
    }
    manifest.add_stage(run.artifact, source, "train", facts)


def config_hash(config: Config) -> str:
    """SHA-256 of the resolved configuration without the folder of the photos: the same on every machine."""
    values = decisive(config, {"data": {"root"}})
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
