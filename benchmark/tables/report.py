"""What the reader gets: CSV, CSV by photo, Markdown and a terminal table; and the scores in the manifests."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TextIO

from rich.markup import escape
from rich.table import Table

from benchmark.measuring import flicker, robustness
from benchmark.measuring.latency import MAX_SLOWDOWN, TOO_NOISY
from benchmark.measuring.measure import Measurement
from benchmark.measuring.quality import REFINED, FileScores, SplitScores
from benchmark.measuring.targets import Target
from benchmark.tables.rows import machine
from benchmark.tables.table import Row, to_csv
from portraitseg import files, markdown
from portraitseg.cli import table_console
from portraitseg.manifest import FileEntry, Manifest, Quality, read, write
from portraitseg.metrics import COUNTS, MATTE_METRICS, METRICS

#: How many of the worst photos `results.md` names for each file and split.
WORST = 5

_NOISY = "noisy: something else ran meanwhile, so that these times do not count (why: results.csv); scores are sound"

HEADER = (
    "File",
    "Split",
    "IoU %",
    "95 %",
    "p10 %",
    "mIoU %",
    "Boundary IoU %",
    "Refined IoU %",
    "Refined boundary IoU %",
    "Threads",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "Ratio",
    "no XNNPACK",
    "1st ms",
    "RAM MB",
    "MB",
    "Note",
)

#: Of these the columns that hold words.
_TEXTS = ("File", "Split", "Note")


def write_results(folder: Path, rows: Sequence[Row], measurement: Measurement) -> None:
    """Writes `results.csv`, `results.md` and `photos.csv`, each whole or not at all."""
    files.write_text(folder / "results.csv", to_csv(rows))
    files.write_text(folder / "results.md", to_markdown(rows, measurement))
    with files.replacing(folder / "photos.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        write_photos(file, measurement)


def write_robustness(folder: Path, measurement: Measurement) -> None:
    """Writes `robustness.csv` and `flicker.csv` where a split was measured to its end; prints the former."""
    if measurement.robustness is None or not measurement.robustness.done:
        return
    channels = {name: facts.channels for name, facts in measurement.facts.items()}
    rows = robustness.make_rows(measurement.targets, channels, measurement.splits, measurement.robustness)
    files.write_text(folder / "robustness.csv", robustness.to_csv(rows))
    robustness.print_rows(rows)
    if measurement.flicker.done:
        files.write_text(folder / "flicker.csv", flicker.to_csv(measurement.targets, measurement.flicker))


def record_quality(measurement: Measurement) -> None:
    """Puts the scores beside the files in their manifests, replacing those of the same split.

    A file that was exported anew in the meantime keeps what its manifest says.
    """
    for path in sorted({target.manifest for target in measurement.targets if target.manifest is not None}):
        targets = {target.sha256: target for target in measurement.targets if target.manifest == path}
        current = read(Manifest, path)
        entries = [
            _with_quality(entry, targets[entry.sha256], measurement) if entry.sha256 in targets else entry
            for entry in current.files
        ]
        write(path, current.model_copy(update={"files": tuple(entries)}))


def write_photos(file: TextIO, measurement: Measurement) -> None:
    """One line a photo and file: `file,split,key` and every measure that was scored."""
    is_refined = any(target.refine for target in measurement.targets)
    measures = (*METRICS, *COUNTS, *(MATTE_METRICS if measurement.is_soft else ()), *(REFINED if is_refined else ()))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("file", "split", "key", *measures))
    for split in measurement.splits:
        for name, scores in split.files.items():
            columns = [scores.values(measure) for measure in measures if measure in scores.measures]
            # the refined ones are the last: a file without them has empty cells
            empty = [""] * (len(measures) - len(columns))
            for key, *values in zip(scores.keys, *columns, strict=True):
                writer.writerow((name, split.split, key, *(f"{value:.5f}" for value in values), *empty))


def to_markdown(rows: Sequence[Row], measurement: Measurement) -> str:
    """The table with the conditions under which it was measured. Scores are percentages, as the header says."""
    lines = ["# Benchmark", "", *(f"- {line}" for line in conditions(measurement)), ""]
    header = _header(rows)
    cells = [[_cells(row)[name] for name in header] for row in rows]
    lines += markdown.table(header, cells, _TEXTS)
    lines += _worst_photos(measurement)
    return "\n".join(lines) + "\n"


def print_rows(rows: Sequence[Row], conditions: Sequence[str]) -> None:
    """Prints the table to stdout, and below it the conditions, a line each."""
    console = table_console()
    below = [*conditions, _NOISY] if any(map(_is_noisy, rows)) else conditions
    table = Table(caption=escape("\n".join(below)), caption_justify="left")
    header = _header(rows)
    for name in header:
        justify: Literal["left", "right"] = "left" if name in _TEXTS else "right"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name == "Split")
    for row in rows:
        # on a machine that is not free it would be the same two lines in every row
        cells = _cells(row) | ({"Note": "noisy"} if _is_noisy(row) else {})
        table.add_row(*(escape(cells[name]) for name in header), style=None if row.valid else "dim")
    console.print(table)


def _worst_photos(measurement: Measurement) -> list[str]:
    rows = [
        (Path(name).name, split.split, ", ".join(f"{key} {100 * iou:.1f}" for key, iou in scores.worst("iou", WORST)))
        for split in measurement.splits
        for name, scores in split.files.items()
    ]
    return ["", "## Worst photos", "", *markdown.table(("File", "Split", "Lowest IoU %"), rows, texts=3)]


def conditions(measurement: Measurement) -> list[str]:
    """What a reader must know before comparing a figure with another one."""
    lines = [f"machine: {machine()}"]
    if runtimes := sorted({f"{facts.runtime} ({facts.delegate})" for facts in measurement.facts.values()}):
        lines.append(f"runtimes: {', '.join(runtimes)}")
    for split in measurement.splits:
        photos = max((len(scores.keys) for scores in split.files.values()), default=0)
        lines.append(f"split {split.split}: {photos} photos, list {split.sha256_16}{_both_empty(split)}")
    lines.append(f"latency: single runs of the file alone, interleaved in one process, profile {measurement.profile}")
    lines.append(f"a latency is valid if its median is within {MAX_SLOWDOWN} × the fastest run: the machine was free")
    if measurement.reference:
        lines.append(f"ratio: median latency over that of {measurement.reference.path.name} at the same thread count")
        lines.append("no XNNPACK: the file on TFLite's own kernels, over the reference with XNNPACK")
    lines.append("1st, RAM: first run, and memory beyond the runtime's own, of the file in a process of its own")
    if any(target.refine for target in measurement.targets):
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


def _header(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns, without those of refined masks where no file has chosen parameters."""
    is_refined = any(row.iou_refined is not None for row in rows)
    return tuple(name for name in HEADER if is_refined or not name.startswith("Refined"))


