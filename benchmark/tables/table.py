"""The rows of the benchmark and their CSV form; the column order is part of the interface."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from portraitseg import files
from portraitseg.errors import InputError
from portraitseg.metrics import COUNTS, MATTE_METRICS, METRICS


@dataclass(frozen=True)
class Row:
    """One file on one split and one thread count. None is an empty cell: not measured.

    Scores are fractions in [0, 1]. `valid` is False where not all figures may be used; `reason` says why, and may also
    explain an empty cell of a valid row. `quality_valid` and `latency_valid` say of which figures the row has some, and
    good ones: a row with a noisy latency keeps its scores.
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
    quality_valid: bool = False
    latency_valid: bool = False
    reference: str | None = None
    fastest_ms: float | None = None
    rounds: int | None = None
    profile: str | None = None
    machine: str | None = None
    iou_p10: float | None = None
    first_ms: float | None = None
    init_ms: float | None = None
    peak_mb: float | None = None
    p99_ms: float | None = None
    no_xnnpack_p50_ms: float | None = None
    no_xnnpack_ratio_to_reference: float | None = None
    no_xnnpack_reason: str | None = None
    gpu: str | None = None
    arm: str | None = None
    both_empty: int | None = None
    iou_refined: float | None = None
    boundary_iou_refined: float | None = None
    # measures of the registries that have no column above, as means over the photos
    further_scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The file's own name, without its folders."""
        return Path(self.file).name


_FIXED = {column.name: str(column.type) for column in fields(Row) if column.name != "further_scores"}
_FURTHER = tuple(name for name in (*METRICS, *COUNTS, *MATTE_METRICS) if name not in _FIXED)

COLUMNS = (*_FIXED, *_FURTHER)


def to_csv(rows: Iterable[Row]) -> str:
    """CSV with a header, Unix line ends, fractions to five digits and milliseconds to a microsecond."""
    return lines_to_csv(COLUMNS, (as_dict(row) for row in rows))


def lines_to_csv(columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    """The same of any table.

    Args:
        columns: in their order.
        lines: values by column, in that order; None: an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow([cell(name, value) for name, value in line.items()])
    return text.getvalue()


def markdown_line(cells: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in cells) + " |"


def as_dict(row: Row) -> dict[str, Any]:
    """A row by column; None where nothing was measured."""
    further = {name: row.further_scores.get(name) for name in _FURTHER}
    return {name: getattr(row, name) for name in _FIXED} | further


def read_csv(path: Path) -> list[Row]:
    """Reads a table that `to_csv` wrote; columns that it does not know are left out, as newer versions may add some.

    Raises:
        InputError: missing, no such table, or a cell that is no value of its column.
    """
    lines = read_lines(path)
    if not lines:
        raise InputError(f"{path}: no rows: is it a results.csv of the benchmark?")
    missing = [name for name in ("file", "model", "valid", "reason") if name not in lines[0]]
    if missing:
        raise InputError(f"{path}: no column '{missing[0]}': is it a results.csv of the benchmark?")
    return [_row(path, number, line) for number, line in enumerate(lines, 2)]


def read_lines(path: Path) -> list[dict[str, str]]:
    """Reads a CSV by its header.

    Raises:
        InputError: missing, not UTF-8 text, or a line of another length than the header.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, restval=None, restkey=""))
    except OSError as error:
        raise InputError(f"{path}: {files.explain(error)}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file: {error}") from error
    for number, line in enumerate(lines, 2):
        if "" in line or None in line.values():
            raise InputError(f"{path}: line {number}: not as many cells as the header has")
    return lines


def _row(path: Path, number: int, line: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {}
    further: dict[str, float] = {}
    for name, text in line.items():
        if name not in COLUMNS or text == "":
            continue
        try:
            if name in _FIXED:
                values[name] = parse_cell(_FIXED[name], text)
            else:
                further[name] = float(text)
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {name} is {text[:40]!r}") from error
    if "file" not in values or "model" not in values:
        raise InputError(f"{path}: line {number}: names no file or no model")
    if "quality_valid" not in line:
        # a table from before these columns: then one fault made the whole row invalid
        values["quality_valid"] = values.get("valid", False) and "iou" in values
        values["latency_valid"] = values.get("valid", False) and "p50_ms" in values
    return Row(**values, further_scores=further)


def parse_cell(kind: str, text: str) -> Any:
    """The value of a cell that is not empty.

    Args:
        kind: the annotation of its column, such as `float | None`.
        text: the cell.

    Raises:
        ValueError: no such value.
    """
    if "bool" in kind:
        if text not in ("true", "false"):
            raise ValueError(text)
        return text == "true"
    if "float" in kind:
        return float(text)
    return int(text) if "int" in kind else text


def cell(name: str, value: object) -> str:
    """A value as the CSV has it: fractions to five digits, milliseconds to a microsecond, None empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # 1.25e-4 and 1.3e-4 are two rates
        if name == "learning_rate":
            return repr(value)
        return f"{value:.3f}" if name.endswith("_ms") else f"{value:.5f}"
    return str(value)
