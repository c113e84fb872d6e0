"""Tables in Markdown, for documents and terminals."""

from collections.abc import Iterable, Sequence


def line(cells: Sequence[str]) -> str:
    """A line of a table; what would end a cell or the line is made harmless."""
    return "| " + " | ".join(text.replace("|", r"\|").replace("\n", " ") for text in cells) + " |"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], texts: int | Sequence[str] = 1) -> list[str]:
    """The lines of a table.

    Args:
        header: names of the columns.
        rows: cells, as many as the header has.
        texts: columns that are aligned to the left: how many of the first ones, or their names. The others, numbers,
            are aligned to the right.
    """
    left = header[:texts] if isinstance(texts, int) else texts
    rule = "|" + "|".join("---" if name in left else "--:" for name in header) + "|"
    return [line(header), rule, *(line(cells) for cells in rows)]
