"""What is wrong with a mask, as far as trained networks tell: faults with their kinds (numpy and OpenCV only).

A mask and the networks' consensus differ everywhere along the outline, and that is no fault. So each kind has a measure
of its own that such differences hardly reach: pieces thicker than a band that grows with the person, holes whatever
their size, one displacement of the whole outline, its jitter. All are divided by what they usually are, so that one
ranking holds all kinds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from portraitseg import contract, metrics

Kind = Literal[
    "hole",
    "cut_away",
    "missing_person",
    "extra_part",
    "extra_person",
    "speck",
    "shift",
    "ragged",
    "swapped",
    "inverted",
]
Held = Literal["person", "background"]

#: What is said of each kind.
WORDS: dict[Kind, str] = {
    "hole": "a hole",
    "cut_away": "a part cut away: a hand, an arm, what they hold",
    "missing_person": "a person without mask",
    "extra_part": "background taken for person",
    "extra_person": "a person or thing too many",
    "speck": "a stray piece",
    "shift": "shifted",
    "ragged": "a ragged outline",
    "swapped": "the mask of another photo",
    "inverted": "person and background exchanged",
}

#: What about 4 % of the masks of `val` and of 378 of `train` (eg1800, lmi1460) exceed: there is a fault of severity 1.
#: Pieces as shares of the person's area, as far as the networks are sure; rarer kinds have the unit of their likes.
USUAL: dict[Kind, float] = {
    "hole": 0.0015,
    "cut_away": 0.012,
    "missing_person": 0.012,
    "extra_part": 0.01,
    "extra_person": 0.01,
    "speck": 0.002,
    "shift": 0.003,
    "ragged": 0.0014,
    "swapped": 0.1,
    "inverted": 0.1,
}

#: Longer side in pixels at which faults are looked for.
SIDE_PX = 512

#: Half the thickness of a piece that counts, as a share of the person's size (the root of its area).
_BAND = 0.015

#: Pieces of at least this share of the other's area are a person by themselves; smaller ones belong to one.
_WHOLE = 0.25

#: A piece of mask that is apart from the rest is a speck below this share of the person.
_SPECK = 0.02

#: Outline points nearer to the photo's edge than this are where the photo ends, no outline, px.
_EDGE_PX = 3

#: Share of the outline's distance that a shift has to explain: below the first it is none, above the second for sure.
_LEAST_GAIN, _SURE_GAIN = 0.15, 0.5

#: Keeps a shift small in a direction that hardly any of the outline tells of.
_DAMPING = 0.05

#: Jitter of an ordinary outline, as a share of the person's size.
_SMOOTH = 0.0031

#: Skin in YCrCb, of all complexions (Chai and Ngan 1999, "Face segmentation using skin-color map"): Cr, then Cb.
_SKIN = ((133, 173), (77, 127))

#: Share of a piece that has to look like skin for it to be a hand or an arm.
_SKIN_SHARE = 0.3


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        kind: what it looks like.
        severity: above 1 it is more than what is usual, see `USUAL`.
        box: left, top, width, height of where it is, as shares of the photo.
        is_skin: whether the piece looks like skin.
        other: of a swapped mask, the photo that it fits.
    """

    kind: Kind
    severity: float
    box: tuple[float, float, float, float]
    is_skin: bool = False
    other: str | None = None


@dataclass(frozen=True)
class _View:
    """A mask beside the consensus, both at one size.

    Attributes:
        mask, consensus: person or not; unknown pixels are as in the consensus.
        surety: how sure the networks are of the consensus, 0 to 1: less where they differ.
        skin: pixels that look like skin.
        size: the person's, px: the root of the larger of both areas.
    """

    mask: Bool[np.ndarray, "h w"]
    consensus: Bool[np.ndarray, "h w"]
    surety: Float32[np.ndarray, "h w"]
    skin: Bool[np.ndarray, "h w"]
    size: float


