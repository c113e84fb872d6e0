"""Files that are either whole or absent: atomic writes, and the hashes that tie the stages together."""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from portraitseg.errors import InputError

#: Begins the name of every unfinished file or folder; our own, so that clearing them up touches nobody else's.
TEMPORARY_PREFIX = ".tmp-portraitseg-"

#: Older than this, what a killed run left behind is nobody's any more; where there are no locks that tell it.
STALE_SECONDS = 24 * 3600

#: Begins the name of an old folder that is out of the way for a moment, where two cannot be swapped in one step.
_ASIDE = "aside-"

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


def find_refusal(text: str) -> str | None:
    """The remedy, where a library passes the system's refusal on as a text."""
    return next((remedy for number, remedy in _REMEDIES.items() if os.strerror(number) in text), None)


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


def spec_path(path: Path) -> Path:
    """Where the description of a stranger's .tflite lies: beside it, `.toml` in place of its suffix."""
    return path.with_suffix(".toml")


def sha256_with_spec(path: Path) -> str:
    """What the answers of an exported file follow from: its SHA-256, and its description's where it has one."""
    digest, spec = sha256(path), spec_path(path)
    if path.suffix != ".tflite" or not spec.exists():
        return digest
    return hashlib.sha256(f"{digest}\n{sha256(spec)}\n".encode()).hexdigest()


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder; on success it takes the place of `path`, on failure nothing changes.

    Works for files and for folders. The temporary name keeps the suffix, for libraries that look at it.

    Raises:
        InputError: a full or read-only disk, a missing permission, while writing.
    """
    try:
        with scratch_folder(path.parent) as scratch:
            made = scratch / path.name
            yield made
            _sync(made)
            _replace(made, path)
            _sync(path.parent, is_deep=False)
    except OSError as error:
        foreign = error.filename is not None and not str(error.filename).startswith(str(path.parent))
        if error.errno not in _REMEDIES or foreign:
            raise
        raise InputError(f"{path}: {explain(error)}; what was there before is untouched") from error


@contextmanager
def revising(folder: Path) -> Iterator[Path]:
    """Yields a copy of a folder (an empty one where there is none), which takes its place in one step on success.

    So that files which belong together change together. Those of the copy are the very files of the folder, where its
    file system has hard links: replace them, never write into them.

    Raises:
        InputError: as `replacing`.
    """
    # a link to a folder on another disk stays one
    resolved = folder.resolve() if folder.is_symlink() else folder
    with replacing(resolved) as copy:
        if resolved.is_dir():
            _link_folder(resolved, copy)
        else:
            copy.mkdir()
        yield copy


def _link_folder(source: Path, copy: Path) -> None:
    """Not `shutil.copytree`: it collects faults as texts, and the system's reason, such as a full disk, is lost."""
    copy.mkdir()
    for path in source.iterdir():
        if path.name.startswith(TEMPORARY_PREFIX):
            continue
        copied = copy / path.name
        if path.is_symlink():
            copied.symlink_to(path.readlink())
        elif path.is_dir():
            _link_folder(path, copied)
        else:
            try:
                copied.hardlink_to(path)
            except OSError:
                shutil.copy2(path, copied)
    shutil.copystat(source, copy)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder under a temporary name, which is gone at the end; what killed runs left in `parent` goes too.

    It is locked while its owner lives: the kernel lets go of a lock when a process ends, however it ends, so that the
    next one knows what is nobody's any more.

    Raises:
        InputError: a file lies where the parent should be.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        blocking = next(path for path in (parent, *parent.parents) if path.exists() and not path.is_dir())
        raise InputError(
            f"{blocking}: a file, where {parent} needs a folder: move it, or name another place"
        ) from error
    clear_abandoned(parent)
    scratch, lock = _make_locked(parent)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _make_locked(parent: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=parent))
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # taken for abandoned, before it was locked
            continue
        with suppress(OSError):  # a file system without locks: age decides
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        if path.exists():
            return path, descriptor
        os.close(descriptor)


def clear_abandoned(folder: Path) -> None:
    """Removes what runs that were killed left in a folder; a folder that one had moved aside goes back to its name."""
    for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:  # its owner has just finished; or it is no folder, so none of ours
            continue
        try:
            if _is_abandoned(left, descriptor):
                for old in left.glob(f"{_ASIDE}*"):
                    if not (final := folder / old.name.removeprefix(_ASIDE)).exists():
                        old.replace(final)
                shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(descriptor)


def _is_abandoned(path: Path, descriptor: int) -> bool:
    """Whether the owner of a temporary folder is gone; locks it if so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # no locks for folders on this file system (NFS)
        return time.time() - os.fstat(descriptor).st_mtime > STALE_SECONDS
    return path.exists()


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


def _replace(scratch: Path, path: Path) -> None:
    """One step for files and new folders; a folder that exists is swapped, so that one of the two is always there."""
    if not (path.is_dir() and scratch.is_dir()):
        scratch.replace(path)
    elif not _swap(scratch, path):
        # rename(2) does not replace a folder that has content; after a kill between these two, the next write into the
        # same folder puts the old one back
        old = scratch.parent / f"{_ASIDE}{path.name}"
        path.replace(old)
        try:
            scratch.replace(path)
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
