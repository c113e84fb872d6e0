"""The export stage: a trained run in; files that passed parity, and their manifest, out."""

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32
from rich.table import Column, Table

from export.product import parity
from export.product.parity import Reference
from export.product.product import PARITY_REFERENCE, Networks, Product, Unsuitable
from export.product.quiet import quiet
from export.publishing import golden, handout
from export.quantization.training import config_of, trained_qat
from export.quantization.unwrap import pick_weights
from export.targets import TARGETS, Target
from portraitseg import contract, files, identity, manifest, terms
from portraitseg.checks.gpu.report import check_gpu
from portraitseg.cli import console, say, table_console, warn
from portraitseg.config import Config
from portraitseg.data import Dataset, open_dataset, spread
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import RECOMMENDED_NAME, FileEntry, GpuCheck, Manifest, Parity, Source
from portraitseg.models import checkpoint
from portraitseg.runners import open_runner
from portraitseg.runs import Run

if TYPE_CHECKING:
    from train.machines.cluster import Cluster
    from train.machines.together import Together

#: Photos on which RGBA and RGB files are compared bit by bit: equal arithmetic needs no large sample.
_TWIN_PHOTOS = 4


#: What may change an exported file, beside our own code.
_TOOLS = (
    "tensorflow",
    "tensorflow-model-optimization",
    "coremltools",
    "onnx",
    "tf2onnx",
    "ai-edge-litert",
    "onnxruntime",
)

#: Photos that run on the GPU: a driver in software takes seconds for each.
_GPU_PHOTOS = 2

#: Recipes that a phone's GPU must take whole; of the others the check is only recorded (docs/interface.md).
GPU_GATED = ("fp16", "qat_wi8_ai8")


@dataclass(frozen=True)
class Made:
    """A file that was written to the scratch folder and measured.

    Attributes:
        path: name of the file.
        entry: for the manifest; None where the conversion itself did not pass its check.
        fault: why it is not published; None: it passed.
        left_out: why the network is to do without it, which is no failure.
    """

    path: str
    entry: FileEntry | None
    fault: str | None
    left_out: str | None = None


def export_run(run: Run, config: Config, target_name: str, skip_qat: bool = False) -> Manifest:
    """Exports a run for one target.

    Files are made and measured in a scratch folder; only those that passed come to lie under their names.

    Args:
        run: trained by `python -m train fit`.
        config: what the run saved, with the overrides of this export.
        target_name: a key of `TARGETS`.
        skip_qat: post-training files in the place of those that need quantization-aware training.

    Returns:
        The manifest as written.

    Raises:
        InputError: no such run or recipe, weights or photos other than it was trained with, a layer that cannot be
            quantized.
        CheckFailed: files that are too far from the Keras model, after all were measured.
    """
    target = TARGETS[target_name]
    folder = target.folder(run)
    recipes = target.choose(config.export.recipes, with_qat=not skip_qat)
    source = verified_source(run)
    with run.locked():
        dataset = open_dataset(config.data, config.seed)
        check_photos(source, dataset)
        networks = load_networks(
            run, source, config, dataset, with_qat=any(target.recipes[name] == "qat" for name in recipes)
        )
        if not target.needs_qat:
            networks = pick_weights(networks, run, source, config, dataset)
        photos = [
            dataset.load(key).image for key in spread(dataset.keys(config.data.val_split), config.export.parity_photos)
        ]
        with files.scratch_folder(folder.parent) as scratch:
            made = make_files(target, networks, photos, scratch, recipes)
            result = publish(made, source, folder, scratch, target)
        manifest.add_stage(run.artifact, source, f"export_{target_name}", _facts(made, networks))
    _show(made, folder)
    if faults := [f"{item.path}: {item.fault}" for item in made if item.fault]:
        raise CheckFailed(f"{len(faults)} of {len(made)} files not published: {'; '.join(faults)}")
    return result


def qat_run(
    run: Run, config: Config, cluster: "Cluster | None" = None, wait_s: float = 50.0, device: str = "auto"
) -> None:
    """Quantization-aware training alone, for a later export: on several machines, or on GPUs.

    Args:
        run: trained, with its files on all machines.
        config: what the run saved, with the overrides of this export.
        cluster: of this machine among several; the first alone writes.
        wait_s: for workers that have not come yet.
        device: `auto`, `cpu` or `gpu`.

    Raises:
        InputError: as `export_run`, or workers that do not fit together.
        CheckFailed: training diverged, or another worker failed.
    """
    from train.machines.devices import choose
    from train.machines.together import Together

    source = verified_source(run)
    with run.locked() if cluster is None or cluster.is_chief else nullcontext():
        devices = choose(device)
        dataset = open_dataset(config.data, config.seed)
        check_photos(source, dataset)
        known_by = identity.of_qat(config, source.weights_sha256)
        with Together(cluster, devices, config_of(config), known_by, dataset, wait_s) as together:
            load_networks(run, source, config, dataset, with_qat=True, together=together)
    is_chief = together.team.is_chief
    say(f"{run.qat}: finished" if is_chief else f"worker {together.team.task}: done; the network is with worker 0")