def find_faults(
    image: UInt8[np.ndarray, "h w 3"],
    mask: Bool[np.ndarray, "h w"],
    probabilities: Float32[np.ndarray, "n h w"],
    ignore: Bool[np.ndarray, "h w"] | None = None,
    held: Held = "person",
) -> list[Finding]:
    """The faults of a mask, the worst first, those below half of what is usual left out.

    Args:
        image: RGB.
        mask: person or not.
        probabilities: of person, one plane a network.
        ignore: pixels whose truth nobody knows.
        held: what held things are to be: as `background`, a part cut away counts where it looks like skin alone.

    Returns:
        At least one per kind that was found; nothing where both see nobody.
    """
    probability = probabilities.mean(axis=0)
    consensus = probability > contract.PROBABILITY_THRESHOLD
    if ignore is not None:
        mask = np.where(ignore, consensus, mask)
    area = max(np.count_nonzero(mask), np.count_nonzero(consensus))
    if not area:
        return []
    # what the networks do not agree on is no evidence
    surety = np.maximum(np.abs(2 * probability - 1) - probabilities.std(axis=0), 0) ** 2
    view = _View(mask, consensus, surety, skin(image), math.sqrt(area))
    if metrics.iou(~mask, consensus) > max(0.6, metrics.iou(mask, consensus) + 0.3):
        return [Finding("inverted", (1 - metrics.iou(mask, consensus)) / USUAL["inverted"], (0.0, 0.0, 1.0, 1.0))]
    faults = [*_holes(view), *_missing(view, held), *_extra(view), *_outline(view)]
    return sorted((item for item in faults if item.severity >= 0.5), key=lambda item: -item.severity)


def _holes(view: _View) -> Iterator[Finding]:
    """Pieces of background within the mask that the networks take for person."""
    for piece in _enclosed(view.mask):
        if (filled := piece & view.consensus).any():
            yield _finding("hole", filled, view)


def _missing(view: _View, held: Held) -> Iterator[Finding]:
    outside = view.consensus & ~view.mask
    for piece in _enclosed(view.mask):
        outside &= ~piece
    near = _dilate(view.mask, 2)
    for piece in _pieces(outside, view):
        is_whole = np.count_nonzero(piece) > _WHOLE * np.count_nonzero(view.mask) or not (piece & near).any()
        kind: Kind = "missing_person" if is_whole else "cut_away"
        finding = _finding(kind, piece, view)
        if is_whole or held == "person" or finding.is_skin:
            yield finding


def _extra(view: _View) -> Iterator[Finding]:
    rest = view.mask & ~view.consensus
    for piece in _islands(view):
        rest &= ~piece
        kind: Kind = "extra_person" if np.count_nonzero(piece) > _SPECK * view.size**2 else "speck"
        yield _finding(kind, piece & ~view.consensus, view)
    for piece in _pieces(rest, view):
        is_whole = np.count_nonzero(piece) > _WHOLE * np.count_nonzero(view.consensus)
        yield _finding("extra_person" if is_whole else "extra_part", piece, view)


def _islands(view: _View) -> Iterator[Bool[np.ndarray, "h w"]]:
    """The connected pieces of the mask in which the networks see hardly anybody."""
    count, labels = cv2.connectedComponents(view.mask.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        piece = labels == label
        if (view.consensus & piece).sum() < 0.1 * piece.sum():
            yield piece


def _enclosed(mask: Bool[np.ndarray, "h w"]) -> list[Bool[np.ndarray, "h w"]]:
    """The pieces of background that do not reach the photo's edge."""
    _, labels = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    inside = np.setdiff1d(np.unique(labels), np.append(rim, 0))
    return [labels == label for label in inside]


def _pieces(area: Bool[np.ndarray, "h w"], view: _View) -> Iterator[Bool[np.ndarray, "h w"]]:
    """The connected pieces that are thicker than outlines differ, in their full extent."""
    radius = max(2, round(_BAND * view.size))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.uint8)
    # beyond the photo there is more of the same: a piece that it cuts off is no thinner for that
    padded = cv2.copyMakeBorder(area.astype(np.uint8), radius, radius, radius, radius, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)[radius:-radius, radius:-radius]
    grown = (cv2.dilate(opened, disc) > 0) & area
    count, labels = cv2.connectedComponents(grown.astype(np.uint8), connectivity=8)
    for label in range(1, count):
        yield labels == label


