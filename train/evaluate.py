"""Validation during training: the exact measure of the benchmark, on the Keras model."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from portraitseg import contract, metrics
from portraitseg.data import Dataset

#: Photos per call of the network.
_BATCH = 16


@dataclass(frozen=True)
class KerasEvaluator:
    """Mean IoU of a Keras model over photos, by docs/metrics.md: at the photo's size, probability > 0.5."""

    dataset: Dataset
    keys: tuple[str, ...]
    size: tuple[int, int]

    def __call__(self, model: Any) -> float:
        """Returns the mean IoU in [0, 1]."""
        return float(np.mean([score for score, _ in self.scores(model)]))

    def scores(self, model: Any) -> Iterator[tuple[float, bool]]:
        """Of each photo its IoU, and whether its truth shows nobody."""
        for probability, truth, ignore in self._predict(model):
            mask, person = contract.probability_to_mask(probability, truth.shape), contract.truth_to_mask(truth)
            yield metrics.iou(mask, person, ignore), not person.any()

    def _predict(self, model: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        for start in range(0, len(self.keys), _BATCH):
            samples = [self.dataset.load(key) for key in self.keys[start : start + _BATCH]]
            inputs = np.concatenate([contract.image_to_inputs(sample.image, self.size) for sample in samples])
            # one shape for every call: another one would trace the graph anew
            padded = np.concatenate([inputs, np.zeros((_BATCH - len(inputs), *inputs.shape[1:]), np.float32)])
            probabilities = model.predict_on_batch(padded)
            for probability, sample in zip(probabilities, samples, strict=False):
                assert sample.mask is not None
                yield probability[..., 0], sample.mask, sample.ignore
