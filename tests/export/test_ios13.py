"""Networks taken back to iOS 13: the same function in other layers, and a refusal of what iOS 13 has not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.formats.ios13 import IOS13, to_ios13, triangle
from portraitseg.errors import CheckFailed
from portraitseg.runners.coreml.network import load_network
from portraitseg.runners.coreml.values import proto


def _upsampling(size: tuple[int, int], channels: int, factors: tuple[int, int]) -> Any:
    spec = proto("Model_pb2").Model(specificationVersion=5)
    spec.description.input.add(name="x").type.multiArrayType.shape.extend([1, channels, *size])
    spec.description.output.add(name="y")
    layer = spec.neuralNetwork.layers.add(name="up", input=["x"], output=["y"])
    layer.upsample.scalingFactor.extend(factors)
    layer.upsample.mode = layer.upsample.BILINEAR
    layer.upsample.linearUpsampleMode = layer.upsample.ALIGN_CORNERS_FALSE
    return spec


sides = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**16), sides, st.integers(1, 3), sides)
def test_deconvolution_is_tensorflows_bilinear(seed: int, size: Any, channels: int, factors: Any) -> None:
    """Beside TensorFlow, not beside our own upsampling: any size, one pixel included, and any whole factors."""
    import tensorflow as tf

    x = np.random.default_rng(seed).normal(0, 1, (1, channels, *size)).astype(np.float32)
    spec = _upsampling(size, channels, factors)
    to_ios13(spec, {"x": channels})
    assert spec.specificationVersion == IOS13
    assert [layer.WhichOneof("layer") for layer in spec.neuralNetwork.layers] == ["padding", "convolution"]
    ours = load_network(Path("m"), spec).evaluate({"x": x})["y"]
    target = [size[0] * factors[0], size[1] * factors[1]]
    theirs = tf.raw_ops.ResizeBilinear(images=x.transpose(0, 2, 3, 1), size=target, half_pixel_centers=True).numpy()
    # four products of values up to 5, summed in another order: 2.2e-6 seen; half a pixel is 0.1 and more
    np.testing.assert_allclose(ours, theirs.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("factor", range(1, 10))
def test_triangles_add_up_to_one(factor: int) -> None:
    weights, _ = triangle(factor)
    total = np.zeros(20 * factor)
    for pixel in range(10):
        total[pixel * factor : pixel * factor + len(weights)] += weights
    np.testing.assert_allclose(total[2 * factor : 9 * factor], 1, atol=1e-6)


def test_kernels_are_halves_where_nothing_is_lost() -> None:
    for factor, is_half in ((2, True), (8, True), (3, False)):
        spec = _upsampling((4, 4), 2, (factor, factor))
        to_ios13(spec, {"x": 2})
        assert bool(spec.neuralNetwork.layers[1].convolution.weights.float16Value) == is_half


def _corner_aligned(spec: Any) -> None:
    spec.neuralNetwork.layers[0].upsample.linearUpsampleMode = 1


def _squeezing(spec: Any) -> None:
    spec.neuralNetwork.layers[0].sliceStatic.squeezeMasks.append(True)


def _interleaved(spec: Any) -> None:
    spec.neuralNetwork.layers[0].concatND.interleave = True


def _newer(spec: Any) -> None:
    spec.neuralNetwork.layers[0].clampedReLU.beta = 6


def _fraction(spec: Any) -> None:
    spec.neuralNetwork.layers[0].upsample.fractionalScalingFactor.extend([1.5, 1.5])


@pytest.mark.parametrize("edit", [_corner_aligned, _squeezing, _interleaved, _newer, _fraction])
def test_what_ios13_has_not_is_refused(edit: Any) -> None:
    spec = _upsampling((4, 4), 1, (2, 2))
    edit(spec)
    with pytest.raises(CheckFailed, match=r"layer 'up': .*iOS 13"):
        to_ios13(spec, {"x": 1})
