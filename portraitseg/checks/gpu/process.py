"""What the routes share: the arrays that go to a child process and back, and the CPU's outputs."""

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from portraitseg.checks.gpu.child import KEY
from portraitseg.checks.gpu.compare import compare
from portraitseg.checks.gpu.dequantized import write_dequantized
from portraitseg.checks.gpu.log import read_log
from portraitseg.checks.gpu.result import GpuRun, Inputs
from portraitseg.checks.gpu.tolerance import Precision, Tolerance, arithmetic, tolerance
from portraitseg.child import exit_words, run_limited
from portraitseg.tflite.graph import Graph, read_graph


@dataclass(frozen=True)
class Reference:
    """What the CPU makes of the same inputs.

    Attributes:
        kernels: `reference`, or `xnnpack` where an operator has no reference kernel; None: neither runs the file.
        outputs: run by run; None where the CPU cannot run the file.
        error: why not, by each engine in its own words.
        other: what XNNPACK makes of an 8-bit file: as right as the reference kernels, and not the same.
        other_error: why XNNPACK does not run a file that the reference kernels run.
        is_dequantized: the weights were dequantized first, as a GPU does (`dequantized.py`).
    """

    kernels: str | None
    outputs: Inputs | None
    error: str | None
    other: Inputs | None = None
    other_error: str | None = None
    is_dequantized: bool = False

    @property
    def words(self) -> str:
        """What the GPU was compared with, for a verdict."""
        if self.kernels is None:
            return "nothing"
        if self.kernels == "xnnpack":
            return "XNNPACK on the CPU"
        return "TFLite's reference kernels" + (", 8-bit weights dequantized" if self.is_dequantized else "")


def run_reference(path: Path, graph: Graph, inputs: Inputs, time_limit_s: float) -> Reference:
    """Runs a file on the CPU, each engine in a process of its own: reference kernels, XNNPACK where it tells more."""
    if arithmetic(graph) == "dynamic":
        reference = _run_dequantized(path, inputs, time_limit_s)
        if reference is not None:
            return reference
    outputs, error = _run_cpu(path, inputs, "reference", time_limit_s)
    if outputs is None:
        other, other_error = _run_cpu(path, inputs, "xnnpack", time_limit_s)
        if other is None:
            return Reference(None, None, f"reference kernels: {error}; XNNPACK: {other_error}")
        return Reference("xnnpack", other, None)
    if arithmetic(graph) not in ("int8", "int16", "dynamic"):
        return Reference("reference", outputs, None)
    # how far another right answer is: 8-bit kernels round each in their own way
    other, other_error = _run_cpu(path, inputs, "xnnpack", time_limit_s)
    return Reference("reference", outputs, None, other, other_error)


def _run_dequantized(path: Path, inputs: Inputs, time_limit_s: float) -> Reference | None:
    """The copy with float32 weights, on reference kernels; None where a file has 8-bit weights that are not known."""
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        copy = Path(name) / "dequantized.tflite"
        write_dequantized(path, copy)
        if arithmetic(read_graph(copy)) == "dynamic":
            return None
        outputs, _ = _run_cpu(copy, inputs, "reference", time_limit_s)
    return None if outputs is None else Reference("reference", outputs, None, is_dequantized=True)


def _run_cpu(path: Path, inputs: Inputs, kernels: str, time_limit_s: float) -> tuple[Inputs | None, str | None]:
    """Outputs, or why there are none."""
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        ended = run_limited(litert_command(path, inputs, folder, kernels), folder, time_limit_s)
        outputs = read_runs(folder / f"{kernels}.npz") if ended.code == 0 else None
    if outputs is not None:
        return outputs, None
    if ended.code is None:
        return None, f"no result within {time_limit_s:g} s"
    log = read_log(ended.log)
    words = next(iter(log.errors), None) or log.exception
    return None, exit_words(ended.code) + (f": {words}" if words else "")


def compared(run: GpuRun, graph: Graph, reference: Reference, gpu: Inputs, precision: Precision) -> GpuRun:
    """What is known of a run, with its outputs beside those of the CPU: they decide the verdict.

    Where no engine of the CPU runs the file, nobody can say whether the GPU is right: the verdict is `not_run`.

    Args:
        run: that found no other fault.
        graph: of the file.
        reference: of the same inputs as the GPU's outputs.
        gpu: runs, each with its outputs in the file's order.
        precision: what the GPU computed in.
    """
    if reference.outputs is None:
        reason = (
            f"the GPU ran it, and no engine of the CPU does, so that there is nothing to compare: {reference.error}"
        )
        return replace(run, verdict="not_run", reason=reason)
    limit = tolerance(graph, precision, reference.kernels, _apart(graph, reference), reference.is_dequantized)
    difference = compare(graph, reference.outputs, gpu, limit)
    return replace(
        run,
        verdict="failed" if difference.fault else "passed",
        reason=difference.fault,
        max_abs=difference.max_abs,
        mean_abs=difference.mean_abs,
        mask_iou=difference.mask_iou,
        bound=limit.bound,
        bound_reason=limit.reason,
        kernels=reference.kernels,
        beside=reference.words,
        warnings=(*run.warnings, *_cpu_warnings(reference)),
    )


def _cpu_warnings(reference: Reference) -> tuple[str, ...]:
    if reference.other_error is None:
        return ()
    return (
        f"XNNPACK, which runs such a file on a phone's CPU, does not run it ({reference.other_error}): that is no fault"
        " of the GPU; look for an activation whose scale is next to 0 (a layer that is dead on all calibration photos)",
    )


def _apart(graph: Graph, reference: Reference) -> tuple[float, float]:
    """How far XNNPACK is from the reference kernels, greatest and mean, for outputs of magnitude up to 1."""
    if reference.outputs is None or reference.other is None:
        return 0.0, 0.0
    difference = compare(graph, reference.outputs, reference.other, Tolerance(0.0, 0.0, ""))
    if difference.max_abs is None or difference.mean_abs is None:
        return 0.0, 0.0
    return difference.max_abs / difference.magnitude, difference.mean_abs / difference.magnitude


def litert_command(path: Path, inputs: Inputs, folder: Path, engine: str) -> list[str]:
    """The command of the LiteRT child, after its inputs were written.

    Args:
        path: of the file.
        inputs: runs of it.
        folder: for the child's files.
        engine: `fp32` or `fp16` on the GPU, `reference` or `xnnpack` on the CPU.
    """
    write_runs(folder / "inputs.npz", inputs)
    return [
        sys.executable,
        "-m",
        "portraitseg.checks.gpu.child",
        str(path.resolve()),
        str(folder / "inputs.npz"),
        str(folder),
        engine,
    ]


def write_runs(path: Path, runs: Inputs) -> None:
    """Writes arrays, run by run, for a child to read."""
    arrays = {KEY.format(run=r, tensor=t): values for r, run in enumerate(runs) for t, values in enumerate(run)}
    # savez's own parameters are named too, so that mypy does not take the arrays for them
    np.savez(path, allow_pickle=False, **arrays)


def read_runs(path: Path) -> Inputs | None:
    """Arrays that a child wrote, run by run; None where it did not get that far."""
    try:
        with np.load(path) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, EOFError):
        return None
    runs: dict[int, dict[int, np.ndarray]] = {}
    for key, values in arrays.items():
        run, tensor = (int(part) for part in key.split("_"))
        runs.setdefault(run, {})[tensor] = values
    return [[tensors[index] for index in sorted(tensors)] for _, tensors in sorted(runs.items())]


def read_json(path: Path) -> dict[str, object] | None:
    """A child's facts; None where it ended before or while writing them."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
