"""Images per second of the training step alone, of the input pipeline alone, and of both together; its profile."""

import time
from collections.abc import Callable

from portraitseg import models
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.models.keras_route import keras
from train import losses
from train.optimize import Optimization
from train.profile import OperatorTime, profile
from train.stream import Batch, BatchRecipe, BatchStream, recipe_of


def measure_speed(config: Config, steps: int) -> dict[str, float]:
    """Measures on the photos of the configuration; nothing is written.

    Args:
        config: network, batch size, augmentations, data.
        steps: batches per measurement, after a warm-up.

    Returns:
        Images per second under `step`, `pipeline` and `both`.
    """
    recipe, train_on = _prepare(config)

    def rate(action: Callable[[], object]) -> float:
        # the first steps trace the graph, and drain what the workers made ahead
        for _ in range(8):
            action()
        began = time.perf_counter()
        for _ in range(steps):
            action()
        return steps * config.train.batch_size / (time.perf_counter() - began)

    batch = recipe.make(0)
    result = {"step": rate(lambda: train_on(batch))}
    with BatchStream(recipe, workers=config.train.workers) as stream:
        batches = iter(stream)
        result["pipeline"] = rate(lambda: next(batches))
        result["both"] = rate(lambda: train_on(next(batches)))
    return result


def profile_step(config: Config, steps: int) -> list[OperatorTime]:
    """Where the time of the step alone goes, the longest kind of operator first; arguments as above."""
    recipe, train_on = _prepare(config)
    batch = recipe.make(0)
    for _ in range(3):
        train_on(batch)
    return profile(lambda: train_on(batch), steps)


def _prepare(config: Config) -> tuple[BatchRecipe, Callable[[Batch], None]]:
    keras.utils.set_random_seed(config.seed)
    optimization = Optimization(
        models.build_for_training(config.model.name, config.model.size, config.model.channels), config
    )

    def train_on(batch: Batch) -> None:
        optimization.step(batch, config.train.learning_rate, 0)

    return recipe_of(open_dataset(config.data, config.seed), config, losses.needs(config.loss)), train_on
