"""What a reader sees of rows: columns for a line a row, and views with a line a file, the splits side by side."""

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.measuring.intervals import Difference, describe_difference
from benchmark.measuring.model_files import FOREIGN
from benchmark.tables.results import Row, as_dict
from portraitseg import tables

#: What quantization-aware training may lose against the float file: IoU and boundary IoU, as fractions.
PROMISED = (0.002, 0.005)

_SIZE = re.compile(r"-(\d+)x(\d+)(?=-|$)")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        name: in the header; of a view `{}` is the split, or the thread count in words.
        value: name of a field, or what makes it of a row.
        form: of a number, such as `.2f`; None: it is words.
        factor: of a number.
        is_latency: noise spoils it.
    """

    name: str
    value: str | Callable[[Row], Any]
    form: str | None = None
    factor: float = 1.0
    is_latency: bool = False

    def of(self, row: Row) -> Any:
        """Its value; None where there is none."""
        return as_dict(row)[self.value] if isinstance(self.value, str) else self.value(row)

    def text(self, row: Row) -> str:
        """The same for people."""
        value = self.of(row)
        return str(value or "") if self.form is None else tables.figure(value, self.form, self.factor)


def _interval(row: Row) -> str:
    low, high = row.iou_low, row.iou_high
    return "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def _note(row: Row) -> str:
    is_plain = row.valid or row.reason.startswith(("not_run", "latency not_run"))
    return row.reason if is_plain else f"INVALID: {row.reason}"


MB = Column("MB", "bytes", ".2f", 1e-6)

#: Of a table with a line a row, by name.
COLUMNS = {
    column.name: column
    for column in (
        Column("File", lambda row: row.name),
        Column("Split", "split"),
        Column("IoU %", "iou", ".2f", 100.0),
        Column("95 %", _interval),
        Column("p10 %", "iou_p10", ".1f", 100.0),
        Column("mIoU %", "miou", ".2f", 100.0),
        Column("Boundary IoU %", "boundary_iou", ".2f", 100.0),
        Column("Refined IoU %", "iou_refined", ".2f", 100.0),
        Column("Refined boundary IoU %", "boundary_iou_refined", ".2f", 100.0),
        Column("Threads", lambda row: row.threads or None, ".0f"),
        Column("p50 ms", "p50_ms", ".2f", is_latency=True),
        Column("p90 ms", "p90_ms", ".2f", is_latency=True),
        Column("p99 ms", "p99_ms", ".2f", is_latency=True),
        Column("Ratio", "ratio_to_reference", ".2f", is_latency=True),
        Column("no XNNPACK", "no_xnnpack_ratio_to_reference", ".2f"),
        Column("1st ms", "first_ms", ".1f"),
        Column("Load ms", "init_ms", ".1f"),
        Column("RAM MB", "peak_mb", ".1f"),
        MB,
        Column("Note", _note),
        Column("Holes", "holes", ".2f"),
        Column("Islands", "islands", ".2f"),
        Column("SAD", "sad", ".3f"),
        Column("MSE", "mse", ".5f"),
        Column("Gradient error", "gradient", ".3f"),
        Column("Connectivity error", "connectivity", ".3f"),
        Column("Recipe", "recipe"),
        Column("Channels", "channels"),
        Column("Model", "model"),
        Column("Runtime", "runtime"),
        Column("Delegate", "delegate"),
    )
}


@dataclass(frozen=True)
class View:
    """A line a file.

    Attributes:
        file: columns of the file.
        split: of each split, from a row with good scores.
        threads: of each thread count, from a row with a good latency.
        conditions: what a reader must know before comparing a figure with another one.
        key: what tells files apart.
        texts: how many of the first columns are words.
    """

    file: Sequence[Column]
    split: Sequence[Column]
    threads: Sequence[Column]
    conditions: Callable[[Sequence[Row]], list[str]]
    key: Callable[[Row], Hashable] = lambda row: (row.network, row.recipe)
    texts: int = 1

    def to_markdown(self, rows: Sequence[Row]) -> str:
        """The table, and below it in a line what a reader must know."""
        return "\n".join([*tables.markdown(*self.cells(rows), texts=self.texts), "", f"*{self._below(rows)}*"]) + "\n"

    def show(self, rows: Sequence[Row]) -> None:
        """Prints the same to stdout."""
        tables.show(*self.cells(rows), texts=self.texts, caption=self._below(rows))

    def cells(self, rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
        """Header and lines."""
        splits, counts = splits_of(rows), counts_of(rows)
        header = [column.name for column in self.file]
        header += [column.name.format(split) for split in splits for column in self.split]
        header += [column.name.format(threads_in_words(count)) for count in counts for column in self.threads]
        lines = []
        for key in dict.fromkeys(map(self.key, rows)):
            of_file = [row for row in rows if self.key(row) == key]
            line = [column.text(of_file[0]) for column in self.file]
            for split in splits:
                scored = (row for row in of_file if row.split == split and row.quality_valid and row.iou is not None)
                line += _texts(self.split, next(scored, None))
            for count in counts:
                line += _texts(self.threads, next((row for row in of_file if is_timed(row, count)), None))
            lines.append([_plain(text) for text in line])
        return [_plain(name) for name in header], lines

    def _below(self, rows: Sequence[Row]) -> str:
        return _plain(f"{'; '.join(self.conditions(rows))}.")


def _texts(columns: Sequence[Column], row: Row | None) -> list[str]:
    return [column.text(row) if row else "" for column in columns]


def is_timed(row: Row, threads: int) -> bool:
    """Whether a row has a good latency on so many threads."""
    return row.threads == threads and row.latency_valid


def splits_of(rows: Sequence[Row]) -> list[str]:
    """The splits, in their order."""
    return list(dict.fromkeys(row.split for row in rows if row.split))


def counts_of(rows: Sequence[Row]) -> list[int]:
    """The thread counts on which some latency counts."""
    return sorted({row.threads for row in rows if row.latency_valid and row.threads is not None})


def threads_in_words(count: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} thread{'s' * (count != 1)}"


def _plain(text: str) -> str:
    # a name from a CSV must not end the line, or look like a marker
    return re.sub(r"\s+", " ", text).replace("-->", "→").replace("<!--", "")


def _photos(rows: Sequence[Row]) -> list[str]:
    """On which photos each split was scored."""
    firsts = [next(row for row in rows if row.split == split) for split in splits_of(rows)]
    return [f"{row.split}: {row.photos} photos, list {row.split_sha256_16}" for row in firsts]


def _latency(rows: Sequence[Row]) -> list[str]:
    """What latencies are ratios to, where all were measured at once."""
    timed = [row for row in rows if row.reference and row.latency_valid]
    if not timed:
        return []
    profiles = sorted({row.profile for row in timed if row.profile})
    machines = "; ".join(sorted({row.machine for row in rows if row.machine}))
    profile = f" (profile {', '.join(profiles)})" if profiles else ""
    reference = min(row.reference or "" for row in timed)
    return [f"latency as a ratio to {reference}, interleaved in one process, on {machines}{profile}"]


def _latency_by_threads(rows: Sequence[Row]) -> list[str]:
    """The same by thread count, with the reference's own time."""
    lines = []
    for count in counts_of(rows):
        row = next(row for row in rows if is_timed(row, count))
        if row.reference is None:
            lines.append(f"no reference was measured on {threads_in_words(count)}")
            continue
        absolute = (
            f" (p50 {r.p50_ms:.2f} ms)" for r in rows if is_timed(r, count) and r.name == row.reference and r.p50_ms
        )
        profile = f" (profile {row.profile})" if row.profile else ""
        what = f"latency as a ratio to {row.reference}{next(absolute, '')}, {threads_in_words(count)}"
        lines.append(f"{what}, on {row.machine}{profile}")
    return lines


