"""Whether a GPU delegate takes a file, by rules: each operator against its row in rules.toml."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from portraitseg.checks.gpu.broadcasts import broadcast_computed_right
from portraitseg.checks.gpu.checks import CHECKS as SINGLE
from portraitseg.checks.gpu.checks import Fault, quantization
from portraitseg.checks.gpu.partition import Partition, cut
from portraitseg.tflite.graph import Graph, Op, Tensor

#: `classic`: tensorflow-lite-gpu and MediaPipe. `mldrift`: LiteRT's accelerator.
Delegate = Literal["classic", "mldrift"]
DELEGATES: tuple[Delegate, ...] = get_args(Delegate)

#: Checks of operators that are more than a number, by the name in rules.toml.
CHECKS = {**SINGLE, broadcast_computed_right.__name__: broadcast_computed_right}

_TABLE = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True)
class Refusal:
    """One operator that stays on the CPU.

    Attributes:
        op: index in the file.
        layer: the Keras layer that it came from.
        source: where the delegate's own check is.
    """

    op: int
    name: str
    layer: str
    reason: str
    remedy: str
    source: str


@dataclass(frozen=True)
class Judgement:
    """What a delegate does with a file."""

    delegate: Delegate
    refusals: tuple[Refusal, ...]
    partition: Partition

    @property
    def is_taken(self) -> bool:
        """Whether every operator goes to the GPU."""
        return not self.refusals


@dataclass(frozen=True)
class Row:
    """What a delegate asks of one operator; see the head of rules.toml."""

    source: str
    version: int | None = None
    inputs: tuple[int, int] | None = None
    operands: tuple[tuple[int, int], ...] = ()
    runtime: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    activation: bool = False
    required: Mapping[str, int | float] = field(default_factory=dict)
    at_least: Mapping[str, int | float] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
    types_in: frozenset[str] = frozenset()
    types_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    """The rules of one delegate, operator → row."""

    title: str
    max_rank: int
    activations: frozenset[str]
    partitions: int
    source: str
    rows: Mapping[str, Row]
    remedies: Mapping[str, str]
    opencl_alone: frozenset[str] = frozenset()
    opencl_source: str = ""


def judge(graph: Graph, delegate: Delegate) -> Judgement:
    """Compares every operator of a file with what a delegate takes.

    8-bit files are taken by both delegates, which compute them in float and round to the file's steps.
    """
    table = load_table(delegate)
    constants = {op.index for op in graph.ops if _widens_float16(op)}
    seen = _see_through(graph, constants)
    refusals = []
    for op in seen.ops:
        if op.index in constants:
            continue
        if fault := find_fault(op, seen, table):
            source = table.rows[op.name].source if op.name in table.rows else table.source
            source += f"; {table.opencl_source}" if op.name in table.opencl_alone else ""
            refusals.append(Refusal(op.index, op.name, op.layer, fault.reason, fault.remedy, source))
    supported = {op.index for op in graph.ops} - {refusal.op for refusal in refusals}
    return Judgement(delegate, tuple(refusals), cut(seen, supported, constants, table.partitions))


def find_fault(op: Op, graph: Graph, table: Table) -> Fault | None:
    """The first reason for which a delegate leaves an operator to the CPU, in the order of its own checks."""
    row = table.rows.get(op.name)
    if row is None:
        if op.is_custom:
            return Fault("custom operator, unknown to the delegate", _operator_remedy(op, table))
        return Fault("no such operator in the delegate", _operator_remedy(op, table))
    if not op.outputs:
        return Fault("no output", "convert the network again")
    return (
        _size_fault(op)
        or _signature_fault(op, row)
        or _attribute_fault(op, row, table)
        or next((fault for name in row.checks if (fault := CHECKS[name](op, graph))), None)
        or _tensor_fault(op, row, table)
        or _backend_fault(op, table)
    )


def _operator_remedy(op: Op, table: Table) -> str:
    # what every back end of both delegates takes, in words of Keras
    general = (
        "build the layer from Conv2D, DepthwiseConv2D, pooling, Add, Multiply, Concatenate, ReLU6, sigmoid and "
        "UpSampling2D, or leave it out of the network and compute it in the app"
    )
    return table.remedies.get(op.name, general)


def _backend_fault(op: Op, table: Table) -> Fault | None:
    if op.name not in table.opencl_alone:
        return None
    return Fault("made by OpenCL alone: refused where a phone has OpenGL ES", _operator_remedy(op, table))


def _size_fault(op: Op) -> Fault | None:
    for tensor in (*op.runtime_inputs, *op.outputs):
        if tensor.is_dynamic:
            sides = "×".join("?" if side < 0 else str(side) for side in tensor.signature)
            return Fault(
                f"open size {sides} of '{tensor.name}'", "convert with all sizes fixed and the batch fixed to 1"
            )
    return None


def _signature_fault(op: Op, row: Row) -> Fault | None:
    if row.version is not None and op.version > row.version:
        return Fault(f"version {op.version}, at most {row.version}", _version_remedy(op))
    runtime, constant = len(op.runtime_inputs), len(op.constant_inputs)
    remedy = "branch and join with the layers Add, Multiply and Concatenate, two tensors at a time"
    if row.inputs is not None and not row.inputs[0] <= len(op.inputs) <= row.inputs[1]:
        return Fault(f"{len(op.inputs)} inputs, expected {row.inputs[0]}", remedy)
    if row.operands and (runtime, constant) not in row.operands:
        expected = " or ".join(f"{one} and {other}" for one, other in row.operands)
        return Fault(f"{runtime} inputs at run time and {constant} constant ones, expected {expected}", remedy)
    if row.runtime and runtime not in row.runtime:
        return Fault(f"{runtime} inputs at run time, expected {_either(row.runtime)}", remedy)
    if row.outputs and len(op.outputs) not in row.outputs:
        return Fault(f"{len(op.outputs)} outputs, expected {_either(row.outputs)}", remedy)
    return None


def _version_remedy(op: Op) -> str:
    if op.name == "TRANSPOSE_CONV":
        return "use bilinear UpSampling2D and a convolution, or keep the activation out of Conv2DTranspose"
    return "convert in float32 or fp16 with this project's export; newer versions of an operator are for other types"


def _attribute_fault(op: Op, row: Row, table: Table) -> Fault | None:
    if row.activation and op.activation not in table.activations:
        return Fault(f"fused activation {op.activation}", "use ReLU6, or an activation of its own")
    first = op.inputs[0] if op.inputs else None
    if row.ranks and first is not None and first.rank not in row.ranks:
        return Fault(f"input of rank {first.rank}, expected {_either(row.ranks)}", "keep rank 4")
    for name, value in row.required.items():
        if op.options.get(name, value) != value:
            return Fault(f"{name} is {op.options[name]:g}, must be {value:g}", f"build the layer with {name}={value:g}")
    for name, least in row.at_least.items():
        if op.options.get(name, least) < least:
            return Fault(
                f"{name} is {op.options[name]:g}, at least {least:g}", f"build the layer with {name}≥{least:g}"
            )
    return None


def _tensor_fault(op: Op, row: Row, table: Table) -> Fault | None:
    for tensors, allowed in ((op.inputs, row.types_in), (op.outputs, row.types_out)):
        for tensor in tensors:
            if tensor is None:
                continue
            if tensor.rank > table.max_rank:
                remedy = f"Reshape to at most {table.max_rank} dimensions"
                return Fault(f"rank {tensor.rank} of '{tensor.name}', at most {table.max_rank}", remedy)
            if tensor.is_constant:
                continue
            if tensor.dtype not in allowed:
                return Fault(f"{tensor.dtype} in '{tensor.name}'", _type_remedy(tensor))
            if fault := quantization(tensor):
                return fault
    return None


def _type_remedy(tensor: Tensor) -> str:
    if tensor.dtype == "INT16":
        return "use 8-bit activations (static_wi8_ai8, qat_wi8_ai8) or fp16"
    return "stay in float32" + (", or int32 for indices" if tensor.dtype == "INT64" else "")


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(str(number) for number in numbers)


def _widens_float16(op: Op) -> bool:
    """DEQUANTIZE of a float16 constant: tflite/delegates/utils.cc, FP16GraphPartitionHelper."""
    source = op.inputs[0] if op.inputs else None
    return op.name == "DEQUANTIZE" and source is not None and source.is_constant and source.dtype == "FLOAT16"


def _see_through(graph: Graph, constants: set[int]) -> Graph:
    """The graph in which operators read float16 weights directly."""
    halves = {graph.ops[index].outputs[0].index: graph.ops[index].inputs[0] for index in constants}
    ops = tuple(
        op
        if op.index in constants
        else replace(op, inputs=tuple(halves.get(t.index, t) if t is not None else None for t in op.inputs))
        for op in graph.ops
    )
    return replace(graph, ops=ops)


@cache
def load_table(delegate: Delegate) -> Table:
    """Reads the rules of one delegate from rules.toml, one row an operator."""
    content = tomllib.loads(_TABLE.read_text())
    section = content[delegate]
    rows: dict[str, Row] = {}
    for entry in section["rows"]:
        for name in entry["ops"]:
            assert name not in rows, f"{delegate}: two rows for {name}"
            rows[name] = _row(entry, section, content["types"])
    return Table(
        title=section["title"],
        max_rank=section["max_rank"],
        activations=frozenset(section["activations"]),
        partitions=section["partitions"],
        source=section["source"],
        rows=rows,
        remedies=content["remedies"],
        opencl_alone=frozenset(section.get("opencl_alone", ())),
        opencl_source=section.get("opencl_source", ""),
    )


def _row(entry: Mapping[str, Any], section: Mapping[str, Any], lists: Mapping[str, list[str]]) -> Row:
    def types(key: str) -> frozenset[str]:
        named = [*section[key], *entry.get(key, [])]
        return frozenset(part for name in named for part in (lists[name] if name.startswith("@") else [name]))

    known = {"ops", "in", "out", "only_out", *Row.__dataclass_fields__}
    assert entry.keys() <= known, f"rules.toml: unknown keys {entry.keys() - known}"
    return Row(
        source=entry["source"],
        version=entry.get("version"),
        inputs=tuple(entry["inputs"]) if "inputs" in entry else None,
        operands=tuple((one, other) for one, other in entry.get("operands", [])),
        runtime=tuple(entry.get("runtime", [])),
        outputs=tuple(entry.get("outputs", [])),
        ranks=tuple(entry.get("ranks", [])),
        activation=entry.get("activation", False),
        required=entry.get("required", {}),
        at_least=entry.get("at_least", {}),
        checks=tuple(entry.get("checks", [])),
        types_in=types("in"),
        types_out=frozenset(entry["only_out"]) if "only_out" in entry else types("out"),
    )
