"""Writes small .tflite files operator by operator, with whatever fault a test wants in them."""

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_DTYPES = {name: name.upper() for name in ("float32", "float16", "int8", "uint8", "int32", "int64")}


def options(kind: str, **attributes: Any) -> Any:
    """The attributes of an operator: `options("Pool2D", strideW=2)`; unknown ones fail."""
    table = getattr(schema, f"{kind}OptionsT")()
    for name, value in attributes.items():
        assert hasattr(table, name), f"{kind} has no {name}"
        setattr(table, name, value)
    table.kind = f"{kind}Options"
    return table


class Builder:
    """One graph. Tensors are named by their index; operators run in the order in which they are added."""

    def __init__(self, seed: int = 0) -> None:
        self.tensors: list[Any] = []
        self.ops: list[Any] = []
        self.codes: list[Any] = []
        # buffer 0 is the empty one, by convention
        self.buffers: list[Any] = [schema.BufferT()]
        self.inputs: list[int] = []
        self.random = np.random.default_rng(seed)

    def tensor(
        self,
        shape: tuple[int, ...],
        name: str = "",
        dtype: str = "FLOAT32",
        scale: float | np.ndarray | None = None,
        zero_point: int = 0,
        signature: tuple[int, ...] | None = None,
    ) -> int:
        table = schema.TensorT()
        table.shape, table.shapeSignature = list(shape), list(signature) if signature else None
        table.type, table.buffer = getattr(schema.TensorType, dtype), 0
        table.name = name or f"tensor_{len(self.tensors)}"
        if scale is not None:
            scales = np.atleast_1d(scale)
            quantization = schema.QuantizationParametersT()
            quantization.scale = [float(value) for value in scales]
            quantization.zeroPoint = [zero_point] * len(scales)
            table.quantization = quantization
        self.tensors.append(table)
        return len(self.tensors) - 1

    def input(self, shape: tuple[int, ...], name: str = "image", **keywords: Any) -> int:
        index = self.tensor(shape, name, **keywords)
        self.inputs.append(index)
        return index

    def constant(self, values: Any, name: str = "", **keywords: Any) -> int:
        array = np.asarray(values)
        index = self.tensor(array.shape, name, _DTYPES[array.dtype.name], **keywords)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.buffers.append(buffer)
        self.tensors[index].buffer = len(self.buffers) - 1
        return index

    def ints(self, *values: int) -> int:
        return self.constant(np.array(values, np.int32))

    def op(
        self,
        name: str,
        inputs: list[int],
        outputs: int | list[int],
        table: Any = None,
        version: int = 1,
        custom_options: bytes = b"",
    ) -> int:
        """Adds an operator; a name that is no builtin is that of a custom one. Returns its first output."""
        code = schema.OperatorCodeT()
        is_builtin = hasattr(schema.BuiltinOperator, name)
        code.builtinCode = getattr(schema.BuiltinOperator, name if is_builtin else "CUSTOM")
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode, code.version = None if is_builtin else name, version
        self.codes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs = len(self.codes) - 1, list(inputs)
        op.outputs = [outputs] if isinstance(outputs, int) else outputs
        if table is not None:
            op.builtinOptionsType, op.builtinOptions = getattr(schema.BuiltinOptions, table.kind), table
        if custom_options:
            op.customOptions = list(custom_options)
        self.ops.append(op)
        return op.outputs[0]

    def conv(
        self,
        x: int,
        filters: int,
        name: str,
        kernel: int = 1,
        activation: str = "NONE",
        version: int = 1,
        dilation: int = 1,
    ) -> int:
        """CONV_2D with random weights, same size, under the name that Keras and the converter would give it."""
        n, h, w, channels = self.tensors[x].shape
        weights = self.random.normal(0, (kernel * kernel * channels) ** -0.5, (filters, kernel, kernel, channels))
        out = self.tensor((n, h, w, filters), f"zoo/{name}/Conv2D")
        table = options(
            "Conv2D",
            strideW=1,
            strideH=1,
            dilationWFactor=dilation,
            dilationHFactor=dilation,
            fusedActivationFunction=getattr(schema.ActivationFunctionType, activation),
        )
        bias = self.random.normal(0, 0.1, filters).astype(np.float32)
        return self.op(
            "CONV_2D", [x, self.constant(weights.astype(np.float32)), self.constant(bias)], out, table, version
        )

    def like(self, x: int, name: str = "", shape: tuple[int, ...] | None = None, **keywords: Any) -> int:
        return self.tensor(tuple(shape or self.tensors[x].shape), name, **keywords)

    def content(self, *outputs: int) -> bytes:
        import flatbuffers

        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.ops
        graph.inputs, graph.outputs, graph.name = self.inputs, list(outputs), "main"
        model = schema.ModelT()
        model.version, model.description = 3, "zoo"
        model.subgraphs, model.buffers, model.operatorCodes = [graph], self.buffers, self.codes
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
