"""The process that runs one file on reference kernels and on the GPU: a crash of the driver takes it along, not us.

`python -m export.gpu.child FILE INPUTS.npz RESULT_FOLDER fp32|fp16|reference` (the last runs no GPU); what LiteRT says
goes to stderr; how far it got is told by which files are there: `reference.npz`, `other.npz` (of 8-bit files),
`compiled.json`, `gpu.npz`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: Keys of the .npz files: run, then tensor. `0_1` is the second tensor of the first run.
KEY = "{run}_{tensor}"


def main(arguments: list[str]) -> None:
    """Runs the file on every set of inputs, first on the CPU, then, if asked to, on the GPU."""
    path, inputs_path, folder, precision = arguments
    with np.load(inputs_path) as archive:
        inputs = _unflatten(dict(archive))
    results = Path(folder)
    order = run_reference(path, inputs, results)
    if precision != "reference":
        run_gpu(path, inputs, results, precision == "fp32", order)


def run_reference(path: str, inputs: list[list[np.ndarray]], results: Path) -> dict[str, list[int]]:
    """Runs the file on reference kernels, or on XNNPACK where an operator has none (MediaPipe's custom one).

    Returns:
        Positions of the file's inputs and outputs in the order in which its signature names them.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = "reference"
    try:
        interpreter = Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        kernels = "xnnpack"
        try:
            interpreter = Interpreter(path)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError):
            _say(results / "reference.json", kernels="none", error=(str(error).splitlines() or [""])[0])
            return {}
    outputs = _invoke(interpreter, inputs)
    np.savez(results / "reference.npz", **_flatten(outputs))
    _say(results / "reference.json", kernels=kernels)
    if kernels == "reference" and any(details["dtype"] is np.int8 for details in interpreter.get_tensor_details()):
        # how far another right answer is: 8-bit kernels round each in their own way
        np.savez(results / "other.npz", **_flatten(_invoke(Interpreter(path), inputs)))
    return _signature_order(interpreter)


def _invoke(interpreter: Any, inputs: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    interpreter.allocate_tensors()
    outputs = []
    for tensors in inputs:
        for details, values in zip(interpreter.get_input_details(), tensors, strict=True):
            interpreter.set_tensor(details["index"], values)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(details["index"]) for details in interpreter.get_output_details()])
    return outputs


def run_gpu(
    path: str, inputs: list[list[np.ndarray]], results: Path, is_fp32: bool, order: dict[str, list[int]]
) -> None:
    """Compiles the file for the GPU alone and runs it."""
    from ai_edge_litert.compiled_model import CompiledModel, GpuOptions, HardwareAccelerator, Options

    # GPU alone: with the CPU as a fallback is_fully_accelerated() is True with most operators on the CPU
    model = CompiledModel.from_file(
        path,
        options=Options(hardware_accelerators=HardwareAccelerator.GPU, gpu_options=GpuOptions(enforce_f32=is_fp32)),
    )
    mapped = sorted({line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if ".so" in line})
    _say(results / "compiled.json", mapped=mapped, fully_accelerated=model.is_fully_accelerated())
    outputs = []
    for tensors in inputs:
        outputs.append(_run_once(model, [tensors[position] for position in order.get("inputs") or range(len(tensors))]))
    if positions := order.get("outputs"):
        outputs = [[run[positions.index(place)] for place in range(len(run))] for run in outputs]
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


def _signature_order(interpreter: Any) -> dict[str, list[int]]:
    """Where a signature sorts its tensors otherwise than the file: position in the file of each, in its order."""
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
