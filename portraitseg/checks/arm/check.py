"""What each emulated core makes of files: parity with this machine, kernels, instructions, and the verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from portraitseg.checks.arm import fetch
from portraitseg.checks.arm.cores import CORES
from portraitseg.checks.arm.counts import Count
from portraitseg.checks.arm.emulate import TIME_LIMIT_S, Machine, Outcome, Task, run_emulated, run_native
from portraitseg.checks.arm.tolerance import is_half_precision, tolerance
from portraitseg.checks.gpu.compare import compare
from portraitseg.checks.gpu.inputs import make_inputs
from portraitseg.checks.gpu.result import Inputs, Photos, Verdict
from portraitseg.errors import InputError
from portraitseg.manifest import ArmCheck
from portraitseg.tflite.graph import Graph, Op, read_graph

#: A mask that varies less over all pixels and runs says the same of everything.
LEAST_SPREAD = 1e-4


@dataclass(frozen=True)
class ArmRun:
    """What one core made of one file.

    Attributes:
        core: by name, such as `cortex-a76`.
        reason: why it failed, did not run, or did not count.
        bound, bound_reason: the tolerance.
        count: of one inference; None where nothing could count.
        ratio: of the instructions to those of the reference file on the same core.
    """

    core: str
    verdict: Verdict
    reason: str | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    mask_iou: float | None = None
    bound: float | None = None
    bound_reason: str | None = None
    count: Count | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class FileReport:
    """What is known of one file on phones' processors."""

    path: Path
    is_half: bool
    photos: int
    reference: str | None
    runs: tuple[ArmRun, ...]

    @property
    def has_failed(self) -> bool:
        """Whether a core failed on it."""
        return any(run.verdict == "failed" for run in self.runs)


