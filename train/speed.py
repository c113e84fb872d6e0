"""Images per second of the training step, of the input pipeline, of both, and with checkpoints; the step's profile."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from portraitseg import models
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras
from train import losses, state
from train.optimize import Optimization
from train.profile import OperatorTime, profile
from train.stream import Batch, BatchMaker, BatchStream, maker_of


def measure_speed(config: Config, steps: int) -> dict[str, float]:
    """Measures on the photos of the configuration; what is written, in the working directory, is taken away again.

    Args:
        config: network, batch size, augmentations, data.
        steps: batches per measurement, after a warm-up.

    Returns:
        Images per second under `step`, `pipeline`, `both` and `saving`: both, in epochs that end as those of training
        do, with two h5 files (best and last) and the state to resume from.
    """
    maker, optimization = _prepare(config)

    def train_on(batch: Batch) -> None:
        optimization.step(batch, config.train.learning_rate, 0)

    def rate(action: Callable[[], object]) -> float:
        # the first steps trace the graph, and drain what the workers made ahead
        for _ in range(8):
            action()
        began = time.perf_counter()
        for _ in range(steps):
            action()
        return steps * config.train.batch_size / (time.perf_counter() - began)

    batch = maker.make(0)
    result = {"step": rate(lambda: train_on(batch))}
    with BatchStream(maker, workers=config.train.workers) as stream:
        batches = iter(stream)
        result["pipeline"] = rate(lambda: next(batches))
        result["both"] = rate(lambda: train_on(next(batches)))
    photos = maker.steps_per_epoch * config.train.batch_size
    result["saving"] = photos / (photos / result["both"] + _saving_seconds(optimization))
    return result


def _saving_seconds(optimization: Optimization, rounds: int = 3) -> float:
    """Median time for what training writes, and syncs to the disk, at the end of an epoch."""
    seconds = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            began = time.perf_counter()
            for name in ("best.h5", "last.h5"):
                checkpoint.save(optimization.deployed, Path(folder) / name)
            state.save(Path(folder), state.Progress(""), optimization.arrays())
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def profile_step(config: Config, steps: int) -> list[OperatorTime]:
    """Where the time of the step alone goes, the longest kind of operator first; arguments as above."""
    maker, optimization = _prepare(config)
    batch = maker.make(0)

    def train_once() -> None:
        optimization.step(batch, config.train.learning_rate, 0)

    for _ in range(3):
        train_once()
    return profile(train_once, steps)


def _prepare(config: Config) -> tuple[BatchMaker, Optimization]:
    keras.utils.set_random_seed(config.seed)
    optimization = Optimization(models.build_for_training(config.model.name, config.model.size), config)
    return maker_of(open_dataset(config.data, config.seed), config, losses.needs(config.loss)), optimization
