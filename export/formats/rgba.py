"""The RGBA twin of an RGB file: the same file with a fourth input channel whose weights are zero.

The file is changed, not the network converted again: a second conversion calibrates in another order of summation, and
a rounding somewhere then differs (seen with post-training int8). All else is the same bytes, so the outputs are too.
"""

from typing import Any

import numpy as np

from portraitseg.errors import CheckFailed
from portraitseg.tflite import flatbuffer
from portraitseg.tflite.graph import Tensor, parse_graph

#: Operators between the input and the first convolution that keep the channels as they are.
_PASSING = ("QUANTIZE", "PAD", "PADV2")

_DTYPES = {"FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8}

#: Places in the vtable of a `Tensor` (schema.fbs).
_SHAPE, _BUFFER, _SHAPE_SIGNATURE = 4, 8, 18

_RGB, _RGBA = 3, 4


def rgba_twin(content: bytes) -> bytes:
    """Gives a .tflite for RGB a fourth channel that changes nothing.

    Args:
        content: input (1, h, w, 3), read by one convolution, directly or behind QUANTIZE and PAD.

    Returns:
        The file for (1, h, w, 4).

    Raises:
        CheckFailed: another beginning.
    """
    from ai_edge_litert import schema_py_generated as schema

    view = parse_graph(content, "the RGB file")
    producers = {output.index: op for op in view.ops for output in op.outputs}
    tensor, widened = view.inputs[0], [view.inputs[0].index]
    while True:
        readers = [op for op in view.ops if tensor.index in [given.index for given in op.runtime_inputs]]
        if len(readers) != 1 or readers[0].name not in (*_PASSING, "CONV_2D"):
            names = ", ".join(op.name for op in readers) or "nothing"
            raise CheckFailed(f"RGBA: the input is read by {names}, not by one convolution: begin with one")
        if readers[0].name == "CONV_2D":
            break
        tensor = readers[0].outputs[0]
        widened.append(tensor.index)
    kernel = readers[0].inputs[1]
    if kernel is not None and kernel.index in producers:
        # float16 weights: the operator that makes them float32
        widened.append(kernel.index)
        kernel = producers[kernel.index].inputs[0]
    assert kernel is not None, "a convolution without a kernel"
    changed = bytearray(flatbuffer.add_buffer(content, _widened_kernel(content, kernel)))
    model = schema.Model.GetRootAs(changed)
    graph = model.Subgraphs(0)
    for index in (*widened, kernel.index):
        _widen_shape(changed, graph.Tensors(index))
    table = graph.Tensors(kernel.index)._tab
    _write_int(changed, table.Pos + table.Offset(_BUFFER), model.BuffersLength() - 1)
    return bytes(changed)


def _widened_kernel(content: bytes, kernel: Tensor) -> bytes:
    """Values (filters, h, w, 3) with a fourth channel of zeros; the zero point of weights is 0."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    tensor = model.Subgraphs(0).Tensors(kernel.index)
    values = model.Buffers(tensor.Buffer()).DataAsNumpy().view(_DTYPES[kernel.dtype]).reshape(tensor.ShapeAsNumpy())
    return np.pad(values, ((0, 0), (0, 0), (0, 0), (0, _RGBA - _RGB))).tobytes()


def _widen_shape(content: bytearray, tensor: Any) -> None:
    for field in (_SHAPE, _SHAPE_SIGNATURE):
        if where := tensor._tab.Offset(field):
            last = tensor._tab.Vector(where) + 4 * (tensor._tab.VectorLen(where) - 1)
            assert int.from_bytes(content[last : last + 4], "little") == _RGB, f"{tensor.Name()!r} is widened already"
            _write_int(content, last, _RGBA)


def _write_int(content: bytearray, offset: int, value: int) -> None:
    content[offset : offset + 4] = value.to_bytes(4, "little")
