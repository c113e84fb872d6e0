"""Batches from worker processes: all cores load and augment, memory stays flat, a batch follows from its number.

Nothing here has state that a resumed run would miss: the order of an epoch and the random numbers of a photo are drawn
from (seed, epoch, photo).
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.config import Config
from portraitseg.data import Dataset
from portraitseg.errors import InputError
from train import augment
from train.augment import Augmenter

Batch = tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w"]]

#: Keeps the random numbers of the order apart from those of the augmentations.
_ORDER, _AUGMENT = 0, 1


@dataclass(frozen=True)
class BatchRecipe:
    """All that a worker needs to make batch number `step`.

    Attributes:
        keys: of the training photos.
        size: (height, width) of the network's input.
        is_soft: True: values between 0 and 255 of a mask are alpha.
    """

    dataset: Dataset
    keys: tuple[str, ...]
    size: tuple[int, int]
    batch_size: int
    seed: int
    augment: Augmenter
    is_soft: bool

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch; photos left over come in the next epoch, whose order is another."""
        return max(1, len(self.keys) // self.batch_size)

    def make(self, step: int) -> Batch:
        """Batch number `step`, counted from 0 over all epochs: images and targets at the network's size.

        Raises:
            InputError: a photo that cannot be read, or one without a mask.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _epoch_order(self.seed, epoch, len(self.keys))
        pairs = [
            self._make_pair(int(order[(position * self.batch_size + offset) % len(order)]), epoch)
            for offset in range(self.batch_size)
        ]
        return np.stack([image for image, _ in pairs]), np.stack([target for _, target in pairs])

    def _make_pair(self, index: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        sample = self.dataset.load(self.keys[index])
        if sample.mask is None:
            raise InputError(
                f"photo '{sample.key}' has no mask: training needs one; take its set out of data.train_split"
            )
        image = contract.resize_image(sample.image, self.size)
        target = contract.mask_to_target(sample.mask, self.size, self.is_soft)
        return self.augment(image, target, np.random.default_rng([self.seed, _AUGMENT, epoch, index]))


def recipe_of(dataset: Dataset, config: Config) -> BatchRecipe:
    """The batches of a configuration.

    Raises:
        InputError: no training split, or an augmentation that is unknown or out of range.
    """
    return BatchRecipe(
        dataset=dataset,
        keys=dataset.keys(config.data.train_split),
        size=config.model.size,
        batch_size=config.train.batch_size,
        seed=config.seed,
        augment=augment.build(config.augment),
        is_soft=config.data.soft_masks,
    )


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


class BatchStream:
    """Batches `start`, `start + 1`, … in order, made ahead by worker processes. Use as a context manager."""

    def __init__(self, recipe: BatchRecipe, start: int = 0, workers: int = 0) -> None:
        """Starts the workers; `workers` = 0: one per core."""
        self._workers = workers or _cores()
        # spawn: TensorFlow's threads do not survive a fork
        self._pool = ProcessPoolExecutor(
            self._workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(recipe,)
        )
        self._next = start
        self._pending: deque[Future[Batch]] = deque()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            # two batches a worker: one in the making, one waiting, so that no worker idles while a step runs
            while len(self._pending) < 2 * self._workers:
                self._pending.append(self._pool.submit(_make, self._next))
                self._next += 1
            yield self._pending.popleft().result()


def _cores() -> int:
    """Cores that this process may use; macOS does not say which those are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_recipe: BatchRecipe


def _start_worker(recipe: BatchRecipe) -> None:
    global _recipe
    _recipe = recipe
    # Ctrl-C is the parent's to handle: it finishes the step and saves
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    import cv2

    # one process per core: OpenCV's own threads would only get in each other's way
    cv2.setNumThreads(1)


def _follow_parent() -> None:
    """Ends the worker when its parent is gone, SIGKILL included: idle workers would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _make(step: int) -> Batch:
    return _recipe.make(step)
