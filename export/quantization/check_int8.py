"""Asserts that an integer file computes in integers from its first operator to its last."""

import math
from collections.abc import Iterator
from typing import Literal

from portraitseg import contract
from portraitseg.errors import CheckFailed
from portraitseg.tflite.flatbuffer import keras_layer
from portraitseg.tflite.graph import Graph, Op, Tensor, parse_graph

#: Of activations; weights are int8 with either.
IntegerType = Literal["INT8", "INT16"]

#: Sums of products need four and eight bytes.
_BIAS: dict[str, str] = {"INT8": "INT32", "INT16": "INT64"}

#: What camera bytes are inside: 0…255 at scale 1/255 is -128…127, so the zero point is -128.
INPUT_ZERO_POINT = -128

#: Operators whose third input is a bias.
_WITH_BIAS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})

#: Types of the outside: float I/O has QUANTIZE at the input and DEQUANTIZE at the output, uint8 QUANTIZE at both.
_OUTSIDE = frozenset({"FLOAT32", "UINT8"})


def check_int8(content: bytes, name: str, integer: IntegerType = "INT8") -> None:
    """Checks a whole-integer .tflite.

    Every activation is int8 (int16), every bias int32 (int64), nothing float but what QUANTIZE reads at the input and
    DEQUANTIZE writes at the output; and, with int8, a byte of the camera is one step of the quantized input.

    Args:
        content: of the file.
        name: of the file, for the message.
        integer: type of its activations.

    Raises:
        CheckFailed: the first operators and tensors that are otherwise, with their types and Keras layers.
    """
    faults = integer_faults(content, integer)
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckFailed(f"{name}: not whole {integer.lower()}: {'; '.join(faults[:3])}{more}")


def integer_faults(content: bytes, integer: IntegerType = "INT8") -> list[str]:
    """What is not integer, or has another input scale, in words, with the Keras layer that it comes from."""
    graph = parse_graph(content, "a file of ours")
    if graph.subgraphs > 1:
        return [f"{graph.subgraphs} subgraphs: networks of ours have no control flow"]
    input_faults = _input_faults(graph) if integer == "INT8" else ()
    return [*input_faults, *_op_faults(graph, integer)]


def _quantization(tensor: Tensor) -> tuple[float, int] | None:
    """Scale and zero point, of the first channel where there is one per channel; None of a tensor without."""
    return (tensor.scales[0], tensor.zero_points[0]) if tensor.scales else None


def _first_inside(graph: Graph) -> Tensor | None:
    readers = [op for op in graph.ops if graph.inputs[0] in op.inputs]
    return readers[0].outputs[0] if len(readers) == 1 and readers[0].name == "QUANTIZE" else None


def _input_faults(graph: Graph) -> Iterator[str]:
    inside = _first_inside(graph)
    if inside is None:
        yield f"input '{graph.inputs[0].name}' is not read by one QUANTIZE"
        return
    outside = graph.inputs[0]
    if outside.dtype == "UINT8" and not _is_byte_scale(outside, 0):
        yield f"uint8 input has {_described(outside)}, not 1/255 and 0"
    if not _is_byte_scale(inside, INPUT_ZERO_POINT):
        yield f"input has {_described(inside)}, not 1/255 and {INPUT_ZERO_POINT}"


def _is_byte_scale(tensor: Tensor, zero_point: int) -> bool:
    scale, point = _quantization(tensor) or (0.0, None)
    # float32 cannot hold 1/255 exactly; the faults that were seen (0.00313, 1/256) are far beyond this
    return point == zero_point and math.isclose(scale, contract.INPUT_SCALE, rel_tol=1e-6)


def _described(tensor: Tensor) -> str:
    scale, point = _quantization(tensor) or (None, None)
    return f"scale {scale} and zero point {point}"


def _op_faults(graph: Graph, integer: IntegerType) -> Iterator[str]:
    for op in graph.ops:
        where = f"{op.name} {op.index} of layer '{keras_layer(op.outputs[0].name)}'"
        for position, tensor in enumerate(op.inputs):
            if tensor is not None and tensor.dtype not in _allowed_inputs(op, position, tensor, graph, integer):
                yield f"{where} reads {tensor.dtype} '{tensor.name}'"
        for tensor in op.outputs:
            allowed = {str(integer)}
            if tensor in graph.outputs and op.name in ("DEQUANTIZE", "QUANTIZE"):
                allowed = set(_OUTSIDE)
            if tensor.dtype not in allowed:
                yield f"{where} writes {tensor.dtype} '{tensor.name}'"
            elif tensor.dtype == integer and not tensor.scales:
                yield f"{where} writes '{tensor.name}' without a scale"


def _allowed_inputs(op: Op, position: int, tensor: Tensor, graph: Graph, integer: IntegerType) -> set[str]:
    if tensor in graph.inputs:
        return set(_OUTSIDE) if op.name == "QUANTIZE" else set()
    if op.name in _WITH_BIAS and position == 2:
        return {_BIAS[integer]}
    if tensor.is_constant:
        # weights; sizes, shapes and paddings
        return {"INT8"} if op.name in _WITH_BIAS else {"INT8", "INT32"}
    return {str(integer)}
