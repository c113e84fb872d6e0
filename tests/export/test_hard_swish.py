"""H-swish in 8 bits: what is rewritten computes the same numbers, and no int8 file has HARD_SWISH or a clamp for it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.quantization import hard_swish, preflight, qat
from export.quantization.check_int8 import integer_faults
from export.quantization.recipes import RECIPES
from export.quantization.unwrap import unwrap
from portraitseg import models
from portraitseg.checks.gpu.rules import judge
from portraitseg.models.keras_route import keras
from portraitseg.models.selfie import hard_swish as layers_of
from portraitseg.runners import open_runner
from portraitseg.tflite.graph import parse_graph

SIZE = (16, 24)
k = keras.layers

#: (16, 24, 3) → the tensor that has its h-swish.
BEFORE: dict[str, Callable[[Any], Any]] = {
    "convolution": lambda x: k.Conv2D(6, 3, padding="same", name="before")(x),
    "depthwise": lambda x: k.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="before")(x),
    "batch_norm": lambda x: k.BatchNormalization(name="before")(k.Conv2D(6, 3, padding="same", use_bias=False)(x)),
}
#: What no division of weights reaches: left as it is.
NOT_BEFORE: dict[str, Callable[[Any], Any]] = {
    "the_input": lambda x: x,
    "a_relu": lambda x: k.Conv2D(6, 3, padding="same", activation="relu")(x),
    "a_sum": lambda x: k.Add()([k.Conv2D(6, 1)(x), k.Conv2D(6, 1)(x)]),
    "a_batch_norm_without_gamma": lambda x: k.BatchNormalization(scale=False)(k.Conv2D(6, 3, padding="same")(x)),
}


def network(before: Callable[[Any], Any], reads_twice: bool = False) -> Any:
    keras.utils.set_random_seed(3)
    image = keras.Input((*SIZE, 3), name="image")
    x = before(image)
    y = layers_of(x, "act")
    y = k.Concatenate()([x, y]) if reads_twice else y
    model = keras.Model(image, k.Activation("sigmoid", name="mask")(k.Conv2D(1, 1, name="logits")(y)), name="hard")
    # far to both sides of the bends at -3 and 3, and biases that are not zero
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if "variance" not in weight.name:
            weight.assign(rng.normal(0, 3, weight.shape))
    return model


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return np.random.default_rng(0).random((2, *SIZE, 3), np.float32)


@pytest.mark.parametrize("name", BEFORE)
def test_the_numbers_stay(name: str, photos: np.ndarray) -> None:
    model = network(BEFORE[name])
    assert [one.before for one in hard_swish.find(model)] == ["before"]
    rewritten = hard_swish.rewrite(model)
    assert hard_swish.find(rewritten) == []
    inner = [keras.Model(m.input, m.get_layer("act_hswish").output)(photos).numpy() for m in (model, rewritten)]
    assert inner[0].min() < -0.3 and inner[0].max() > 6
    np.testing.assert_allclose(*inner, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NOT_BEFORE)
def test_what_cannot_be_divided_stays(name: str) -> None:
    model = network(NOT_BEFORE[name])
    assert hard_swish.rewrite(model) is model


def test_a_rescaling_of_each_channel_is_not_taken_for_it() -> None:
    image = keras.Input((*SIZE, 3), name="image")
    model = keras.Model(image, k.Multiply()([image, k.Rescaling([1.0, 2.0, 3.0], offset=[0.0, 0.0, 1.0])(image)]))
    assert hard_swish.find(model) == []


def test_what_others_read_too_stays() -> None:
    """They would see it divided."""
    model = network(BEFORE["convolution"], reads_twice=True)
    assert hard_swish.rewrite(model) is model


@pytest.mark.parametrize("name", ["convolution", "batch_norm"])
def test_the_int8_file_has_a_sum_and_a_product(name: str, photos: np.ndarray) -> None:
    model = network(BEFORE[name])
    quantized = qat.quantize(model)
    qat.calibrate(quantized, model, photos)
    content = RECIPES["qat_wi8_ai8"].convert(quantized, photos)
    assert integer_faults(content) == []
    graph = parse_graph(content, model.name)
    assert Counter(op.name for op in graph.ops if op.name != "QUANTIZE") == Counter(
        CONV_2D=2, ADD=1, MUL=1, LOGISTIC=1, DEQUANTIZE=1
    )
    assert judge(graph, "classic").refusals == ()


def test_the_int8_file_clamps(photos: np.ndarray, tmp_path: Path) -> None:
    """The clamp is no operator but the sum's range: one that were wider, or moved, would leave it out."""
    model = network(BEFORE["convolution"])
    quantized = qat.quantize(model)
    qat.calibrate(quantized, model, photos)
    exact = model(photos).numpy()
    errors = []
    for factor in (1.0, 10.0):
        ranges = [variable for variable in quantized.weights if variable.name.startswith("quant_act_relu6/output_m")]
        for variable, end in zip(ranges, (0.0, hard_swish.DIVISOR), strict=True):
            assert factor > 1 or float(variable) == pytest.approx(end)
            variable.assign(factor * variable)
        path = tmp_path / f"{factor}.tflite"
        path.write_bytes(RECIPES["qat_wi8_ai8"].convert(quantized, photos))
        runner = open_runner(path)
        masks = [runner.run(photo[None]) for photo in photos]
        errors.append(np.abs(np.concatenate(masks) - exact).max())
    assert errors[0] < 0.1 and errors[1] > 0.4


def test_unwrapped_weights_are_the_float_ones_again() -> None:
    model = models.build("selfie_general", (32, 32))
    unwrapped = unwrap(qat.quantize(model))
    for ours, theirs in zip(unwrapped.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_pre_flight_says_so() -> None:
    findings = preflight.check_model(network(BEFORE["convolution"]))
    assert {one.layer: one.fate for one in findings} == {"act_hswish": "rewritten"}


def test_where_it_cannot_be_rewritten_pre_flight_refuses_its_sum() -> None:
    findings = preflight.check_model(network(NOT_BEFORE["a_sum"]))
    assert "refused" in {one.fate for one in findings if one.kind == "Rescaling"}
