"""The rows of the benchmark and their CSV form; the column order is part of the interface."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields

from portraitseg.metrics import METRICS


@dataclass(frozen=True)
class Row:
    """One file on one split and one thread count. None is an empty cell: not measured.

    Scores are fractions in [0, 1]. `valid` is False where a figure must not be used; `reason` says why, and may also
    explain an empty cell of a valid row.
    """

    file: str
    model: str
    channels: str | None = None
    recipe: str = ""
    runtime: str | None = None
    threads: int | None = None
    delegate: str | None = None
    split: str | None = None
    split_sha256_16: str | None = None
    photos: int | None = None
    iou: float | None = None
    iou_low: float | None = None
    iou_high: float | None = None
    miou: float | None = None
    boundary_iou: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    ratio_to_reference: float | None = None
    bytes: int | None = None
    valid: bool = True
    reason: str = ""
    # further columns, free to grow
    reference: str | None = None
    fastest_ms: float | None = None
    rounds: int | None = None
    profile: str | None = None
    machine: str | None = None
    # measures of the registry that have no column above
    further_scores: Mapping[str, float] = field(default_factory=dict)


_FIXED = tuple(column.name for column in fields(Row) if column.name != "further_scores")

COLUMNS = (*_FIXED, *(name for name in METRICS if name not in _FIXED))


def to_csv(rows: Iterable[Row]) -> str:
    """CSV with a header, Unix line ends, fractions to five digits and milliseconds to a microsecond."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = {name: getattr(row, name) for name in _FIXED} | dict(row.further_scores)
        writer.writerow([_cell(name, values.get(name)) for name in COLUMNS])
    return text.getvalue()


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}" if name.endswith("_ms") else f"{value:.5f}"
    return str(value)
