"""Format `eg1800`: EG1800 (Shen et al., 2016) as it is distributed, with MATLAB masks and lists.

images_data_crop/NNNNN.jpg, images_mask/NNNNN_mask.mat (array `mask`), trainlist.mat and testlist.mat. The lists name
photos that have since vanished from the web; those are left out and counted.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from portraitseg import files
from portraitseg.config import DataConfig
from portraitseg.data import reading
from portraitseg.data.base import Dataset, Sample, draw_val
from portraitseg.errors import InputError

IMAGES = "images_data_crop"
MASKS = "images_mask"

#: A mask of EG1800 is half a megapixel, at most 4 MB as doubles; more is a file made to fill the memory.
MAX_MAT_BYTES = 64_000_000

#: MATLAB 5: data type of an element → NumPy's.
_MAT_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MAT_MATRIX, _MAT_COMPRESSED = 14, 15
#: Classes of an array: double, single, int8 … uint64. A logical array is a uint8 one with a flag.
_MAT_NUMERIC = range(6, 16)
_MAT_COMPLEX = 0x0800


@dataclass(frozen=True)
class Eg1800Dataset(Dataset):
    """EG1800 in its own layout; keys are the five-digit numbers.

    Attributes:
        root: the folder that the user gave.
    """

    root: Path

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        image, notes = reading.read_image(self.root / IMAGES / f"{key}.jpg")
        path = _mask_path(self.root, key)
        mask = read_mat_mask(path)
        reading.check_same_size(image, mask, path)
        return Sample(key, image, mask, notes + tuple(f"mask: {note}" for note in reading.odd_mask(mask)))


def open_eg1800(config: DataConfig, seed: int) -> Eg1800Dataset:
    """Reads the lists: `train` and `val` are drawn from trainlist.mat by `val_ratio`, `test` is testlist.mat.

    Raises:
        InputError: a missing folder, a list that is missing or malformed, no photo of the lists there.
    """
    assert config.root is not None
    root = config.root
    for part in (IMAGES, MASKS, "trainlist.mat", "testlist.mat"):
        if not (root / part).exists():
            raise InputError(
                f"DATA {root}: no '{part}': format eg1800 is the data as distributed; "
                "for images/ and masks/ use FORMAT=folder"
            )
    listed = {name: read_mat_list(root / f"{name}list.mat") for name in ("train", "test")}
    if shared := set(listed["train"]) & set(listed["test"]):
        raise InputError(f"DATA {root}: photo {min(shared)} is in trainlist.mat and in testlist.mat")
    there = {
        name: [key for key in keys if (root / IMAGES / f"{key}.jpg").exists() and _mask_path(root, key).exists()]
        for name, keys in listed.items()
    }
    if not any(there.values()):
        raise InputError(f"DATA {root}: none of the photos in trainlist.mat and testlist.mat are in {IMAGES}")
    missing = sum(len(listed[name]) - len(there[name]) for name in listed)
    return Eg1800Dataset(
        name="eg1800",
        splits={**draw_val(there["train"], config.val_ratio, seed), "test": tuple(there["test"])},
        warnings=(f"{missing} of {sum(map(len, listed.values()))} listed photos are not there",) if missing else (),
        root=root,
    )


def read_mat_list(path: Path) -> list[str]:
    """The photo numbers of trainlist.mat or testlist.mat, as five digits, in order.

    Raises:
        InputError: not a MATLAB file with one list of whole numbers.
    """
    arrays = _read_mat(path)
    if len(arrays) != 1:
        raise InputError(f"{path}: holds {len(arrays)} arrays, one list expected: take the file as distributed")
    values = next(iter(arrays.values()))
    numbers = values.ravel()
    if not (np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all() and numbers.size):
        raise InputError(f"{path}: not a list of photo numbers: take the file as distributed")
    if numbers.min() < 0 or numbers.max() > 99_999:
        raise InputError(f"{path}: photo numbers have at most five digits: take the file as distributed")
    return list(dict.fromkeys(f"{int(number):05d}" for number in numbers))


def read_mat_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The array `mask` of an EG1800 mask file, 0/1 → 0/255.

    Raises:
        InputError: missing, not a MATLAB file, or without a two-dimensional numeric `mask`.
    """
    mask = _read_mat(path).get("mask")
    if mask is None or mask.ndim != 2 or mask.size == 0:
        raise InputError(f"mask {path}: no two-dimensional numeric array 'mask': take the file as distributed")
    return np.where(mask > 0, np.uint8(255), np.uint8(0))


def _mask_path(root: Path, key: str) -> Path:
    return root / MASKS / f"{key}_mask.mat"


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file: the data are incomplete")
        with path.open("rb") as file:
            content = file.read(MAX_MAT_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {files.explain(error)}") from error
    return parse_mat(content, str(path))


def parse_mat(content: bytes, origin: str) -> dict[str, np.ndarray]:
    """The real numeric arrays of a MATLAB 5 file by name; other kinds of variables are passed over.

    Our own reader, because scipy's takes nested cells until the stack ends, and unpacks whatever is compressed.

    Raises:
        InputError: another format (MATLAB 7.3 files are HDF5), damaged, or more than `MAX_MAT_BYTES` unpacked.
    """
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None or struct.unpack(order + "H", content[124:126]) != (0x0100,):
        raise InputError(f"{origin}: not a MATLAB 5 file: save it with -v7 or -v6, or take the photo out")
    arrays: dict[str, np.ndarray] = {}
    room = MAX_MAT_BYTES
    try:
        for kind, body in _mat_elements(content[128:], order, is_padded=False):
            if kind == _MAT_COMPRESSED:
                unpacked = zlib.decompressobj().decompress(body, room + 1)
                kind, body = next(_mat_elements(unpacked, order), (0, b""))
            room -= len(body)
            if room < 0:
                raise InputError(f"{origin}: over {MAX_MAT_BYTES // 10**6} MB unpacked: not a mask or a list of photos")
            if kind == _MAT_MATRIX and (array := _mat_array(body, order)):
                arrays[array[0]] = array[1]
    except (ValueError, struct.error, zlib.error, StopIteration) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{origin}: truncated or damaged ({error}): replace it") from error
    return arrays


def _mat_elements(content: bytes, order: str, is_padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """Type and content of each element; inside a matrix they are padded to multiples of 8 bytes."""
    view = memoryview(content)
    while len(view) >= 8:
        kind, size = struct.unpack(order + "II", view[:8])
        start = 8
        if kind >> 16:
            # up to four bytes lie in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, 4
        if size > len(view) - start or (start == 4 and size > 4):
            raise ValueError(f"an element of {size} bytes where {len(view) - start} are left")
        yield kind, bytes(view[start : start + size])
        view = view[8 if start == 4 else start + (size + 7 & ~7 if is_padded else size) :]


def _mat_array(body: bytes, order: str) -> tuple[str, np.ndarray] | None:
    """Name and array of a matrix element; None where it is not one of real numbers."""
    parts = _mat_elements(body, order)
    flags = struct.unpack(order + "I", next(parts)[1][:4])[0]
    if flags & 0xFF not in _MAT_NUMERIC or flags & _MAT_COMPLEX:
        return None
    shape = np.frombuffer(next(parts)[1], order + "i4")
    name = next(parts)[1].decode("latin-1")
    kind, data = next(parts)
    if kind not in _MAT_DTYPES or not 2 <= len(shape) <= 8 or (shape < 0).any():
        raise ValueError("not an array of numbers")
    # NumPy compares the sizes
    return name, np.frombuffer(data, order + _MAT_DTYPES[kind]).reshape(shape.tolist(), order="F")
