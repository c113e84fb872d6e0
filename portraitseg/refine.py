"""Edge refinement: a mask that follows the photo's own edges, at the photo's size (numpy and OpenCV only).

The fast guided filter with a colour guide (He et al., "Guided Image Filtering", PAMI 2013, eq. 19 to 21; He & Sun,
"Fast Guided Filter", arXiv:1505.00996): around each pixel the mask is explained as a linear function of the colours,
on the network's own small input. What is kept are four coefficients a pixel, which are stretched to the photo and
applied to its pixels: `alpha = r·red + g·green + b·blue + rest`. That last step is one line of a shader.

It mends the network's errors, not a truth: a perfect mask becomes worse by it (docs/segment.md).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from portraitseg import contract

#: How far the soft seam of a speck or a hole reaches at the photo's size, in pixels.
_SEAM_PX = 3

#: Four numbers a pixel: of red, green and blue in [0, 1], and what is added.
Coefficients = Float32[np.ndarray, "h w 4"]


@dataclass(frozen=True)
class EdgeRefiner:
    """The refinement with its parameters, which `python -m benchmark refine --choose` finds for a network.

    Attributes:
        side: longer side in pixels at which the coefficients are made; the network's input is shrunk to it.
        radius: of the windows, in pixels of that size, at least 1.
        epsilon: how much of a window's contrast counts as noise: variance of colours in [0, 1], above 0.
        low, high: alpha below `low` becomes 0, above `high` 1, in between a smooth step; 0 and 1 switch it off. They
            lie as far from one half on both sides, which so stays where it is.
        specks: a piece of person of a smaller share of the picture than this is taken away; 0: none is.
        holes: a hole in the person of a smaller share than this is filled; 0: none is.
    """

    side: int = 128
    radius: int = 2
    epsilon: float = 1e-3
    low: float = 0.1
    high: float = 0.9
    specks: float = 0.002
    holes: float = 0.0005

    def __post_init__(self) -> None:
        if self.side < 1 or self.radius < 1 or not self.epsilon > 0:
            raise ValueError(f"side {self.side}, radius {self.radius}, epsilon {self.epsilon}: need 1, 1 and above 0")
        if not 0 <= self.low < 0.5 < self.high <= 1 or abs(self.low + self.high - 1) > 1e-6:
            raise ValueError(f"low {self.low}, high {self.high}: need as far from one half on both sides")
        if not (0 <= self.specks < 1 and 0 <= self.holes < 1):
            raise ValueError(f"specks {self.specks}, holes {self.holes}: shares of the picture, from 0 to below 1")

    def __call__(
        self, image: UInt8[np.ndarray, "h w 3"], probability: Float32[np.ndarray, "h2 w2"]
    ) -> Float32[np.ndarray, "h w"]:
        """Probability at the network's size → refined matte in [0, 1] at the photo's size.

        Args:
            image: RGB, the photo that the network saw.
            probability: of person, as the network said it (or as a `MaskSmoother` did).
        """
        alpha = shape(apply(self.coefficients(image, probability), image), self.low, self.high)
        return clean(alpha, self.specks, self.holes)

    def coefficients(
        self, image: UInt8[np.ndarray, "h w 3"], probability: Float32[np.ndarray, "h2 w2"]
    ) -> Float32[np.ndarray, "h3 w3 4"]:
        """What makes the refined matte of the photo's pixels; see `coefficients`."""
        height, width = probability.shape
        return coefficients(
            contract.resize_image(image, (height, width)),
            probability,
            self.side,
            self.radius,
            self.epsilon,
            self.specks,
        )


def guide_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of the coefficients: the network's size, its longer side shrunk to `side`, never stretched."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def coefficients(
    image: UInt8[np.ndarray, "h w 3"],
    probability: Float32[np.ndarray, "h w"],
    side: int = 128,
    radius: int = 2,
    epsilon: float = 1e-3,
    specks: float = 0.0,
) -> Float32[np.ndarray, "h2 w2 4"]:
    """The mask as a linear function of the colours, window by window.

    Args:
        image: the photo at the network's size, RGB: what it was fed.
        probability: what it said.
        side, radius, epsilon, specks: see `EdgeRefiner`.

    Returns:
        (height, width, 4), the longer side at most `side`: factors of red, green and blue in [0, 1], and the constant.
        0 everywhere where a speck was.
    """
    height, width = guide_size(probability.shape, side)
    guide = contract.bytes_to_float(contract.resize_image(image, (height, width)))
    target = _shrink(probability, (height, width))
    means = _box(np.dstack([guide, target, guide * target[..., None], _products(guide)]), radius)
    mean, mean_target = means[..., :3], means[..., 3]
    covariance = means[..., 4:7] - mean * mean_target[..., None]
    a = _solve(means[..., 7:] - _products(mean), covariance, epsilon)
    b = mean_target - (a * mean).sum(axis=2)
    solved = _box(np.dstack([a, b]), radius)
    if specks > 0:
        solved[_specks(evaluate(solved, guide), specks, radius)] = 0
    return solved


