"""How good a mask, a matte or a clip is: each measure compares a prediction with its truth (numpy and OpenCV only).

A measure of a split is the mean over its photos, so that a large photo counts as much as a small one. The measures of
METRICS are 1 when both masks are empty: saying nothing where there is nobody is right. All others are errors: 0 is
perfect. Pixels whose truth nobody knows (`ignore`) count in none. docs/metrics.md has the formulas.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

#: Width of the boundary bands as a share of the photo's diagonal (Cheng et al., CVPR 2021, section 5.1).
BOUNDARY_RATIO = 0.02

#: Sigma in pixels of the Gaussian whose derivative is the gradient of a matte (Rhemann et al., 2009, section 3).
GRADIENT_SIGMA_PX = 1.4

#: Where the published code cuts the Gaussian off, as a share of its height.
_GAUSSIAN_CUT = 1e-2

#: Distances to the connected part below this count as connected (Rhemann et al., 2009: theta), and the threshold steps.
CONNECTIVITY_THETA = 0.15
_CONNECTIVITY_LEVELS = np.arange(1, 11) / 10

#: Published tables give these sums over a photo in thousands.
_THOUSAND = 1000.0


def iou(
    mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], ignore: Bool[np.ndarray, "h w"] | None = None
) -> float:
    """Intersection over union of the person pixels, |A ∩ B| / |A ∪ B| (Jaccard index).

    Args:
        mask: prediction at the photo's size.
        truth: label at the photo's size.
        ignore: pixels that count in neither.

    Returns:
        In [0, 1]; 1 if both are empty.

    Raises:
        ValueError: masks of different sizes.
    """
    _check_same_size(mask, truth)
    if ignore is not None:
        _check_same_size(ignore, truth)
        mask, truth = mask & ~ignore, truth & ~ignore
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def miou(
    mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], ignore: Bool[np.ndarray, "h w"] | None = None
) -> float:
    """Mean of the IoU of person and the IoU of background, for one photo.

    Returns:
        In [0, 1]; a class that is empty in both masks counts as 1.

    Raises:
        ValueError: masks of different sizes.
    """
    return (iou(mask, truth, ignore) + iou(~mask, ~truth, ignore)) / 2


def boundary_iou(
    mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], ignore: Bool[np.ndarray, "h w"] | None = None
) -> float:
    """IoU of the inner boundary bands of both masks: how well the outline fits, whatever the size of the person.

    The band is `max(1, round(0.02 · diagonal))` pixels wide. Where the person reaches the edge of the photo, that edge
    is part of the outline. After Cheng et al., "Boundary IoU", CVPR 2021, and its published code. Where the truth is
    not known it is taken to be as predicted: an outline that annotators left open would else be one within the person.

    Returns:
        In [0, 1]; 1 if both bands are empty, which is the case only for two empty masks.

    Raises:
        ValueError: masks of different sizes.
    """
    _check_same_size(mask, truth)
    width_px = boundary_width_px(*mask.shape)
    if ignore is not None:
        _check_same_size(ignore, truth)
        filled = known_truth(mask, truth, ignore)
        return iou(_inner_band(mask, width_px), _inner_band(filled, width_px), ignore)
    return iou(_inner_band(mask, width_px), _inner_band(truth, width_px))


def known_truth(prediction: np.ndarray, truth: np.ndarray, ignore: Bool[np.ndarray, "h w"] | None) -> np.ndarray:
    """The truth, and the prediction where nobody knows it: for measures in which agreement costs nothing."""
    return truth if ignore is None else np.where(ignore, prediction, truth)


def boundary_width_px(height: int, width: int) -> int:
    """Width in pixels of the boundary bands of a photo, at least 1."""
    # math.sqrt rather than math.hypot: both differ in the last bit, and the published code takes the root
    return max(1, round(BOUNDARY_RATIO * math.sqrt(height**2 + width**2)))


def islands(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> int:
    """Stray pieces: connected parts of the mask (8 neighbours) none of whose pixels is person in the truth.

    Returns:
        How many, at least 0; 0 for an empty mask.

    Raises:
        ValueError: masks of different sizes.
    """
    _check_same_size(mask, truth)
    return _parts_without(mask, truth, neighbours=8)


def holes(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]) -> int:
    """Holes: connected parts of the background (4 neighbours) none of whose pixels is background in the truth.

    Returns:
        How many, at least 0; 0 for a mask without background.

    Raises:
        ValueError: masks of different sizes.
    """
    _check_same_size(mask, truth)
    # 4 beside 8: else a diagonal line of person would both be whole and let the background through
    return _parts_without(~mask, ~truth, neighbours=4)


def sad(alpha: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> float:
    """Sum of absolute differences of two mattes over the whole photo, in thousands (Rhemann et al., CVPR 2009).

    Args:
        alpha: prediction in [0, 1] at the photo's size.
        truth: alpha in [0, 1] at the photo's size.

    Raises:
        ValueError: mattes of different sizes.
    """
    _check_same_size(alpha, truth)
    return float(np.abs(alpha.astype(np.float64) - truth).sum()) / _THOUSAND


def mse(alpha: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> float:
    """Mean of squared differences of two mattes over the whole photo (Rhemann et al., CVPR 2009).

    Raises:
        ValueError: mattes of different sizes.
    """
    _check_same_size(alpha, truth)
    return float(np.mean((alpha.astype(np.float64) - truth) ** 2))


def gradient_error(alpha: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> float:
    """Squared difference of the gradients' lengths, summed over the photo, in thousands: is the edge as soft?

    The gradient is that of a Gaussian of 1.4 px (Rhemann et al., CVPR 2009, with q = 2); the kernel is cut off and
    scaled to an L2 norm of 1 as in the code published with Deep Image Matting (Xu et al., CVPR 2017).

    Raises:
        ValueError: mattes of different sizes.
    """
    _check_same_size(alpha, truth)
    return float(np.sum((_gradient_length(alpha) - _gradient_length(truth)) ** 2)) / _THOUSAND


def connectivity_error(alpha: Float[np.ndarray, "h w"], truth: Float[np.ndarray, "h w"]) -> float:
    """Difference of the degrees of connectedness, summed over the photo, in thousands: are pieces torn off?

    For thresholds 0.1 … 1.0, omega is the largest 4-connected part in which both mattes reach the threshold; l of a
    pixel is the last threshold before it leaves omega (1 if it never does). With d = alpha - l, a matte's
    connectedness is 1 - d where d >= 0.15, else 1 (Rhemann et al., CVPR 2009, with p = 1).

    Returns:
        At least 0; 0 if both are empty.

    Raises:
        ValueError: mattes of different sizes.
    """
    _check_same_size(alpha, truth)
    level = np.full(alpha.shape, -1.0)
    last = 0.0
    for threshold in _CONNECTIVITY_LEVELS:
        has_left = (level < 0) & ~_largest_part((alpha >= threshold) & (truth >= threshold))
        level[has_left] = last
        last = float(threshold)
    level[level < 0] = 1.0
    return float(np.abs(_connectedness(alpha, level) - _connectedness(truth, level)).sum()) / _THOUSAND


def dtssd(
    alphas: Sequence[Float[np.ndarray, "h w"]],
    truths: Sequence[Float[np.ndarray, "h w"]],
) -> float:
    """Flicker of a clip: how far the change from frame to frame differs from that of the truth, times 100.

    Root of the mean squared difference of the two changes, then the mean over pairs of frames (Erofeev et al., BMVC
    2015; the scale by 100 is that of Lin et al., Robust Video Matting, WACV 2022).

    Args:
        alphas: predictions in [0, 1], frame by frame; masks as 0.0 and 1.0.
        truths: as many truths of the same size.

    Returns:
        At least 0; 0 for a clip of fewer than two frames.

    Raises:
        ValueError: frames of different sizes or another count of them.
    """
    _check_clip(alphas, truths)
    pairs = pairwise([alpha.astype(np.float64) - truth for alpha, truth in zip(alphas, truths, strict=True)])
    roots = [math.sqrt(np.mean((later - earlier) ** 2)) for earlier, later in pairs]
    return 100 * sum(roots) / len(roots) if roots else 0.0


def flipped_share(
    masks: Sequence[Bool[np.ndarray, "h w"]],
    truths: Sequence[Bool[np.ndarray, "h w"]],
) -> float:
    """Flicker of a clip: of the pixels that stay what they are in the truth, the share that flips in the mask.

    Returns:
        Mean over pairs of frames, in [0, 1]; 0 for fewer than two frames, or where every pixel of the truth changes.

    Raises:
        ValueError: frames of different sizes or another count of them.
    """
    _check_clip(masks, truths)
    shares = []
    for (mask, truth), (next_mask, next_truth) in pairwise(zip(masks, truths, strict=True)):
        stays = truth == next_truth
        flips = (mask != next_mask) & stays
        shares.append(int(np.count_nonzero(flips)) / max(1, int(np.count_nonzero(stays))))
    return sum(shares) / len(shares) if shares else 0.0


def _inner_band(mask: Bool[np.ndarray, "h w"], width_px: int) -> Bool[np.ndarray, "h w"]:
    """The pixels of a mask that lie within `width_px` (chessboard distance) of its outline or of the photo's edge."""
    # Beyond the array OpenCV erodes as if there were more person: the one ring of background makes the edge an outline,
    # and each further pass eats on from there.
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    core: UInt8[np.ndarray, "h2 w2"] = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width_px)
    return mask & (core[1:-1, 1:-1] == 0)


