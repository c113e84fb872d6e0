"""Ranges that are frozen at the end of quantization-aware training: which ones, and after a stop too."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.quantization import qat
from export.quantization.training import config_of, plan_of
from portraitseg.config import Config, parse_config
from portraitseg.data import open_dataset
from train.fit import Interrupted, Plan, fit
from train.optimize import Optimization
from train.stream import maker_of

#: Two of four epochs with frozen batch norm, the last one with frozen ranges too, would do; two show that they stay.
PLAN = Plan(epochs=4, learning_rate=1e-3, freeze_bn_epochs=3, freeze_ranges_epochs=2)
CONFIG = parse_config(
    {
        "data": {"synthetic_photos": 16},
        "model": {"size": [32, 32]},
        "train": {"batch_size": 4, "workers": 1, "ema": 0.9},
        "augment": {"gamma": {"p": 0.5}},
    },
    "test",
)


def _small_qat_model() -> Any:
    """All that is observed: a layer's output, the activation inside one, what stands before a sigmoid."""
    from portraitseg.models.keras_route import keras, tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(image)
    x = layers.ReLU(6.0, name="relu")(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(1, 1, name="logits")(x)
    return qat.quantize(keras.Model(image, layers.Activation("sigmoid", name="mask")(x), name="small"))


def _ranges(model: Any) -> np.ndarray:
    ends = ("_min:0", "_max:0")
    names = ("output", "activation")
    return np.array(
        [float(w) for w in model.weights if w.name.endswith(ends) and any(n in w.name for n in names)], np.float32
    )


def _kernel_ranges(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """What the observers say, and what the kernels hold."""
    values = {weight.name: weight.numpy() for weight in model.weights}
    kernels = [name for name in values if name.endswith("/kernel:0")]
    stored = [values[next(n for n in values if n.endswith(f"{name.split('/')[0]}/kernel_max:0"))] for name in kernels]
    return np.concatenate(stored), np.concatenate([np.abs(values[name]).max(axis=(0, 1, 2)) for name in kernels])


def _fit(folder: Path, evaluate: Callable[[Any], float], plan: Plan = PLAN) -> Any:
    model = _small_qat_model()
    dataset = open_dataset(CONFIG.data, CONFIG.seed)
    fit(
        Optimization(model, CONFIG),
        maker=maker_of(dataset, CONFIG),
        config=CONFIG,
        plan=plan,
        folder=folder,
        label="test",
        evaluate=evaluate,
        freeze_ranges=qat.freeze_ranges,
    )
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[np.ndarray], Any]:
    """Ranges after each epoch of an uninterrupted training, whose last epoch is the best; and its model."""
    seen: list[np.ndarray] = []

    def watch(model: Any) -> float:
        seen.append(_ranges(model))
        return 0.1 * len(seen)

    model = _fit(tmp_path_factory.mktemp("whole"), watch)
    return seen, model


def test_frozen_ranges_no_longer_move(whole: tuple[list[np.ndarray], Any]) -> None:
    seen, _ = whole
    # low and high, behind `relu` and inside `logits`
    assert seen[0].shape == (4,)
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(seen[2], seen[3])


@pytest.mark.full
def test_a_stop_among_frozen_ranges_changes_nothing(whole: tuple[list[np.ndarray], Any], tmp_path: Path) -> None:
    _, model = whole
    epochs = []

    def stop_after_the_third(_: Any) -> float:
        epochs.append(1)
        if len(epochs) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.1 * len(epochs)

    with pytest.raises(Interrupted):
        _fit(tmp_path, stop_after_the_third)
    again = _fit(tmp_path, lambda _: 0.4)
    for ours, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_kernels_keep_their_own_ranges() -> None:
    model = _small_qat_model()
    photos = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    frozen = qat.freeze_ranges(model)
    before = _ranges(model)
    kernel = next(weight for weight in model.weights if weight.name == "first/kernel:0")
    kernel.assign(kernel * 50)
    model(photos, training=True)
    np.testing.assert_array_equal(_ranges(model), before)
    stored, held = _kernel_ranges(model)
    np.testing.assert_allclose(stored, held, rtol=1e-6)
    assert not {id(variable) for variable in frozen} & {id(weight) for weight in model.trainable_weights}


def test_ranges_that_are_not_frozen_move() -> None:
    """What the other tests see is not for lack of anything to observe."""
    model = _small_qat_model()
    before = _ranges(model)
    model(np.random.default_rng(0).random((2, 32, 32, 3), np.float32), training=True)
    assert (_ranges(model) != before).all()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (1, 1)),
        ({"epochs": 4, "freeze_bn_epochs": 2}, (2, 1)),
        ({"epochs": 4, "freeze_bn_epochs": 2, "freeze_ranges_epochs": 5}, (2, 2)),
        ({"freeze_bn_epochs": 0}, (0, 0)),
        ({"epochs": 1, "freeze_bn_epochs": 2}, (1, 1)),
        # the ranges that a percentile gave never move, nor what would move activations out of them
        ({"epochs": 4, "freeze_bn_epochs": 1, "range_percentile": 99.9}, (4, 4)),
    ],
)
def test_ranges_are_frozen_no_earlier_than_batch_norm(settings: dict[str, float], expected: tuple[int, int]) -> None:
    plan = plan_of(parse_config({"qat": settings}, "test"), "0" * 64)
    assert (plan.freeze_bn_epochs, plan.freeze_ranges_epochs) == expected


def test_its_own_schedule() -> None:
    assert plan_of(Config(), "").schedule is None
    assert plan_of(parse_config({"qat": {"schedule": "constant"}}, "test"), "").schedule == "constant"


def test_the_last_epoch_is_kept_only_where_it_is_asked_for() -> None:
    assert plan_of(parse_config({"qat": {"select": "last"}}, "test"), "").keeps_last
    assert not plan_of(Config(), "").keeps_last


def test_the_boundary_head_is_not_quantized() -> None:
    config = parse_config({"loss": {"bce": 1.0, "boundary": 1.0}}, "test")
    assert config_of(config).loss == {"bce": 1.0}
