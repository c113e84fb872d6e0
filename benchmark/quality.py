"""How good the masks of exported files are on a split: per photo, then means with a bootstrap interval."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from benchmark.intervals import bootstrap_interval
from portraitseg import contract
from portraitseg.data.base import Dataset, Sample
from portraitseg.errors import InputError
from portraitseg.metrics import COUNTS, MATTE_METRICS, METRICS
from portraitseg.runners import Runner

#: How far a probability may leave [0, 1]: float rounding is far below, logits and bytes far above.
RANGE_TOLERANCE = 1e-3


@dataclass
class FileScores:
    """The scores of one file on one split, photo by photo.

    Attributes:
        keys: of the photos, in order.
        scores: measure → one value a photo.
        fault: why these scores mean nothing, such as an output that is no probability; None: nothing found.
    """

    keys: list[str] = field(default_factory=list)
    scores: dict[str, list[float]] = field(default_factory=dict)
    fault: str | None = None

    def add(self, key: str, values: Mapping[str, float]) -> None:
        """Appends the scores of one photo."""
        self.keys.append(key)
        for name, value in values.items():
            self.scores.setdefault(name, []).append(value)

    def mean(self, name: str) -> float:
        """Mean of a measure over the photos."""
        return float(np.mean(self.scores[name]))

    def percentile(self, name: str, percent: float) -> float:
        """What this share of the photos stays below: the tenth percentile tells how the bad ones fare."""
        return float(np.percentile(self.scores[name], percent))

    def worst(self, name: str, count: int) -> list[tuple[str, float]]:
        """The photos with the lowest scores, lowest first: (key, score)."""
        ranked = sorted(zip(self.scores[name], self.keys, strict=True))
        return [(key, score) for score, key in ranked[:count]]

    def interval(self, name: str) -> tuple[float, float]:
        """95 % bootstrap interval of the mean of a measure."""
        return bootstrap_interval(np.array(self.scores[name]))


@dataclass(frozen=True)
class SplitScores:
    """A split that was measured to its end: file name → its scores."""

    split: str
    sha256_16: str
    files: dict[str, FileScores]


def score_split(
    runners: Mapping[str, Runner], dataset: Dataset, split: str, notes: dict[str, int], is_soft: bool = False
) -> Iterator[SplitScores]:
    """Scores all files on the photos of a split; each photo is read once, and only one is in memory.

    Args:
        runners: file name → its open runner.
        notes: counts what the loader converted; added to.
        is_soft: True where the truth holds alpha: the mattes are scored too.

    Yields:
        The same scores after each photo, for progress; they are complete after the last one.

    Raises:
        InputError: an empty split, an unreadable photo, a photo without a truth mask.
    """
    result = SplitScores(split, dataset.split_hash(split), {name: FileScores() for name in runners})
    for key in dataset.keys(split):
        sample = dataset.load(key)
        for note in sample.notes:
            notes[note] = notes.get(note, 0) + 1
        for name, runner in runners.items():
            values, fault = score_photo(runner, sample, is_soft)
            result.files[name].add(key, values)
            result.files[name].fault = result.files[name].fault or fault
        yield result


def score_photo(runner: Runner, sample: Sample, is_soft: bool = False) -> tuple[dict[str, float], str | None]:
    """Scores one file on one photo, at the size of the photo's truth.

    Args:
        runner: of the file.
        sample: the photo and its truth.
        is_soft: True where the truth holds alpha: the matte is scored too.

    Returns:
        Measure → value; and what is wrong with the output, or None.

    Raises:
        InputError: a photo without a truth mask.
    """
    if sample.mask is None:
        raise InputError(f"photo {sample.key}: no mask to compare with: measure on a split whose sets are labelled")
    return score_image(runner, sample.image, sample.mask, sample.key, is_soft)


def score_image(
    runner: Runner,
    image: UInt8[np.ndarray, "h w 3"],
    truth_mask: UInt8[np.ndarray, "h2 w2"],
    key: str,
    is_soft: bool = False,
) -> tuple[dict[str, float], str | None]:
    """Scores one file on one image, at the size of the truth; the image may have another one.

    Returns:
        As `score_photo`.
    """
    truth = contract.truth_to_mask(truth_mask)
    probability = runner.predict(image)
    mask = contract.probability_to_mask(probability, truth.shape)
    low, high = float(probability.min()), float(probability.max())
    # written so that NaN fails it: NaN > 0.5 is False, hence an empty mask and a plausible score
    is_probability = low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE
    fault = None if is_probability else f"output is no probability: {low:.3g}…{high:.3g} on {key}"
    measures: dict[str, Callable[..., float]] = {**METRICS, **COUNTS}
    scores = {name: measure(mask, truth) for name, measure in measures.items()}
    if is_soft:
        alpha = contract.probability_to_alpha(probability, truth.shape)
        soft_truth = contract.bytes_to_float(truth_mask)
        scores |= {name: measure(alpha, soft_truth) for name, measure in MATTE_METRICS.items()}
    return scores, fault
