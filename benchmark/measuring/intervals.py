"""How sure a mean over photos is, and whether two files really differ: the bootstrap over photos."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

#: Resamples of the bootstrap: the bounds of a 95 % interval repeat to about a twentieth of its width.
RESAMPLES = 2000


class Difference(NamedTuple):
    """Mean of b - a over photos, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """True where the interval holds 0: other photos of the same kind might turn the sign."""
        return self.low <= 0 <= self.high

    def columns(self, name: str) -> dict[str, float]:
        """Of a table: the mean, and the ends of its interval."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


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


def paired_difference(scores_a: Sequence[float] | np.ndarray, scores_b: Sequence[float] | np.ndarray) -> Difference:
    """Whether b scores otherwise than a on the same photos: the bootstrap over the differences by photo.

    A photo that is hard for one file is hard for the other: the differences vary far less than the scores, so this
    finds what two separate intervals would hide.

    Args:
        scores_a, scores_b: one score a photo, in the same order of photos, at least one.

    Raises:
        ValueError: none, or another number of photos.
    """
    if len(scores_a) != len(scores_b) or not len(scores_a):
        raise ValueError(f"{len(scores_a)} and {len(scores_b)} scores: give as many, at least one, of the same photos")
    differences = np.asarray(scores_b, np.float64) - np.asarray(scores_a, np.float64)
    return Difference(float(differences.mean()), *bootstrap_interval(differences))


def describe_difference(difference: Difference) -> str:
    """`+0.31 [+0.12, +0.50]` in points (hundredths), or the same with `inside the noise`."""
    if not any(difference):
        return "the same on every photo"
    mean, low, high = (100 * value for value in difference)
    text = f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
    return f"{text} inside the noise" if difference.is_noise else text
