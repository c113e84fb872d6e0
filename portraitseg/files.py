"""Files that are either whole or absent: atomic writes, and the hashes that tie the stages together."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portraitseg.errors import InputError

#: Begins the name of every unfinished file or folder; our own, so that clearing them up touches nobody else's.
TEMPORARY_PREFIX = ".tmp-portraitseg-"

#: Older than this, what a killed run left behind is nobody's any more.
STALE_SECONDS = 24 * 3600

_REMEDIES = {
    errno.ENOSPC: "the disk is full: make room, then run the command again",
    errno.EDQUOT: "your quota of the disk is used up: make room, then run the command again",
    errno.EFBIG: "the file is larger than this disk or shell allows: choose another disk, or raise `ulimit -f`",
    errno.EROFS: "the disk is read-only: choose a folder that can be written to",
    errno.EACCES: "no permission: change the folder's permissions, or choose another one",
    errno.EPERM: "no permission: change the folder's permissions, or choose another one",
}


def explain(error: OSError) -> str:
    """What the operating system refused, with the remedy where there is one."""
    return _REMEDIES.get(error.errno or 0) or error.strerror or str(error)


def sha256(path: Path) -> str:
    """SHA-256 of a file, or of a folder (an .mlpackage): hex, 64 digits.

    A folder's hash is that of the lines `<hash of file>  <relative path>`, sorted by path, each with its newline.
    """
    if path.is_dir():
        inner = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        lines = "".join(f"{sha256(path / name)}  {name}\n" for name in inner)
        return hashlib.sha256(os.fsencode(lines)).hexdigest()
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

    Works for files and for folders. The temporary name keeps the suffix, for libraries that look at it, and lies in a
    folder that begins with `.tmp-`, so that a killed run leaves nothing under a final name; the next write into the
    same folder clears up what is older than a day.

    Raises:
        InputError: a full or read-only disk, a missing permission, while writing.
    """
    scratch: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(path.parent)
        scratch = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        target = scratch / path.name
        yield target
        _sync(target)
        _put_in_place(target, path)
        _sync(path.parent, is_deep=False)
    except OSError as error:
        foreign = error.filename is not None and not str(error.filename).startswith(str(path.parent))
        if error.errno not in _REMEDIES or foreign:
            raise
        raise InputError(f"{path}: {explain(error)}; what was there before is untouched") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _clear_stale(folder: Path) -> None:
    """Removes what runs that were killed left in a folder."""
    for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            is_stale = time.time() - left.lstat().st_mtime > STALE_SECONDS
        except FileNotFoundError:  # its owner has just finished
            continue
        if is_stale:
            shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path, is_deep: bool = True) -> None:
    """Asks for a file, or a folder with all in it, to be on the disk before its name changes (power may fail)."""
    if is_deep and path.is_dir():
        for child in path.iterdir():
            _sync(child)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems do not know this for folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _put_in_place(target: Path, path: Path) -> None:
    """One step for files and new folders; a folder that exists is swapped, so that one of the two is always there."""
    if not (path.is_dir() and target.is_dir()):
        target.replace(path)
    elif not _swap(target, path):
        # rename(2) does not replace a folder that has content; a kill between these two leaves the old one in `.tmp-`
        old = target.parent / "old"
        path.replace(old)
        try:
            target.replace(path)
        except OSError:
            old.replace(path)
            raise


def _swap(one: Path, other: Path) -> bool:
    """Exchanges two paths in one step; False where the system or its file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        return hasattr(library, "renamex_np") and library.renamex_np(*names, 2) == 0  # RENAME_SWAP
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return hasattr(library, "renameat2") and library.renameat2(here, names[0], here, names[1], exchange) == 0


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


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(…, object_pairs_hook=…)`: Python's own keeps the last of two equal keys and says nothing.

    Raises:
        ValueError: a key twice.
    """
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return values
