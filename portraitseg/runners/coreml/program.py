"""Evaluates a saved ML program, one operator after the other; `coreml_network` brings old networks here too."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from portraitseg.errors import InputError
from portraitseg.runners.coreml.ops import OPS
from portraitseg.runners.coreml.threads import one_thread
from portraitseg.runners.coreml.values import FLOAT16, Values

#: Where activations are rounded to float16: where the file says so, nowhere, or after every operator.
Precision = Literal["file", "fp32", "fp16"]
#: Called with the name and the value of each tensor in the order of computation.
Watch = Callable[[str, np.ndarray], None]


#: Operators whose results are among their operands, so that rounding has nothing to do.
SELECTING = {
    "relu",
    "relu6",
    "max_pool",
    "concat",
    "transpose",
    "reshape",
    "expand_dims",
    "squeeze",
    "identity",
    "split",
}


@dataclass(frozen=True)
class Ref:
    """The name of a tensor, where a constant could stand too."""

    name: str


@dataclass
class Step:
    """One operator.

    Attributes:
        kind: a key of `OPS`.
        inputs: parameter → `Ref`, list of them, or constant.
        outputs: names of the tensors that it makes.
        is_half: for each output, whether the file says float16.
        shapes: of the outputs as the file says, None where it does not.
    """

    kind: str
    inputs: dict[str, Any]
    outputs: tuple[str, ...]
    is_half: tuple[bool, ...] = (False,)
    shapes: tuple[tuple[int, ...] | None, ...] = (None,)

    def needs(self) -> Iterator[str]:
        """Names of the tensors that it reads."""
        for value in self.inputs.values():
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, Ref):
                    yield part.name


@dataclass
class Program:
    """A checked sequence of operators. Tensors are NCHW float32, whatever their type in the file.

    Attributes:
        path: of the file, for messages.
        steps: in the order of computation, constants folded.
        outputs: names of the results.
    """

    path: Path
    steps: Sequence[Step]
    outputs: Sequence[str]
    _last_use: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for step in self.steps:
            check_known(self.path, step)
        self._last_use = {name: i for i, step in enumerate(self.steps) for name in step.needs()}

    def evaluate(
        self, inputs: Mapping[str, np.ndarray], precision: Precision = "file", watch: Watch | None = None
    ) -> dict[str, np.ndarray]:
        """Runs the program.

        Args:
            inputs: tensor by name; images as NCHW float32, 0..255.
            precision: `file` rounds to float16 where the program's types say so; `fp32` never (weights stay as they
                are stored); `fp16` after every operator, which is how a neural engine or a GPU runs a float network.
            watch: sees each tensor, so that two runtimes can be compared layer by layer.

        Returns:
            Result by name, float32.

        Raises:
            InputError: operands that do not fit each other, or a result of another shape than the file says.
        """
        with one_thread():
            return self._evaluate(inputs, precision, watch)

    def _evaluate(
        self, inputs: Mapping[str, np.ndarray], precision: Precision, watch: Watch | None
    ) -> dict[str, np.ndarray]:
        tensors: dict[str, Any] = dict(inputs)
        for i, step in enumerate(self.steps):
            for name, value in zip(step.outputs, run_step(self.path, step, tensors, precision), strict=True):
                tensors[name] = value
                if watch is not None:
                    watch(name, value)
            for name in step.needs():
                # activations of a photo would otherwise add up to hundreds of megabytes
                if self._last_use[name] == i and name not in self.outputs:
                    tensors.pop(name, None)
        return {name: np.asarray(tensors[name]) for name in self.outputs}


def run_step(path: Path, step: Step, tensors: Mapping[str, Any], precision: Precision) -> list[Any]:
    """Runs one operator; see `Program.evaluate`."""

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(part) for part in value]
        return tensors[value.name] if isinstance(value, Ref) else value

    try:
        result = OPS[step.kind](**{name: resolve(value) for name, value in step.inputs.items()})
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise InputError(f"{path}: op '{step.kind}' of tensor '{step.outputs[0]}': {error}") from error
    results = list(result) if isinstance(result, tuple) else [result]
    for i, name in enumerate(step.outputs):
        shape = step.shapes[i]
        if shape is not None and np.shape(results[i]) != shape:
            raise InputError(
                f"{path}: op '{step.kind}' makes tensor '{name}' of shape {np.shape(results[i])}, the file says {shape}"
            )
        if step.kind not in SELECTING and (precision == "fp16" or (precision == "file" and step.is_half[i])):
            results[i] = round_half(results[i])
    return results


def round_half(value: Any) -> Any:
    """To the nearest float16 (ties to even), kept as float32; beyond ±65504 infinite, as on a device."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or not value.size:
        return value
    size = np.abs(value)
    if not size.max() <= 65504:
        with np.errstate(over="ignore"):
            return value.astype(np.float16).astype(np.float32)
    # numpy's own cast takes ten times as long as all the convolutions of Fast-SCNN; of the 23 bits of the significand
    # 10 stay, the rest rounds
    bits = np.ascontiguousarray(value).view(np.uint32)
    rounded = (bits >> np.uint32(13)) & np.uint32(1)
    rounded += bits
    rounded += np.uint32(0xFFF)
    rounded &= np.uint32(0xFFFFE000)
    result = rounded.view(np.float32)
    # below 2^-14 float16 is subnormal: steps of 2^-24
    small = np.nonzero((size < np.float32(2**-14)) & (size > 0))
    result[small] = np.rint(value[small] * np.float32(2**24)) * np.float32(2**-24)
    return result