def _tools(rows: Sequence[Row]) -> list[str]:
    """The runtimes, and what an empty cell means where there is one."""
    named = {f"{row.runtime} ({row.delegate})" if row.delegate else row.runtime for row in rows if row.runtime}
    is_part_empty = any(row.split and not (row.quality_valid and row.latency_valid) for row in rows)
    empty = ["an empty cell: not measured, or too noisy to count"] if is_part_empty else []
    return [*([", ".join(sorted(map(str, named)))] if named else []), *empty]


def _of_files(rows: Sequence[Row]) -> list[str]:
    return ["IoU in % with its 95 % interval", *_photos(rows), *_latency_by_threads(rows), *_tools(rows)]


def _of_networks(rows: Sequence[Row], with_base: bool = True) -> list[str]:
    bases = sorted({row.base for row in rows if row.base}) if with_base else []
    against = [
        f"IoU − base: points against the same recipe of {base} (peers: its int8 file), paired by photo, 95 % interval"
        for base in bases[:1]
    ]
    seen = sorted({row.images_seen for row in rows if row.images_seen})
    ends = " to ".join(f"{count:,}" for count in dict.fromkeys((*seen[:1], *seen[-1:])))
    saw = [f"float training saw {ends} photos"] if seen else []
    return [*_photos(rows), *against, *saw, *_latency(rows), *_tools(rows)]