def apply(coefficients: Coefficients, image: UInt8[np.ndarray, "h2 w2 3"]) -> Float32[np.ndarray, "h2 w2"]:
    """Coefficients and the photo at its own size → matte in [0, 1] of that size.

    The coefficients are stretched bilinearly, pixel centres on pixel centres, as OpenCV's INTER_LINEAR does.
    """
    height, width = image.shape[:2]
    # plane by plane: the four of a photo of 50 megapixels at once are 800 MB
    planes = (
        cv2.resize(np.ascontiguousarray(coefficients[..., index]), (width, height), interpolation=cv2.INTER_LINEAR)
        for index in (3, 0, 1, 2)
    )
    alpha = np.asarray(next(planes), np.float32)
    for plane, colour in zip(planes, cv2.split(image), strict=True):
        cv2.add(alpha, cv2.multiply(plane, colour, scale=1 / 255, dtype=cv2.CV_32F), dst=alpha)
    return np.clip(alpha, 0, 1, out=alpha)


def evaluate(coefficients: Coefficients, image: np.ndarray) -> Float32[np.ndarray, "h w"]:
    """Coefficients and colours of one size → matte in [0, 1]; bytes are taken as value / 255."""
    colours = contract.bytes_to_float(image) if image.dtype == np.uint8 else image
    alpha = np.einsum("hwc,hwc->hw", coefficients[..., :3], colours) + coefficients[..., 3]
    return np.clip(alpha, 0, 1)


def shape(alpha: Float32[np.ndarray, "h w"], low: float, high: float) -> Float32[np.ndarray, "h w"]:
    """Clears haze: 0 below `low`, 1 above `high`, in between the smooth step 3t² - 2t³; one half stays one half."""
    if low <= 0 and high >= 1:
        return alpha
    t = np.clip((alpha - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def clean(alpha: Float32[np.ndarray, "h w"], specks: float, holes: float) -> Float32[np.ndarray, "h w"]:
    """Takes away what a colour by chance made person, or made a hole, at the photo's own size.

    Args:
        alpha: in [0, 1].
        specks: pieces of person (8 neighbours) of a smaller share of the picture become 0, with their soft seams.
        holes: pieces of background (4 neighbours) of a smaller share become 1, with theirs.
    """
    mask = alpha > contract.PROBABILITY_THRESHOLD
    is_speck, is_hole = _small(mask, specks, 8), _small(~mask, holes, 4)
    if not (is_speck.any() or is_hole.any()):
        return alpha
    cleaned = alpha.copy()
    # a seam is not the other side's: of specks it is background, of holes it is person
    cleaned[_grow(is_speck, _SEAM_PX) & (~mask | is_speck)] = 0
    cleaned[_grow(is_hole, _SEAM_PX) & (mask | is_hole) & ~is_speck] = 1
    # but the soft outline of what stays does
    outline = _grow(mask & ~is_speck, 1) & ~mask & ~is_hole
    cleaned[outline] = alpha[outline]
    return cleaned


def _shrink(probability: Float32[np.ndarray, "h w"], size: tuple[int, int]) -> Float32[np.ndarray, "h2 w2"]:
    if probability.shape == size:
        return probability
    shrinks = size[0] < probability.shape[0] and size[1] < probability.shape[1]
    return cv2.resize(probability, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _box(planes: np.ndarray, radius: int) -> np.ndarray:
    """Mean over windows of (2 radius + 1)²; beyond the edge its pixels are repeated."""
    side = 2 * radius + 1
    return cv2.blur(planes, (side, side), borderType=cv2.BORDER_REPLICATE)


#: Which products of two colours are kept of the six that differ: rr, rg, rb, gg, gb, bb.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def _products(colours: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 6"]:
    return np.stack([colours[..., i] * colours[..., j] for i, j in _PAIRS], axis=2)


def _solve(
    variance: Float32[np.ndarray, "h w 6"], covariance: Float32[np.ndarray, "h w 3"], epsilon: float
) -> Float32[np.ndarray, "h w 3"]:
    """(variance + epsilon · 1)⁻¹ · covariance, pixel by pixel, by the adjugate of the symmetric 3×3."""
    rr, rg, rb, gg, gb, bb = (variance[..., index] for index in range(6))
    rr, gg, bb = rr + np.float32(epsilon), gg + np.float32(epsilon), bb + np.float32(epsilon)
    c00, c01, c02 = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c11, c12, c22 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    x, y, z = (covariance[..., index] for index in range(3))
    slopes = np.stack([c00 * x + c01 * y + c02 * z, c01 * x + c11 * y + c12 * z, c02 * x + c12 * y + c22 * z], axis=2)
    return slopes / (rr * c00 + rg * c01 + rb * c02)[..., None]


def _specks(alpha: Float32[np.ndarray, "h w"], share: float, radius: int) -> Bool[np.ndarray, "h w"]:
    """Where the pieces of person lie that are smaller than a share of the picture, with their soft seams."""
    mask = alpha > contract.PROBABILITY_THRESHOLD
    small = _small(mask, share, 8)
    # what is kept keeps its own seam
    return _grow(small, radius) & ~_grow(mask & ~small, 1) if small.any() else small


def _small(mask: Bool[np.ndarray, "h w"], share: float, neighbours: int) -> Bool[np.ndarray, "h w"]:
    """The connected pieces that are smaller than a share of the picture."""
    if share <= 0:
        return np.zeros(mask.shape, bool)
    # a third of the time that OpenCV takes with statistics: areas are all that counts
    labels = np.asarray(cv2.connectedComponents(mask.view(np.uint8), connectivity=neighbours)[1], np.int32)
    is_small = np.bincount(labels.ravel()) < share * mask.size
    # label 0 is what is not in the mask
    is_small[0] = False
    return np.take(is_small, labels) if is_small.any() else np.zeros(mask.shape, bool)


def _grow(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    side = 2 * radius + 1
    return cv2.dilate(mask.view(np.uint8), np.ones((side, side), np.uint8)).view(bool)
