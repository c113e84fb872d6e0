"""Small readings and one small change of .tflite flatbuffers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Places in the vtable of a flatbuffer table: the first field has 4, each further one 2 more (schema.fbs: `Tensor` is
#: shape, type, buffer, name, …; `TensorMap` is name, tensor_index).
_TENSOR_NAME = 10
_MAP_NAME = 4


@dataclass(frozen=True)
class TensorView:
    """A tensor of the main graph.

    Attributes:
        dtype: as schema.fbs writes it, such as `INT8`.
        is_constant: its values are in the file.
        scale, zero_point: of a quantized tensor; of the first channel where there is one per channel.
    """

    index: int
    name: str
    dtype: str
    is_constant: bool
    scale: float | None
    zero_point: int | None


@dataclass(frozen=True)
class OpView:
    """An operator of the main graph; absent optional inputs are left out."""

    index: int
    name: str
    inputs: tuple[TensorView, ...]
    outputs: tuple[TensorView, ...]


@dataclass(frozen=True)
class Graph:
    """The main graph of a file, in the order of execution."""

    inputs: tuple[TensorView, ...]
    outputs: tuple[TensorView, ...]
    ops: tuple[OpView, ...]


def read_graph(content: bytes) -> Graph:
    """Reads operators and tensors of a .tflite of one subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    assert model.SubgraphsLength() == 1, f"{model.SubgraphsLength()} subgraphs: networks of ours have no control flow"
    graph = model.Subgraphs(0)
    tensors = [_view(schema, model, graph, index) for index in range(graph.TensorsLength())]
    return Graph(
        inputs=tuple(tensors[index] for index in graph.InputsAsNumpy()),
        outputs=tuple(tensors[index] for index in graph.OutputsAsNumpy()),
        ops=tuple(_ops(schema, model, graph, tensors)),
    )


def rename_io(content: bytes, input_name: str, output_name: str) -> bytes:
    """Names the one input and the one output, in the graph and in the signature.

    The converter writes `serving_default_image:0`, `StatefulPartitionedCall:0` and `output_0`. The new name is put
    over the old one, which leaves every buffer where it is: the schema's Python classes would pack them anew, without
    the 16-byte alignment that runtimes want.
    """
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    model = schema.Model.GetRootAs(changed)
    graph = model.Subgraphs(0)
    assert graph.InputsLength() == graph.OutputsLength() == model.SignatureDefsLength() == 1
    signature = model.SignatureDefs(0)
    _overwrite(changed, graph.Tensors(graph.Inputs(0)), _TENSOR_NAME, input_name)
    _overwrite(changed, graph.Tensors(graph.Outputs(0)), _TENSOR_NAME, output_name)
    _overwrite(changed, signature.Inputs(0), _MAP_NAME, input_name)
    _overwrite(changed, signature.Outputs(0), _MAP_NAME, output_name)
    return bytes(changed)


def _overwrite(content: bytearray, table: Any, offset: int, name: str) -> None:
    """Replaces a string field by one that is not longer."""
    field = table._tab.Pos + table._tab.Offset(offset)
    start = field + int.from_bytes(content[field : field + 4], "little")
    old_length = int.from_bytes(content[start : start + 4], "little")
    new = name.encode()
    assert len(new) <= old_length, f"no room for '{name}'"
    content[start : start + 4] = len(new).to_bytes(4, "little")
    content[start + 4 : start + 4 + old_length] = new.ljust(old_length, b"\0")


def _view(schema: Any, model: Any, graph: Any, index: int) -> TensorView:
    tensor = graph.Tensors(index)
    quantization = tensor.Quantization()
    is_quantized = quantization is not None and quantization.ScaleLength() > 0
    return TensorView(
        index=index,
        name=tensor.Name().decode(),
        dtype=_enum_name(schema.TensorType, tensor.Type()),
        is_constant=model.Buffers(tensor.Buffer()).DataLength() > 0,
        scale=float(np.float32(quantization.Scale(0))) if is_quantized else None,
        zero_point=int(quantization.ZeroPoint(0)) if is_quantized else None,
    )


def _ops(schema: Any, model: Any, graph: Any, tensors: list[TensorView]) -> Iterator[OpView]:
    for index in range(graph.OperatorsLength()):
        op = graph.Operators(index)
        code = model.OperatorCodes(op.OpcodeIndex())
        # files older than 2020 have the operator in the deprecated byte; the larger one counts (schema.fbs)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        yield OpView(
            index=index,
            name=_enum_name(schema.BuiltinOperator, number),
            inputs=tuple(tensors[i] for i in op.InputsAsNumpy() if i >= 0),
            outputs=tuple(tensors[i] for i in op.OutputsAsNumpy() if i >= 0),
        )


def _enum_name(enum: Any, value: int) -> str:
    return next((name for name, number in vars(enum).items() if number == value), str(value))
