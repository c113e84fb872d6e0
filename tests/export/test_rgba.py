"""A fourth channel put into a finished file: the same mask to the last bit, whatever that channel holds."""

from typing import Any

import numpy as np
import pytest

from export.formats.rgba import rgba_twin
from export.quantization import recipes
from portraitseg.errors import CheckFailed
from portraitseg.models.keras_route import keras

layers = keras.layers

SIZE = (16, 24)


def network(*, is_padded: bool = False, is_read_twice: bool = False) -> Any:
    image = keras.Input((*SIZE, 3), name="image")
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(image) if is_padded else image
    x = layers.Conv2D(4, 3, strides=2, padding="valid" if is_padded else "same")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.ReLU(6.0)(x))
    x = layers.Concatenate()([x, image]) if is_read_twice else x
    return keras.Model(image, layers.Activation("sigmoid", name="mask")(layers.Conv2D(1, 1)(x)))


def run(content: bytes, inputs: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source, mask = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    if source["dtype"] == np.uint8:
        inputs = np.rint(inputs * 255).astype(np.uint8)
    interpreter.set_tensor(source["index"], inputs)
    interpreter.invoke()
    return interpreter.get_tensor(mask["index"])


@pytest.mark.parametrize("is_padded", [False, True])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "static_wi8_ai8", "static_wi8_ai8_u8"])
def test_any_alpha_gives_the_same_bits(recipe: str, is_padded: bool) -> None:
    photos = np.random.default_rng(0).random((4, *SIZE, 3), np.float32)
    rgb = recipes.RECIPES[recipe].convert(network(is_padded=is_padded), photos)
    rgba = rgba_twin(rgb)
    for seed in range(3):
        inputs = np.random.default_rng(seed).random((1, *SIZE, 4), np.float32)
        expected = run(rgb, inputs[..., :3].copy())
        assert expected.std() > 0
        np.testing.assert_array_equal(run(rgba, inputs), expected)
    # the comparison sees a channel that counts
    assert (run(rgba, inputs[..., [1, 0, 2, 3]].copy()) != expected).any()


def test_buffers_keep_their_alignment() -> None:
    photos = np.random.default_rng(0).random((1, *SIZE, 3), np.float32)
    rgb = recipes.RECIPES["fp32"].convert(network(), photos)
    *before, new = [offset % 16 for offset in _offsets(rgba_twin(rgb))]
    assert before == [offset % 16 for offset in _offsets(rgb)]
    assert new == 0


def _offsets(content: bytes) -> list[int]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    return [b._tab.Vector(b._tab.Offset(4)) for b in buffers if b.DataLength()]


def test_an_input_that_is_read_twice_is_refused() -> None:
    content = recipes.RECIPES["fp32"].convert(network(is_read_twice=True), np.zeros((1, *SIZE, 3), np.float32))
    with pytest.raises(CheckFailed, match=r"read by .*CONCATENATION.*, not by one convolution"):
        rgba_twin(content)
