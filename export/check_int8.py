"""Asserts that an int8 file computes in integers from its first operator to its last."""

import math
from collections.abc import Iterator

from export.flatbuffer import Graph, OpView, TensorView, read_graph
from portraitseg import contract
from portraitseg.errors import CheckFailed

#: What camera bytes are inside: 0…255 at scale 1/255 is -128…127, so the zero point is -128.
INPUT_ZERO_POINT = -128

#: Operators whose third input is a bias.
_WITH_BIAS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})

#: Types of the outside: float I/O has QUANTIZE at the input and DEQUANTIZE at the output, uint8 QUANTIZE at both.
_OUTSIDE = frozenset({"FLOAT32", "UINT8"})


def check_int8(content: bytes, name: str) -> None:
    """Checks a whole-int8 .tflite.

    Every activation is int8, every bias int32, nothing float but what QUANTIZE reads at the input and DEQUANTIZE
    writes at the output; and a byte of the camera is one step of the quantized input.

    Args:
        content: of the file.
        name: of the file, for the message.

    Raises:
        CheckFailed: the first operators and tensors that are otherwise, with their types.
    """
    graph = read_graph(content)
    faults = [*_input_faults(graph), *_op_faults(graph)]
    if faults:
        more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
        raise CheckFailed(f"{name}: not whole int8: {'; '.join(faults[:3])}{more}")


def input_quantization(content: bytes) -> tuple[float, int] | None:
    """Scale and zero point with which the input is computed; None where it stays float."""
    inside = _first_inside(read_graph(content))
    if inside is None or inside.scale is None or inside.zero_point is None:
        return None
    return inside.scale, inside.zero_point


def _first_inside(graph: Graph) -> TensorView | None:
    readers = [op for op in graph.ops if graph.inputs[0] in op.inputs]
    return readers[0].outputs[0] if len(readers) == 1 and readers[0].name == "QUANTIZE" else None


def _input_faults(graph: Graph) -> Iterator[str]:
    inside = _first_inside(graph)
    if inside is None:
        yield f"input '{graph.inputs[0].name}' is not read by one QUANTIZE"
        return
    # float32 cannot hold 1/255 exactly; the faults that were seen (0.00313, 1/256) are far beyond this
    if not math.isclose(inside.scale or 0, contract.INPUT_SCALE, rel_tol=1e-6) or inside.zero_point != INPUT_ZERO_POINT:
        yield f"input has scale {inside.scale} and zero point {inside.zero_point}, not 1/255 and {INPUT_ZERO_POINT}"


def _op_faults(graph: Graph) -> Iterator[str]:
    for op in graph.ops:
        for position, tensor in enumerate(op.inputs):
            allowed = _allowed_inputs(op, position, tensor, graph)
            if tensor.dtype not in allowed:
                yield f"{op.name} {op.index} reads {tensor.dtype} '{tensor.name}'"
        for tensor in op.outputs:
            allowed = {"INT8"}
            if tensor in graph.outputs and op.name in ("DEQUANTIZE", "QUANTIZE"):
                allowed = set(_OUTSIDE)
            if tensor.dtype not in allowed:
                yield f"{op.name} {op.index} writes {tensor.dtype} '{tensor.name}'"
            elif tensor.dtype == "INT8" and tensor.scale is None:
                yield f"{op.name} {op.index} writes '{tensor.name}' without a scale"


def _allowed_inputs(op: OpView, position: int, tensor: TensorView, graph: Graph) -> set[str]:
    if tensor in graph.inputs:
        return set(_OUTSIDE) if op.name == "QUANTIZE" else set()
    if op.name in _WITH_BIAS and position == 2:
        return {"INT32"}
    if tensor.is_constant:
        # weights; sizes, shapes and paddings
        return {"INT8"} if op.name in _WITH_BIAS else {"INT8", "INT32"}
    return {"INT8"}