def _facts(made: list[Made], networks: Networks) -> dict[str, Any]:
    """What artifact.json says of an export."""
    facts: dict[str, Any] = {
        "files": {item.path: item.entry.sha256 for item in made if item.entry and item.fault is None},
        "tools": manifest.tool_versions(*_TOOLS),
        "git_commit": manifest.git_commit(),
    }
    if networks.val_iou:
        facts |= {"weights": networks.better_float, "val_iou": dict(networks.val_iou)}
    return facts


def verified_source(run: Run) -> Source:
    """Where the run's weights come from, once best.h5 is known to be those weights.

    Raises:
        InputError: not trained yet, or other weights than artifact.json names.
    """
    if not run.config.exists() or not run.artifact.exists():
        raise InputError(f"{run.folder}: no finished training: run `make train RUN={run.name}` first")
    source = manifest.read(manifest.Artifact, run.artifact).source
    if not run.best.exists():
        raise InputError(f"{run.best}: no such file: run `make train RUN={run.name}` first")
    if files.sha256(run.best) != source.weights_sha256:
        raise InputError(f"{run.best}: its SHA-256 differs from {run.artifact}: finish the training of the run first")
    return source


def check_photos(source: Source, dataset: Dataset) -> None:
    """Makes sure that the photos are those of the training: QAT and the manifest rely on it.

    Raises:
        InputError: another split under the same name.
    """
    for split, expected in {item.split: item.sha256_16 for item in source.data}.items():
        actual = dataset.split_hash(split)
        if actual != expected:
            raise InputError(
                f"{dataset.name}: split '{split}' has hash {actual}, the run was trained on {expected}: "
                "give the photos of the training, or train anew"
            )


def load_networks(
    run: Run,
    source: Source,
    config: Config,
    dataset: Dataset,
    with_qat: bool,
    together: "Together | None" = None,
) -> Networks:
    """Rebuilds the run's network, reads the photos for calibration and trains or loads the QAT network."""
    with quiet():
        float_model = checkpoint.load(run.best)
    calibration = calibration_inputs(float_model, dataset, config)
    model = None
    if with_qat:
        model = trained_qat(run, source, config, dataset, float_model, calibration, together)
    return Networks(
        float_model=float_model,
        qat_model=model,
        calibration=calibration,
        run=run.name,
        licence=terms.sentence(source),
    )


def calibration_inputs(float_model: Any, dataset: Dataset, config: Config) -> Float32[np.ndarray, "n h w 3"]:
    """Photos of the training split, evenly over it."""
    keys = spread(dataset.keys(config.data.train_split), config.export.calibration_photos)
    size = float_model.input_shape[1:3]
    return np.concatenate([contract.image_to_inputs(dataset.load(key).image, size) for key in keys])


def make_files(
    target: Target, networks: Networks, photos: parity.Photos, scratch: Path, recipes: frozenset[str]
) -> list[Made]:
    """Writes and measures the files of a target that are of these recipes, however many fail."""
    references: dict[str, Reference] = {}
    made = []
    for product in target.products(networks):
        if product.recipe not in recipes:
            continue
        if product.reference not in references:
            model, name = networks.get(product.reference), PARITY_REFERENCE[product.reference]
            references[product.reference] = parity.predict_keras(model, photos, name)
        made.append(_make(product, references[product.reference], networks.name, scratch, target))
    return made


def _make(product: Product, reference: Reference, model: str, scratch: Path, target: Target) -> Made:
    path = scratch / product.path
    try:
        product.write(path)
        result, fault = parity.measure(path, reference, product.bound)
    except Unsuitable as error:
        return Made(product.path, None, None, left_out=str(error))
    except CheckFailed as error:
        return Made(product.path, None, str(error))
    if product.rgb_twin is not None and (scratch / product.rgb_twin).exists():
        rgb = open_runner(scratch / product.rgb_twin)
        if not parity.is_equal_to_rgb(open_runner(path), rgb, reference.photos[:_TWIN_PHOTOS]):
            fault = f"differs from {product.rgb_twin} under another alpha"
    gpu = tuple(check_gpu(path, reference.photos[:_GPU_PHOTOS])) if target.is_gpu_checked else ()
    if refused := [check for check in gpu if check.verdict == "failed" and product.recipe in GPU_GATED]:
        refusals = "; ".join(f"{check.route}: {check.reason}" for check in refused)
        fault = f"{fault}; {refusals}" if fault else refusals
    return Made(product.path, _entry(product, path, model, result, gpu), fault)


