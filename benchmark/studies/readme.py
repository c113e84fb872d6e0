"""The tables of the documents, made from committed results: what stands there is what was measured."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.measuring.targets import FOREIGN
from benchmark.studies import networks
from benchmark.studies.networks import NetworkRow
from benchmark.tables.table import Row, read_csv
from portraitseg import files, markdown
from portraitseg.errors import CheckFailed, InputError

#: Where the results behind the documents' tables are committed.
RESULTS = Path("benchmark/results")

#: Documents with tables.
DOCUMENTS = (Path("README.md"), Path("docs/results.md"), Path("docs/log/results.md"))

#: After a name: of the same results only the files that apps are told to take, and those of others.
SHORT = ".short"

_SHORT_RECIPES = ("fp16", "qat_wi8_ai8")

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_BLOCK = re.compile(rf"<!-- results:begin ({_NAME}) -->\n(.*?)<!-- results:end \1 -->", re.DOTALL)
_MARKER = re.compile(r"<!-- results:(begin|end)\b[^>]*-->")
_SIZE = re.compile(r"-(\d+)x(\d+)(?=-|$)")


def table(rows: Sequence[Row]) -> str:
    """The compact Markdown table of one results file: a row a file, the splits side by side, and the conditions.

    Figures that do not count are left out by themselves: a row with a noisy latency keeps its scores.
    """
    splits = list(dict.fromkeys(row.split for row in rows if row.split))
    timed = sorted({row.threads for row in rows if row.latency_valid and row.threads is not None})
    header = ["Model", "Format", "Recipe", "Channels", "MB"]
    for split in splits:
        header += [f"IoU {split}", f"boundary IoU {split}"]
    header += [f"× reference, {_threads(count)}" for count in timed]
    lines = []
    for name in dict.fromkeys(row.file for row in rows):
        own = [row for row in rows if row.file == name]
        scores = [cell for split in splits for cell in _scores(own, split)]
        lines.append([*_identity(own[0]), *scores, *(_ratio(own, count) for count in timed)])
    plain = [[_plain(cell) for cell in line] for line in (header, *lines)]
    return "\n".join([*markdown.table(plain[0], plain[1:], texts=4), "", _conditions(rows, splits, timed)]) + "\n"


def is_table(path: Path) -> bool:
    """False for what is committed beside a table: scores by photo, trials of learning rates, check-arm's figures."""
    return not path.stem.endswith(("-photos", "-rates")) and path.stem != "arm"


def tables_of(path: Path) -> dict[str, str]:
    """The Markdown of a committed results file, a table of files or one of networks: whole, and short.

    Raises:
        InputError: neither.
    """
    whole: str
    if path.exists() and networks.is_networks(path):
        every = networks.read_csv(path)
        whole, short = networks.to_markdown(every), networks.to_short_markdown([row for row in every if _is_short(row)])
    else:
        files_rows = read_csv(path)
        whole, short = (table(rows) for rows in (files_rows, [row for row in files_rows if _is_short(row)]))
    return {path.stem: whole, f"{path.stem}{SHORT}": short}


def _is_short(row: Row | NetworkRow) -> bool:
    if row.recipe == FOREIGN:
        return True
    if isinstance(row, NetworkRow):
        return row.recipe == "qat_wi8_ai8"
    # phones' GPU and CPU, and iOS
    plain = row.channels == "rgb" and "multiarray" not in row.file and not row.file.endswith((".mlmodel", ".onnx"))
    return plain and row.recipe in _SHORT_RECIPES


def fill(text: str, tables: dict[str, str]) -> str:
    """Puts tables between their markers, `<!-- results:begin NAME -->` and `<!-- results:end NAME -->`.

    Raises:
        InputError: markers that do not pair.
    """
    check_markers(text)
    return _BLOCK.sub(
        lambda block: block[0] if block[1] not in tables else _block(block[1], tables[block[1]]),
        text,
    )


def blocks(text: str) -> dict[str, str]:
    """Name → what stands between its markers.

    Raises:
        InputError: markers that do not pair.
    """
    check_markers(text)
    return {block[1]: block[2] for block in _BLOCK.finditer(text)}


def check_markers(text: str) -> None:
    """Refuses what would leave a table unnoticed.

    Raises:
        InputError: a marker without its other half, or a name that is there twice.
    """
    names = [block[1] for block in _BLOCK.finditer(text)]
    if len(_MARKER.findall(text)) != 2 * len(names):
        raise InputError(
            "a marker has no other half: write <!-- results:begin NAME --> and <!-- results:end NAME --> on"
            " lines of their own, NAME being that of a file in benchmark/results without .csv"
        )
    if len(set(names)) != len(names):
        raise InputError("a table is there twice: give each results:begin another name")


