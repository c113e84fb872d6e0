"""Archives of strangers: unpacked without leaving the folder, without links, and no larger than they may be."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from portraitseg.data.layout import has_control
from portraitseg.errors import InputError

#: Photos hardly shrink, and COCO's JSON to a third; what grows more than this is made to fill the disk.
MOST_GROWTH, LEAST_BOUND_BYTES = 30, 100_000_000

#: More files than the largest public set has, three times.
MOST_FILES = 1_000_000

_CHUNK_BYTES = 1 << 20
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    NotImplementedError,
)


def unpack(archive: Path, folder: Path) -> int:
    """Unpacks a .zip or .tar (.gz, .xz, .bz2) into an empty folder.

    Returns:
        How many files.

    Raises:
        InputError: no archive, a damaged one; a name that leads out of the folder or is there twice, a link, a device,
            more than `MOST_GROWTH` times the archive's size or `MOST_FILES`. The folder may hold a part then.
    """
    room = max(MOST_GROWTH * archive.stat().st_size, LEAST_BOUND_BYTES)
    most, count = room, 0
    try:
        with _members(archive) as members:
            for name, source in members:
                count += 1
                if count > MOST_FILES:
                    raise InputError(f"{archive}: over {MOST_FILES:,} files: no data set has as many: not unpacked")
                destination = folder / _checked(name, archive)
                if source is None:
                    destination.mkdir(parents=True, exist_ok=True)
                    continue
                destination.parent.mkdir(parents=True, exist_ok=True)
                room -= _copy(source, destination, room)
                if room < 0:
                    raise InputError(
                        f"{archive}: unpacks to over {most / 1e9:.1f} GB, {MOST_GROWTH} times its size or more: made "
                        "to fill the disk: not unpacked"
                    )
    except FileExistsError as error:
        raise InputError(f"{archive}: '{name}' is in it twice: not unpacked") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        raise InputError(f"{archive}: '{name}' is a file and a folder in it: not unpacked") from error
    except _DAMAGED as error:
        raise InputError(f"{archive}: not an archive that can be read ({error}): fetch it again") from error
    return count


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, Any]]]:
    """Names and contents; None of folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield _of_zip(file, archive)
    else:
        # as a stream: in a damaged tar nothing is sought
        with tarfile.open(archive, "r|*") as stream:
            yield _of_tar(stream, archive)


def _of_zip(file: zipfile.ZipFile, archive: Path) -> Iterator[tuple[str, Any]]:
    for info in file.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _no_file(archive, info.filename)
        if info.is_dir():
            yield info.filename, None
        else:
            with file.open(info) as content:
                yield info.filename, content


def _of_tar(stream: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, Any]]:
    for info in stream:
        if not (info.isreg() or info.isdir()):
            raise _no_file(archive, info.name)
        yield info.name, stream.extractfile(info)


def _no_file(archive: Path, name: str) -> InputError:
    return InputError(f"{archive}: {name[:120]!r} is a link or a device, which no data set needs: not unpacked")


def _checked(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name[1:2] or has_control(name):
        raise InputError(f"{archive}: {name[:120]!r} would lie outside of the folder: not unpacked")
    return path


def _copy(source: Any, destination: Path, room: int) -> int:
    """Bytes that were written; one chunk beyond `room` at most, whatever the archive says of its size."""
    written = 0
    # x: what is there already is not written over
    with destination.open("xb") as file:
        while written <= room and (chunk := source.read(_CHUNK_BYTES)):
            written += file.write(chunk)
    return written