def publish(made: list[Made], source: Source, folder: Path, scratch: Path, target: Target) -> Manifest:
    """Puts what passed, manifest.json and recommended.json into the folder, all in one step.

    A kill leaves the earlier files with the earlier manifest, or the new ones with theirs. A file of an earlier export
    whose successor failed is taken away, so that nobody takes it for this one.
    """
    passed = [item.entry for item in made if item.fault is None and item.entry is not None]
    failed = {item.path for item in made if item.fault is not None or item.left_out is not None}
    result = manifest.extended(folder / manifest.MANIFEST_NAME, source, passed)
    result = result.model_copy(update={"files": tuple(entry for entry in result.files if entry.path not in failed)})
    with files.revising(folder) as revised:
        for item in made:
            files.remove(revised / item.path)
            if item.path not in failed:
                shutil.move(scratch / item.path, revised / item.path)
        manifest.write(revised / manifest.MANIFEST_NAME, result)
        # they tell of the files that were released before
        handout.clear(revised)
        if target.recommended:
            files.write_json(revised / RECOMMENDED_NAME, recommend(result, target))
            if not golden.write(revised, result):
                warn("no golden vectors: the files tell right pixels from wrong ones on no synthetic portrait")
    return result


def recommend(listed: Manifest, target: Target) -> dict[str, str]:
    """Device class → path of the file to take, for the classes that have one."""
    paths = [entry.path for entry in listed.files]
    by_device = {
        device: next((path for end in ends for path in paths if path.endswith(end)), None)
        for device, ends in target.recommended.items()
    }
    return {device: path for device, path in by_device.items() if path is not None}


def load_run_config(
    run: Run, overrides: list[str] | None, data: Path | None = None, format: str | None = None
) -> Config:
    """The configuration that training saved, with overrides of what may still change.

    Args:
        run: trained.
        overrides: `--set`.
        data, format: where the photos have moved, `--data` and `--format`.

    Raises:
        InputError: not trained yet, or an override of what decided the training.
    """
    from portraitseg.config import data_overrides, load_config

    for override in overrides or []:
        section = override.partition("=")[0].strip().partition(".")[0]
        if section not in ("qat", "export") and not override.strip().startswith(("data.root=", "data.format=")):
            raise InputError(f"--set {override}: at export only qat.*, export.*, data.root and data.format can be set")
    saved = run.require_config()
    return load_config(saved, data_overrides(saved, data, format) + (overrides or []))


def _entry(product: Product, path: Path, model: str, result: Parity, gpu: tuple[GpuCheck, ...]) -> FileEntry:
    source, mask = product.describe(path)
    return FileEntry(
        path=product.path,
        sha256=files.sha256(path),
        bytes=files.size_bytes(path),
        model=model,
        channels=product.channels,
        recipe=product.recipe,
        input=source,
        output=mask,
        parity=result,
        gpu=gpu,
        note=product.note,
    )


def _show(made: list[Made], folder: Path) -> None:
    table = Table(Column("file", no_wrap=True), "bytes", "max abs", "mean abs", "mask IoU", "parity", "GPU")
    for item in made:
        if item.entry is None:
            table.add_row(item.path, "–", "–", "–", "–", "left out" if item.left_out else "failed", "–")
            continue
        result = item.entry.parity
        verdict = "failed" if item.fault else f"not run: {result.not_run}" if result.not_run else "passed"
        figures = (_text(result.max_abs, ".2g"), _text(result.mean_abs, ".2g"), _text(result.mask_iou, ".4f"))
        table.add_row(item.path, f"{item.entry.bytes:,}", *figures, verdict, _gpu_verdict(item.entry.gpu))
    table_console(to_stderr=True).print(table)
    for item in made:
        if item.left_out:
            console.print(f"{item.path} left out: {item.left_out}", markup=False, soft_wrap=True)
    checks = [check for item in made if item.entry is not None for check in item.entry.gpu]
    for why in sorted({f"{check.route}: {check.reason}" for check in checks if check.verdict == "not_run"}):
        console.print(f"GPU, not run: {why}", markup=False, soft_wrap=True)
    published = sum(item.fault is None and item.left_out is None for item in made)
    console.print(f"{published} of {len(made)} files published in {folder}")


def _gpu_verdict(checks: tuple[GpuCheck, ...]) -> str:
    """The worst that a route says: `failed`, else `not_run`, else `passed`."""
    verdicts = {check.verdict for check in checks}
    return next((verdict for verdict in ("failed", "not_run", "passed") if verdict in verdicts), "–")


def _text(figure: float | None, form: str) -> str:
    return "–" if figure is None else format(figure, form)