def check_known(path: Path, step: Step) -> None:
    """Checks that the evaluator has an operator with all the parameters that a step passes.

    Raises:
        InputError: names the operator and the tensor.
    """
    if step.kind not in OPS:
        raise InputError(
            f"{path}: op '{step.kind}', which makes tensor '{step.outputs[0]}', is not known to the Core ML evaluator:"
            " add it to portraitseg/runners/coreml/ops.py, or run the file on macOS"
        )
    unknown = step.inputs.keys() - inspect.signature(OPS[step.kind]).parameters.keys()
    if unknown:
        raise InputError(
            f"{path}: op '{step.kind}' of tensor '{step.outputs[0]}': parameter '{min(unknown)}' is not known to the"
            " Core ML evaluator"
        )


def load_program(path: Path, spec: Any, folder: Path) -> Program:
    """Reads an ML program; constants and compressed weights are decompressed here.

    Args:
        spec: `Model` protobuf with an mlProgram.
        folder: of its weight files.

    Raises:
        InputError: an unknown operator, several functions, or a damaged weight file.
    """
    functions = spec.mlProgram.functions
    if list(functions) != ["main"]:
        raise InputError(f"{path}: functions {sorted(functions)}: a portrait file has one, 'main'")
    block = functions["main"].block_specializations[functions["main"].opset]
    values = Values(path, folder)
    constants: dict[str, Any] = {}
    steps = []
    for operation in block.operations:
        if operation.type == "const":
            constants[operation.outputs[0].name] = values.read(operation.attributes["val"])
            continue
        step = _read_step(path, operation, constants, values)
        check_known(path, step)
        if any(True for _ in step.needs()):
            steps.append(step)
        else:
            # weights are of their declared type whatever the precision of the activations
            constants.update(zip(step.outputs, run_step(path, step, {}, "file"), strict=True))
    return Program(path, steps, list(block.outputs))


def _read_step(path: Path, operation: Any, constants: Mapping[str, Any], values: Values) -> Step:
    if operation.blocks:
        raise InputError(f"{path}: op '{operation.type}' has a block of its own: control flow is not known")
    # constexpr_ operators of iOS 16 have their parameters as attributes
    inputs = {key: values.read(value) for key, value in operation.attributes.items() if key != "name"}
    for key, argument in operation.inputs.items():
        parts = [_read_binding(binding, constants, values) for binding in argument.arguments]
        inputs[key] = parts if len(parts) > 1 or key == "values" else parts[0]
    types = [output.type.tensorType for output in operation.outputs]
    return Step(
        operation.type,
        inputs,
        tuple(output.name for output in operation.outputs),
        tuple(kind.dataType == FLOAT16 for kind in types),
        tuple(_shape(kind) for kind in types),
    )


def _read_binding(binding: Any, constants: Mapping[str, Any], values: Values) -> Any:
    if binding.WhichOneof("binding") == "value":
        return values.read(binding.value)
    return constants[binding.name] if binding.name in constants else Ref(binding.name)


def _shape(tensor: Any) -> tuple[int, ...] | None:
    """The declared shape; None when a side is open."""
    if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
        return None
    return tuple(int(dimension.constant.size) for dimension in tensor.dimensions)
