import random
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg.errors import InputError
from portraitseg.tflite.graph import layer_of, parse_graph, read_graph
from tests.checks.gpu import builder, zoo


def test_reads_operators_tensors_and_attributes() -> None:
    graph = parse_graph(zoo.depthwise(dilation=2), "zoo")
    stem, deep, *_ = graph.ops
    assert [op.name for op in graph.ops] == ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "LOGISTIC"]
    assert stem.activation == "RELU6" and deep.activation == "NONE"
    assert deep.version == 2 and deep.options["dilation_w_factor"] == 2
    assert [tensor.is_constant for tensor in deep.inputs if tensor] == [False, True, True]
    assert graph.inputs[0].shape == graph.inputs[0].signature == (1, zoo.SIDE, zoo.SIDE, 3)
    assert graph.outputs[0].name == "mask"


def test_reads_quantization_and_short_integer_constants() -> None:
    graph = parse_graph(zoo.int8_network(), "zoo")
    assert graph.ops[0].outputs[0].dtype == "INT8"
    assert graph.ops[0].outputs[0].zero_points == (-128,)
    assert graph.ops[0].outputs[0].scales == (pytest.approx(1 / 255),)
    assert parse_graph(zoo.mean(), "zoo").ops[1].inputs[1].values == (1, 2)  # type: ignore[union-attr]


@pytest.mark.parametrize("points", [None, [], [1], [1, 2, 3]])
def test_zero_points_are_as_many_as_scales(points: list[int] | None) -> None:
    """We take what TFLite's runtime takes, and refuse what it refuses."""
    made = builder.Builder()
    x = made.input((1, 4, 4, 3), dtype="INT8", scale=np.full(3, 0.5))
    made.tensors[x].quantization.zeroPoint, made.tensors[x].quantization.quantizedDimension = points, 3
    content = made.content(x)
    if points == [1, 2, 3]:
        assert parse_graph(content, "zoo").inputs[0].zero_points == (1, 2, 3)
        Interpreter(model_content=content)
        return
    with pytest.raises(
        InputError, match=f"zoo: damaged TFLite file: tensor 0 has 3 scales and {len(points or [])} zero"
    ):
        parse_graph(content, "zoo")
    with pytest.raises(ValueError, match="zero_point"):
        Interpreter(model_content=content)


def test_reads_open_sizes_custom_and_absent_inputs() -> None:
    graph = parse_graph(zoo.dynamic_batch(), "zoo")
    assert graph.inputs[0].is_dynamic and not graph.outputs[0].is_dynamic
    custom = parse_graph(zoo.custom_op("MyBlur"), "zoo").ops[1]
    assert custom.is_custom and custom.name == "MyBlur" and custom.custom_options == b"\1\2\3\4"
    dense = next(op for op in parse_graph(zoo.fully_connected(), "zoo").ops if op.name == "FULLY_CONNECTED")
    assert dense.inputs[2] is None


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net/stem_relu/Relu6;net/stem_bn/FusedBatchNormV3;net/stem_conv/Conv2D", "stem_relu"),
        ("conv2d_1/Kernel_dequantize", "conv2d_1"),
        ("mask", "mask"),
        ("StatefulPartitionedCall:0", "StatefulPartitionedCall"),
        ("", ""),
    ],
)
def test_layer_of(name: str, layer: str) -> None:
    assert layer_of(name) == layer


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x89PNG\r\n\x1a\n" * 9, b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_refuses_what_is_no_tflite_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.tflite: (not a|damaged) TFLite file") as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_graph(tmp_path / "gone.tflite")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_damage_is_an_input_error_and_nothing_else(seed: int, count: int) -> None:
    content = bytearray(zoo.depthwise())
    source = random.Random(seed)
    for _ in range(count):
        content[source.randrange(8, len(content))] = source.randrange(256)
    assert "\n" not in _complaint(bytes(content))


@given(st.integers(8, 2_000))
@settings(max_examples=60, deadline=None)
def test_truncation_is_an_input_error_and_nothing_else(length: int) -> None:
    assert "\n" not in _complaint(zoo.depthwise()[:length])


def _complaint(content: bytes) -> str:
    """What a damaged file is refused with; nothing where the damage is in the weights."""
    try:
        parse_graph(content, "damaged")
    except InputError as error:
        return str(error)
    return ""
