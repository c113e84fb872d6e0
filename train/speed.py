"""Images per second of the training step alone, of the input pipeline alone, and of both together."""

import time
from collections.abc import Callable

from portraitseg import models
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.models.keras_route import keras
from train import losses
from train.optimize import Optimization
from train.stream import Batch, BatchStream, recipe_of


def measure_speed(config: Config, steps: int) -> dict[str, float]:
    """Measures on the photos of the configuration; nothing is written.

    Args:
        config: network, batch size, augmentations, data.
        steps: batches per measurement, after a warm-up.

    Returns:
        Images per second under `step`, `pipeline` and `both`.
    """
    keras.utils.set_random_seed(config.seed)
    optimization = Optimization(
        models.build_for_training(config.model.name, config.model.size, config.model.channels), config
    )
    recipe = recipe_of(open_dataset(config.data, config.seed), config, losses.needs(config.loss))

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

    batch = recipe.make(0)
    result = {"step": rate(lambda: train_on(batch))}
    with BatchStream(recipe, workers=config.train.workers) as stream:
        batches = iter(stream)
        result["pipeline"] = rate(lambda: next(batches))
        result["both"] = rate(lambda: train_on(next(batches)))
    return result
