"""Reads a .tflite flatbuffer into a small typed graph; nothing in the file is ever executed."""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg.errors import InputError

#: A portrait network has some hundred operators and megabytes; more than these is no file for a phone.
MAX_BYTES = 512 * 1024 * 1024
MAX_TENSORS = 100_000
MAX_OPERATORS = 50_000
MAX_RANK = 16
MAX_NAME = 4_096

#: Integer constants up to this length are kept (axes, paddings, shapes); weights are not.
MAX_VALUES = 64

#: Flatbuffer offsets of a damaged file lead anywhere: these are what numpy and struct then raise.
DAMAGE = (
    struct.error,
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    AttributeError,
    MemoryError,
    RecursionError,
)


@dataclass(frozen=True)
class Tensor:
    """A tensor of the main graph.

    Attributes:
        dtype: as schema.fbs writes it, such as `INT8`.
        shape: at batch 1, as the file stores it.
        signature: the shape with -1 for every open side; equals `shape` where all sides are fixed.
        is_constant: its values are in the file.
        is_variable: it keeps its value from one run to the next.
        scales, zero_points: of a quantized tensor, as many of one as of the other, one or one per channel; else empty.
        values: of a short integer constant, flat; else None.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    is_constant: bool = False
    is_variable: bool = False
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    values: tuple[int, ...] | None = None

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def is_dynamic(self) -> bool:
        """Whether a side is only known at run time."""
        return any(side < 0 for side in (*self.shape, *self.signature))


@dataclass(frozen=True)
class Op:
    """An operator of the main graph.

    Attributes:
        index: position in the order of execution.
        name: of the builtin operator, such as `CONV_2D`, or of the custom one.
        version: of the operator, at least 1.
        inputs: in the operator's order, None for an absent optional one.
        options: attributes in snake case, numbers only (`stride_w`, `align_corners`).
        custom_options: raw bytes of a custom operator.
    """

    index: int
    name: str
    version: int
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    is_custom: bool = False
    options: Mapping[str, int | float] = field(default_factory=dict)
    custom_options: bytes = b""

    @property
    def activation(self) -> str:
        """The fused activation by name, `NONE` where there is none."""
        return _names("ActivationFunctionType").get(int(self.options.get("fused_activation_function", 0)), "UNKNOWN")

    @property
    def runtime_inputs(self) -> tuple[Tensor, ...]:
        """Inputs that another operator or the caller fills."""
        return tuple(tensor for tensor in self.inputs if tensor is not None and not tensor.is_constant)

    @property
    def constant_inputs(self) -> tuple[Tensor, ...]:
        """Inputs whose values are in the file."""
        return tuple(tensor for tensor in self.inputs if tensor is not None and tensor.is_constant)

    @property
    def layer(self) -> str:
        """The Keras layer that it came from, as far as the tensor's name tells."""
        return layer_of(self.outputs[0].name) if self.outputs else ""