def _parts_without(mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], neighbours: int) -> int:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=neighbours)
    # label 0 is what is not in the mask
    touched = np.unique(labels[mask & truth])
    return count - 1 - len(touched)


def _largest_part(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The largest 4-connected part; the first in reading order among equals; empty for an empty mask."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count == 1:
        return mask
    # OpenCV's labels do not follow reading order on every build: settle ties by the first pixel
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = np.flatnonzero(areas == areas.max()) + 1
    if len(largest) == 1:
        return labels == largest[0]
    first = labels.ravel()[np.isin(labels, largest).ravel().argmax()]
    return labels == first


def _connectedness(alpha: Float[np.ndarray, "h w"], level: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    distance = alpha - level
    return 1 - distance * (distance >= CONNECTIVITY_THETA)


def _gradient_length(alpha: Float[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    sigma = GRADIENT_SIGMA_PX
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * _GAUSSIAN_CUT)))
    x = np.arange(-half, half + 1)
    gaussian = np.exp(-(x**2) / (2 * sigma**2))
    kernel = np.outer(gaussian, x * gaussian)
    kernel /= np.sqrt(np.sum(kernel**2))
    # correlation instead of convolution: the kernel is odd, so only the sign differs
    along_x, along_y = (
        cv2.filter2D(alpha.astype(np.float64), cv2.CV_64F, side, borderType=cv2.BORDER_REPLICATE)
        for side in (kernel, np.ascontiguousarray(kernel.T))
    )
    return np.sqrt(along_x**2 + along_y**2)


def _check_same_size(prediction: np.ndarray, truth: np.ndarray) -> None:
    # numpy would broadcast (h, 1) against (h, w) and return a number
    if prediction.shape != truth.shape:
        sizes = f"mask is {prediction.shape} and truth {truth.shape} (height, width)"
        raise ValueError(f"{sizes}: resize the mask to the photo")


def _check_clip(frames: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> None:
    if len(frames) != len(truths):
        raise ValueError(f"{len(frames)} frames and {len(truths)} truths: one for each")
    for frame, truth in zip(frames, truths, strict=True):
        _check_same_size(frame, truth)
        if frame.shape != frames[0].shape:
            raise ValueError(f"a frame is {frame.shape}, the first one {frames[0].shape} (height, width)")


#: Measures of one photo by name: (mask, truth, ignore or nothing) → [0, 1], higher is better.
METRICS: dict[str, Callable[..., float]] = {
    "iou": iou,
    "miou": miou,
    "boundary_iou": boundary_iou,
}

#: Faults of one photo by name: (mask, truth) → how many, 0 is best.
COUNTS: dict[str, Callable[[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]], int]] = {
    "holes": holes,
    "islands": islands,
}

#: Errors of one matte by name: (alpha, truth) → at least 0, lower is better. They need truth with soft alpha.
MATTE_METRICS: dict[str, Callable[[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]], float]] = {
    "sad": sad,
    "mse": mse,
    "gradient": gradient_error,
    "connectivity": connectivity_error,
}
