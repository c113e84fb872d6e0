"""Whether every file of a run is whole: what a kill may leave, and what it may not."""

import csv
import json
import os
import runpy
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from portraitseg import files, manifest
from portraitseg.tflite.graph import read_graph

#: As `checkpoint.py` runs it: as a script. An import would bring TensorFlow along.
_H5_CHILD = runpy.run_path(str(Path(__file__).parents[3] / "portraitseg/models/_h5_child.py"))

#: Where stages write.
_FOLDERS = ("runs", "android_assets", "ios_assets")

#: Written line by line, so that the last one may be cut; its readers leave that out.
JOURNALS = ("events.out.tfevents.", "history.jsonl")


def faults(folder: Path) -> list[str]:
    """What is not whole under a folder that holds `runs`, `android_assets` and `ios_assets`: a line each."""
    faults_of = [fault for path in final_files(folder) for fault in _file_faults(path, folder)]
    for listed in folder.glob("**/" + manifest.MANIFEST_NAME):
        if is_final(listed.relative_to(folder)):
            faults_of += _manifest_faults(listed)
    return faults_of


def final_files(folder: Path) -> Iterator[Path]:
    """Every file under a final name: not under a temporary one, and no part of a Core ML package."""
    for path in sorted(path for name in _FOLDERS for path in (folder / name).rglob("*")):
        if path.is_file() and is_final(path.relative_to(folder)) and ".mlpackage" not in str(path.parent):
            yield path


def is_final(path: Path) -> bool:
    return not any(part.startswith(files.TEMPORARY_PREFIX) for part in path.parts)


def snapshot(folder: Path) -> dict[str, str]:
    """Relative path → SHA-256 of every file and package under a final name."""
    packages = [path for path in folder.rglob("*.mlpackage") if is_final(path.relative_to(folder))]
    return {str(path.relative_to(folder)): files.sha256(path) for path in (*final_files(folder), *packages)}


def leftovers(folder: Path) -> list[str]:
    """What lies under a temporary name."""
    return [str(path.relative_to(folder)) for path in folder.rglob(f"{files.TEMPORARY_PREFIX}*")]


def _file_faults(path: Path, folder: Path) -> list[str]:
    if path.name == ".lock":
        return []
    name = path.relative_to(folder)
    try:
        if path.name.startswith(JOURNALS):
            _CHECKS[JOURNALS[path.name == JOURNALS[1]]](path)
        elif path.suffix in _CHECKS:
            _CHECKS[path.suffix](path)
        else:
            return [f"{name}: a file of no known kind"]
    except Exception as error:
        # whatever a reader raises is what this check is for
        return [f"{name}: {type(error).__name__}: {error}"]
    return []


def _manifest_faults(path: Path) -> list[str]:
    try:
        manifest.verify(manifest.read(manifest.Manifest, path), path.parent)
    except ValueError as error:
        return [str(error)]
    return []


def _check_npz(path: Path) -> None:
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            stored[name]


def _check_csv(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    header, *rows = csv.reader(text.splitlines())
    if not text.endswith("\n") or not rows or any(len(row) != len(header) for row in rows):
        raise ValueError("cut short")


def _check_picture(path: Path) -> None:
    # its last chunk too: a decoder may be content with less
    if cv2.imread(str(path), cv2.IMREAD_UNCHANGED) is None or b"IEND" not in path.read_bytes()[-12:]:
        raise ValueError("cut short")


def _check_text(path: Path) -> None:
    if not path.read_text(encoding="utf-8").endswith("\n"):
        raise ValueError("cut short")


def _check_lines(path: Path) -> None:
    """All lines but the last are whole."""
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        json.loads(line)


def _check_scores(path: Path) -> None:
    """As benchmark/measuring/journal.py says: a line, then records; whichever is last may be cut."""
    header, newline, body = path.read_bytes().partition(b"\n")
    if not newline:
        return
    columns = json.loads(header)["columns"]
    record = struct.Struct(f"<II{len(columns)}d")
    for offset in range(0, len(body) - record.size + 1, record.size):
        (checksum,) = struct.unpack_from("<I", body, offset)
        if checksum != zlib.crc32(body[offset + 4 : offset + record.size]):
            raise ValueError(f"a damaged record at {offset}")


def _check_events(path: Path) -> None:
    """Records of (length, checksum, bytes, checksum), the last of which may be cut."""
    content, offset = path.read_bytes(), 0
    while offset + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, offset)
        if length > 100_000_000:
            raise ValueError(f"a record of {length} bytes at {offset}")
        offset += 16 + length


_CHECKS: dict[str, Callable[[Path], object]] = {
    ".h5": lambda path: json.loads(_H5_CHILD["read_all"](os.fspath(path))),
    ".npz": _check_npz,
    ".json": lambda path: json.loads(path.read_bytes()),
    ".csv": _check_csv,
    ".scores": _check_scores,
    ".png": _check_picture,
    ".md": _check_text,
    ".html": _check_text,
    ".tflite": read_graph,
    ".mlmodel": lambda path: _has_bytes(path),
    ".onnx": lambda path: _has_bytes(path),
    JOURNALS[0]: _check_events,
    JOURNALS[1]: _check_lines,
}


def _has_bytes(path: Path) -> None:
    """Their hash is in the manifest beside them; nothing else is asked here."""
    if not path.stat().st_size:
        raise ValueError("empty")
