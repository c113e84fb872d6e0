"""The profile of a step: kinds of operators, how often, and shares that make a whole; the cost of checkpoints."""

import pytest

from portraitseg import models
from portraitseg.config import parse_config
from portraitseg.models.keras_route import keras, tf
from tests import small_network
from train import speed
from train.optimize import Optimization
from train.profile import profile

registered = small_network.registered


def test_operators_of_a_step_by_kind():
    kernels = tf.random.uniform((3, 3, 8, 8))

    @tf.function
    def step(images):
        for _ in range(3):
            images = tf.nn.conv2d(images, kernels, 1, "SAME")
        return tf.nn.max_pool2d(images, 2, 2, "VALID")

    images = tf.random.uniform((1, 64, 64, 8))
    step(images)
    by_kind = {item.kind: item for item in profile(lambda: step(images), 4)}
    assert by_kind["Conv2D"].count == 3 and by_kind["MaxPool"].count == 1
    assert by_kind["Conv2D"].milliseconds > 0
    assert sum(item.share for item in by_kind.values()) == pytest.approx(1)
    milliseconds = [item.milliseconds for item in by_kind.values()]
    assert milliseconds == sorted(milliseconds, reverse=True)


@pytest.mark.full
def test_checkpoints_cost_what_they_take(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"data": {"synthetic_photos": 8}, "model": {"name": small_network.NAME, "size": [32, 32]}}
    config = parse_config({**given, "train": {"batch_size": 4, "workers": 1, "blank_share": 0}}, "test")
    monkeypatch.setattr(speed, "_saving_seconds", lambda optimization: 8.0)
    measured = speed.measure_speed(config, 1)
    # an epoch of 8 photos that takes 8 seconds longer
    assert measured["saving"] == pytest.approx(8 / (8 / measured["both"] + 8)) and measured["saving"] < 1
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(speed.checkpoint, "save", lambda model, path: written.append(path.name))
    monkeypatch.setattr(speed.state, "save", lambda folder, progress, arrays: written.append(sorted(arrays)))
    keras.utils.set_random_seed(0)
    assert speed._saving_seconds(Optimization(models.build(small_network.NAME, (32, 32)), config), 1) >= 0
    assert written == ["best.h5", "last.h5", ["average", "optimizer", "weights"]] and not list(tmp_path.iterdir())
