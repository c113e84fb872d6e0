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
        given = {**identity, "metrics_version": METRICS_VERSION, "columns": self.columns, "count": count}
        header = json.dumps(given, sort_keys=True, ensure_ascii=True).encode() + b"\n"
        assert len(header) < _MAX_HEADER
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

    def column(self, name: str) -> Float64[np.ndarray, " n"]:
        """One number of every photo, in the order of the split; the journal is complete."""
        assert self.is_complete
        values = np.empty(self.count, np.float64)
        position = self.columns.index(name)
        for records in self._read():
            values[records["index"]] = records["values"][:, position]
        return values

    def _keep_whole_records(self) -> None:
        """Marks what is there, and takes away the end from the first damaged record on."""
        good = 0
        for records in self._read():
            for record in records:
                if record["index"] >= self.count or record["checksum"] != _checksum(record):
                    os.truncate(self.path, self._begin + good * self._record.itemsize)
                    return
                self.done[record["index"]] = True
                good += 1
        os.truncate(self.path, self._begin + good * self._record.itemsize)

    def _read(self) -> Iterator[np.ndarray]:
        """The records in parts, so that a long journal needs no more memory than a short one."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
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


def _checksum(record: np.void) -> int:
    return zlib.crc32(record.tobytes()[4:])
