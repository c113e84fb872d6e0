"""Names of a library's functions, read from its ELF symbol table."""

import bisect
import struct
from functools import lru_cache
from pathlib import Path

#: Section and symbol types (ELF-64): a symbol table; a function.
_SYMTAB, _FUNC = 2, 2


class Symbols:
    """Functions of a library by their offset."""

    def __init__(self, functions: list[tuple[int, int, str]]) -> None:
        self._rows = sorted(functions)
        self._starts = [start for start, _, _ in self._rows]

    def name(self, offset: int) -> str | None:
        """The function that an offset lies in."""
        place = bisect.bisect_right(self._starts, offset) - 1
        if place < 0:
            return None
        start, size, name = self._rows[place]
        return name if offset < start + max(size, 1) else None

    def offset(self, name: str) -> int | None:
        """Where a function begins."""
        return next((start for start, _, found in self._rows if found == name), None)


@lru_cache(maxsize=2)
def read_symbols(path: Path) -> Symbols:
    """The functions of a 64-bit little-endian ELF library.

    Raises:
        ValueError, struct.error: no such library; it was fetched by its hash, so this is our own bug.
    """
    content = path.read_bytes()
    if content[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{path}: no 64-bit ELF library")
    (table,) = struct.unpack_from("<Q", content, 40)
    entry, count = struct.unpack_from("<HH", content, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, table + entry * index) for index in range(count)]
    functions = []
    for _, kind, _, _, place, size, link, _, _, step in sections:
        if kind != _SYMTAB:
            continue
        names = sections[link][4]
        for position in range(place, place + size, step):
            name, info, _, _, value, length = struct.unpack_from("<IBBHQQ", content, position)
            if info & 0xF == _FUNC and value:
                stop = content.index(b"\0", names + name)
                functions.append((value, length, content[names + name : stop].decode(errors="replace")))
    return Symbols(functions)
