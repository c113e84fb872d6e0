"""What was measured: typed rows, the columns that a file of them has, and the conditions; CSV whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from portraitseg import files, tables
from portraitseg.errors import InputError
from portraitseg.metrics import COUNTS, MATTE_METRICS, METRICS


@dataclass(frozen=True)
class Row:
    """One file on one split and one thread count. None is an empty cell: not measured.

    Scores are fractions in [0, 1]. `valid` is False where not all figures may be used; `reason` says why, and may also
    explain an empty cell of a valid row. `quality_valid` and `latency_valid` say of which figures the row has some, and
    good ones: a row with a noisy latency keeps its scores.
    """

    file: str = ""
    model: str = ""
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
    # further columns of results.csv, free to grow
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
    # of several networks or recipes side by side: the run without `compare-`, or the name of a peer's file; height ×
    # width; weights of the float file, batch normalization folded; multiply-accumulates of convolutions and matrix
    # products for one photo; photos that float training has seen, repetitions counted, and its greatest learning rate
    network: str | None = None
    run: str | None = None
    size: str | None = None
    parameters: int | None = None
    macs: int | None = None
    images_seen: int | None = None
    learning_rate: float | None = None
    # of IoU and boundary IoU against `base` (networks), the run's float file (recipes) or the clean photos
    # (robustness), photo by photo, with the 95 % interval
    base: str | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None
    boundary_change: float | None = None
    boundary_change_low: float | None = None
    boundary_change_high: float | None = None
    # p50 latency over that of the float file; whether no more is lost than was promised, None for float files and peers
    ratio_to_float: float | None = None
    is_kept: bool | None = None
    # of a table of robustness, and of flicker: 95 % interval over clips, share of pixels that flip
    condition: str | None = None
    clips: int | None = None
    frames: int | None = None
    dtssd: float | None = None
    dtssd_low: float | None = None
    dtssd_high: float | None = None
    flipped_share: float | None = None

    @property
    def name(self) -> str:
        """The file's own name, without its folders."""
        return Path(self.file).name


_KINDS = {column.name: str(column.type) for column in fields(Row) if column.name != "further_scores"}
_FURTHER = tuple(name for name in (*METRICS, *COUNTS, *MATTE_METRICS) if name not in _KINDS)

_NAMES = tuple(_KINDS)
_CHANGES = tuple(name for name in _NAMES if "change" in name)

#: Columns of results.csv and device.csv; their order is part of the interface.
RESULTS = (*_NAMES[: _NAMES.index("network")], *_FURTHER)

#: Columns of a table of networks, of recipes, of robustness and of flicker.
NETWORKS = (
    *("network", "model", "recipe", "size", "parameters", "macs", "bytes", "images_seen", "learning_rate"),
    *("split", "split_sha256_16", "photos", "iou", "iou_low", "iou_high", "iou_p10", "boundary_iou"),
    *("threads", "p50_ms", "ratio_to_reference", "reference", "latency_valid", "base", *_CHANGES),
    *("valid", "reason", "runtime", "machine", "profile"),
)
RECIPES = (
    *("run", "file", "recipe", "bytes", "split", "split_sha256_16", "photos", "iou", "boundary_iou", *_CHANGES),
    *("threads", "p50_ms", "ratio_to_reference", "ratio_to_float", "latency_valid", "reference", "is_kept"),
    *("reason", "machine", "runtime"),
)
ROBUSTNESS = (
    *("file", "model", "channels", "recipe", "split", "split_sha256_16", "photos", "condition"),
    *("iou", "iou_low", "iou_high", "iou_p10", "miou", "boundary_iou", "holes", "islands"),
    *("change", "change_low", "change_high", "valid", "reason"),
)
FLICKER = (
    *("file", "model", "recipe", "split", "clips", "frames"),
    *("dtssd", "dtssd_low", "dtssd_high", "flipped_share"),
)


@dataclass(frozen=True)
class Results:
    """Rows, and what a reader must know of all of them.

    Attributes:
        rows: as measured, or as a file has them.
        columns: of the file, such as `RESULTS`.
        conditions: under which they were measured, a line each; a file has none.
    """

    rows: Sequence[Row]
    columns: Sequence[str] = RESULTS
    conditions: Sequence[str] = ()

    def to_csv(self) -> str:
        """Fractions to five digits and milliseconds to a microsecond."""
        return tables.to_csv(self.columns, map(as_dict, self.rows))

    def write(self, path: Path) -> None:
        """Writes the columns of a file."""
        files.write_text(path, self.to_csv())


def as_dict(row: Row) -> dict[str, Any]:
    """A row by column; None where nothing was measured."""
    return {name: getattr(row, name) for name in _NAMES} | {name: row.further_scores.get(name) for name in _FURTHER}


def read(path: Path) -> Results:
    """Reads what `Results.write` wrote; columns that it does not know are left out, as newer versions may add some.

    Raises:
        InputError: missing, no such table, or a cell that is no value of its column.
    """
    lines = tables.read_csv(path)
    if not lines:
        raise InputError(f"{path}: no rows: is it a table of the benchmark?")
    missing = [name for name in ("model", "valid", "reason") if name not in lines[0]]
    if "network" not in lines[0] and "file" not in lines[0]:
        missing = ["file", *missing]
    if missing:
        raise InputError(f"{path}: no column '{missing[0]}': is it a table of the benchmark?")
    known = tuple(name for name in lines[0] if name in _KINDS or name in _FURTHER)
    return Results([_row(path, number, line) for number, line in enumerate(lines, 2)], known)


def _row(path: Path, number: int, line: Mapping[str, str]) -> Row:
    values: dict[str, Any] = {}
    further: dict[str, float] = {}
    for name, text in line.items():
        try:
            if name in _KINDS and text:
                values[name] = tables.parse(_KINDS[name], text)
            elif name in _FURTHER and text:
                further[name] = float(text)
        except ValueError as error:
            raise InputError(f"{path}: line {number}: {name} is {text[:40]!r}") from error
    if "model" not in values or not {"file", "network"} & values.keys():
        raise InputError(f"{path}: line {number}: names no file or no model")
    # a table of networks has no such column, and no scores that do not count; in tables from before these columns one
    # fault made the whole row invalid
    is_valid = values.get("valid", False)
    values.setdefault("quality_valid", (is_valid or "network" in line) and "iou" in values)
    values.setdefault("latency_valid", is_valid and "p50_ms" in values)
    return Row(**values, further_scores=further)
