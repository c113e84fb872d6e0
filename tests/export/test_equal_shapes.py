"""Layers of unequal shapes: what is rewritten computes the same numbers, and both delegates' rules take it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from export.quantization import equal_shapes, preflight, qat
from export.quantization.check_int8 import integer_faults
from export.quantization.recipes import RECIPES
from portraitseg.checks.gpu.rules import judge
from portraitseg.tflite.graph import parse_graph

Middle = Callable[[Any, Any, Any, Any], Any]

#: A map of 16×16×6, a gate of 1×1×6 and an attention map of 16×16×1, joined in some way.
JOINED: dict[str, Middle] = {
    "multiply_attention_first": lambda k, x, gate, attention: k.Multiply(name="join")([attention, x]),
    "subtract_gate": lambda k, x, gate, attention: k.Subtract(name="join")([x, gate]),
    "subtract_from_gate": lambda k, x, gate, attention: k.Subtract(name="join")([gate, x]),
    "add_attention": lambda k, x, gate, attention: k.Add(name="join")([x, attention]),
    "maximum_gate": lambda k, x, gate, attention: k.Maximum(name="join")([gate, x]),
    "gate_and_attention": lambda k, x, gate, attention: k.Multiply(name="join")([gate, attention]),
    "operator": lambda k, x, gate, attention: attention * x,
}
#: What the delegate computes right stays as it is.
SOUND: dict[str, Middle] = {
    "multiply_gate": lambda k, x, gate, attention: k.Multiply(name="join")([x, gate]),
    "multiply_gate_first": lambda k, x, gate, attention: k.Multiply(name="join")([gate, x]),
    "multiply_attention": lambda k, x, gate, attention: k.Multiply(name="join")([x, attention]),
    "add_gate": lambda k, x, gate, attention: k.Add(name="join")([x, gate]),
}


def network(middle: Middle) -> Any:
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(2)
    k = keras.layers
    image = keras.Input((16, 16, 3), name="image")
    x = k.Conv2D(6, 3, padding="same", activation="relu", name="stem")(image)
    gate = k.Activation("sigmoid")(k.Conv2D(6, 1, name="gate")(k.AveragePooling2D(16)(x)))
    attention = k.Activation("sigmoid")(k.Conv2D(1, 3, padding="same", name="attention")(x))
    y = k.Conv2D(1, 1, name="logits")(middle(k, x, gate, attention))
    return keras.Model(image, k.Activation("sigmoid", name="mask")(y), name="joined")


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(0).random((2, 16, 16, 3), np.float32)


@pytest.mark.parametrize("name", JOINED)
def test_the_numbers_stay_and_the_rules_take_the_file(name: str, photos: np.ndarray) -> None:
    model = network(JOINED[name])
    assert len(equal_shapes.find(model)) == 1
    rewritten = equal_shapes.rewrite(model)
    assert equal_shapes.find(rewritten) == []
    np.testing.assert_array_equal(model(photos).numpy(), rewritten(photos).numpy())
    judgement = judge(parse_graph(RECIPES["fp32"].convert(model, photos), name), "classic")
    assert judgement.refusals == ()


def test_without_the_rewrite_the_rules_refuse_the_file(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equal_shapes, "find", lambda model: [])
    content = RECIPES["fp32"].convert(network(JOINED["subtract_gate"]), photos)
    (refusal,) = judge(parse_graph(content, "joined"), "classic").refusals
    assert refusal.name == "SUB" and "UpSampling2D" in refusal.remedy


@pytest.mark.parametrize("name", SOUND)
def test_what_is_right_stays(name: str) -> None:
    model = network(SOUND[name])
    assert equal_shapes.find(model) == []
    assert equal_shapes.rewrite(model) is model


def test_pre_flight_says_so_and_the_file_is_whole_int8(photos: np.ndarray) -> None:
    model = network(JOINED["subtract_gate"])
    findings = [one for one in preflight.check_model(model) if "GPU" in one.why]
    assert [(one.layer, one.kind, one.fate) for one in findings] == [("join", "Subtract", "rewritten")]
    assert "16×16×6 with 1×1×6" in findings[0].why
    quantized = qat.quantize(model)
    qat.calibrate(quantized, model, photos)
    content = RECIPES["qat_wi8_ai8"].convert(quantized, photos)
    assert integer_faults(content) == []
    assert judge(parse_graph(content, "joined"), "classic").refusals == ()
    # 8 bits of weights and of five activations
    assert np.abs(model(photos) - quantized(photos, training=False)).max() < 0.03


def test_channels_are_doubled(photos: np.ndarray) -> None:
    """6 channels of one: 2, 4, 5, 6; in the order in which they stood, all the same."""
    rewritten = equal_shapes.rewrite(network(JOINED["add_attention"]))
    names = [layer.name for layer in rewritten.layers if "channels" in layer.name]
    assert [name.rpartition("channels")[2] for name in names] == ["2", "4", "5", "6"]
