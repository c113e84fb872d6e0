"""The tables of the documents, made from committed results: what stands there is what was measured."""

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.measuring.model_files import FOREIGN
from benchmark.tables import views
from benchmark.tables.results import Row, read
from portraitseg import files
from portraitseg.data.base import is_test_split
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


def is_table(path: Path) -> bool:
    """False for what is committed beside a table: scores by photo, trials of learning rates, check-arm's figures."""
    return not path.stem.endswith(("-photos", "-rates")) and path.stem != "arm"


def tables_of(path: Path) -> dict[str, str]:
    """The Markdown of a committed results file, a table of files or one of networks: whole, and short.

    Raises:
        InputError: neither.
    """
    results = read(path)
    shown = [row for row in results.rows if _is_short(row)]
    if "network" not in results.columns:
        return {path.stem: views.FILES.to_markdown(results.rows), f"{path.stem}{SHORT}": views.FILES.to_markdown(shown)}
    tests = [row for row in shown if row.split and is_test_split(row.split)]
    short = views.SHORT_NETWORKS.to_markdown(tests or shown)
    return {path.stem: views.NETWORKS.to_markdown(results.rows), f"{path.stem}{SHORT}": short}


def _is_short(row: Row) -> bool:
    if row.recipe == FOREIGN:
        return True
    if row.network:
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
        filled, shown = fill(text, tables), blocks(text)
    except InputError as error:
        raise InputError(f"{readme}: {error}") from error
    if is_check:
        orphans = [name for name in shown if name not in tables]
        if orphans:
            missing = RESULTS / f"{orphans[0].removesuffix(SHORT)}.csv"
            raise CheckFailed(f"{readme}: the table '{orphans[0]}' has no {missing}")
        differing = [name for name, content in blocks(filled).items() if content != shown[name]]
        if differing:
            what = f"the table '{differing[0]}' is not what its results file gives"
            raise CheckFailed(f"{readme}: {what}: run `python -m benchmark readme`")
    elif filled != text:
        files.write_text(readme, filled)
    return [path.stem for path in results if not {path.stem, f"{path.stem}{SHORT}"} & set(shown)]


def _block(name: str, content: str) -> str:
    return f"<!-- results:begin {name} -->\n{content}<!-- results:end {name} -->"
