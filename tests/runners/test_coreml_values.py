"""Weight files, compressed weights and rounding, against coremltools' own readers and formulas."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from portraitseg.errors import InputError
from portraitseg.runners.coreml import threads as coreml_threads
from portraitseg.runners.coreml.network import load_network, weights
from portraitseg.runners.coreml.ops import OPS
from portraitseg.runners.coreml.program import Program, Ref, Step, round_half
from portraitseg.runners.coreml.values import DTYPES, BlobFile, proto, read_spec, unpack, unpack_bits

seeds = st.integers(0, 2**16)


@settings(max_examples=100)
@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=2), elements=st.floats(width=32)))
def test_rounding_is_ieee_half(values: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(round_half(values), values.astype(np.float16).astype(np.float32))


def test_rounding_of_every_border() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    every = np.sort(every[np.isfinite(every)])
    middles = (every[1:].astype(np.float64) + every[:-1]) / 2
    for values in (every, middles.astype(np.float32), np.nextafter(middles.astype(np.float32), np.float32(9e9))):
        np.testing.assert_array_equal(round_half(values), values.astype(np.float16).astype(np.float32))
    assert round_half(np.array([7e4, -7e4], np.float32)).tolist() == [np.inf, -np.inf]


def test_weight_files_read_as_by_coremltools(tmp_path: Path) -> None:
    from coremltools.libmilstoragepython import _BlobStorageReader, _BlobStorageWriter

    random = np.random.default_rng(0)
    path = tmp_path / "weight.bin"
    writer = _BlobStorageWriter(str(path))
    # MIL type → (writer and reader, values)
    stored = {
        11: ("float", random.normal(0, 1, 13).astype(np.float32)),
        10: ("fp16", random.normal(0, 1, 13).astype(np.float16)),
        21: ("int8", random.integers(-128, 128, 13).astype(np.int8)),
        31: ("uint8", random.integers(0, 256, 13).astype(np.uint8)),
        32: ("uint16", random.integers(0, 2**16, 13).astype(np.uint16)),
        25: ("int4", random.integers(-8, 8, 13).astype(np.int8)),
        35: ("uint4", random.integers(0, 16, 13).astype(np.uint8)),
        38: ("uint6", random.integers(0, 64, 13).astype(np.uint8)),
        39: ("uint3", random.integers(0, 8, 13).astype(np.uint8)),
        36: ("uint2", random.integers(0, 4, 13).astype(np.uint8)),
        37: ("uint1", random.integers(0, 2, 13).astype(np.uint8)),
    }
    offsets = {}
    for dtype, (name, values) in stored.items():
        raw = values.view(np.uint16) if name == "fp16" else values
        offsets[dtype] = getattr(writer, f"write_{name}_data")(raw)
    del writer
    blob, theirs = BlobFile(path), _BlobStorageReader(str(path))
    for dtype, (name, values) in stored.items():
        ours = blob.read(offsets[dtype], dtype, 13)
        np.testing.assert_array_equal(ours, values)
        read = np.asarray(getattr(theirs, f"read_{name}_data")(offsets[dtype]))
        np.testing.assert_array_equal(ours, read.view(np.float16) if name == "fp16" else read)
    with pytest.raises(InputError, match="has 26 bytes, the program expects 28"):
        blob.read(offsets[10], 10, 14)
    with pytest.raises(InputError, match="no weight begins at"):
        blob.read(offsets[10] + 8, 10, 13)


@given(st.integers(1, 8), seeds, st.integers(1, 40))
def test_bits_read_as_by_coremltools(bits: int, seed: int, count: int) -> None:
    from coremltools.optimize import _utils

    values = np.random.default_rng(seed).integers(0, 2**bits, count).astype(np.uint8)
    np.testing.assert_array_equal(unpack_bits(_utils.pack_elements_into_bits(values, bits), bits, count), values)


def test_signed_bits_are_twos_complement() -> None:
    assert unpack(bytes([0b1000_0111, 0b0000_1111]), 25, 3).tolist() == [7, -8, -1]
    assert set(DTYPES[25]) == {np.int8, 4}


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_compressed_weights_decompress_as_in_coremltools(seed: int) -> None:
    from coremltools.converters.mil.mil.ops.defs import iOS16, iOS18

    random = np.random.default_rng(seed)
    scale = random.uniform(0.01, 1, 4).astype(np.float32)
    data, zero = random.integers(-128, 128, (4, 3, 2)).astype(np.int8), random.integers(-5, 5, 4).astype(np.int8)
    np.testing.assert_allclose(
        OPS["constexpr_affine_dequantize"](quantized_data=data, zero_point=zero, scale=scale, axis=0),
        iOS16.constexpr_affine_dequantize.decompress(data, zero, scale, 0),
        rtol=1e-6,
    )
    blocks, offset = random.uniform(0.01, 1, (2, 3, 1)).astype(np.float32), random.integers(-5, 5, (2, 3, 1))
    np.testing.assert_allclose(
        OPS["constexpr_blockwise_shift_scale"](data=data, scale=blocks, offset=offset.astype(np.int8)),
        iOS18.constexpr_blockwise_shift_scale.decompress(data, blocks, offset.astype(np.int8)),
        rtol=1e-6,
    )
    palettes, indices = random.normal(0, 1, (2, 1, 1, 4, 1)).astype(np.float32), random.integers(0, 4, (4, 3, 2))
    np.testing.assert_array_equal(
        OPS["constexpr_lut_to_dense"](indices=indices.astype(np.uint8), lut=palettes),
        iOS18.constexpr_lut_to_dense.decompress(indices.astype(np.uint8), palettes, None),
    )
    mask = random.integers(0, 2, (4, 3)).astype(np.uint8)
    values = random.normal(0, 1, int(mask.sum())).astype(np.float32)
    np.testing.assert_array_equal(
        OPS["constexpr_sparse_to_dense"](nonzero_data=values, mask=mask),
        iOS18.constexpr_sparse_to_dense.decompress(values, mask),
    )
    np.testing.assert_array_equal(
        OPS["constexpr_sparse_to_dense"](
            nonzero_data=values, mask=np.packbits(mask, bitorder="little"), shape=np.array([4, 3])
        ),
        OPS["constexpr_sparse_to_dense"](nonzero_data=values, mask=mask),
    )


def test_vector_palettes_are_those_of_the_reference() -> None:
    # case 2 of `constexpr_lut_to_dense` in the MIL operator reference (iOS 18); a0, a1, a2 = 0, 1, 2; b0, … = 10, …
    indices = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 0]]], np.uint8)
    lut = np.array([[0, 1, 2], [10, 11, 12]], np.float32).reshape(1, 1, 1, 2, 3)
    along_1 = OPS["constexpr_lut_to_dense"](indices=indices, lut=lut, vector_axis=1)
    assert along_1[0].tolist() == [[0, 0], [1, 1], [2, 2], [10, 0], [11, 1], [12, 2]]
    along_2 = OPS["constexpr_lut_to_dense"](indices=indices, lut=lut, vector_axis=2)
    assert along_2[0].tolist() == [[0, 1, 2, 0, 1, 2], [10, 11, 12, 0, 1, 2]]


@pytest.mark.parametrize(("bits", "mode"), [(8, "linear"), (4, "linear"), (8, "kmeans_lut"), (3, "kmeans_lut")])
def test_quantized_weights_of_networks(bits: int, mode: str) -> None:
    from coremltools.models.neural_network.quantization_utils import _convert_array_to_nbit_quantized_bytes

    random = np.random.default_rng(bits)
    indices = random.integers(0, 2**bits, (4, 9)).astype(np.uint8)
    params = proto("NeuralNetwork_pb2").WeightParams()
    params.rawValue = _convert_array_to_nbit_quantized_bytes(indices.ravel(), bits).tobytes()
    params.quantization.numberOfBits = bits
    if mode == "linear":
        scale, bias = random.uniform(0, 1, 4).astype(np.float32), random.normal(0, 1, 4).astype(np.float32)
        params.quantization.linearQuantization.scale.extend(scale)
        params.quantization.linearQuantization.bias.extend(bias)
        expected = scale[:, None] * indices + bias[:, None]
    else:
        palette = random.normal(0, 1, 2**bits).astype(np.float32)
        params.quantization.lookupTableQuantization.floatValue.extend(palette)
        expected = palette[indices]
    np.testing.assert_allclose(weights(params, [4, 1, 3, 3]).reshape(4, 9), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="weights for a shape of"):
        weights(params, [4, 1, 3, 4])


def build_network(add: Any, path: Path) -> Program:
    """A network of coremltools' builder on an array `x` (1, 3, 6, 6)."""
    from coremltools.models import datatypes
    from coremltools.models.neural_network import NeuralNetworkBuilder
    from coremltools.models.utils import save_spec

    builder = NeuralNetworkBuilder(
        [("x", datatypes.Array(1, 3, 6, 6))], [("y", None)], disable_rank5_shape_mapping=True
    )
    add(builder)
    save_spec(builder.spec, str(path))
    return load_network(path, read_spec(path)[0])