def _of_recipes(rows: Sequence[Row]) -> list[str]:
    against = "− float, × float: against the fp32 file of the same run; points paired by photo, 95 % interval"
    qat = [row for row in rows if row.recipe.startswith("qat_")]
    lost = dict.fromkeys(f"{row.run} {row.recipe} on {row.split}" for row in qat if row.is_kept is False)
    most = f"{100 * PROMISED[0]:g} points of IoU and {100 * PROMISED[1]:g} of boundary IoU at most"
    kept = f"lost more than {most}: {', '.join(lost)}" if lost else f"qat files lose {most}"
    return [*_photos(rows), against, *([kept] if qat else []), *_latency(rows), *_tools(rows)]


def _change(prefix: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        mean, low, high = (getattr(row, f"{prefix}{end}") for end in ("", "_low", "_high"))
        return "" if mean is None else describe_difference(Difference(mean, low, high))

    return text


def _millions(form: str, name: str) -> Callable[[Row], str]:
    return lambda row: tables.figure(getattr(row, name), form, 1e-6) + " M" * (getattr(row, name) is not None)


_MACS = Column("MACs", _millions(".0f", "macs"))

NETWORKS = View(
    file=(
        Column("Network", "network"),
        Column("Size", "size"),
        Column("Rate", "learning_rate", "g"),
        Column("Recipe", "recipe"),
        Column("Parameters", _millions(".2f", "parameters")),
        _MACS,
        MB,
    ),
    split=(
        Column("IoU {}", "iou", ".2f", 100.0),
        Column("boundary {}", "boundary_iou", ".2f", 100.0),
        Column("IoU − base {}", _change("change")),
    ),
    threads=(Column("× reference, {}", "ratio_to_reference", ".2f"),),
    conditions=_of_networks,
    texts=4,
)

#: What decides: size, quality, time.
SHORT_NETWORKS = View(
    file=(Column("Network", "network"), _MACS, MB),
    split=(
        Column(
            "{}: IoU / boundary IoU, %",
            lambda row: " / ".join(tables.figure(iou, ".2f", 100.0) for iou in (row.iou, row.boundary_iou)),
        ),
    ),
    threads=(Column("time ÷ reference's, {}", "ratio_to_reference", ".2f"),),
    conditions=partial(_of_networks, with_base=False),
)

RECIPES = View(
    file=(
        Column("Run", "run"),
        Column("Recipe", lambda row: Path(row.file).stem if row.recipe == FOREIGN else row.recipe),
        MB,
    ),
    split=(
        Column("IoU {}", "iou", ".2f", 100.0),
        Column("− float", _change("change")),
        Column("boundary {}", "boundary_iou", ".2f", 100.0),
        Column("− float", _change("boundary_change")),
    ),
    threads=(
        Column("× float, {}", "ratio_to_float", ".2f"),
        Column("× reference, {}", "ratio_to_reference", ".2f"),
    ),
    conditions=_of_recipes,
    key=lambda row: (row.run, row.file),
    texts=2,
)


def _model(row: Row) -> str:
    size = _SIZE.search(Path(row.file).stem)
    return f"{row.model} {size[1]}×{size[2]}" if size else row.model


def _format(row: Row) -> str:
    # what the name says beyond model, size, channels and recipe
    path = Path(row.file)
    variant = next((part for part in ("multiarray", "nhwc", "nchw") if f"-{part}" in path.stem), "")
    return f"{path.suffix.removeprefix('.')} {variant}".strip()


def _iou(row: Row) -> str:
    return f"{100 * row.iou:.2f}{f' ({_interval(row)})' if _interval(row) else ''}" if row.iou is not None else ""


FILES = View(
    file=(
        Column("Model", _model),
        Column("Format", _format),
        Column("Recipe", "recipe"),
        Column("Channels", "channels"),
        MB,
    ),
    split=(Column("IoU {}", _iou), Column("boundary IoU {}", "boundary_iou", ".2f", 100.0)),
    threads=(Column("× reference, {}", "ratio_to_reference", ".2f"),),
    conditions=_of_files,
    key=lambda row: row.file,
    texts=4,
)
