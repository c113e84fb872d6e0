"""Format `eg1800`: EG1800 (Shen et al., 2016) as it is distributed, with MATLAB masks and lists.

images_data_crop/NNNNN.jpg, images_mask/NNNNN_mask.mat (array `mask`), trainlist.mat and testlist.mat. The lists name
photos that have since vanished from the web; those are left out and counted.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from portraitseg.config import DataConfig
from portraitseg.data import reading
from portraitseg.data.base import Dataset, Sample, draw_val
from portraitseg.errors import InputError

IMAGES = "images_data_crop"
MASKS = "images_mask"

#: scipy answers a damaged file with whatever its parser runs into.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    NotImplementedError,
    MemoryError,
    OverflowError,
    zlib.error,
)


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
        licence=config.licence,
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
        raise InputError(f"{path}: holds {len(arrays)} arrays, one list expected")
    values = next(iter(arrays.values()))
    if not np.issubdtype(values.dtype, np.number) or values.size == 0:
        raise InputError(f"{path}: not a list of photo numbers")
    numbers = values.ravel()
    if not (np.isreal(numbers).all() and np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()):
        raise InputError(f"{path}: not a list of whole numbers")
    if numbers.min() < 0 or numbers.max() > 99_999:
        raise InputError(f"{path}: photo numbers have at most five digits")
    return list(dict.fromkeys(f"{int(number):05d}" for number in numbers))


def read_mat_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The array `mask` of an EG1800 mask file, 0/1 → 0/255.

    Raises:
        InputError: missing, not a MATLAB file, or without a two-dimensional numeric `mask`.
    """
    mask = _read_mat(path).get("mask")
    if (
        mask is None
        or mask.ndim != 2
        or mask.size == 0
        or not (np.issubdtype(mask.dtype, np.number) or mask.dtype == bool)
    ):
        raise InputError(f"mask {path}: no two-dimensional numeric array 'mask'")
    return np.where(mask > 0, np.uint8(255), np.uint8(0))


def _mask_path(root: Path, key: str) -> Path:
    return root / MASKS / f"{key}_mask.mat"


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = loadmat(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (MatReadError, *_DAMAGED) as error:
        raise InputError(f"{path}: not a readable MATLAB 5 file ({error})") from error
    return {name: value for name, value in arrays.items() if not name.startswith("__")}
