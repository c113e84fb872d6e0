"""How good the masks of exported files are on a split: per photo, then means with a bootstrap interval."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from portraitseg import contract
from portraitseg.data.base import Dataset, Sample
from portraitseg.errors import InputError
from portraitseg.metrics import METRICS
from portraitseg.runners import Runner

#: Resamples of the bootstrap: the bounds of a 95 % interval repeat to about a twentieth of its width.
RESAMPLES = 2000

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
    scores: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in METRICS})
    fault: str | None = None

    def add(self, key: str, values: Mapping[str, float]) -> None:
        """Appends the scores of one photo."""
        self.keys.append(key)
        for name, value in values.items():
            self.scores[name].append(value)

    def mean(self, name: str) -> float:
        """Mean of a measure over the photos."""
        return float(np.mean(self.scores[name]))

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
    runners: Mapping[str, Runner], dataset: Dataset, split: str, notes: dict[str, int]
) -> Iterator[SplitScores]:
    """Scores all files on the photos of a split; each photo is read once, and only one is in memory.

    Args:
        runners: file name → its open runner.
        notes: counts what the loader converted; added to.

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
            values, fault = score_photo(runner, sample)
            result.files[name].add(key, values)
            result.files[name].fault = result.files[name].fault or fault
        yield result


def score_photo(runner: Runner, sample: Sample) -> tuple[dict[str, float], str | None]:
    """Scores one file on one photo, at the photo's size.

    Returns:
        Measure → value; and what is wrong with the output, or None.

    Raises:
        InputError: a photo without a truth mask.
    """
    if sample.mask is None:
        raise InputError(f"photo {sample.key}: no mask to compare with: measure on a split whose sets are labelled")
    truth = contract.truth_to_mask(sample.mask)
    probability = runner.predict(sample.image)
    mask = contract.probability_to_mask(probability, truth.shape)
    low, high = float(probability.min()), float(probability.max())
    # written so that NaN fails it: NaN > 0.5 is False, hence an empty mask and a plausible score
    is_probability = low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE
    fault = None if is_probability else f"output is no probability: {low:.3g}…{high:.3g} on {sample.key}"
    return {name: measure(mask, truth) for name, measure in METRICS.items()}, fault


def bootstrap_interval(values: np.ndarray, seed: int = 7) -> tuple[float, float]:
    """95 % percentile bootstrap interval of a mean over photos (Efron, 1979).

    It tells how far the mean would move with other photos of the same kind; it knows nothing of other kinds.

    Args:
        values: one score a photo, at least one.
        seed: the same values give the same interval.
    """
    generator = np.random.default_rng(seed)
    # one resample at a time: a matrix of all of them would grow with the split
    means = [values[generator.integers(len(values), size=len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
