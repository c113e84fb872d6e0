"""Pictures of what training sees: photos beside their masks, as they are or augmented."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from portraitseg import contract, files
from portraitseg.config import Config
from portraitseg.data import Dataset
from portraitseg.errors import InputError
from train import augmenter

#: What lies outside a mask is shaded in this colour (R, G, B), which neither skin nor rooms have.
_SHADE = np.array([255, 0, 160])


def tint(photo: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The photo with everything outside the mask shaded."""
    shaded = (0.35 * photo + 0.65 * _SHADE).astype(np.uint8)
    return np.where(mask[..., None], photo, shaded)


def write_sheet(path: Path, dataset: Dataset, config: Config, split: str, photos: int, is_augmented: bool) -> None:
    """Writes a PNG of photos above their tinted masks, at most eight beside each other.

    Args:
        path: of the picture.
        dataset: the photos.
        config: its size, seed and augmentations are used.
        split: of the data; its first photos are shown.
        photos: how many.
        is_augmented: with the augmentations of the configuration (nothing pasted, mixed or redrawn), not as they are.

    Raises:
        InputError: a photo that cannot be read, or one without a mask.
    """
    change = augmenter.build(config.augment if is_augmented else {})
    columns = []
    for index, key in enumerate(dataset.keys(split)[:photos]):
        sample = dataset.load(key)
        if sample.mask is None:
            raise InputError(f"photo '{key}' has no mask to show: name another split")
        image, target = change(
            contract.resize_image(sample.image, config.model.size),
            contract.mask_to_target(sample.mask, config.model.size, config.data.soft_masks),
            np.random.default_rng([config.seed, index]),
        )
        columns.append(np.concatenate([image, tint(image, contract.truth_to_mask(target))]))
    rows = [columns[start : start + 8] for start in range(0, len(columns), 8)]
    blank = np.full_like(columns[0], 255)
    rows[-1] += [blank] * (len(rows[0]) - len(rows[-1]))
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    is_coded, content = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert is_coded
    files.write_bytes(path, content.tobytes())
