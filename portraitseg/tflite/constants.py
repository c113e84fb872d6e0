"""The float constants of a .tflite: kernels and biases, as the operators see them; nothing in the file is executed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32

from portraitseg.errors import InputError
from portraitseg.tflite.graph import DAMAGE, Graph, Tensor

#: What may stand in a file for float32 numbers; bfloat16 and integers would need a rule of their own.
_DTYPES = {"FLOAT32": "<f4", "FLOAT16": "<f2"}

Constants = Mapping[int, Float32[np.ndarray, "..."]]


def float_constants(content: bytes, graph: Graph, origin: str) -> Constants:
    """Reads the float constants of the main graph, those stored as float16 behind a DEQUANTIZE with them.

    Args:
        content: of the file.
        graph: what `tflite_graph.parse_graph` made of it.
        origin: names the file in messages.

    Returns:
        Index of the tensor that an operator reads → its values, float32.

    Raises:
        InputError: a buffer that has not as many bytes as its tensor needs, or values that are not finite.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    try:
        stored = {
            tensor.index: _read(model, tensor)
            for tensor in graph.tensors
            if tensor.is_constant and tensor.dtype in _DTYPES
        }
    except InputError as error:
        raise InputError(f"{origin}: {error}") from error
    except DAMAGE as error:
        raise InputError(f"{origin}: damaged TFLite file ({type(error).__name__})") from error
    for op in graph.ops:
        source = op.inputs[0] if op.inputs else None
        if op.name == "DEQUANTIZE" and source is not None and source.index in stored:
            stored |= {output.index: stored[source.index] for output in op.outputs}
    return stored


def _read(model: Any, tensor: Tensor) -> Float32[np.ndarray, "..."]:
    buffer = model.Buffers(model.Subgraphs(0).Tensors(tensor.index).Buffer())
    dtype = np.dtype(_DTYPES[tensor.dtype])
    if buffer.DataLength() != dtype.itemsize * tensor.size:
        shape = "x".join(map(str, tensor.shape))
        raise InputError(f"damaged TFLite file: tensor {tensor.index} of {shape} has {buffer.DataLength()} bytes")
    values = buffer.DataAsNumpy().view(dtype).reshape(tensor.shape).astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"damaged TFLite file: tensor {tensor.index} has values that are not finite")
    return values
