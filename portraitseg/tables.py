"""Tables: CSV that is written whole and read by its header, Markdown, and the terminal."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from portraitseg import files
from portraitseg.errors import InputError


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int | Sequence[str] = 1) -> list[str]:
    """The lines of a table.

    Args:
        header: names of the columns.
        rows: cells, as many as the header has; what would end a cell or the line is made harmless.
        texts: columns that are aligned to the left: how many of the first ones, or their names. The others, numbers,
            are aligned to the right.
    """
    rule = ["---" if name in _lefts(header, texts) else "--:" for name in header]
    return [
        "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in cells) + " |"
        for cells in (header, rule, *rows)
    ]


def show(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    texts: int | Sequence[str] = 1,
    *,
    title: str | None = None,
    caption: str | None = None,
    styles: Sequence[str | None] = (),
) -> None:
    """Prints the same to stdout; nothing in a cell is taken for markup.

    Args:
        header, rows, texts: as of `markdown`.
        title, caption: above and below.
        styles: of the rows, such as `red`; empty: of none.
    """
    from rich.markup import escape
    from rich.table import Table

    from portraitseg.cli import one_line, table_console

    table = Table(
        title=title and escape(title), caption=caption and escape(caption), title_justify="left", caption_justify="left"
    )
    for name in header:
        is_left = name in _lefts(header, texts)
        table.add_column(name, justify="left" if is_left else "right", overflow="fold", no_wrap=name == "Split")
    for index, cells in enumerate(rows):
        table.add_row(*(escape(one_line(cell)) for cell in cells), style=styles[index] if styles else None)
    table_console().print(table)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[object], floats: str = ".5f") -> None:
    """Writes a file with a header and Unix line ends, whole or not at all, row by row.

    Args:
        path: of the file.
        columns: in their order.
        rows: dataclasses or mappings; what lacks a column has an empty cell.
        floats: how fractions are written, see `cell`.
    """
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        _write(file, columns, rows, floats)


def to_csv(columns: Sequence[str], rows: Iterable[object], floats: str = ".5f") -> str:
    """The same as a text."""
    text = io.StringIO()
    _write(text, columns, rows, floats)
    return text.getvalue()


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads a file by its header.

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


def names_of(row: type) -> tuple[str, ...]:
    """The columns of a dataclass."""
    return tuple(column.name for column in fields(row))


def cell(name: str, value: object, floats: str = ".5f") -> str:
    """A value as a CSV has it: fractions to five digits, milliseconds to a microsecond, None empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # 1.25e-4 and 1.3e-4 are two rates
        return repr(value) if name == "learning_rate" else format(value, ".3f" if name.endswith("_ms") else floats)
    return str(value)


def parse(kind: str, text: str) -> Any:
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


def figure(value: float | int | None, form: str, factor: float = 1.0) -> str:
    """A number for people; empty where there is none."""
    return "" if value is None else format(value * factor, form)


def _write(file: io.TextIOBase, columns: Sequence[str], rows: Iterable[object], floats: str) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values: Mapping[str, Any] = vars(row) if is_dataclass(row) else row  # type: ignore[assignment]
        writer.writerow([cell(name, values.get(name), floats) for name in columns])


def _lefts(header: Sequence[str], texts: int | Sequence[str]) -> Sequence[str]:
    return header[:texts] if isinstance(texts, int) else texts
