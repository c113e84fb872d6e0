"""What the routes share: the arrays that go to a child process and back, and the CPU's outputs."""

import json
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.gpu.child import KEY
from export.gpu.compare import compare
from export.gpu.result import GpuRun, Inputs
from export.gpu.tolerance import Precision, Tolerance, tolerance
from portraitseg.child import exit_words, run_limited
from portraitseg.tflite_graph import Graph


@dataclass(frozen=True)
class Reference:
    """What the CPU makes of the same inputs.

    Attributes:
        kernels: `reference`, or `xnnpack` where an operator has no reference kernel; None: the process broke off.
        outputs: run by run; None where the CPU cannot run the file.
        error: why not.
        other: what XNNPACK makes of an 8-bit file: as right as the reference kernels, and not the same.
    """

    kernels: str | None
    outputs: Inputs | None
    error: str | None
    other: Inputs | None = None


def run_reference(path: Path, inputs: Inputs, time_limit_s: float) -> Reference:
    """Runs a file on the CPU, in a child process."""
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        command = litert_command(path, inputs, folder, "reference")
        ended = run_limited(command, folder, time_limit_s)
        found = read_reference(folder)
    if found.outputs is None and found.error is None:
        broken = "no result in time" if ended.code is None else exit_words(ended.code)
        return Reference(found.kernels, None, broken)
    return found


def compared(run: GpuRun, graph: Graph, reference: Reference, gpu: Inputs, precision: Precision) -> GpuRun:
    """What is known of a run, with its outputs beside those of the CPU: they decide the verdict.

    Args:
        run: that found no other fault.
        graph: of the file.
        reference: of the same inputs as the GPU's outputs.
        gpu: runs, each with its outputs in the file's order.
        precision: what the GPU computed in.
    """
    if reference.outputs is None:
        return replace(run, verdict="failed", reason=f"no reference to compare with: {reference.error}")
    limit = tolerance(graph, precision, reference.kernels, _apart(graph, reference))
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
    )


def _apart(graph: Graph, reference: Reference) -> tuple[float, float]:
    """How far XNNPACK is from the reference kernels, greatest and mean, for outputs of magnitude up to 1."""
    if reference.outputs is None or reference.other is None:
        return 0.0, 0.0
    found = compare(graph, reference.outputs, reference.other, Tolerance(0.0, 0.0, ""))
    if found.max_abs is None or found.mean_abs is None:
        return 0.0, 0.0
    return found.max_abs / found.magnitude, found.mean_abs / found.magnitude


def litert_command(path: Path, inputs: Inputs, folder: Path, precision: str) -> list[str]:
    """The command of the LiteRT child, after its inputs were written; `precision` is `fp32`, `fp16` or `reference`."""
    write_runs(folder / "inputs.npz", inputs)
    return [
        sys.executable,
        "-m",
        "export.gpu.child",
        str(path.resolve()),
        str(folder / "inputs.npz"),
        str(folder),
        precision,
    ]


def read_reference(folder: Path) -> Reference:
    """What the LiteRT child left about the CPU."""
    said = read_json(folder / "reference.json") or {}
    return Reference(
        kernels=str(said["kernels"]) if "kernels" in said else None,
        outputs=read_runs(folder / "reference.npz"),
        error=str(said["error"]) if "error" in said else None,
        other=read_runs(folder / "other.npz"),
    )


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