def test_layers_that_our_networks_have_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    kernel, bias = random.normal(0, 1, (2, 2, 3, 4)).astype(np.float32), random.normal(0, 1, 4).astype(np.float32)
    x = random.normal(0, 1, (1, 3, 6, 6)).astype(np.float32)

    def run(add: Any) -> np.ndarray:
        return build_network(add, tmp_path / "m.mlmodel").evaluate({"x": x})["y"]

    ours = run(
        lambda b: b.add_convolution(
            "d", 3, 4, 2, 2, 2, 2, "valid", 1, kernel, bias, True, is_deconv=True, input_name="x", output_name="y"
        )
    )
    expected = OPS["conv_transpose"](x=x, weight=kernel.transpose(2, 3, 0, 1), bias=bias, strides=np.array([2, 2]))
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_array_equal(
        run(lambda b: b.add_padding("p", 1, 2, 1, 0, 0.5, "x", "y", "constant")),
        np.pad(x, ((0, 0), (0, 0), (1, 0), (1, 2)), constant_values=0.5),
    )
    np.testing.assert_array_equal(run(lambda b: b.add_transpose("t", [0, 2, 3, 1], "x", "y")), x.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(
        run(lambda b: b.add_pooling("g", 1, 1, 1, 1, "AVERAGE", "VALID", "x", "y", is_global=True)),
        x.mean((2, 3), keepdims=True),
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        run(lambda b: b.add_unary("u", "x", "y", "threshold", alpha=0.25, shift=1.0, scale=2.0)),
        np.maximum(2 * x + 1, np.float32(0.25)),
    )
    np.testing.assert_array_equal(run(lambda b: b.add_slice("s", "x", "y", "height", 1, -1, 2)), x[:, :, 1:-1:2])
    np.testing.assert_array_equal(
        run(
            lambda b: b.add_slice_static(
                "s",
                "x",
                "y",
                [0, 1, 2, 0],
                [1, 3, 0, -1],
                [1, 1, 2, 1],
                [True, False, False, False],
                [False, False, True, False],
            )
        ),
        x[:, 1:3, 2::2, :-1],
    )
    np.testing.assert_array_equal(
        run(lambda b: b.add_padding("p", 1, 2, 1, 0, input_name="x", output_name="y", padding_type="replication")),
        np.pad(x, ((0, 0), (0, 0), (1, 0), (1, 2)), "edge"),
    )
    # an epsilon of 0 is 1e-5 by the format's definition
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    np.testing.assert_allclose(
        run(lambda b: b.add_batchnorm("n", 3, ones, zeros, zeros, zeros, "x", "y", epsilon=0)), x / 1e-5**0.5, rtol=1e-5
    )
    np.testing.assert_allclose(
        run(lambda b: b.add_resize_bilinear("r", "x", "y", 11, 11, "STRICT_ALIGN_ENDPOINTS_MODE"))[..., ::2, ::2],
        x,
        atol=1e-6,
    )


def test_blas_is_on_one_thread_during_an_evaluation_alone() -> None:
    functions = coreml_threads._functions()
    if functions is None:
        pytest.skip("numpy has no OpenBLAS of its own here")
    get, change = functions
    program = Program(Path("m"), [Step("relu", {"x": Ref("x")}, ("y",))], ["y"])
    seen = []
    before = get()
    try:
        change(2)
        program.evaluate({"x": np.zeros(2, np.float32)}, watch=lambda name, value: seen.append(get()))
        assert (seen, get()) == ([1], 2)
    finally:
        change(before)


def test_programs_free_what_nobody_needs_any_more() -> None:
    steps = [
        Step("relu", {"x": Ref("x")}, ("a",)),
        Step("add", {"x": Ref("a"), "y": Ref("x")}, ("b",)),
        Step("concat", {"values": [Ref("b"), Ref("a")], "axis": 0}, ("y",)),
    ]
    program = Program(Path("m"), steps, ["a", "y"])
    result = program.evaluate({"x": np.array([-1, 2], np.float32)})
    assert result["y"].tolist() == [-1, 4, 0, 2] and result["a"].tolist() == [0, 2]
    bad = Program(Path("m"), [Step("add", {"x": Ref("x"), "y": np.zeros(3, np.float32)}, ("y",))], ["y"])
    with pytest.raises(InputError, match="m: op 'add' of tensor 'y': operands could not be broadcast"):
        bad.evaluate({"x": np.zeros(2, np.float32)})
