"""The parity matrix: every exported file beside every other and beside Keras, on real photos, and where two part ways.

Bounds of a pair follow from those of its two files by the triangle inequality: differences add up, and one minus IoU is
a distance too. So a pair out of bounds has a file that is not what was exported, or a runtime that computes otherwise.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32

from export.analysis.layers import first_divergence
from export.product import parity
from export.product.parity import Bound, Photos
from export.product.product import ReferenceName
from export.product.quiet import quiet
from export.stage import check_photos, verified_source
from export.targets import expected
from portraitseg import contract, files, manifest, metrics, tables
from portraitseg.cli import console, say
from portraitseg.config import Config
from portraitseg.data import open_dataset, spread
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from portraitseg.plots import Cell, Picture, heat_map
from portraitseg.runners import NotRunnable, Runner, open_runner
from portraitseg.runs import Run

#: Beyond the triangle inequality: sums of rounded figures.
_SLACK = 1e-6


@dataclass(frozen=True)
class Member:
    """A row of the matrix.

    Attributes:
        label: `keras float`, `keras qat`, or the file's path.
        runtime: that ran it.
        reference: the Keras model that it comes from.
        bound: how far it may be from that; None for the Keras models themselves.
        path: of the file.
        probabilities: of all photos, at the network's size.
    """

    label: str
    runtime: str
    reference: ReferenceName
    bound: Bound | None
    path: Path | None
    probabilities: Float32[np.ndarray, "n h w"]


@dataclass(frozen=True)
class Pair:
    """Two members and how they differ.

    Attributes:
        limit: what is allowed; None between two Keras models, which training has set apart.
        faults: what is out of it, in words.
    """

    first: str
    second: str
    max_abs: float
    mean_abs: float
    mask_iou: float
    limit: Bound | None
    faults: tuple[str, ...]


def matrix(run: Run, config: Config) -> list[Pair]:
    """Runs all exported files of a run on its validation photos; writes matrix.csv, matrix.md and matrix.png.

    Files that this machine cannot run, and the RGBA twins, which the export compares bit by bit, are left out.

    Raises:
        InputError: nothing exported, or files of other weights.
        CheckFailed: pairs out of bounds, after all was written; names the first layer at which a file leaves Keras.
    """
    source = verified_source(run)
    with run.locked():
        dataset = open_dataset(config.data, config.seed)
        check_photos(source, dataset)
        entries = exported_files(run, source)
        keys = spread(dataset.keys(config.data.val_split), config.export.parity_photos)
        photos = [dataset.load(key).image for key in keys]
        models = _load_models(run, {expected(entry)[0] for _, entry in entries})
        members, left_out = open_members(entries, models, photos)
        pairs = compare_all(members, photos)
        parted = _where_parted(pairs, members, models, photos[0])
        write_csv(run.folder / "matrix.csv", pairs, len(photos))
        files.write_text(run.folder / "matrix.md", to_markdown(members, pairs, left_out, parted, len(photos)))
        files.write_bytes(run.folder / "matrix.png", draw(members, pairs).to_png())
    console.print(f"{len(pairs)} pairs of {len(members)} on {len(photos)} photos: {run.folder}/matrix.md, .csv, .png")
    for line in left_out:
        say(f"left out: {line}")
    if faulty := [pair for pair in pairs if pair.faults]:
        # pairs with Keras come first: they tell which of two files it is
        lines = [f"{pair.first} and {pair.second}: {', '.join(pair.faults)}" for pair in faulty[:3]]
        raise CheckFailed("; ".join([f"{len(faulty)} of {len(pairs)} pairs out of bounds", *lines, *parted.values()]))
    return pairs


def exported_files(run: Run, source: manifest.Source) -> list[tuple[Path, manifest.FileEntry]]:
    """All files of the run's manifests, once their hashes are known to be right.

    Raises:
        InputError: no manifest, or one of other weights.
    """
    listed_files = []
    for path in run.manifests.values():
        listed = manifest.read(manifest.Manifest, path)
        if listed.source.weights_sha256 != source.weights_sha256:
            raise InputError(f"{path}: of other weights than {run.best}: export the run again")
        manifest.verify(listed, path.parent)
        listed_files += [(path.parent / entry.path, entry) for entry in listed.files]
    if not listed_files:
        raise InputError(f"RUN={run.name}: nothing exported yet: run `make export-android RUN={run.name}` first")
    return listed_files


def open_members(
    entries: Sequence[tuple[Path, manifest.FileEntry]], models: dict[ReferenceName, Any], photos: Photos
) -> tuple[list[Member], list[str]]:
    """Runs the Keras models and the files on all photos.

    Returns:
        Members, the Keras models first; and what was left out, with the reason.
    """
    members, left_out = [], []
    for name, model in models.items():
        outputs = parity.predict_keras(model, photos).probabilities
        members.append(Member(f"keras {name}", "keras", name, None, None, outputs))
    paths = {path for path, _ in entries}
    for path, entry in entries:
        if entry.channels == "rgba" and path.with_name(path.name.replace("-rgba-", "-rgb-")) in paths:
            left_out.append(f"{path.name}: its RGB twin is here")
            continue
        try:
            runner = open_runner(path, threads=2)
        except NotRunnable as error:
            left_out.append(f"{path.name}: needs {error.needs}")
            continue
        reference, bound = expected(entry)
        for label, each in [(path.name, runner), *_second_opinion(path, runner)]:
            outputs = np.stack([each.predict(photo) for photo in photos]).astype(np.float32)
            members.append(Member(label, each.runtime, reference, bound, path, outputs))
    return members, left_out


def _second_opinion(path: Path, runner: Runner) -> Iterator[tuple[str, Runner]]:
    """On macOS, where Core ML itself ran a file, our evaluator of the file is compared with it."""
    from portraitseg.runners.coreml.evaluator import CoreMLEvaluator, CoreMLNative

    if isinstance(runner, CoreMLNative):
        yield f"{path.name} (evaluator)", CoreMLEvaluator(path)


def compare_all(members: Sequence[Member], photos: Photos) -> list[Pair]:
    """Compares each two members. Needs the Keras model of every file among them, before the files."""
    keras = [member for member in members if member.bound is None]
    between = {
        frozenset((first.reference, second.reference)): Bound(*_distance(first, second))
        for first, second in combinations(keras, 2)
    }
    pairs = []
    for first, second in combinations(members, 2):
        figures = _distance(first, second)
        limit = _limit(first, second, between)
        faults: tuple[str, ...] = ()
        if first.bound is None and second.bound is not None and first.reference == second.reference:
            # with shift and gain
            deviation = parity.compare(list(second.probabilities), parity.Reference(photos, first.probabilities))
            faults = tuple(deviation.faults(second.bound))
        elif limit is not None:
            faults = tuple(_faults(figures, limit))
        pairs.append(Pair(first.label, second.label, *figures, limit=limit, faults=faults))
    return pairs


def write_csv(path: Path, pairs: Sequence[Pair], photos: int) -> None:
    """One line a pair."""
    names = ("max_abs", "mean_abs", "mask_iou")
    lines = []
    for pair in pairs:
        limits = {f"{name}_limit": getattr(pair.limit, name) for name in names} if pair.limit else {}
        lines.append({**vars(pair), **limits, "photos": photos, "faults": "; ".join(pair.faults)})
    columns = ("first", "second", *names, *(f"{name}_limit" for name in names), "photos", "faults")
    tables.write_csv(path, columns, lines, floats=".6g")


def to_markdown(
    members: Sequence[Member], pairs: Sequence[Pair], left_out: Sequence[str], parted: dict[str, str], photos: int
) -> str:
    """The matrix as a table: above the diagonal differences, below it mask IoU; out of bounds in bold."""
    cells = {(pair.first, pair.second): pair for pair in pairs}
    lines = [
        "# Parity matrix",
        "",
        f"Over {photos} validation photos at the network's size. Above the diagonal the mean and the greatest",
        "difference of probability, below it the mask IoU; **bold** is out of bounds. Bounds: matrix.csv.",
        "",
    ]
    rows = []
    for row, member in enumerate(members):
        texts = []
        for column, other in enumerate(members):
            pair = cells.get((member.label, other.label)) or cells.get((other.label, member.label))
            if pair is None:
                texts.append("·")
                continue
            text = f"{pair.mean_abs:.1e} {pair.max_abs:.1e}" if row < column else f"{pair.mask_iou:.4f}"
            texts.append(f"**{text}**" if pair.faults else text)
        rows.append([str(row + 1), member.label, member.runtime, *texts])
    header = ["", "file", "runtime", *(str(column + 1) for column in range(len(members)))]
    lines += tables.markdown(header, rows, texts=len(header))
    lines += ["", *(f"- Out of bounds: {p.first} and {p.second}: {', '.join(p.faults)}" for p in pairs if p.faults)]
    lines += [f"- {text}" for text in parted.values()]
    lines += [f"- Left out: {text}" for text in left_out]
    return "\n".join(lines).rstrip() + "\n"


def draw(members: Sequence[Member], pairs: Sequence[Pair]) -> Picture:
    """The heat map: colour and number are the mean difference, from 1e-7 to 0.1; a red frame is out of bounds."""
    labels = [member.label for member in members]
    cells: list[list[Cell | None]] = [[None] * len(labels) for _ in labels]
    for pair in pairs:
        level = np.clip((np.log10(max(pair.mean_abs, 1e-9)) + 7) / 6, 0, 1)
        blue, green, red = cv2.applyColorMap(np.full((1, 1), level * 255, np.uint8), cv2.COLORMAP_VIRIDIS)[0, 0]
        row, column = labels.index(pair.first), labels.index(pair.second)
        cell = Cell((int(red), int(green), int(blue)), f"{pair.mean_abs:.0e}", bool(pair.faults))
        cells[row][column] = cells[column][row] = cell
    names = [re.sub(r"^[a-z0-9_]+-\d+x\d+-", "", label) for label in labels]
    return heat_map(names, cells, "mean difference of probability")


def _load_models(run: Run, references: set[ReferenceName]) -> dict[ReferenceName, Any]:
    from export.quantization import qat
    from export.quantization.unwrap import unwrap

    with quiet():
        models: dict[ReferenceName, Any] = {"float": checkpoint.load(run.best)}
        if references & {"qat", "unwrapped"}:
            models["qat"] = qat.load_qat(run.qat / "best.h5")
        if "unwrapped" in references:
            models["unwrapped"] = unwrap(models["qat"])
    return models


def _distance(first: Member, second: Member) -> tuple[float, float, float]:
    """Greatest and mean difference, mask IoU."""
    difference = np.abs(first.probabilities - second.probabilities)
    masks = [
        member.probabilities.reshape(-1, member.probabilities.shape[2]) > contract.PROBABILITY_THRESHOLD
        for member in (first, second)
    ]
    return float(difference.max()), float(difference.mean(dtype=np.float64)), metrics.iou(*masks)


def _limit(first: Member, second: Member, between: Mapping[frozenset[ReferenceName], Bound]) -> Bound | None:
    parts = [member.bound for member in (first, second) if member.bound is not None]
    if not parts:
        return None
    if first.reference != second.reference:
        parts.append(between[frozenset((first.reference, second.reference))])
    greatest = [part.max_abs for part in parts if part.max_abs is not None]
    return Bound(
        max_abs=sum(greatest) if len(greatest) == len(parts) else None,
        mean_abs=sum(part.mean_abs for part in parts),
        mask_iou=1 - sum(1 - part.mask_iou for part in parts),
    )


def _faults(figures: tuple[float, float, float], limit: Bound) -> Iterator[str]:
    max_abs, mean_abs, mask_iou = figures
    # written so that a NaN is a fault
    if limit.max_abs is not None and not max_abs <= limit.max_abs + _SLACK:
        yield f"max_abs {max_abs:.2g} (at most {limit.max_abs:.2g})"
    if not mean_abs <= limit.mean_abs + _SLACK:
        yield f"mean_abs {mean_abs:.2g} (at most {limit.mean_abs:.2g})"
    if not mask_iou >= limit.mask_iou - _SLACK:
        yield f"mask IoU {mask_iou:.4f} (at least {limit.mask_iou:.4f})"


def _where_parted(
    pairs: Sequence[Pair], members: Sequence[Member], models: dict[ReferenceName, Any], photo: Any
) -> dict[str, str]:
    """For each file that is too far from its own Keras model: the first layer at which it leaves it."""
    by_label = {member.label: member for member in members}
    parted = {}
    for pair in pairs:
        first, second = by_label[pair.first], by_label[pair.second]
        if pair.faults and first.bound is None and first.reference == second.reference and second.path is not None:
            layer = first_divergence(second.path, models[first.reference], photo, is_fp32="fp32" in second.label)
            parted[second.label] = (
                f"{second.label} leaves {first.label} at layer {layer or 'none: by little everywhere'}"
            )
    return parted