def _outline(view: _View) -> Iterator[Finding]:
    """Shift and raggedness, from how far each point of the mask's outline is from the consensus's."""
    if view.mask.all() or not view.mask.any() or view.consensus.all() or not view.consensus.any():
        return
    distance = _signed_distance(view.consensus)
    slope = np.dstack(
        [cv2.Sobel(distance, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(distance, cv2.CV_32F, 0, 1, scale=1 / 8)]
    )
    lines = _lines(view.mask)
    if not lines:
        return
    points = np.concatenate(lines)
    reach = max(6.0, 0.08 * view.size)
    before, after = _fit_shift(points, distance, slope, reach)
    box = _box(view.mask)
    gain = 1 - after / before if before > 0 else 0.0
    # a fit that explains little of the distance is none: an outline is a little off everywhere
    trust = min(max((gain - _LEAST_GAIN) / (_SURE_GAIN - _LEAST_GAIN), 0.0), 1.0)
    # as an area: where hardly any outline is within the photo, a shift of it is nothing
    yield Finding("shift", (before - after) * len(points) * trust / view.size**2 / USUAL["shift"], box)
    jitter = _jitter(lines, distance, view.size) / view.size - _SMOOTH
    yield Finding("ragged", max(jitter, 0.0) / USUAL["ragged"], box)


def _fit_shift(
    points: Float32[np.ndarray, "n 2"],
    distance: Float32[np.ndarray, "h w"],
    slope: Float32[np.ndarray, "h w 2"],
    reach: float,
) -> tuple[float, float]:
    """Mean distance of the mask's outline from the consensus's, as it is and displaced as a whole, px."""
    shift = np.zeros(2)
    before = after = 0.0
    # Gauss-Newton on the distance of a shifted point; what is farther than `reach` is another fault
    for step in range(6):
        moved = (points - shift).astype(np.float32)
        value, direction = _sample(distance, moved), _sample(slope, moved)
        near = np.abs(value) < reach
        mean = float(np.minimum(np.abs(value), reach).mean())
        before, after = (mean, mean) if step == 0 else (before, min(after, mean))
        if near.sum() < 20:
            break
        normal = direction[near].T @ direction[near] + _DAMPING * near.sum() * np.eye(2)
        shift = shift + np.linalg.solve(normal, direction[near].T @ value[near])
        if np.hypot(*shift) > 2 * reach:
            return before, before
    return before, after


def _jitter(lines: list[Float32[np.ndarray, "_ 2"]], distance: Float32[np.ndarray, "h w"], size: float) -> float:
    """Root mean square of the quick part of the outline's distance to the consensus's, px."""
    sigma, most = max(2.0, 0.03 * size), max(4.0, 0.06 * size)
    squares: list[np.ndarray] = []
    for line in lines:
        value = np.clip(_sample(distance, line), -most, most)[None]
        padded = cv2.copyMakeBorder(value, 0, 0, 64, 64, cv2.BORDER_REFLECT)
        smooth = cv2.GaussianBlur(padded, (0, 0), sigmaX=sigma, sigmaY=1e-3)[:, 64:-64]
        # where both are far apart, something else is wrong
        squares.append(((value - smooth) ** 2)[np.abs(smooth) < most / 2])
    together = np.concatenate(squares)
    return math.sqrt(float(together.mean())) if together.size else 0.0


def _lines(mask: Bool[np.ndarray, "h w"]) -> list[Float32[np.ndarray, "_ 2"]]:
    """The outline (x, y) in runs of neighbours, without where the photo's edge cuts it off."""
    height, width = mask.shape
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    lines = []
    for contour in contours:
        points = contour[:, 0].astype(np.float32)
        inner = (points >= _EDGE_PX).all(axis=1) & (points < (width - _EDGE_PX, height - _EDGE_PX)).all(axis=1)
        cuts = np.flatnonzero(~inner)
        runs = (
            np.split(np.roll(points, -cuts[0], axis=0), np.flatnonzero(~np.roll(inner, -cuts[0]))[1:])
            if cuts.size
            else [points]
        )
        runs = [run[1:] for run in runs] if cuts.size else runs
        lines += [run for run in runs if len(run) >= 20]
    return lines


def _signed_distance(mask: Bool[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Distance to the outline in px, above 0 within; the photo's edge is none."""
    inside, outside = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (mask, ~mask))
    return cv2.GaussianBlur(np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32), (0, 0), 1.0)


def _sample(plane: Float32[np.ndarray, "h w ..."], points: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n ..."]:
    """Bilinear values at (x, y)."""
    # OpenCV's maps are limited to 32,767 points a side
    values = cv2.remap(plane, points[:, None, 0], points[:, None, 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return values[:, 0]


def skin(image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """The pixels of an RGB photo that look like skin by their hue; much else does too."""
    _, cr, cb = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    return (cr >= _SKIN[0][0]) & (cr <= _SKIN[0][1]) & (cb >= _SKIN[1][0]) & (cb <= _SKIN[1][1])


def _finding(kind: Kind, piece: Bool[np.ndarray, "h w"], view: _View) -> Finding:
    weight = float(view.surety[piece].sum()) / view.size**2
    return Finding(kind, weight / USUAL[kind], _box(piece), bool(view.skin[piece].mean() > _SKIN_SHARE))


def _box(piece: Bool[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    left, top, width, height = cv2.boundingRect(piece.astype(np.uint8))
    rows, columns = piece.shape
    return left / columns, top / rows, width / columns, height / rows


def _dilate(mask: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    side = 2 * radius + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
