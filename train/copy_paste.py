"""A person of one photo before another: photos of training that nobody took (numpy and OpenCV only).

Simple copy-paste (Ghiasi et al. 2021, arXiv:2012.07177) with whole persons: before a background-only photo it is
background replacement, before another person's it makes a group. It breaks the tie between a person and the place of
the photo, which a network with few photos learns by heart. Shrunk first, persons stand far away: small ones are what
fine-tuning on portraits forgets.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

Image = UInt8[np.ndarray, "h w 3"]
Mask = UInt8[np.ndarray, "h w"]

#: Sigma by which the cut-out's outline is softened, px: a hard mask's steps would tell where something was pasted.
SOFTNESS_PX = 0.7

#: Height of a shrunk photo as a share of the picture, least and greatest: persons across a street, or across a room.
SMALLEST, GREATEST = 0.2, 0.7


@dataclass(frozen=True)
class Window:
    """Where a shrunk photo lies in the picture, px."""

    top: int
    left: int
    height: int
    width: int


def draw_window(shape: tuple[int, int], rng: np.random.Generator) -> Window:
    """A window of the picture's proportions: its size log-uniform between `SMALLEST` and `GREATEST`, its place uniform.

    Args:
        shape: (height, width) of the picture.
        rng: gives size, place from the top, place from the left, in this order.
    """
    share = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(GREATEST))))
    height, width = (max(1, round(share * side)) for side in shape)
    top, left = (
        int(rng.integers(0, side - small, endpoint=True)) for side, small in zip(shape, (height, width), strict=True)
    )
    return Window(top, left, height, width)


def shrink(image: Image, mask: Mask, window: Window) -> tuple[Image, Mask]:
    """Puts a photo, made small, into a window of a picture of its own size.

    Args:
        image: RGB.
        mask: 0..255.
        window: within the picture.

    Returns:
        The photo in the window, its border repeated around it (a softened outline must meet no other colour there), and
        its mask, 0 outside of the window. New arrays, uint8.
    """
    size = (window.width, window.height)
    below, right = mask.shape[0] - window.top - window.height, mask.shape[1] - window.left - window.width
    sides = (window.top, below, window.left, right)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small_mask = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    return (
        cv2.copyMakeBorder(small, *sides, cv2.BORDER_REPLICATE),
        cv2.copyMakeBorder(small_mask, *sides, cv2.BORDER_CONSTANT, value=0),
    )


def paste(front: Image, mask: Mask, back: Image, back_mask: Mask) -> tuple[Image, Mask]:
    """Puts the person of `front` before `back`.

    Args:
        front: RGB; what lies outside `mask` does not show.
        mask: 0..255, person of `front`.
        back: of the same shape.
        back_mask: 0..255, person of `back`.

    Returns:
        α·front + (1 - α)·back with α the softened mask, and the mask of both: m + (1 - m)·b. New arrays, uint8.
    """
    alpha = cv2.GaussianBlur(mask, (0, 0), SOFTNESS_PX).astype(np.float32)[..., None] / 255
    image = alpha * front + (1 - alpha) * back
    both = mask + (255 - mask.astype(np.float32)) * (back_mask / np.float32(255))
    return np.rint(image).astype(np.uint8), np.rint(both).astype(np.uint8)


def match_light(front: Image, mask: Mask, back: Image, share: float) -> Image:
    """Moves light and colours of what is pasted towards those of the photo that it is put before.

    Mean and spread of lightness and both colour axes (CIELAB), as Reinhard et al. (2001, "Color Transfer between
    Images") have them, moved by a share: all the way, a face before a lawn would be green.

    Args:
        front: RGB.
        mask: 0..255, what of it is pasted; its colours alone count.
        back: RGB.
        share: 0 changes nothing, 1 takes the other's means and spreads.

    Returns:
        A new picture, uint8; `front` itself where nothing is pasted.
    """
    counted = mask > 127
    if not counted.any() or share <= 0:
        return front
    front_lab, other = (cv2.cvtColor(side.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for side in (front, back))
    mean, spread = front_lab[counted].mean(axis=0), front_lab[counted].std(axis=0)
    to_mean, to_spread = other.mean(axis=(0, 1)), other.std(axis=(0, 1))
    # a flat colour has no spread to stretch
    gain = 1 + share * (np.clip(to_spread / np.maximum(spread, 1), 0.5, 2) - 1)
    moved = (front_lab - mean) * gain + mean + share * (to_mean - mean)
    rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_Lab2RGB)
    return np.clip(np.rint(255 * rgb), 0, 255).astype(np.uint8)


def paste_ignored(mask: Mask, ignore: Mask | None, back_ignore: Mask | None) -> Mask | None:
    """The pixels of a pasted photo that are not known, above 0.

    What is unknown of `front` is not pasted, unless the soft outline takes it along; what is unknown of `back` stays so
    where nobody stands before it.

    Args:
        mask, ignore: of `front`, as `paste` takes it; None: all is known.
        back_ignore: of `back`.
    """
    if ignore is None and back_ignore is None:
        return None
    is_unknown = np.zeros(mask.shape, bool)
    if ignore is not None:
        is_unknown |= (cv2.GaussianBlur(mask, (0, 0), SOFTNESS_PX) > 0) & (ignore > 0)
    if back_ignore is not None:
        is_unknown |= (mask < 255) & (back_ignore > 0)
    return np.where(is_unknown, np.uint8(255), np.uint8(0))
