"""The process that runs one file once: on the CPU or on a GPU. A crash takes it along, not us, and accuses nobody else.

`python -m portraitseg.checks.gpu.child FILE INPUTS.npz RESULT_FOLDER reference|xnnpack|range|fp32|fp16`: TFLite's
reference kernels, XNNPACK, TFLite's own kernels with all tensors looked at, or the GPU in a precision. What the runtime
says goes to stderr; how far it got is told by which files are there: `compiled.json` (GPU), `gpu.npz`, `reference.npz`,
`xnnpack.npz`, `range.json`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: Keys of the .npz files: run, then tensor. `0_1` is the second tensor of the first run.
KEY = "{run}_{tensor}"


def main(arguments: list[str]) -> None:
    """Runs the file on every set of inputs, by one engine."""
    path, inputs_path, folder, engine = arguments
    with np.load(inputs_path) as archive:
        inputs = _unflatten(dict(archive))
    results = Path(folder)
    if engine in ("reference", "xnnpack"):
        run_cpu(path, inputs, results, engine)
    elif engine == "range":
        measure_range(path, inputs, results)
    else:
        run_gpu(path, inputs, results, engine == "fp32")


def run_cpu(path: str, inputs: list[list[np.ndarray]], results: Path, kernels: str) -> None:
    """Runs the file on TFLite's reference kernels, without any delegate, or on XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if kernels == "reference" else OpResolverType.AUTO
    interpreter = Interpreter(path, experimental_op_resolver_type=resolver)
    np.savez(results / f"{kernels}.npz", **_flatten(_invoke(interpreter, inputs)))


#: A constant of at most so many numbers may be an epsilon; weights are not.
MOST_NUMBERS = 8

#: Numbers below this are 0 in 16 bits.
LEAST_HALF = 2.0**-25


def measure_range(path: str, inputs: list[list[np.ndarray]], results: Path) -> None:
    """Notes the greatest absolute value of each float tensor, by input (-1: not finite), and vanishing constants."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(path, experimental_op_resolver_type=resolver, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    ops = interpreter._get_ops_details()
    made = sorted({int(index) for op in ops for index in op["outputs"]})
    read = sorted({int(index) for op in ops for index in op["inputs"] if index >= 0} - set(made))
    kinds = {details["index"]: details["dtype"] for details in interpreter.get_tensor_details()}
    greatest: dict[int, list[float]] = {index: [] for index in made if kinds.get(index) is np.float32}
    for tensors in inputs:
        for details, values in zip(interpreter.get_input_details(), tensors, strict=True):
            interpreter.set_tensor(details["index"], values)
        interpreter.invoke()
        for index, maxima in greatest.items():
            most = float(np.abs(interpreter.get_tensor(index)).max(initial=0.0))
            maxima.append(most if np.isfinite(most) else -1.0)
    fed = {details["index"] for details in interpreter.get_input_details()}
    constants = [index for index in read if kinds.get(index) is np.float32 and index not in fed]
    vanishing = [index for index in constants if _vanishes(interpreter.get_tensor(index))]
    _say(results / "range.json", greatest=greatest, vanishing=vanishing)


def _vanishes(values: np.ndarray) -> bool:
    return 0 < values.size <= MOST_NUMBERS and bool(np.any((values != 0) & (np.abs(values) < LEAST_HALF)))


def _invoke(interpreter: Any, inputs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    interpreter.allocate_tensors()
    outputs = []
    for tensors in inputs:
        for details, values in zip(interpreter.get_input_details(), tensors, strict=True):
            interpreter.set_tensor(details["index"], values)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()])
    return outputs


def run_gpu(path: str, inputs: list[list[np.ndarray]], results: Path, is_fp32: bool) -> None:
    """Compiles the file for the GPU alone and runs it."""
    from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options

    # GPU alone: with the CPU as a fallback is_fully_accelerated() is True with most operators on the CPU
    model = CompiledModel.from_file(
        path,
        options=Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=is_fp32)),
    )
    mapped = sorted({line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line})
    _say(results / "compiled.json", mapped=mapped, fully_accelerated=model.is_fully_accelerated())
    order = _signature_order(path)
    outputs = []
    for tensors in inputs:
        outputs.append(_run_once(model, [tensors[position] for position in order.get("inputs") or range(len(tensors))]))
    if positions := order.get("outputs"):
        outputs = [[run[positions.index(index)] for index in range(len(run))] for run in outputs]
    np.savez(results / "gpu.npz", **_flatten(outputs))


def _run_once(model: Any, tensors: list[np.ndarray]) -> list[np.ndarray]:
    while True:
        in_buffers, out_buffers = model.create_input_buffers(0), model.create_output_buffers(0)
        for buffer, values in zip(in_buffers, tensors, strict=True):
            buffer.write(np.ascontiguousarray(values))
        model.run_by_index(0, in_buffers, out_buffers)
        try:
            # reading waits until the work is done, which run_by_index does not
            return [_read(buffer) for buffer in out_buffers]
        except RuntimeError as error:
            # it waits for two minutes at most; a software driver on a busy machine compiles for longer, and
            # the buffer stays locked. How long all of it may take is for our parent to say
            if "Failed to lock" not in str(error):
                raise
            print("LiteRT waited in vain: once more", file=sys.stderr, flush=True)


def _read(buffer: Any) -> np.ndarray:
    details = buffer.get_tensor_details()
    shape = tuple(int(side) for side in details["shape"])
    return buffer.read(int(np.prod(shape)), np.dtype(details["dtype"]).type).reshape(shape)


def _signature_order(path: str) -> dict[str, list[int]]:
    """Where a signature sorts its tensors otherwise than the file: position in the file of each, in its order."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # read alone: nothing is allocated or run
    try:
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        interpreter = Interpreter(path, experimental_op_resolver_type=plain)
    except (RuntimeError, ValueError):
        # an operator that the CPU does not have: the GPU may
        return {}
    signatures = interpreter._get_full_signature_list()
    if not signatures:
        return {}
    signature = next(iter(signatures.values()))
    order = {}
    for kind, details in (("inputs", interpreter.get_input_details()), ("outputs", interpreter.get_output_details())):
        indices = [entry["index"] for entry in details]
        named = [signature[kind][name] for name in sorted(signature[kind])]
        order[kind] = [indices.index(index) for index in named] if sorted(named) == sorted(indices) else []
    return order


def _flatten(runs: list[list[np.ndarray]]) -> dict[str, Any]:
    return {KEY.format(run=r, tensor=t): values for r, run in enumerate(runs) for t, values in enumerate(run)}


def _unflatten(arrays: dict[str, np.ndarray]) -> list[list[np.ndarray]]:
    runs: dict[int, dict[int, np.ndarray]] = {}
    for key, values in arrays.items():
        run, tensor = (int(part) for part in key.split("_"))
        runs.setdefault(run, {})[tensor] = values
    return [[runs[run][tensor] for tensor in sorted(runs[run])] for run in sorted(runs)]


def _say(path: Path, **facts: Any) -> None:
    path.write_text(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1:])