def update(readme: Path, results: Sequence[Path], is_check: bool) -> list[str]:
    """Writes the tables into a document, or only compares them.

    Args:
        readme: the file with the markers.
        results: committed tables; their stems are the names of the markers.
        is_check: True compares and changes nothing.

    Returns:
        The names of the tables for which it has no markers.

    Raises:
        InputError: no such file, markers that do not pair, a results file that is none.
        CheckFailed: with `is_check`, a table that differs or has no results file.
    """
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{readme}: {files.explain(error)}") from error
    tables = {name: content for path in results for name, content in tables_of(path).items()}
    try:
        filled, places = fill(text, tables), blocks(text)
    except InputError as error:
        raise InputError(f"{readme}: {error}") from error
    if is_check:
        orphans = [name for name in places if name not in tables]
        if orphans:
            missing = RESULTS / f"{orphans[0].removesuffix(SHORT)}.csv"
            raise CheckFailed(f"{readme}: the table '{orphans[0]}' has no {missing}")
        differing = [name for name, content in blocks(filled).items() if content != places[name]]
        if differing:
            what = f"the table '{differing[0]}' is not what its results file gives"
            raise CheckFailed(f"{readme}: {what}: run `python -m benchmark readme`")
    elif filled != text:
        files.write_text(readme, filled)
    return [path.stem for path in results if not {path.stem, f"{path.stem}{SHORT}"} & set(places)]


def _block(name: str, content: str) -> str:
    return f"<!-- results:begin {name} -->\n{content}<!-- results:end {name} -->"


def _plain(text: str) -> str:
    # a name from a CSV must not end the line, or look like a marker
    return re.sub(r"\s+", " ", text).replace("-->", "→").replace("<!--", "")


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _identity(row: Row) -> list[str]:
    path = Path(row.file)
    size = _SIZE.search(path.stem)
    model = f"{row.model} {size[1]}×{size[2]}" if size else row.model
    # what the name says beyond model, size, channels and recipe
    variant = next((part for part in ("multiarray", "nhwc", "nchw") if f"-{part}" in path.stem), "")
    kind = f"{path.suffix.removeprefix('.')} {variant}".strip()
    return [model, kind, row.recipe, row.channels or "", "" if row.bytes is None else f"{row.bytes / 1e6:.2f}"]


def _scores(rows: Sequence[Row], split: str) -> tuple[str, str]:
    found = next((row for row in rows if row.split == split and row.quality_valid and row.iou is not None), None)
    if found is None or found.iou is None:
        return "", ""
    interval = ""
    if found.iou_low is not None and found.iou_high is not None:
        interval = f" ({100 * found.iou_low:.1f}–{100 * found.iou_high:.1f})"
    band = "" if found.boundary_iou is None else f"{100 * found.boundary_iou:.2f}"
    return f"{100 * found.iou:.2f}{interval}", band


def _ratio(rows: Sequence[Row], threads: int) -> str:
    found = next((row for row in rows if row.threads == threads and row.latency_valid), None)
    if found is None or found.ratio_to_reference is None:
        return ""
    return f"{found.ratio_to_reference:.2f}"


def _conditions(rows: Sequence[Row], splits: Sequence[str], timed: Sequence[int]) -> str:
    """What a reader must know before comparing a figure with another one, in a line."""
    parts = ["IoU in % with its 95 % interval"]
    for split in splits:
        row = next(row for row in rows if row.split == split)
        parts.append(f"{split}: {row.photos} photos, list {row.split_sha256_16}")
    for threads in timed:
        row = next(row for row in rows if row.latency_valid and row.threads == threads)
        absolute, profile = _reference_ms(rows, threads), f" (profile {row.profile})" if row.profile else ""
        parts.append(
            f"latency as a ratio to {row.reference}{absolute}, {_threads(threads)}, on {row.machine}{profile}"
            if row.reference
            else f"no reference was measured on {_threads(threads)}"
        )
    runtimes = sorted({f"{row.runtime} ({row.delegate})" for row in rows if row.runtime})
    if runtimes:
        parts.append(", ".join(runtimes))
    if any(row.split and not row.latency_valid for row in rows):
        parts.append("an empty cell: not measured, or too noisy to count")
    return _plain(f"*{'; '.join(parts)}.*")


def _reference_ms(rows: Sequence[Row], threads: int) -> str:
    for row in rows:
        if row.latency_valid and row.threads == threads and row.name == row.reference and row.p50_ms is not None:
            return f" (p50 {row.p50_ms:.2f} ms)"
    return ""
