"""Drawn persons with masks in the forms that people's tools write."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = (96, 72)
"Height and width of the photos."

IGNORE_PX = 3
"Half the width of the outline that annotators leave open."


def person(index: int) -> np.ndarray:
    """A head with shoulders that reach the bottom: bool (h, w)."""
    mask = np.zeros(SIZE, np.uint8)
    x = 30 + index % 5 * 3
    cv2.circle(mask, (x, 36), 14, 1, -1)
    cv2.ellipse(mask, (x, 96), (26, 40), 0, 0, 360, 1, -1)
    return mask > 0


def outline(mask: np.ndarray) -> np.ndarray:
    """The band around a mask: bool (h, w)."""
    kernel = np.ones((2 * IGNORE_PX + 1,) * 2, np.uint8)
    return (cv2.dilate(mask.astype(np.uint8), kernel) - cv2.erode(mask.astype(np.uint8), kernel)) > 0


def photo(index: int) -> np.ndarray:
    """RGB, the person bright before a dim room."""
    image = np.random.default_rng(index).integers(40, 120, (*SIZE, 3), dtype=np.uint8)
    image[person(index)] = (220, 190, 170)
    return image


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def binary(index: int) -> Image.Image:
    return grey(255 * person(index))


def smooth(index: int) -> Image.Image:
    """With an outline of all grades."""
    return grey(cv2.GaussianBlur(255 * person(index).astype(np.uint8), (0, 0), 1.5))


def ids(background: int, inside: int, ignore: int | None = None) -> Callable[[int], Image.Image]:
    """Classes, with the outline left open where `ignore` says by what."""

    def draw(index: int) -> Image.Image:
        mask = person(index)
        values = np.where(mask, inside, background)
        return grey(values if ignore is None else np.where(outline(mask), ignore, values))

    return draw


def parts(index: int) -> Image.Image:
    """Face, hair, clothes, arms: classes 1 to 4 in one picture."""
    rows = np.arange(SIZE[0])[:, None] // 24 + 1
    return grey(np.where(person(index), rows, 0))


def palette(colours: Sequence[int], values: Callable[[np.ndarray], np.ndarray]) -> Callable[[int], Image.Image]:
    def draw(index: int) -> Image.Image:
        image = Image.fromarray(values(person(index)).astype(np.uint8), mode=None).convert("L")
        indexed = Image.frombytes("P", image.size, image.tobytes())
        indexed.putpalette(list(colours))
        return indexed

    return draw


def colour(inside: tuple[int, int, int], ignore: tuple[int, int, int] | None = None) -> Callable[[int], Image.Image]:
    def draw(index: int) -> Image.Image:
        mask = person(index)
        values = np.where(mask[..., None], np.array(inside), 0)
        if ignore is not None:
            values = np.where(outline(mask)[..., None], np.array(ignore), values)
        return Image.fromarray(values.astype(np.uint8))

    return draw


def cutout(index: int) -> Image.Image:
    """The photo itself, all but the person transparent; its colours are left there, as editors do."""
    return Image.fromarray(np.dstack([photo(index), 255 * person(index).astype(np.uint8)]))


def write(
    root: Path, masks: Sequence[Callable[[int], Image.Image]], suffix: str = ".png", name: str = "p{:03d}"
) -> Path:
    """A set of as many photos, whose masks are drawn by these."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, draw in enumerate(masks):
        Image.fromarray(photo(index)).save(root / "images" / f"{name.format(index)}.png")
        draw(index).save(root / "masks" / f"{name.format(index)}{suffix}")
    return root
