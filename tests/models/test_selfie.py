"""MediaPipe's network rebuilt: its activation becomes one operator, and nothing of its form moves weights about."""

from collections import Counter

import numpy as np
import pytest

from export.quantization.recipes import RECIPES
from portraitseg import models
from portraitseg.models.keras_route import keras
from portraitseg.tflite.graph import parse_graph

SIZE = (32, 48)


def test_has_googles_size() -> None:
    # 106,404 numbers in either file
    for name in ("selfie_general", "selfie_landscape", "selfie_swish"):
        assert models.build(name, SIZE).count_params() == 106_404


def test_the_converter_makes_hard_swish_of_the_layers() -> None:
    model = models.build("selfie_general", SIZE)
    ops = Counter(
        op.name for op in parse_graph(RECIPES["fp32"].convert(model, np.zeros((1, *SIZE, 3), np.float32)), "f").ops
    )
    assert ops["HARD_SWISH"] == 11
    # nothing of it is left beside
    assert not ops.keys() & {"RELU6", "SUB", "DIV"} and ops["MUL"] == 10 and ops["ADD"] == 14


@pytest.mark.parametrize("name", ["selfie_general", "selfie_swish"])
def test_activations_are_what_they_are_called(name: str) -> None:
    model = models.build(name, SIZE)
    kind = "hswish" if name == "selfie_general" else "swish"
    probe = keras.Model(model.input, [model.get_layer("stem_conv").output, model.get_layer(f"stem_{kind}").output])
    # far to both sides of the bends at -3 and 3
    x, y = (out.numpy() for out in probe(40 * np.random.default_rng(0).random((1, *SIZE, 3), np.float32) - 20))
    assert x.min() < -4 and x.max() > 4
    expected = x * np.clip(x + 3, 0, 6) / 6 if kind == "hswish" else x / (1 + np.exp(-x))
    np.testing.assert_allclose(y, expected, atol=1e-5)