@dataclass(frozen=True)
class Graph:
    """The main graph of a file, operators in the order of execution.

    Attributes:
        subgraphs: in the file, this one included; more than one where there is control flow.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    subgraphs: int = 1


def layer_of(tensor_name: str) -> str:
    """The Keras layer in a tensor's name.

    The converter writes `net/stem_relu/Relu6;net/stem_bn/FusedBatchNormV3;net/stem_conv/Conv2D`: the operators that it
    fused, the last one first; each is the network's scope, the layer and the operation.
    """
    parts = tensor_name.split(";")[0].split(":")[0].split("/")
    return parts[-2] if len(parts) > 1 else parts[0]


def multiply_accumulates(op: Op) -> int:
    """Multiply-accumulates of a convolution or a matrix product; 0 for any other operator."""
    if op.name not in (
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "TRANSPOSE_CONV",
        "Convolution2DTransposeBias",
    ):
        return 0
    weights = op.inputs[1] if len(op.inputs) > 1 else None
    if weights is None or not op.outputs:
        return 0
    if op.name == "DEPTHWISE_CONV_2D":
        # filter 1×h×w×c: each output number sees h×w numbers
        return op.outputs[0].size * prod(weights.shape[1:3])
    if op.name in ("TRANSPOSE_CONV", "Convolution2DTransposeBias"):
        # filter o×h×w×i: each input pixel is spread over h×w pixels of o channels
        image = op.inputs[2 if op.name == "TRANSPOSE_CONV" else 0] if len(op.inputs) > 2 else None
        return prod(image.shape[:3]) * weights.size if image is not None else 0
    # filter o×…×i: each output number sees all of one filter
    return op.outputs[0].size * prod(weights.shape[1:])


def parameters(graph: Graph) -> int:
    """Numbers that a float file holds as weights: kernels and biases, batch normalization folded into them.

    Integer constants are axes, shapes and paddings; a float16 file counts the same numbers once.
    """
    weights = [t for t in graph.tensors if t.is_constant and t.dtype in ("FLOAT32", "FLOAT16")]
    return sum(tensor.size for tensor in weights)


def read_graph(path: Path) -> Graph:
    """Reads the main graph of a .tflite.

    Raises:
        InputError: missing, no TFLite flatbuffer, damaged, or larger than any file for a phone.
    """
    return parse_graph(read_content(path), str(path))


def read_content(path: Path) -> bytes:
    """The bytes of a .tflite, not yet looked at.

    Raises:
        InputError: missing, unreadable, or larger than any file for a phone.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size} bytes, more than a file for a phone can have ({MAX_BYTES})")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file: export it first") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def parse_graph(content: bytes, origin: str) -> Graph:
    """Reads the main graph from the content of a .tflite; `origin` names it in messages.

    Raises:
        InputError: no TFLite flatbuffer, or damaged.
    """
    if len(content) < 8 or content[4:8] != b"TFL3":
        raise InputError(f"{origin}: not a TFLite file: no TFL3 at byte 4")
    try:
        return _parse(content)
    except InputError as error:
        raise InputError(f"{origin}: {error}") from error
    except DAMAGE as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise InputError(f"{origin}: damaged TFLite file ({type(error).__name__}: {first_line[:120]})") from error


def _parse(content: bytes) -> Graph:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    _check_count("subgraphs", model.SubgraphsLength(), 1_000)
    if model.SubgraphsLength() < 1:
        raise InputError("damaged TFLite file: it has no graph")
    graph = model.Subgraphs(0)
    _check_count("tensors", graph.TensorsLength(), MAX_TENSORS)
    _check_count("operators", graph.OperatorsLength(), MAX_OPERATORS)
    tensors = [_tensor(model, graph.Tensors(index), index) for index in range(graph.TensorsLength())]
    return Graph(
        inputs=_pick(tensors, graph.InputsAsNumpy()),
        outputs=_pick(tensors, graph.OutputsAsNumpy()),
        ops=tuple(_ops(model, graph, tensors)),
        tensors=tuple(tensors),
        subgraphs=model.SubgraphsLength(),
    )


def _check_count(what: str, count: int, most: int) -> None:
    if not 0 <= count <= most:
        raise InputError(f"damaged TFLite file: {count} {what}, at most {most} are read")


def _tensor(model: Any, tensor: Any, index: int) -> Tensor:
    _check_count("dimensions", tensor.ShapeLength(), MAX_RANK)
    _check_count("dimensions", tensor.ShapeSignatureLength(), MAX_RANK)
    shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
    signature = tuple(int(tensor.ShapeSignature(axis)) for axis in range(tensor.ShapeSignatureLength()))
    if tensor.Buffer() >= model.BuffersLength():
        raise InputError(f"damaged TFLite file: tensor {index} names buffer {tensor.Buffer()}")
    buffer = model.Buffers(tensor.Buffer())
    dtype = _names("TensorType").get(tensor.Type(), str(tensor.Type()))
    scales, zero_points = _quantization(tensor.Quantization(), index)
    return Tensor(
        index=index,
        name=(tensor.Name() or b"").decode(errors="replace")[:MAX_NAME],
        dtype=dtype,
        shape=shape,
        signature=signature or shape,
        # offsets above 1 point behind the flatbuffer, where files over 2 GB keep their weights
        is_constant=buffer.DataLength() > 0 or buffer.Offset() > 1,
        is_variable=bool(tensor.IsVariable()),
        scales=scales,
        zero_points=zero_points,
        values=_values(buffer, dtype),
    )


