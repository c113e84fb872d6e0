"""Faults put into masks on purpose, so that an audit can be measured (numpy and OpenCV only)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from portraitseg import contract
from portraitseg.data.base import Sample
from train.audit.faults import skin

Plant = Literal["hand", "hole", "shift", "ragged", "swapped", "inverted", "bystander_in_mask", "bystander_in_photo"]

#: What an audit may call each of them and be right.
NAMES: Mapping[Plant, frozenset[str]] = {
    "hand": frozenset({"cut_away", "missing_person", "hole"}),
    "hole": frozenset({"hole"}),
    "shift": frozenset({"shift"}),
    "ragged": frozenset({"ragged"}),
    "swapped": frozenset({"swapped"}),
    "inverted": frozenset({"inverted"}),
    "bystander_in_mask": frozenset({"extra_person", "extra_part"}),
    "bystander_in_photo": frozenset({"missing_person", "cut_away"}),
}

SHIFT_PX = 8

#: A hand's area as a share of the person's, least and greatest; a face is larger.
_HAND = (0.008, 0.12)

#: A bystander's height as a share of the photo's, and the share of the photo that has to be seen of it.
_BYSTANDER, _SEEN = (0.5, 0.8), 0.03

#: Photo and mask; any size, as two photos rarely have the same.
Pixels = tuple[UInt8[np.ndarray, "_ _ 3"], Bool[np.ndarray, "_ _"]]


@dataclass(frozen=True)
class Planting:
    """One fault to plant.

    Attributes:
        plant: which.
        partner: another photo, whose person or mask is taken where one is needed.
        seed: of what is drawn.
    """

    plant: Plant
    partner: str
    seed: int


def plant(sample: Sample, partner: Sample, planting: Planting) -> Sample | None:
    """The photo with a wrong mask (or a person who is not in it); None where this photo lends itself to no such fault.

    Raises:
        ValueError: a photo without a mask.
    """
    if sample.mask is None or partner.mask is None:
        raise ValueError(f"{sample.key}: no mask")
    pixels = sample.image, contract.truth_to_mask(sample.mask)
    other = partner.image, contract.truth_to_mask(partner.mask)
    planted = _PLANTS[planting.plant](pixels, other, np.random.default_rng(planting.seed))
    if planted is None:
        return None
    return replace(sample, image=planted[0], mask=np.where(planted[1], np.uint8(255), np.uint8(0)))


def _hand(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """A piece of skin apart from the largest one, which is the face, is cut away with its rim."""
    del other, rng
    image, mask = photo
    kernel = np.ones((5, 5), np.uint8)
    bare = cv2.morphologyEx((skin(image) & mask).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(bare, connectivity=4)
    shares = stats[:, cv2.CC_STAT_AREA] / max(1, int(np.count_nonzero(mask)))
    order = [label for label in np.argsort(-shares) if label][1:]
    chosen = next((label for label in order if _HAND[0] <= shares[label] <= _HAND[1]), None)
    if count < 3 or chosen is None:
        return None
    return image, mask & (cv2.dilate((labels == chosen).astype(np.uint8), kernel) == 0)


def _hole(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """An ellipse of 4 to 10 % of the person's size in radius, wholly within."""
    del other
    image, mask = photo
    size = np.count_nonzero(mask) ** 0.5
    radii = rng.uniform(0.04, 0.1, 2) * size
    within = cv2.distanceTransform(
        cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5
    )
    centres = np.argwhere(within[1:-1, 1:-1] > radii.max() + 2)
    if not len(centres):
        return None
    row, column = centres[rng.integers(len(centres))]
    hole = np.zeros(mask.shape, np.uint8)
    cv2.ellipse(hole, (int(column), int(row)), (max(1, round(radii[0])), max(1, round(radii[1]))), 0, 0, 360, 1, -1)
    return image, mask & (hole == 0)


def _shift(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """By `SHIFT_PX` in any direction; at the photo's edge the mask is continued, so that no strip gives it away."""
    del other
    image, mask = photo
    angle = rng.uniform(0, 2 * np.pi)
    move = np.array([[1, 0, SHIFT_PX * np.cos(angle)], [0, 1, SHIFT_PX * np.sin(angle)]])
    height, width = mask.shape
    warped = cv2.warpAffine(
        mask.astype(np.uint8), move, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )
    return image, warped > 0


def _ragged(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """Each piece of the outline moved in or out by chance, 2.5 % of the person's size in the mean square."""
    del other
    image, mask = photo
    size = np.count_nonzero(mask) ** 0.5
    inside, outside = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (mask, ~mask))
    noise = cv2.GaussianBlur(rng.standard_normal(mask.shape), (0, 0), max(1.5, 0.012 * size))
    return image, inside - outside + 0.025 * size * noise / noise.std() > 0


def _swapped(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """The mask of another photo, stretched to this one."""
    del rng
    image, mask = photo
    height, width = mask.shape
    return image, cv2.resize(other[1].astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _inverted(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    del other, rng
    return photo[0], ~photo[1]


def _bystander_in_mask(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """A person of another photo in the mask alone, where nobody is."""
    bystander = _beside(photo, other, rng)
    return None if bystander is None else (photo[0], photo[1] | bystander[1])


def _bystander_in_photo(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """A person of another photo behind this one; the mask knows nothing of them."""
    bystander = _beside(photo, other, rng)
    if bystander is None:
        return None
    soft = cv2.GaussianBlur(bystander[1].astype(np.float32), (0, 0), 0.8)[..., None]
    image = np.rint(soft * bystander[0] + (1 - soft) * photo[0]).astype(np.uint8)
    return np.where(photo[1][..., None], photo[0], image), photo[1]


def _beside(photo: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels | None:
    """Another photo's person, made smaller, standing on the bottom at one side; None where too little would be seen."""
    mask = photo[1]
    height, width = mask.shape
    factor = rng.uniform(*_BYSTANDER) * height / other[1].shape[0]
    size = max(1, round(other[1].shape[1] * factor)), max(1, round(other[1].shape[0] * factor))
    small = cv2.resize(other[0], size, interpolation=cv2.INTER_AREA)
    small_mask = cv2.resize(other[1].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    left = (
        round(rng.uniform(-0.3, 0.1) * size[0])
        if rng.random() < 0.5
        else width - round(rng.uniform(0.7, 1.1) * size[0])
    )
    move = np.array([[1.0, 0, left], [0, 1.0, height - size[1]]])
    placed = cv2.warpAffine(small, move, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    seen = (cv2.warpAffine(small_mask, move, (width, height), flags=cv2.INTER_NEAREST) > 0) & ~mask
    return (placed, seen) if seen.mean() >= _SEEN else None


_PLANTS: dict[Plant, Callable[[Pixels, Pixels, np.random.Generator], Pixels | None]] = {
    "hand": _hand,
    "hole": _hole,
    "shift": _shift,
    "ragged": _ragged,
    "swapped": _swapped,
    "inverted": _inverted,
    "bystander_in_mask": _bystander_in_mask,
    "bystander_in_photo": _bystander_in_photo,
}