def examine(
    paths: Sequence[Path],
    photos: Photos,
    cores: Sequence[str] = tuple(CORES),
    reference: Path | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[FileReport]:
    """Runs .tflite files on emulated cores.

    Args:
        paths: any .tflite files, ours or foreign.
        photos: RGB, of any size; black, white and noise are added.
        cores: keys of `CORES`.
        reference: a file whose instructions are 1.
        time_limit_s: for each file on each core.

    Raises:
        InputError: no TFLite file, or a damaged one.
    """
    listed = [*paths, *([reference] if reference is not None and reference not in paths else [])]
    tasks = [_task(path, photos) for path in listed]
    halves = [is_half_precision(path.read_bytes()) for path in listed]
    lacks = fetch.why_not()
    machine, uncounted = (None, lacks) if lacks else _machine()
    native = run_native(tasks, time_limit_s) if machine else [Outcome(None, lacks, is_ours=True)] * len(tasks)
    by_core = {}
    for core in cores:
        found = run_emulated(tasks, core, machine, time_limit_s) if machine else native
        has_half = "fphp" in CORES[core].features.split()
        runs = [
            judge(core, task.graph, mine, theirs, is_half, has_half)
            for task, mine, theirs, is_half in zip(tasks, found, native, halves, strict=True)
        ]
        base = runs[listed.index(reference)].count if reference is not None else None
        by_core[core] = [_finish(run, base, uncounted) for run in runs]
    name = reference.name if reference is not None else None
    return [
        FileReport(path, halves[place], len(photos), name, tuple(by_core[core][place] for core in cores))
        for place, path in enumerate(paths)
    ]


def _machine() -> tuple[Machine, str | None]:
    """The fetched machine, and why it cannot count."""
    folder = fetch.cache_folder()
    try:
        return Machine(folder / "machine", fetch.build_plugin(folder)), None
    except InputError as error:
        return Machine(folder / "machine", None), f"instructions not counted: {error}"


def _task(path: Path, photos: Photos) -> Task:
    graph = read_graph(path)
    inputs = make_inputs(graph, photos, noise=1)
    return Task(path, graph, [*_extremes(inputs), *inputs])


def _extremes(inputs: Inputs) -> Inputs:
    """The least and the greatest input of each type: black and white, for a photo."""
    ends = []
    for pick in (0, 1):
        run = []
        for values in inputs[0]:
            kind = values.dtype
            # what is neither a number of light nor a byte of it may be an index
            bounds = (np.iinfo(kind).min, np.iinfo(kind).max) if kind in (np.int8, np.uint8) else (0, 1)
            run.append(np.full_like(values, bounds[pick]))
        ends.append(run)
    return ends


def judge(
    core: str,
    graph: Graph,
    emulated: Outcome,
    native: Outcome,
    is_half: bool = False,
    has_half: bool = False,
) -> ArmRun:
    """The verdict on one file: every way to fail before there is anything to compare, the most telling one first."""
    if emulated.is_ours or native.is_ours:
        return ArmRun(core, "not_run", emulated.error or native.error)
    if emulated.outputs is None:
        return ArmRun(core, "failed", emulated.error)
    if native.outputs is None:
        return ArmRun(core, "failed", f"this machine's own LiteRT: {native.error}")
    run = ArmRun(core, "passed", count=emulated.count)
    if fault := _nonsense(graph, emulated.outputs):
        return replace(run, verdict="failed", reason=fault)
    limit = tolerance(graph, is_half, has_half)
    difference = compare(graph, native.outputs, emulated.outputs, limit)
    fault = difference.fault.replace("on the GPU", "on the core") + _suspects(graph) if difference.fault else None
    return replace(
        run,
        verdict="failed" if fault else "passed",
        reason=fault,
        max_abs=difference.max_abs,
        mean_abs=difference.mean_abs,
        mask_iou=difference.mask_iou,
        bound=limit.bound * difference.magnitude,
        bound_reason=limit.reason,
    )


def _suspects(graph: Graph) -> str:
    """By which operators int8 files are known to differ: where a step's half is rounded to another side."""
    layers = [op.layer for op in graph.ops if op.outputs[0].dtype in ("INT8", "UINT8") and _meets_halves(op)]
    if not layers:
        return ""
    more = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    return (
        f"; x86 rounds halves of a step otherwise in 8-bit MEAN and MUL (docs/arm.md), here layer '{layers[0]}'{more}"
    )


def _meets_halves(op: Op) -> bool:
    """Whether results of an operator come to lie on halves of a step, or as near as x86 loses them."""
    scales = [tensor.scales for tensor in (*op.runtime_inputs, op.outputs[0])]
    if op.name == "MUL" and len(scales) == 3 and all(len(scale) == 1 for scale in scales):
        ratio = scales[0][0] * scales[1][0] / scales[2][0]
        return math.frexp(ratio)[0] == 0.5
    return op.name == "MEAN"


def _nonsense(graph: Graph, outputs: Inputs) -> str | None:
    """Outputs that need no comparison to be wrong: not finite, or the same everywhere."""
    for place, tensor in enumerate(graph.outputs):
        values = np.stack([run[place] for run in outputs]).astype(np.float64)
        if count := int((~np.isfinite(values)).sum()):
            wrong = sum(not np.isfinite(run[place]).all() for run in outputs)
            return f"output '{tensor.name}' is not finite at {count} places, in {wrong} of {len(outputs)} runs"
        scale = tensor.scales[0] if len(tensor.scales) == 1 else 1.0
        if not np.ptp(values) * scale > LEAST_SPREAD:
            return f"output '{tensor.name}' is {values.flat[0]:.4g} everywhere, whatever the input"
    return None


def _finish(run: ArmRun, base: Count | None, uncounted: str | None) -> ArmRun:
    if run.count is None:
        return replace(run, reason=run.reason or uncounted)
    return replace(run, ratio=run.count.instructions / base.instructions if base else None)


def to_checks(report: FileReport) -> list[ArmCheck]:
    """Rows of the manifest; micro-kernels only, the largest first."""
    return [
        ArmCheck(
            core=run.core,
            verdict=run.verdict,
            max_abs=run.max_abs,
            mean_abs=run.mean_abs,
            mask_iou=run.mask_iou,
            instructions=run.count.instructions if run.count else None,
            loaded_bytes=run.count.loaded if run.count else None,
            stored_bytes=run.count.stored if run.count else None,
            reference=report.reference,
            ratio_to_reference=round(run.ratio, 4) if run.ratio else None,
            kernels=tuple(name for name in run.count.kernels if "_ukernel_" in name) if run.count else (),
            reason=run.reason,
        )
        for run in report.runs
    ]
