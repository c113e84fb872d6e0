"""How good a mask is: each measure compares one predicted mask with its truth (numpy and OpenCV only).

A measure of a split is the mean over its photos, so that a large photo counts as much as a small one. Every measure is
1 when both masks are empty: saying nothing where there is nobody is right.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

#: Width of the boundary bands as a share of the photo's diagonal (Cheng et al., CVPR 2021, section 5.1).
BOUNDARY_RATIO = 0.02


def iou(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union of the person pixels, |A ∩ B| / |A ∪ B| (Jaccard index).

    Args:
        mask: prediction at the photo's size.
        truth: label at the photo's size.

    Returns:
        In [0, 1]; 1 if both are empty.

    Raises:
        ValueError: masks of different sizes.
    """
    _check_same_size(mask, truth)
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def miou(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """Mean of the IoU of person and the IoU of background, for one photo.

    Returns:
        In [0, 1]; a class that is empty in both masks counts as 1.

    Raises:
        ValueError: masks of different sizes.
    """
    return (iou(mask, truth) + iou(~mask, ~truth)) / 2


def boundary_iou(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> float:
    """IoU of the inner boundary bands of both masks: how well the outline fits, whatever the size of the person.

    The band is `max(1, round(0.02 · diagonal))` pixels wide. Where the person reaches the edge of the photo, that edge
    is part of the outline. After Cheng et al., "Boundary IoU", CVPR 2021, and its published code.

    Returns:
        In [0, 1]; 1 if both bands are empty, which is the case only for two empty masks.

    Raises:
        ValueError: masks of different sizes.
    """
    _check_same_size(mask, truth)
    width_px = boundary_width_px(*mask.shape)
    return iou(_inner_band(mask, width_px), _inner_band(truth, width_px))


def boundary_width_px(height: int, width: int) -> int:
    """Width in pixels of the boundary bands of a photo, at least 1."""
    # math.sqrt rather than math.hypot: both differ in the last bit, and the published code takes the root
    return max(1, round(BOUNDARY_RATIO * math.sqrt(height**2 + width**2)))


def _inner_band(mask: Bool[np.ndarray, "h w"], width_px: int) -> Bool[np.ndarray, "h w"]:
    """The pixels of a mask that lie within `width_px` (chessboard distance) of its outline or of the photo's edge."""
    # Beyond the array OpenCV erodes as if there were more person: the one ring of background makes the edge an outline,
    # and each further pass eats on from there.
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core: UInt8[np.ndarray, "h2 w2"] = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width_px)
    return mask & (core[1:-1, 1:-1] == 0)


def _check_same_size(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> None:
    # numpy would broadcast (h, 1) against (h, w) and return a number
    if mask.shape != truth.shape:
        raise ValueError(f"mask is {mask.shape} and truth {truth.shape} (height, width): resize the mask to the photo")


#: Measures of one photo by name: (mask, truth) → [0, 1], higher is better.
METRICS: dict[str, Callable[[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]], float]] = {
    "iou": iou,
    "miou": miou,
    "boundary_iou": boundary_iou,
}
