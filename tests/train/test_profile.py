"""The profile of a step: kinds of operators, how often, and shares that make a whole."""

import pytest

from portraitseg.models.keras_route import tf
from train.profile import profile


def test_operators_of_a_step_by_kind():
    kernels = tf.random.uniform((3, 3, 8, 8))

    @tf.function
    def step(images):
        for _ in range(3):
            images = tf.nn.conv2d(images, kernels, 1, "SAME")
        return tf.nn.max_pool2d(images, 2, 2, "VALID")

    images = tf.random.uniform((1, 64, 64, 8))
    step(images)
    found = {item.kind: item for item in profile(lambda: step(images), 4)}
    assert found["Conv2D"].count == 3 and found["MaxPool"].count == 1
    assert found["Conv2D"].milliseconds > 0
    assert sum(item.share for item in found.values()) == pytest.approx(1)
    milliseconds = [item.milliseconds for item in found.values()]
    assert milliseconds == sorted(milliseconds, reverse=True)
