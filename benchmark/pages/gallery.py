"""The worst photos side by side: input, truth, each file's mask and where it differs; pictures inside the page."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from benchmark.tables.compare import Photos
from portraitseg import contract
from portraitseg.data.base import Dataset
from portraitseg.errors import InputError
from portraitseg.metrics import known_truth
from portraitseg.runners import Runner

#: Longer side of an embedded picture: a page of some hundred of them stays a few megabytes.
SIDE_PX = 180

#: RGB of what is missing and of what is too much; blue and orange are told apart by the colour-blind as well.
MISSING, EXTRA = (30, 110, 255), (255, 130, 0)


@dataclass(frozen=True)
class Answer:
    """What one file makes of a photo: pictures as data URIs, and its IoU on it."""

    file: str
    mask: str
    difference: str
    iou: float | None


@dataclass(frozen=True)
class Exhibit:
    """One photo with its truth and all answers."""

    key: str
    split: str
    image: str
    truth: str
    mean_iou: float
    answers: list[Answer]


def worst_keys(photos: Photos, split: str, names: Sequence[str], count: int) -> list[tuple[str, float]]:
    """The photos of a split with the lowest mean IoU over the named files, lowest first: (key, mean)."""
    lists = [photos[(name, split)] for name in names if (name, split) in photos]
    if not lists:
        return []
    keys = set(lists[0]).intersection(*lists[1:])
    ranked = sorted((sum(scores[key]["iou"] for scores in lists) / len(lists), key) for key in keys)
    return [(key, mean) for mean, key in ranked[:count]]


def exhibits(
    dataset: Dataset, runners: Mapping[str, Runner], photos: Photos, split: str, count: int
) -> Iterator[Exhibit]:
    """Runs every file on the worst photos of a split.

    Args:
        dataset: with the photos.
        runners: file name without folders → its open runner.
        photos: the scores that were measured, for the order and the captions.
        split: which one.
        count: at most so many photos.

    Yields:
        The worst first.

    Raises:
        InputError: a photo that cannot be read.
    """
    for key, mean in worst_keys(photos, split, list(runners), count):
        sample = dataset.load(key)
        if sample.mask is None:
            raise InputError(f"photo {key}: its mask is gone since it was measured")
        truth = contract.truth_to_mask(sample.mask)
        answers = []
        for name, runner in runners.items():
            mask = contract.probability_to_mask(runner.predict(sample.image), truth.shape)
            iou = photos.get((name, split), {}).get(key, {}).get("iou")
            known = known_truth(mask, truth, sample.ignore)
            answers.append(Answer(name, png(_gray(mask)), jpeg(difference(sample.image, mask, known)), iou))
        yield Exhibit(key, split, jpeg(sample.image), png(_gray(truth)), mean, answers)


def difference(
    image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The photo in pale gray, what the mask misses in blue, what it has too much in orange."""
    pale = (128 + cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 2).astype(np.uint8)
    picture = np.repeat(pale[..., None], 3, axis=2)
    picture[truth & ~mask] = MISSING
    picture[mask & ~truth] = EXTRA
    return picture


def jpeg(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """A picture as a data URI, reduced to SIDE_PX."""
    return _data_uri(_reduce(image)[..., ::-1], ".jpg", "image/jpeg", [cv2.IMWRITE_JPEG_QUALITY, 80])


def png(image: UInt8[np.ndarray, "h w"]) -> str:
    """A mask as a data URI, reduced to SIDE_PX."""
    return _data_uri(_reduce(image), ".png", "image/png", [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _gray(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    return np.where(mask, np.uint8(255), np.uint8(0))


def _reduce(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _data_uri(image: np.ndarray, suffix: str, kind: str, options: list[int]) -> str:
    _, packed = cv2.imencode(suffix, np.ascontiguousarray(image), options)
    return f"data:{kind};base64,{base64.b64encode(packed.tobytes()).decode()}"