def _cells(row: Row) -> dict[str, str]:
    def number(value: float | int | None, digits: int, factor: float = 1.0) -> str:
        return "" if value is None else f"{value * factor:.{digits}f}"

    interval = "" if row.iou_low is None else f"{number(row.iou_low, 1, 100.0)}–{number(row.iou_high, 1, 100.0)}"
    cells = (
        Path(row.file).name,
        row.split or "",
        number(row.iou, 2, 100.0),
        interval,
        number(row.iou_p10, 1, 100.0),
        number(row.miou, 2, 100.0),
        number(row.boundary_iou, 2, 100.0),
        number(row.iou_refined, 2, 100.0),
        number(row.boundary_iou_refined, 2, 100.0),
        str(row.threads or ""),
        number(row.p50_ms, 2),
        number(row.p90_ms, 2),
        number(row.p99_ms, 2),
        number(row.ratio_to_reference, 2),
        number(row.no_xnnpack_ratio_to_reference, 2),
        number(row.first_ms, 1),
        number(row.peak_mb, 1),
        number(row.bytes, 2, 1e-6),
        row.reason if row.valid or row.reason.startswith(("not_run", "latency not_run")) else f"INVALID: {row.reason}",
    )
    return dict(zip(HEADER, cells, strict=True))


def _with_quality(entry: FileEntry, target: Target, measurement: Measurement) -> FileEntry:
    fresh: dict[str, Quality] = {}
    for split in measurement.splits:
        scores = split.files.get(target.name)
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