def _quantization(stored: Any, index: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Scales and zero points; TFLite's runtime refuses another number of the one than of the other, none included."""
    count = stored.ScaleLength() if stored is not None else 0
    if not count:
        return (), ()
    if (points := stored.ZeroPointLength()) != count:
        raise InputError(f"damaged TFLite file: tensor {index} has {count} scales and {points} zero points")
    return tuple(float(scale) for scale in stored.ScaleAsNumpy()), tuple(int(p) for p in stored.ZeroPointAsNumpy())


def _values(buffer: Any, dtype: str) -> tuple[int, ...] | None:
    size = {"INT32": 4, "INT64": 8}.get(dtype)
    if size is None or not 0 < buffer.DataLength() <= MAX_VALUES * size:
        return None
    content = buffer.DataAsNumpy().tobytes()
    return tuple(int(value) for value in np.frombuffer(content, dtype=f"<i{size}"))


def _pick(tensors: list[Tensor], indices: Any) -> tuple[Tensor, ...]:
    # an empty vector reads as the number 0
    return tuple(_at(tensors, int(index)) for index in np.atleast_1d(indices)) if not isinstance(indices, int) else ()


def _at(tensors: list[Tensor], index: int) -> Tensor:
    if not 0 <= index < len(tensors):
        raise InputError(f"damaged TFLite file: tensor {index} of {len(tensors)}")
    return tensors[index]


def _ops(model: Any, graph: Any, tensors: list[Tensor]) -> Iterator[Op]:
    for index in range(graph.OperatorsLength()):
        op = graph.Operators(index)
        if op.OpcodeIndex() >= model.OperatorCodesLength():
            raise InputError(f"damaged TFLite file: operator {index} names code {op.OpcodeIndex()}")
        code = model.OperatorCodes(op.OpcodeIndex())
        # files older than 2020 have the operator in the deprecated byte; the larger one counts (schema.fbs)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names("BuiltinOperator").get(number, f"OPERATOR_{number}")
        is_custom = name == "CUSTOM"
        if is_custom:
            name = (code.CustomCode() or b"").decode(errors="replace")[:MAX_NAME]
        yield Op(
            index=index,
            name=name,
            version=int(code.Version()),
            inputs=tuple(
                _at(tensors, op.Inputs(position)) if op.Inputs(position) >= 0 else None
                for position in range(op.InputsLength())
            ),
            outputs=tuple(_at(tensors, op.Outputs(position)) for position in range(op.OutputsLength())),
            is_custom=is_custom,
            options=_options(op),
            custom_options=op.CustomOptionsAsNumpy().tobytes() if op.CustomOptionsLength() else b"",
        )


def _options(op: Any) -> dict[str, int | float]:
    """The attributes of an operator that are numbers, read with the schema's own class for them."""
    from ai_edge_litert import schema_py_generated as schema

    name = _names("BuiltinOptions").get(op.BuiltinOptionsType(), "NONE")
    table = op.BuiltinOptions()
    reader, unpacked = getattr(schema, name, None), getattr(schema, f"{name}T", None)
    if name == "NONE" or table is None or reader is None or unpacked is None:
        return {}
    view = reader()
    view.Init(table.Bytes, table.Pos)
    attributes = vars(unpacked.InitFromObj(view))
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "_", key).lower(): value
        for key, value in attributes.items()
        if isinstance(value, int | float)
    }


@cache
def _names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {number: name for name, number in vars(getattr(schema, enum)).items() if isinstance(number, int)}
