"""Scores on disk while they are made: a killed benchmark goes on from them, and memory does not grow with the photos.

One file holds the scores of one exported file on one split: a line of JSON that says of what, then records of fixed
size, only ever appended. A record that a kill cut short, or that was damaged, fails its checksum and is made again.
"""

import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from portraitseg import files
from portraitseg.errors import InputError

#: Rises when a measure changes what it gives for the same masks: scores of another version are made again.
METRICS_VERSION = 1

#: What machines that score one split together must share.
_SAME = "give all the same photos, files and settings, and the environment of one lock"

#: The line that says what a journal is of is shorter.
_MAX_HEADER = 1_000_000


class Journal:
    """The scores of one file on one split, photo by photo; one writer at a time (see `locked`)."""

    def __init__(self, path: Path, identity: Mapping[str, Any], columns: Sequence[str], count: int) -> None:
        """Opens a journal, or begins it anew where it is of something else.

        Args:
            path: of the journal; its folder is made.
            identity: all that the scores follow from, as JSON.
            columns: names of the numbers of a photo.
            count: photos of the split.

        Raises:
            InputError: the disk refuses.
        """
        self.path, self.columns, self.count = path, tuple(columns), count
        self._record = np.dtype([("checksum", "<u4"), ("index", "<u4"), ("values", "<f8", (len(self.columns),))])
        header = self._header(identity)
        self._begin = len(header)
        self.done: Bool[np.ndarray, " n"] = np.zeros(count, bool)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not _has_header(path, header):
                path.write_bytes(header)
            self._keep_whole_records()
        except OSError as error:
            raise InputError(f"{path}: {files.explain(error)}") from error

    @property
    def is_complete(self) -> bool:
        """True once every photo was scored."""
        return bool(self.done.all())

    def append(self, indices: Int64[np.ndarray, " m"], values: Float64[np.ndarray, "m k"]) -> None:
        """Adds the scores of photos, by their place in the split.

        Raises:
            InputError: a full disk; what was there before stays.
        """
        records = np.zeros(len(indices), self._record)
        records["index"], records["values"] = indices, values
        for record in records:
            record["checksum"] = _checksum(record)
        try:
            with self.path.open("ab") as file:
                file.write(records.tobytes())
        except OSError as error:
            raise InputError(f"{self.path}: {files.explain(error)}: what was scored so far is kept") from error
        self.done[indices] = True

    def adopt(self, path: Path, identity: Mapping[str, Any], is_copied: bool) -> None:
        """Takes from another machine's journal, which it may still be writing to, what is missing here.

        Args:
            path: of that journal.
            identity: what it has to be of.
            is_copied: False only notes what is done there.

        Raises:
            InputError: it is of something else, with what differs.
        """
        expected = self._header(identity)
        with path.open("rb") as file:
            header = file.readline(_MAX_HEADER)
        if not header.endswith(b"\n"):
            # it has just been begun
            return
        if header != expected:
            raise InputError(f"{path.parent}: {_difference(header, expected)}: {_SAME}, or delete that folder")
        for records in self._read(path, len(header)):
            is_new = [self._is_good(record) and not self.done[record["index"]] for record in records]
            good = records[np.array(is_new, bool)]
            if is_copied and len(good):
                self.append(good["index"].astype(np.int64), good["values"])
            self.done[good["index"]] = True

    def column(self, name: str) -> Float64[np.ndarray, " n"]:
        """One number of every photo, in the order of the split; the journal is complete."""
        assert self.is_complete
        values = np.empty(self.count, np.float64)
        position = self.columns.index(name)
        for records in self._read(self.path, self._begin):
            values[records["index"]] = records["values"][:, position]
        return values

    def _keep_whole_records(self) -> None:
        """Marks what is there, and takes away the end from the first damaged record on."""
        good = 0
        for records in self._read(self.path, self._begin):
            for record in records:
                if not self._is_good(record):
                    os.truncate(self.path, self._begin + good * self._record.itemsize)
                    return
                self.done[record["index"]] = True
                good += 1
        os.truncate(self.path, self._begin + good * self._record.itemsize)

    def _header(self, identity: Mapping[str, Any]) -> bytes:
        given = {**identity, "metrics_version": METRICS_VERSION, "columns": self.columns, "count": self.count}
        header = json.dumps(given, sort_keys=True, ensure_ascii=True).encode() + b"\n"
        assert len(header) < _MAX_HEADER
        return header

    def _is_good(self, record: np.void) -> bool:
        return bool(record["index"] < self.count and record["checksum"] == _checksum(record))

    def _read(self, path: Path, begin: int) -> Iterator[np.ndarray]:
        """The records in parts, so that a long journal needs no more memory than a short one."""
        with path.open("rb") as file:
            file.seek(begin)
            while part := file.read(4096 * self._record.itemsize):
                whole = len(part) // self._record.itemsize
                yield np.frombuffer(part[: whole * self._record.itemsize], self._record)


@contextmanager
def locked(folder: Path) -> Iterator[Path]:
    """Holds a folder of journals; the kernel lets go when the process ends, however it ends.

    Raises:
        InputError: another benchmark holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{folder}: another benchmark is writing to it: wait for its end") from error
        yield folder


def _has_header(path: Path, header: bytes) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header


def _difference(header: bytes, expected: bytes) -> str:
    """What another machine scored otherwise, in words."""
    try:
        theirs, ours = json.loads(header), json.loads(expected)
        name = next(name for name in ours if theirs.get(name) != ours[name])
    except (ValueError, AttributeError, StopIteration):
        return "no scores of this version"
    both = " and ".join(f"{str(side.get(name))[:100]}" for side in (theirs, ours))
    return f"scored with another {name.removesuffix('s')} ({both.replace(' and ', '; here ', 1)})"


def _checksum(record: np.void) -> int:
    return zlib.crc32(record.tobytes()[4:])
