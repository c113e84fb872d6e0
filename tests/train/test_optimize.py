"""One step of training, by hand: what decays, what is averaged, what is clipped, which head learns."""

from typing import Any

import numpy as np
import pytest

from portraitseg.config import Config, parse_config
from portraitseg.models import blocks
from portraitseg.models.keras_route import keras, tf
from train import losses
from train.edges import edge_band
from train.optimize import Optimization
from train.stream import Batch

SIZE = (16, 24)  # not square: swapped sides would show


def config(**sections: Any) -> Config:
    return parse_config(sections, "test")


def network(size: tuple[int, int] = SIZE) -> Any:
    """A mask and a boundary head on two layers; always the same weights, none of them near 0: decay would not show."""
    image = keras.Input((*size, 3), name="image")
    x = blocks.depthwise_bn(blocks.conv_bn(image, 8, kernel=3, stride=2, name="a"), name="b")
    logits = blocks.upsample(keras.layers.Conv2D(1, 1, name="logits")(x), 2, name="logits")
    boundary = keras.layers.Conv2D(1, 1, name="boundary_logits")(x)
    heads = [blocks.mask_head(logits), keras.layers.Activation("sigmoid", name="boundary")(boundary)]
    model = keras.Model(image, heads, name="tiny")
    rng = np.random.default_rng(0)
    for weight in model.weights:
        # kernels of both signs: sums of nothing but positive numbers saturate
        sign = rng.choice([-1, 1], weight.shape) if "kernel" in weight.name else 1
        weight.assign(sign * rng.uniform(0.2, 0.8, weight.shape))
    return model


def batch(seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    targets = np.zeros((2, *SIZE), np.uint8)
    targets[:, 4:, 6:18] = 255
    edges = np.stack([edge_band(target) for target in targets])
    return Batch(rng.integers(0, 256, (2, *SIZE, 3), np.uint8), targets, edges)


def named(model: Any) -> dict[str, np.ndarray]:
    return {variable.name: variable.numpy() for variable in model.weights}


def trained(model: Any) -> np.ndarray:
    return np.concatenate([variable.numpy().ravel() for variable in model.trainable_variables])


def test_without_a_gradient_kernels_decay_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.LOSSES, "bce", lambda logits, target: 0 * tf.reduce_mean(logits))
    optimization = Optimization(network(), config(loss={"bce": 1.0}, train={"weight_decay": 0.1}))
    before = named(optimization.model)
    optimization.step(batch(), 0.5, 0)
    after = {variable.name: variable.numpy() for variable in optimization.model.trainable_variables}
    kinds = {name.rpartition("/")[2] for name in after}
    assert kinds == {"kernel:0", "depthwise_kernel:0", "bias:0", "gamma:0", "beta:0"}
    for name, values in after.items():
        # decoupled: the rate times the decay, whatever Adam makes of the gradient
        kept = 1 - 0.5 * 0.1 if name.endswith("kernel:0") else 1
        np.testing.assert_allclose(values, kept * before[name], rtol=1e-6, err_msg=name)


def test_the_average_is_the_one_by_hand_and_swap_exchanges_it() -> None:
    optimization = Optimization(network(), config(loss={"bce": 1.0}, train={"ema": 0.2}))
    average = named(optimization.model)
    # (1 + count) / (10 + count), until at 3 / 12 it would be above 0.2
    for count, decay in enumerate([1 / 10, 2 / 11, 0.2, 0.2]):
        optimization.step(batch(count), 0.05, count)
        raw = named(optimization.model)
        average = {name: decay * average[name] + (1 - decay) * raw[name] for name in raw}
    optimization.swap()
    deployed = named(optimization.deployed)
    assert any(np.abs(deployed[name] - raw[name]).max() > 1e-3 for name in deployed)
    for name, values in deployed.items():
        np.testing.assert_allclose(values, average[name], rtol=1e-5, err_msg=name)
    optimization.swap()
    for name, values in named(optimization.deployed).items():
        np.testing.assert_array_equal(values, raw[name])


def test_the_gradient_is_clipped_to_its_global_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    def descend(pairs: Any, **_: Any) -> None:
        for gradient, variable in pairs:
            variable.assign_sub(gradient)

    def step(clip_norm: float | None) -> tuple[np.ndarray, float]:
        """What a step takes away from the weights, and the norm that it reports."""
        # far above what a network learns from: a gradient that needs clipping
        given = {"loss": {"bce": 1000.0}, "train": {"clip_norm": clip_norm, "weight_decay": 0.0}}
        optimization = Optimization(network(), config(**given))
        # Adam divides by the gradient's size: by its own step a clipped one could not be told from a whole one
        monkeypatch.setattr(optimization._optimizer, "apply_gradients", descend)
        before = trained(optimization.model)
        terms = optimization.step(batch(), 0.1, 0)
        return before - trained(optimization.model), terms["gradient_norm"]

    whole, norm = step(None)
    assert np.linalg.norm(whole) == pytest.approx(norm, rel=1e-4) and norm > 10
    clipped, reported = step(0.5)
    # all by one factor, so that it points where it did; what is reported is the norm before
    np.testing.assert_allclose(clipped, whole * (0.5 / norm), atol=1e-6)
    assert reported == pytest.approx(norm, rel=1e-5)
    np.testing.assert_allclose(step(2 * norm)[0], whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_the_boundary_head_learns_where_a_loss_asks_for_it(weight: float) -> None:
    model = network()
    # no decay: that would move its kernel too
    given = {"loss": {"bce": 1.0, "boundary": weight}, "train": {"weight_decay": 0.0}}
    optimization = Optimization(model, config(**given))
    assert optimization.deployed.output_names == ["mask"]
    assert (optimization.model is optimization.deployed) == (weight == 0)
    head = model.get_layer("boundary_logits")
    before = head.get_weights()
    terms = optimization.step(batch(), 0.01, 0)
    assert ("boundary" in terms) == (weight > 0)
    for old, new in zip(before, head.get_weights(), strict=True):
        assert (old != new).any() == (weight > 0)
