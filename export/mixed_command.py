"""What `python -m export mixed` does: whether a mixed file pays, and its publication where it does."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from export import golden, mixed, sensitivity, stage
from export.mixed import Cost
from export.targets import TARGETS
from portraitseg import contract, files, manifest, metrics
from portraitseg.cli import say
from portraitseg.config import Config
from portraitseg.data import Dataset, open_dataset, spread
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import Parity
from portraitseg.runners import open_runner
from portraitseg.runs import Run

#: Gain of IoU on `val` over the whole int8 file from which the float layers pay: half of what int8 may cost at all.
LEAST_GAIN = 0.001

#: Photos of the training split that tell which layers lose most.
_PHOTOS = 8


@dataclass(frozen=True)
class Line:
    """One file of the comparison.

    Attributes:
        iou, boundary_iou: means on `val`.
        parity: beside Keras.
    """

    path: Path
    iou: float
    boundary_iou: float
    parity: Parity
    cost: Cost


def run_mixed(run: Run, config: Config, count: int, layers: Sequence[str]) -> None:
    """Makes the mixed file of an exported run, compares it with the whole int8 one, and publishes it where it pays.

    Writes runs/<run>/export/mixed.md where there is a layer to spare. A mixed file of before that no longer pays is
    taken away.

    Args:
        run: exported for Android.
        config: of the run.
        count: layers that are spared at most.
        layers: to spare instead of those that lose most.

    Raises:
        InputError: not exported yet, or no such layer.
        CheckFailed: the mixed file is too far from the Keras model.
    """
    source = stage.verified_source(run)
    with run.locked():
        float_path, integer_path, listed = _exported(run)
        dataset = open_dataset(config.data, config.seed)
        stage.check_photos(source, dataset)
        networks = stage.load_networks(run, source, config, dataset, with_qat=False)
        spared = tuple(layers) or _worst(float_path, integer_path, dataset, config, count)
        if not spared:
            _take_away(run, mixed.product(networks, spared).path, listed)
            say(f"mixed: no layer of {integer_path.name} loses {mixed.LEAST_LOSS_DB:g} dB: there is none to spare")
            return
        keys = dataset.keys(config.data.val_split)
        photos = [dataset.load(key).image for key in spread(keys, config.export.parity_photos)]
        target = replace(TARGETS["android"], products=lambda n: [mixed.product(n, spared)])
        with files.scratch_folder(run.android.parent) as scratch:
            (made,) = stage.make_files(target, networks, photos, scratch)
            if made.entry is None:
                raise CheckFailed(f"{made.path}: {made.fault}")
            agreements = {entry.path: entry.parity for entry in listed.files} | {made.path: made.entry.parity}
            lines = [
                _line(path, dataset, keys, agreements[path.name])
                for path in (float_path, integer_path, scratch / made.path)
            ]
            gain = lines[2].iou - lines[1].iou
            pays = gain >= LEAST_GAIN and made.fault is None
            text = to_markdown(lines, spared, gain, config.data.val_split, made.fault)
            Console(highlight=False, soft_wrap=True).print(text, markup=False)
            report = run.folder / "export" / "mixed.md"
            files.write_text(report, text)
            if pays:
                stage.publish([made], source, run.android, scratch, target)
                say(f"mixed: published {run.android / made.path}")
            else:
                _take_away(run, made.path, listed)
                say(f"mixed: does not pay: not published; {report}")
        if made.fault is not None:
            raise CheckFailed(f"{made.path}: {made.fault}")


def to_markdown(lines: Sequence[Line], spared: Sequence[str], gain: float, split: str, fault: str | None) -> str:
    """Quality on `split`, agreement with Keras, and what the cuts cost; then the verdict, and the file's `fault`."""
    head = f"| file | MB | IoU {split} | boundary | mean abs | mask IoU | operators | casts | float | float MACs "
    rows = [
        "# Mixed: float for the layers that lose most",
        "",
        f"Spared: {', '.join(spared)}.",
        "",
        head + "| CPU parts | GPU classic | GPU ML Drift |",
        "|---|" + "--:|" * 12,
    ]
    for line in lines:
        cost = line.cost
        cells = [
            line.path.name,
            f"{line.path.stat().st_size / 1e6:.2f}",
            f"{100 * line.iou:.2f}",
            f"{100 * line.boundary_iou:.2f}",
            "–" if line.parity.mean_abs is None else f"{line.parity.mean_abs:.2g}",
            "–" if line.parity.mask_iou is None else f"{line.parity.mask_iou:.4f}",
            str(cost.ops),
            str(cost.casts),
            str(cost.float_ops),
            f"{100 * cost.float_macs:.0f} %",
            str(cost.cpu_parts),
            f"{100 * cost.gpu['classic']:.0f} %",
            f"{100 * cost.gpu['mldrift']:.0f} %",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    verdict = "pays" if gain >= LEAST_GAIN else "does not pay"
    needed = f"at least {100 * LEAST_GAIN:g} points of IoU on {split} are asked for"
    rows += ["", f"{100 * gain:+.2f} points over {mixed.WITHOUT}: it {verdict} ({needed})."]
    return "\n".join([*rows, *([f"Not published: {fault}."] if fault else []), ""])


def _exported(run: Run) -> tuple[Path, Path, manifest.Manifest]:
    """The float and the whole int8 file of RGB (or prior) photos, and the manifest, its hashes verified."""
    path = run.android / manifest.MANIFEST_NAME
    if not path.exists():
        raise InputError(f"{path}: no such file: run `make export-android RUN={run.name}` first")
    listed = manifest.read(manifest.Manifest, path)
    manifest.verify(listed, run.android)
    found = {entry.recipe: run.android / entry.path for entry in listed.files if entry.channels != "rgba"}
    for recipe in ("fp32", mixed.WITHOUT):
        if recipe not in found:
            raise InputError(f"{path}: lists no {recipe} file: run `make export-android RUN={run.name}` first")
    return found["fp32"], found[mixed.WITHOUT], listed


def _worst(float_path: Path, integer_path: Path, dataset: Dataset, config: Config, count: int) -> tuple[str, ...]:
    keys = spread(dataset.keys(config.data.train_split), _PHOTOS)
    rows = sensitivity.compare(float_path, integer_path, [dataset.load(key).image for key in keys])
    return mixed.worst_layers(rows, count)


def _line(path: Path, dataset: Dataset, keys: Sequence[str], agreement: Parity) -> Line:
    runner = open_runner(path, threads=2)
    scores = []
    for key in keys:
        sample = dataset.load(key)
        assert sample.mask is not None, f"{key}: checked before training"
        truth = contract.truth_to_mask(sample.mask)
        mask = contract.probability_to_mask(runner.predict(sample.image), truth.shape)
        scores.append((metrics.iou(mask, truth), metrics.boundary_iou(mask, truth)))
    iou, boundary_iou = np.mean(scores, axis=0)
    return Line(path, float(iou), float(boundary_iou), agreement, mixed.cost_of(path))


def _take_away(run: Run, name: str, listed: manifest.Manifest) -> None:
    """A mixed file of an earlier export, with its line in the manifest."""
    if not (run.android / name).exists():
        return
    left = listed.model_copy(update={"files": tuple(entry for entry in listed.files if entry.path != name)})
    with files.revising(run.android) as revised:
        files.remove(revised / name)
        manifest.write(revised / manifest.MANIFEST_NAME, left)
        golden.write(revised, left)
