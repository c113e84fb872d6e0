"""TensorBoard: the figures of each epoch, and example photos with their masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from portraitseg import contract
from portraitseg.data import Dataset
from portraitseg.models.keras_route import tf
from train.optimize import Optimization
from train.show import tint


class Board:
    """Writes into `<folder>/tensorboard`; a context manager.

    Each example is one row: photo, photo with the predicted person tinted, truth.
    """

    #: Example photos, the first of the validation split.
    PHOTOS: ClassVar[int] = 4

    def __init__(self, folder: Path, dataset: Dataset, keys: tuple[str, ...], size: tuple[int, int]) -> None:
        self._writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        self._samples = [dataset.load(key) for key in keys]
        self._size = size

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, step: int, row: Mapping[str, float], optimization: Optimization) -> None:
        """Writes the figures of an epoch, and the examples with the averaged weights."""
        optimization.swap()
        try:
            rows = [self._draw(sample.image, sample.mask, optimization) for sample in self._samples]
        finally:
            optimization.swap()
        with self._writer.as_default(step):
            for name, value in row.items():
                tf.summary.scalar(name, value)
            tf.summary.image("photo, mask, truth", np.stack(rows), max_outputs=len(rows))
        self._writer.flush()

    def _draw(self, image: np.ndarray, truth: np.ndarray | None, optimization: Optimization) -> np.ndarray:
        inputs = contract.image_to_inputs(image, self._size)
        probability = contract.outputs_to_probability(np.asarray(optimization.deployed(inputs, training=False)))
        photo = contract.resize_image(image, self._size)
        target = np.zeros(self._size, np.uint8) if truth is None else contract.mask_to_target(truth, self._size)
        truth_rgb = cv2.cvtColor(target, cv2.COLOR_GRAY2RGB)
        return np.concatenate([photo, tint(photo, probability > contract.PROBABILITY_THRESHOLD), truth_rgb], axis=1)
