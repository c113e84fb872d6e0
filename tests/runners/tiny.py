"""Writes tiny exported files, so that no test waits for a converter: probability = 0.5 R + 0.3 G + 0.2 B."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

WEIGHTS = np.array([0.5, 0.3, 0.2, 0.0], np.float32)

_TYPES = {"float32": schema.TensorType.FLOAT32, "uint8": schema.TensorType.UINT8, "int8": schema.TensorType.INT8}


def expected(inputs: np.ndarray) -> np.ndarray:
    """What the float files return for NHWC inputs."""
    return (inputs * WEIGHTS[: inputs.shape[3]]).sum(axis=3, keepdims=True)


def write_tflite(
    path: Path,
    shape: tuple[int, ...] = (1, 8, 10, 3),
    out_channels: int = 1,
    dtype: str = "float32",
    scale: float | None = None,
    zero_point: int = 0,
    out_scale: float | None = None,
    signature: tuple[int, ...] | None = None,
    extra_input: bool = False,
    name: str = "image",
) -> Path:
    """A float file is one 1×1 CONV_2D; an integer one is a MEAN over the channels.

    The ReLU changes nothing, as all is positive; what comes from a plain convolution is taken for logits.
    """
    model = schema.ModelT()
    model.version = 3
    model.buffers = [_buffer(b"")]
    graph = schema.SubGraphT()
    graph.tensors = []

    def tensor(label: str, sizes: tuple[int, ...], kind: int, data: bytes | None = None) -> int:
        item = schema.TensorT()
        item.name, item.shape, item.type, item.buffer = label.encode(), list(sizes), kind, 0
        if data is not None:
            model.buffers.append(_buffer(data))
            item.buffer = len(model.buffers) - 1
        graph.tensors.append(item)
        return len(graph.tensors) - 1

    kind = _TYPES[dtype]
    source = tensor(name, shape, kind)
    target = tensor("mask", (*shape[:-1], out_channels), kind)
    if signature is not None:
        graph.tensors[source].shapeSignature = list(signature)
    for index, value in ((source, scale), (target, out_scale if out_scale is not None else scale)):
        if value:
            graph.tensors[index].quantization = _quantization(value, zero_point)
    op, code = schema.OperatorT(), schema.OperatorCodeT()
    if dtype == "float32":
        weights = np.tile(np.resize(WEIGHTS, shape[-1]), (out_channels, 1))
        kernel = tensor("kernel", (out_channels, 1, 1, shape[-1]), _TYPES["float32"], weights.tobytes())
        bias = tensor("bias", (out_channels,), _TYPES["float32"], bytes(4 * out_channels))
        op.inputs = [source, kernel, bias]
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.Conv2DOptions, schema.Conv2DOptionsT()
        op.builtinOptions.strideH = op.builtinOptions.strideW = 1
        op.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.RELU
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    else:
        axis = tensor("axis", (1,), schema.TensorType.INT32, np.array([len(shape) - 1], np.int32).tobytes())
        op.inputs = [source, axis]
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.ReducerOptions, schema.ReducerOptionsT()
        op.builtinOptions.keepDims = True
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 1
    op.outputs, op.opcodeIndex = [target], 0
    graph.inputs, graph.outputs, graph.operators = [source], [target], [op]
    if extra_input:
        graph.inputs = [source, tensor("second", shape, kind)]
    model.operatorCodes, model.subgraphs = [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def write_onnx(
    path: Path, layout: str = "nhwc", size: tuple[Any, Any] = (8, 10), channels: int = 3, inputs: int = 1
) -> Path:
    """A 1×1 Conv, between two Transposes for NHWC; a size that is a string is an open one."""
    from onnx import TensorProto, helper, numpy_helper, save

    def info(label: str, depth: int) -> Any:
        sizes = [1, *size, depth] if layout == "nhwc" else [1, depth, *size]
        return helper.make_tensor_value_info(label, TensorProto.FLOAT, sizes)

    kernel = numpy_helper.from_array(WEIGHTS[:channels].reshape(1, channels, 1, 1), "kernel")
    if layout == "nhwc":
        nodes = [
            helper.make_node("Transpose", ["image"], ["a"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["a", "kernel"], ["b"]),
            helper.make_node("Transpose", ["b"], ["mask"], perm=[0, 2, 3, 1]),
        ]
    else:
        nodes = [helper.make_node("Conv", ["image", "kernel"], ["mask"])]
    sources = [info("image", channels), info("second", channels)][:inputs]
    graph = helper.make_graph(nodes, "tiny", sources, [info("mask", 1)], [kernel])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def _buffer(data: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = list(data) if data else None
    return buffer


def _quantization(scale: float, zero_point: int) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = [scale], [zero_point]
    return parameters
