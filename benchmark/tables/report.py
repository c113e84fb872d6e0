"""What the reader gets: CSV, CSV by photo, Markdown and a terminal table; and the scores in the manifests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.measuring.latency import MAX_SLOWDOWN, TOO_NOISY
from benchmark.measuring.measure import Measurement
from benchmark.measuring.model_files import ModelFile
from benchmark.measuring.quality import REFINED, FileScores, SplitScores
from benchmark.measuring.robustness import CLEAN, CONDITIONS
from benchmark.tables.results import FLICKER, ROBUSTNESS, Results, Row
from benchmark.tables.rows import flicker_rows, machine, robustness_rows
from benchmark.tables.views import COLUMNS
from portraitseg import files, tables
from portraitseg.manifest import FileEntry, Manifest, Quality, read, write
from portraitseg.metrics import COUNTS, MATTE_METRICS, METRICS

#: How many of the worst photos `results.md` names for each file and split.
WORST = 5

_NOISY = "noisy: something else ran meanwhile, so that these times do not count (why: results.csv); scores are sound"

#: The columns of `views.COLUMNS`; those of refined masks where a file has chosen parameters.
HEADER = (
    *("File", "Split", "IoU %", "95 %", "p10 %", "mIoU %", "Boundary IoU %", "Refined IoU %", "Refined boundary IoU %"),
    *("Threads", "p50 ms", "p90 ms", "p99 ms", "Ratio", "no XNNPACK", "1st ms", "RAM MB", "MB", "Note"),
)

#: Of these the columns that hold words.
_TEXTS = ("File", "Split", "Note")


def write_results(folder: Path, results: Results, measurement: Measurement) -> None:
    """Writes `results.csv`, `results.md` and `photos.csv`, each whole or not at all."""
    results.write(folder / "results.csv")
    files.write_text(folder / "results.md", to_markdown(results, measurement))
    plan = measurement.plan
    is_refined = any(model_file.refine for model_file in plan.model_files)
    measures = (*METRICS, *COUNTS, *(MATTE_METRICS if plan.is_soft else ()), *(REFINED if is_refined else ()))
    columns = ("file", "split", "key", *measures)
    tables.write_csv(folder / "photos.csv", columns, photo_lines(measurement, measures))


def write_robustness(folder: Path, measurement: Measurement) -> None:
    """Writes `robustness.csv` and `flicker.csv` where a split was measured to its end; prints the former."""
    if not measurement.robustness:
        return
    rows = robustness_rows(measurement)
    Results(rows, ROBUSTNESS).write(folder / "robustness.csv")
    _print_robustness(rows)
    if measurement.flicker.done:
        Results(flicker_rows(measurement), FLICKER).write(folder / "flicker.csv")


def record_quality(measurement: Measurement) -> None:
    """Puts the scores beside the files in their manifests, replacing those of the same split.

    A file that was exported anew in the meantime keeps what its manifest says.
    """
    for path in sorted(
        {model_file.manifest for model_file in measurement.plan.model_files if model_file.manifest is not None}
    ):
        model_files = {
            model_file.sha256: model_file for model_file in measurement.plan.model_files if model_file.manifest == path
        }
        current = read(Manifest, path)
        entries = [
            _with_quality(entry, model_files[entry.sha256], measurement) if entry.sha256 in model_files else entry
            for entry in current.files
        ]
        write(path, current.model_copy(update={"files": tuple(entries)}))


def photo_lines(measurement: Measurement, measures: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """One line a photo and file, with every measure that was scored of it."""
    for split in measurement.splits:
        for name, scores in split.files.items():
            columns = {measure: scores.values(measure) for measure in measures if measure in scores.measures}
            for key, *values in zip(scores.keys, *columns.values(), strict=True):
                yield {"file": name, "split": split.split, "key": key, **dict(zip(columns, values, strict=True))}


def to_markdown(results: Results, measurement: Measurement) -> str:
    """The table with the conditions under which it was measured. Scores are percentages, as the header says."""
    lines = ["# Benchmark", "", *(f"- {line}" for line in results.conditions), ""]
    lines += tables.markdown(*_cells(results.rows), _TEXTS)
    return "\n".join([*lines, *_worst_photos(measurement)]) + "\n"


def print_results(results: Results) -> None:
    """Prints the table to stdout, and below it the conditions, a line each."""
    # on a machine that is not free the reason would be the same two lines in every row
    rows = [replace(row, valid=True, reason="noisy") if _is_noisy(row) else row for row in results.rows]
    below = [*results.conditions, _NOISY] if any(map(_is_noisy, results.rows)) else results.conditions
    styles = [None if row.valid else "dim" for row in results.rows]
    tables.show(*_cells(rows), _TEXTS, caption="\n".join(below), styles=styles)


def _print_robustness(rows: Sequence[Row]) -> None:
    """Prints to stdout by how many points the IoU changes, a row a file and split."""
    lines = []
    for clean in (row for row in rows if row.condition == CLEAN):
        by_condition = {row.condition: row for row in rows if (row.file, row.split) == (clean.file, clean.split)}
        changes = [_change(by_condition.get(condition)) for condition in CONDITIONS]
        lines.append([clean.name, clean.split or "", tables.figure(clean.iou, ".2f", 100.0), *changes])
    header = ("File", "Split", "clean IoU %", *CONDITIONS)
    tables.show(header, lines, 2, caption="change of the IoU in points; (…): inside the noise")


def _change(row: Row | None) -> str:
    if row is None or not row.valid or row.change is None or row.change_low is None or row.change_high is None:
        return ""
    text = f"{100 * row.change:+.2f}"
    return f"({text})" if row.change_low <= 0 <= row.change_high else text


def _worst_photos(measurement: Measurement) -> list[str]:
    rows = [
        (Path(name).name, split.split, ", ".join(f"{key} {100 * iou:.1f}" for key, iou in scores.worst("iou", WORST)))
        for split in measurement.splits
        for name, scores in split.files.items()
    ]
    return ["", "## Worst photos", "", *tables.markdown(("File", "Split", "Lowest IoU %"), rows, texts=3)]


def conditions(measurement: Measurement) -> list[str]:
    """What a reader must know before comparing a figure with another one."""
    lines, plan = [f"machine: {machine()}"], measurement.plan
    if runtimes := sorted({f"{facts.runtime} ({facts.delegate})" for facts in measurement.facts.values()}):
        lines.append(f"runtimes: {', '.join(runtimes)}")
    for split in measurement.splits:
        photos = max((len(scores.keys) for scores in split.files.values()), default=0)
        lines.append(f"split {split.split}: {photos} photos, list {split.sha256_16}{_both_empty(split)}")
    lines.append(f"latency: single runs of the file alone, interleaved in one process, profile {plan.profile}")
    lines.append(f"a latency is valid if its median is within {MAX_SLOWDOWN} × the fastest run: the machine was free")
    if plan.reference:
        lines.append(f"ratio: median latency over that of {plan.reference.path.name} at the same thread count")
        lines.append("no XNNPACK: the file on TFLite's own kernels, over the reference with XNNPACK")
    lines.append("1st, RAM: first run, and memory beyond the runtime's own, of the file in a process of its own")
    if any(model_file.refine for model_file in plan.model_files):
        lines.append("refined: masks of the same runs, with the edge refinement that was chosen on val")
    if measurement.is_interrupted:
        lines.append("INTERRUPTED: only what was measured until then, valid rows only")
    return lines


def _both_empty(split: SplitScores) -> str:
    """Photos that say little of a file, in words."""
    counts = sorted({scores.both_empty for scores in split.files.values()})
    if not counts or not counts[-1]:
        return ""
    number = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"; {number} of them show nobody and nothing was found there, which counts as IoU 1"


def _is_noisy(row: Row) -> bool:
    """Whether nothing is wrong with a row but that something else ran while its file, or the reference, was timed."""
    faults = [fault.removeprefix("reference: ") for fault in row.reason.split("; ")]
    return row.quality_valid and not row.valid and all(fault.startswith(TOO_NOISY) for fault in faults)


def _cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    is_refined = any(row.iou_refined is not None for row in rows)
    header = [name for name in HEADER if is_refined or not name.startswith("Refined")]
    return header, [[COLUMNS[name].text(row) for name in header] for row in rows]


def _with_quality(entry: FileEntry, model_file: ModelFile, measurement: Measurement) -> FileEntry:
    fresh: dict[str, Quality] = {}
    for split in measurement.splits:
        scores = split.files.get(model_file.name)
        if scores is not None and scores.fault is None:
            fresh[split.split] = _quality(split.split, split.sha256_16, scores)
    kept = [quality for quality in entry.quality if quality.split not in fresh]
    return entry.model_copy(update={"quality": (*kept, *fresh.values())})


def _quality(split: str, sha256_16: str, scores: FileScores) -> Quality:
    return Quality(
        split=split,
        sha256_16=sha256_16,
        iou=round(scores.mean("iou"), 5),
        boundary_iou=round(scores.mean("boundary_iou"), 5),
        miou=round(scores.mean("miou"), 5),
        photos=len(scores.keys),
    )
