"""What every network must survive on its way to a phone; a line added to MODELS is tested by these.

By default our own networks become fp16 files; quantization of each and other sizes take minutes and are `full`.
"""

from typing import Any

import numpy as np
import pytest

from export.quantization import qat
from export.quantization.check_int8 import integer_faults
from export.quantization.recipes import RECIPES
from portraitseg import models
from portraitseg.checks.gpu import rules
from portraitseg.models import blocks
from portraitseg.models.keras_route import keras
from portraitseg.tflite.graph import parameters, parse_graph
from tests.models.variants import NARROWEST, variants

SIZE = (64, 96)

#: Numbers that a float file holds, batch norm folded, as in README's table; 2 % more or less is another network.
PARAMETERS = {
    "banet": 153_100,
    "banet_w050": 38_800,
    "fast_scnn": 1_115_400,
    "fast_scnn_w050": 293_900,
    "contour_teacher": 2_450_000,
    "contour_large": 744_900,
    "contour_medium": 716_300,
    "contour_small": 148_200,
    "mattingnet_big": 433_700,
    "mattingnet_small": 87_500,
    "mmnet": 186_100,
    "mmnet_w050": 61_800,
    "portraitnet": 1_884_500,
    "portraitnet_w050": 496_500,
    "selfie_swish_d200": 338_000,
    "selfie_general": 106_400,
    "selfie_landscape": 106_400,
    "selfie_swish": 106_400,
    "sinet": 96_300,
    "sinet_w050": 28_300,
}


def photos(size: tuple[int, int], count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).random((count, *size, 3), np.float32)


def build(name: str, size: tuple[int, int] = SIZE) -> Any:
    """A network whose batch norms have seen something: with fresh ones all activations are nearly the same."""
    keras.utils.set_random_seed(0)
    model = models.build(name, size)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        # the converter would store the zeros of all biases of a length once
        if weight.name.endswith("bias:0"):
            weight.assign(weight + rng.normal(0, 0.01, weight.shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(photos(size, 8), training=True)
    return model


def quantize(model: Any) -> bytes:
    quantized = qat.quantize(model)
    inputs = photos(model.input_shape[1:3])
    qat.calibrate(quantized, model, inputs)
    return RECIPES["qat_wi8_ai8"].convert(quantized, inputs)


def refusals(content: bytes) -> list[str]:
    graph = parse_graph(content, "file")
    return [
        f"{delegate}: {refusal.name} of '{refusal.layer}': {refusal.reason}"
        for delegate in rules.DELEGATES
        for refusal in rules.judge(graph, delegate).refusals
    ]


@pytest.mark.parametrize("name", list(variants()))
def test_fp16_is_wholly_on_the_gpu(name: str) -> None:
    content = RECIPES["fp16"].convert(build(name), photos(SIZE))
    assert refusals(content) == []
    # the file has them once, and no others
    assert parameters(parse_graph(content, "file")) == pytest.approx(PARAMETERS[name], rel=0.02)


# by default files are counted, above; the literature's networks are `full`, here and beside their papers
@pytest.mark.parametrize("name", list(variants(set())))
def test_no_network_has_grown(name: str) -> None:
    model = models.build(name, SIZE)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    # of the four numbers of a channel a file keeps one, the convolution's bias
    folded = model.count_params() - sum(3 * norm.gamma.shape[0] for norm in norms)
    assert folded == pytest.approx(PARAMETERS[name], rel=0.02)


@pytest.mark.full
@pytest.mark.parametrize("name", models.MODELS)
def test_qat_leaves_nothing_float_and_the_gpu_takes_it(name: str) -> None:
    content = quantize(build(name))
    assert integer_faults(content) == []
    assert refusals(content) == []


@pytest.mark.full
@pytest.mark.parametrize("size", [(256, 256), (256, 192), (144, 256)], ids=str)
@pytest.mark.parametrize("name", NARROWEST.values())
def test_every_size_is_taken(name: str, size: tuple[int, int]) -> None:
    model = build(name, size)
    assert model.output_shape == (None, *size, 1)
    content = RECIPES["fp16"].convert(model, photos(size))
    assert refusals(content) == []
    # padded or cropped layers too
    content = quantize(model)
    assert integer_faults(content) == [] and refusals(content) == []


# ---- the checks see what they are for


def damaged(middle: Any) -> Any:
    image = keras.Input((16, 16, 3), name="image")
    x = middle(keras.layers, blocks.conv_bn(image, 8, name="first"))
    logits = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, blocks.mask_head(logits), name="damaged")


def transposed(layers: Any, x: Any) -> Any:
    x = layers.Conv2DTranspose(8, 3, strides=1, padding="same", name="bad")(x)
    return layers.ReLU(6.0)(layers.BatchNormalization()(x))


def test_a_transposed_convolution_is_seen() -> None:
    model = damaged(transposed)
    assert any("TRANSPOSE_CONV" in refusal for refusal in refusals(RECIPES["fp16"].convert(model, photos((16, 16)))))
    assert any("TRANSPOSE_CONV" in fault for fault in integer_faults(quantize(model)))
