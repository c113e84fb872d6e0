"""The random weights of untrained networks are the same in every run."""

import pytest

from portraitseg.models.keras_route import keras


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(7)
