"""A copy of a dynamic-range file with its 8-bit weights as the float32 numbers that they stand for.

The CPU's kernels round the activations before such a convolution to 8 bits; a GPU does not: it dequantizes the weights.
What it computes is this copy, so this copy is what it is compared with.
"""

from pathlib import Path
from typing import Any

import numpy as np

#: Operators that read 8-bit constants beside float activations; DEQUANTIZE does so by itself.
_CONSUMERS = frozenset(
    {
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "BATCH_MATMUL",
    }
)


def dequantize_weights(content: bytes) -> bytes:
    """Dequantizes every 8-bit constant that a float operator reads.

    Args:
        content: of a .tflite.

    Returns:
        A .tflite of the same graph, with float32 constants in their place; quantized operators stay as they are.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    graph = model.subgraphs[0]
    for op in graph.operators:
        code = model.operatorCodes[op.opcodeIndex]
        name = names.get(max(code.builtinCode, code.deprecatedBuiltinCode))
        if name not in _CONSUMERS or graph.tensors[op.outputs[0]].type != schema.TensorType.FLOAT32:
            continue
        for index in op.inputs:
            if index >= 0 and graph.tensors[index].type == schema.TensorType.INT8:
                _dequantize(model, graph.tensors[index], schema)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _dequantize(model: Any, tensor: Any, schema: Any) -> None:
    data = model.buffers[tensor.buffer].data
    stored = tensor.quantization
    if data is None or len(data) == 0 or stored is None or stored.scale is None:
        return
    values = np.asarray(data, np.uint8).view(np.int8).reshape(tensor.shape).astype(np.float32)
    # one scale, or one along an axis
    along = [1] * values.ndim
    if len(stored.scale) > 1:
        along[stored.quantizedDimension] = len(stored.scale)
    scales = np.asarray(stored.scale, np.float32).reshape(along)
    zeros = np.asarray(stored.zeroPoint if stored.zeroPoint is not None else 0, np.float32)
    numbers = (values - (zeros.reshape(along) if zeros.size == scales.size else zeros)) * scales
    # a buffer of its own: another tensor may share the old one
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(numbers.astype("<f4").tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.buffer, tensor.type, tensor.quantization = len(model.buffers) - 1, schema.TensorType.FLOAT32, None


def write_dequantized(path: Path, copy: Path) -> None:
    """Writes the copy of a file."""
    copy.write_bytes(dequantize_weights(path.read_bytes()))
