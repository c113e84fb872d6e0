"""The floating-point constants of a .tflite, by tensor; nothing in the file is executed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from portraitseg.errors import InputError
from portraitseg.tflite.graph import DAMAGE, Graph, Op

_TYPES: dict[str, np.dtype[Any]] = {"FLOAT16": np.dtype("<f2"), "FLOAT32": np.dtype("<f4")}


def read_weights(content: bytes, graph: Graph, origin: str) -> dict[int, np.ndarray]:
    """Constants as float32 by the tensor's index, those behind a DEQUANTIZE included; `origin` names it in messages.

    Raises:
        InputError: a damaged file.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        model = schema.Model.GetRootAs(content)
        stored = model.Subgraphs(0)
        found = {}
        for tensor in graph.tensors:
            if tensor.is_constant and tensor.dtype in _TYPES:
                content = model.Buffers(stored.Tensors(tensor.index).Buffer()).DataAsNumpy().tobytes()
                values = np.frombuffer(content, _TYPES[tensor.dtype]).astype(np.float32)
                found[tensor.index] = values.reshape(tensor.shape)
    except DAMAGE as error:
        raise InputError(f"{origin}: damaged TFLite file ({type(error).__name__})") from error
    for op in graph.ops:
        source = op.inputs[0] if op.inputs else None
        if op.name == "DEQUANTIZE" and source is not None and source.index in found:
            found[op.outputs[0].index] = found[source.index]
    return found


def run_time_ops(graph: Graph, weights: Mapping[int, np.ndarray]) -> list[Op]:
    """The operators that run, those which only unpack weights left out."""
    return [op for op in graph.ops if op.outputs[0].index not in weights]
