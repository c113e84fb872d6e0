"""Batches: the same for the same number, whoever makes them and however they are started."""

from itertools import pairwise

import numpy as np
import pytest

from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from train import augmenter
from train.schedule import learning_rate
from train.stream import BatchRecipe, BatchStream


def _recipe(photos=12, batch_size=5, keys=None):
    dataset = open_dataset(DataConfig(synthetic_photos=photos), 0)
    return BatchRecipe(
        dataset=dataset,
        keys=keys or dataset.keys("train"),
        size=(48, 64),
        batch_size=batch_size,
        seed=3,
        augment=augmenter.build({"horizontal_flip": {"p": 0.5}, "add": {"p": 1.0}}),
        is_soft=False,
    )


def test_shapes_and_types():
    batch = _recipe().make(0)
    assert batch.images.shape == (5, 48, 64, 3) and batch.targets.shape == (5, 48, 64) and batch.plain is None
    assert batch.images.dtype == batch.targets.dtype == np.uint8


@pytest.mark.parametrize("start", [0, 3])
def test_workers_make_the_same_batches_as_the_recipe(start):
    recipe = _recipe()
    with BatchStream(recipe, start, workers=2) as stream:
        for step, batch in zip(range(start, start + 4), stream, strict=False):
            expected = recipe.make(step)
            np.testing.assert_array_equal(batch.images, expected.images)
            np.testing.assert_array_equal(batch.targets, expected.targets)


def test_an_epoch_shows_each_photo_once_and_the_next_in_another_order():
    recipe = _recipe(photos=8, batch_size=2)
    assert recipe.steps_per_epoch == 4
    shown = []

    class Spy(type(recipe.dataset)):
        def load(self, key):
            shown.append(key)
            return Sample(key, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))

    spy = BatchRecipe(**{**recipe.__dict__, "dataset": Spy("spy", recipe.dataset.splits)})
    for step in range(8):
        spy.make(step)
    assert sorted(shown[:8]) == sorted(shown[8:]) == sorted(recipe.keys)
    assert shown[:8] != shown[8:]


def test_a_photo_without_a_mask_is_named():
    recipe = _recipe()

    class Unlabelled(type(recipe.dataset)):
        def load(self, key):
            return Sample(key, np.zeros((4, 4, 3), np.uint8), None)

    bare = BatchRecipe(**{**recipe.__dict__, "dataset": Unlabelled("bare", recipe.dataset.splits)})
    with pytest.raises(InputError, match=r"synthetic/.*no mask"):
        bare.make(0)


def test_an_error_in_a_worker_reaches_the_caller():
    recipe = _recipe(keys=("synthetic/none",))
    with BatchStream(recipe, workers=1) as stream, pytest.raises(InputError, match="no portrait"):
        next(iter(stream))


def test_learning_rate_warms_up_and_falls_to_zero():
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3
    assert learning_rate(99, 100, 1.0, 0, "constant") == 1.0
