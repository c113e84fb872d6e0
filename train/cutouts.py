"""Hands and held things pasted onto photos of training (numpy and OpenCV only: workers import this).

Portrait sets cut away hands and what they hold, so a network drops the cup from the selfie. Cut-outs pasted onto the
person teach it that what is held belongs to the person, or that it does not: `data.held` says which. Pasted onto the
background they are background: that a hand is there says nothing by itself.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pillow

from portraitseg import files
from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.synthetic.hands import draw_cutout
from train.copy_paste import Image, Mask, match_light

#: Longer side of a cut-out as a share of the person's size (the root of its area), and of the picture where nobody is.
_LEAST, _MOST, _OF_PICTURE = 0.25, 0.7, 0.5

#: Share of the cut-outs that go onto the person, where there is one.
_ON_PERSON = 0.75

#: Greatest turn either way, degrees.
_TURN = 40.0

#: Cut-outs of a folder that a worker keeps, and their longer side at most: they are pasted smaller.
_KEPT, _KEPT_PX = 256, 512

_SUFFIXES = (".png", ".webp")


@dataclass(frozen=True)
class Cutouts:
    """What is pasted, how often and as what.

    Attributes:
        files: RGBA pictures; none: drawn ones.
        share: probability for a photo.
        held: what a cut-out on the person is.
        light: how far its light and colours move to the photo's at most, in [0, 1].
    """

    files: tuple[Path, ...]
    share: float
    held: Literal["person", "background"]
    light: float = 0.0

    def __call__(
        self, image: Image, mask: Mask, ignore: Mask | None, rng: np.random.Generator
    ) -> tuple[Image, Mask, Mask | None]:
        """The photo with a cut-out, or as it came; new arrays, uint8.

        Draws: whether; then which, its size, turn, side, whether onto the person, where, and its light.

        Args:
            image: RGB.
            mask: 0..255.
            ignore: above 0 where nobody knows; what a cut-out covers is known.
            rng: see above.
        """
        if rng.random() >= self.share:
            return image, mask, ignore
        cutout = draw_cutout(rng, 128) if not self.files else _read(self.files[int(rng.integers(len(self.files)))])
        person = np.argwhere(mask > 127)
        size = math.sqrt(len(person)) if len(person) else _OF_PICTURE * min(mask.shape)
        longer = size * math.exp(rng.uniform(math.log(_LEAST), math.log(_MOST)))
        turn, mirror = rng.uniform(-_TURN, _TURN), rng.random() < 0.5
        on_person = rng.random() < _ON_PERSON and len(person) > 0
        pixels = person if on_person else np.argwhere(mask <= 127)
        if not len(pixels):
            return image, mask, ignore
        row, column = pixels[int(rng.integers(len(pixels)))]
        front, alpha = _put(cutout, mask.shape, (int(row), int(column)), longer, turn, mirror)
        if self.light:
            front = match_light(front, alpha, image, float(rng.uniform(0, self.light)))
        weight = alpha.astype(np.float32)[..., None] / 255
        pasted = np.rint(weight * front + (1 - weight) * image).astype(np.uint8)
        value = 255 if on_person and self.held == "person" else 0
        target = np.rint(weight[..., 0] * value + (1 - weight[..., 0]) * mask).astype(np.uint8)
        return pasted, target, None if ignore is None else np.where(alpha > 127, np.uint8(0), ignore)


def of(config: Config) -> Cutouts | None:
    """What the configuration asks for; None where it asks for none.

    Raises:
        InputError: no such folder, or a picture in it without transparency.
    """
    train = config.train
    if not train.cutout_share:
        return None
    return Cutouts(
        _list(train.cutouts) if train.cutouts else (), train.cutout_share, config.data.held, train.match_light
    )


def _list(folder: Path) -> tuple[Path, ...]:
    try:
        paths = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES))
    except OSError as error:
        raise InputError(f"train.cutouts {folder}: {files.explain(error)}: name a folder of cut-outs") from error
    if not paths:
        raise InputError(f"train.cutouts {folder}: no .png or .webp in it: cut-outs are pictures with transparency")
    for path in paths:
        try:
            with Pillow.open(path, formats=("PNG", "WEBP")) as picture:
                has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(f"train.cutouts {path}: cannot be read ({error}): take it out") from error
        if not has_alpha:
            raise InputError(f"train.cutouts {path}: has no transparency: cut it out, or take it away")
    return paths


@lru_cache(maxsize=_KEPT)
def _read(path: Path) -> UInt8[np.ndarray, "h w 4"]:
    """A cut-out without the empty rim around it, at most `_KEPT_PX` large."""
    try:
        with Pillow.open(path, formats=("PNG", "WEBP")) as picture:
            picture.thumbnail((_KEPT_PX, _KEPT_PX))
            pixels = np.asarray(picture.convert("RGBA"))
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"train.cutouts {path}: cannot be read ({error}): take it out") from error
    left, top, width, height = cv2.boundingRect((pixels[..., 3] > 0).astype(np.uint8))
    if not width:
        raise InputError(f"train.cutouts {path}: is transparent everywhere: take it out")
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _put(
    cutout: UInt8[np.ndarray, "h2 w2 4"],
    shape: tuple[int, int],
    centre: tuple[int, int],
    longer: float,
    turn: float,
    mirror: bool,
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
    """Colours and alpha of a cut-out in a picture of `shape`, turned by degrees about its own middle."""
    pixels = np.ascontiguousarray(cutout[:, ::-1]) if mirror else cutout
    factor = longer / max(pixels.shape[:2])
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    matrix = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), turn, 1.0)
    matrix[0, 2] += centre[1] - (size[0] - 1) / 2
    matrix[1, 2] += centre[0] - (size[1] - 1) / 2
    into = (shape[1], shape[0])
    colours = cv2.warpAffine(np.ascontiguousarray(small[..., :3]), matrix, into, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ascontiguousarray(small[..., 3]), matrix, into, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(colours, np.uint8), np.asarray(alpha, np.uint8)
