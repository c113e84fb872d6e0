"""Files that are either whole or absent: atomic writes, and the hashes that tie the stages together."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder (an .mlpackage): hex, 64 digits.

    A folder's hash is that of the sorted lines `<hash of file>  <relative path>`.
    """
    if path.is_dir():
        lines = [f"{sha256(p)}  {p.relative_to(path).as_posix()}\n" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; on success it takes the place of `path`, on failure nothing changes.

    Works for files and for folders. The temporary name keeps the suffix, for libraries that look at it, and begins
    with `.tmp-`, so that a killed run leaves nothing under a final name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
    try:
        target = scratch / path.name
        yield target
        if target.is_file():
            with target.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            # rename(2) does not replace a folder that has content
            path.replace(scratch / "old")
        target.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, indented, with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
