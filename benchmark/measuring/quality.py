"""How good the masks of exported files are on a split: per photo, then means with a bootstrap interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from benchmark.measuring.intervals import bootstrap_interval
from benchmark.measuring.journal import Journal
from portraitseg import contract
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from portraitseg.metrics import COUNTS, MATTE_METRICS, METRICS, known_truth
from portraitseg.refine import EdgeRefiner
from portraitseg.runners import Runner

#: How far a probability may leave [0, 1]: float rounding is far below, logits and bytes far above.
RANGE_TOLERANCE = 1e-3

#: Beside the measures, what tells an output that is no probability: its extremes.
EXTREMES = ("lowest", "highest")

#: 1 where truth and mask both show nobody: such a photo scores 1, and says little of a file.
BOTH_EMPTY = "both_empty"

#: Column of a refined mask → its measure.
REFINED = {f"{name}_refined": METRICS[name] for name in ("iou", "boundary_iou")}


def columns(is_soft: bool, is_refined: bool = False) -> tuple[str, ...]:
    """What is written down of each photo: the measures, those of mattes where the truth is soft, and more."""
    further = (*(MATTE_METRICS if is_soft else ()), *(REFINED if is_refined else ()))
    return (*METRICS, *COUNTS, *further, *EXTREMES, BOTH_EMPTY)


@dataclass(frozen=True)
class FileScores:
    """The scores of one file on one split, photo by photo; they stay on disk.

    Attributes:
        keys: of the photos, sorted.
        journal: complete.
    """

    keys: Sequence[str]
    journal: Journal = field(repr=False)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the scores."""
        return tuple(name for name in self.journal.columns if name not in (*EXTREMES, BOTH_EMPTY))

    def values(self, name: str) -> Float64[np.ndarray, " n"]:
        """The scores of a measure, in the order of `keys`."""
        return self.journal.column(name)

    @property
    def fault(self) -> str | None:
        """Why these scores mean nothing, such as an output that is no probability; None: nothing found."""
        lowest, highest = self.values("lowest"), self.values("highest")
        # written so that NaN fails it: NaN > 0.5 is False, hence an empty mask and a plausible score
        is_probability = (lowest >= -RANGE_TOLERANCE) & (highest <= 1 + RANGE_TOLERANCE)
        if is_probability.all():
            if self.both_empty == len(self.keys):
                return f"nobody is in any of the {len(self.keys)} photos, and nothing was found: that is no score"
            return None
        first = int(np.argmin(is_probability))
        return f"output is no probability: {lowest[first]:.3g}…{highest[first]:.3g} on {self.keys[first]}"

    @property
    def both_empty(self) -> int:
        """Background-only photos on which nothing was found: each counts as IoU 1."""
        return int(self.values(BOTH_EMPTY).sum())

    def mean(self, name: str) -> float:
        """Mean of a measure over the photos."""
        return float(np.mean(self.values(name)))

    def percentile(self, name: str, percent: float) -> float:
        """What this share of the photos stays below: the tenth percentile tells how the bad ones fare."""
        return float(np.percentile(self.values(name), percent))

    def worst(self, name: str, count: int) -> list[tuple[str, float]]:
        """The photos with the lowest scores, lowest first, equals by their keys: (key, score)."""
        values = self.values(name)
        return [(self.keys[index], float(values[index])) for index in np.argsort(values, kind="stable")[:count]]

    def interval(self, name: str) -> tuple[float, float]:
        """95 % bootstrap interval of the mean of a measure."""
        return bootstrap_interval(self.values(name))


@dataclass(frozen=True)
class SplitScores:
    """A split that was measured to its end: file name → its scores."""

    split: str
    sha256_16: str
    files: Mapping[str, FileScores]


def truth_of(sample: Sample) -> UInt8[np.ndarray, "h w"]:
    """The truth of a photo.

    Raises:
        InputError: a photo without one.
    """
    if sample.mask is None:
        raise InputError(f"photo {sample.key}: no mask to compare with: measure on a split whose sets are labelled")
    return sample.mask


def score_image(
    runner: Runner,
    image: UInt8[np.ndarray, "h w 3"],
    truth_mask: UInt8[np.ndarray, "h2 w2"],
    is_soft: bool = False,
    ignore: Bool[np.ndarray, "h2 w2"] | None = None,
    refiner: EdgeRefiner | None = None,
) -> dict[str, float]:
    """Scores one file on one image, at the size of the truth; the image may have another one.

    Args:
        runner: of the file.
        image: RGB.
        truth_mask: 0..255.
        is_soft: True where the truth holds alpha: the matte is scored too.
        ignore: pixels of the truth that count in no score.
        refiner: the refined mask of the same run is scored too; the image then has the truth's size.

    Returns:
        Column → value.
    """
    truth = contract.truth_to_mask(truth_mask)
    probability = runner.predict(image)
    mask = contract.probability_to_mask(probability, truth.shape)
    # known pixels alone where a measure is of regions; elsewhere the truth is taken to be as predicted
    scores = {name: float(measure(mask, truth, ignore)) for name, measure in METRICS.items()}
    filled = known_truth(mask, truth, ignore)
    scores |= {name: float(measure(mask, filled)) for name, measure in COUNTS.items()}
    if is_soft:
        alpha = contract.probability_to_alpha(probability, truth.shape)
        soft_truth = known_truth(alpha, contract.bytes_to_float(truth_mask), ignore)
        scores |= {name: measure(alpha, soft_truth) for name, measure in MATTE_METRICS.items()}
    if refiner is not None:
        refined = refiner(image, np.clip(probability, 0, 1)) > contract.PROBABILITY_THRESHOLD
        scores |= {name: float(measure(refined, truth, ignore)) for name, measure in REFINED.items()}
    known = slice(None) if ignore is None else ~ignore
    scores |= {"lowest": float(probability.min()), "highest": float(probability.max())}
    return scores | {BOTH_EMPTY: float(not (mask[known].any() or truth[known].any()))}
