"""What a network that sees the previous frame's mask is shown in training: a mask made from the photo's own target.

There are no videos with masks to train on. The cases are those of Tkachenka et al. 2019 (Real-time Hair Segmentation
and Recoloring on Mobile GPUs, arXiv:1907.06740): no mask, the true one moved a little, the true one moved so far that
it is to be distrusted; and one that they do not name, of something else.
"""

import cv2
import numpy as np
from jaxtyping import UInt8

Mask = UInt8[np.ndarray, "h w"]

#: How often each case is drawn: empty as before the first frame; near, as from one frame to the next; far, as after a
#: cut or a fast turn; false, of nobody. What is left is empty.
P_NEAR, P_FAR, P_FALSE = 0.5, 0.15, 0.1

#: Greatest shift as a share of the sides, change of scale, and turn in degrees.
NEAR, FAR = (0.04, 0.05, 4.0), (0.3, 0.35, 30.0)

#: Greatest radius by which an outline grows or shrinks, and greatest sigma of its blur, as shares of the height.
_RADIUS, _BLUR = 0.02, 0.015

#: Cells of a side of the noise that false masks are cut from.
_CELLS = 6


def simulate(target: Mask, rng: np.random.Generator) -> Mask:
    """Makes a previous mask for a photo.

    Args:
        target: of the photo after its augmentation, 0..255.
        rng: decides the case and its numbers.

    Returns:
        0..255, of the target's size.
    """
    case = rng.random()
    if case < P_NEAR:
        return _soften(_grow(_move(target, NEAR, rng), rng), rng)
    if case < P_NEAR + P_FAR:
        return _soften(_move(target, FAR, rng), rng)
    if case < P_NEAR + P_FAR + P_FALSE:
        return _soften(_false(target.shape, rng), rng)
    return np.zeros_like(target)


def _move(mask: Mask, most: tuple[float, float, float], rng: np.random.Generator) -> Mask:
    """Shifts, scales and turns about the middle; what comes in from outside is background."""
    height, width = mask.shape
    share, change, degrees = most
    angle, scale = rng.uniform(-degrees, degrees), 1 + rng.uniform(-change, change)
    matrix = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale), np.float64)
    matrix[:, 2] += rng.uniform(-share, share, 2) * np.array([width, height])
    return np.asarray(cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)


def _grow(mask: Mask, rng: np.random.Generator) -> Mask:
    """Lets the outline grow or shrink."""
    radius = round(rng.uniform(-_RADIUS, _RADIUS) * mask.shape[0])
    if radius == 0:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(radius) + 1,) * 2)
    return np.asarray(cv2.dilate(mask, kernel) if radius > 0 else cv2.erode(mask, kernel), np.uint8)


def _false(shape: tuple[int, ...], rng: np.random.Generator) -> Mask:
    """Blobs: smooth noise, cut at its mean."""
    height, width = shape
    noise = cv2.resize(rng.random((_CELLS, _CELLS)), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(noise > 0.5, np.uint8(255), np.uint8(0))


def _soften(mask: Mask, rng: np.random.Generator) -> Mask:
    """The outline of a prediction is a slope."""
    sigma = rng.uniform(0, _BLUR) * mask.shape[0]
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma), np.uint8) if sigma > 0.1 else mask
