"""The route over LiteRT's GPU accelerator (ML Drift) on Vulkan: GPU alone, in a child process."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from portraitseg.checks.gpu.driver import Driver, find_drivers
from portraitseg.checks.gpu.inputs import make_inputs
from portraitseg.checks.gpu.log import Log, read_log
from portraitseg.checks.gpu.process import compared, litert_command, read_json, read_runs, run_reference
from portraitseg.checks.gpu.result import TIME_LIMIT_S, GpuRun, Inputs, Subject, Verdict
from portraitseg.checks.gpu.tolerance import Precision
from portraitseg.child import Ended, exit_words, run_limited
from portraitseg.tflite.graph import Graph

#: Said of the run where there is nothing to run on.
NO_DRIVER = "no Vulkan driver: `make gpu-driver` fetches SwiftShader"


@dataclass(frozen=True)
class ChildResult:
    """What the child left behind.

    Attributes:
        compiled: libraries that were mapped after compilation, and whether LiteRT says that everything is on the GPU.
    """

    ended: Ended
    compiled: dict[str, object] | None
    gpu: Inputs | None


def run_file(subject: Subject) -> list[GpuRun]:
    """Runs a file on every Vulkan driver, or on those that were chosen."""
    chosen = find_drivers() if subject.drivers is None else subject.drivers
    if not chosen:
        return [GpuRun("litert_swiftshader", "not_run", NO_DRIVER, nodes=len(subject.graph.ops))]
    inputs = make_inputs(subject.graph, subject.photos)
    return [run_on_gpu(subject.path, subject.graph, inputs, driver, subject.time_limit_s) for driver in chosen]


def run_on_gpu(path: Path, graph: Graph, inputs: Inputs, driver: Driver, time_limit_s: float = TIME_LIMIT_S) -> GpuRun:
    """Runs a file on one driver and compares its outputs with those of reference kernels.

    Args:
        path: of the file.
        graph: what `read_graph(path)` gave.
        inputs: of `make_inputs`.
        driver: of `find_drivers`.
        time_limit_s: after which the process is stopped and the file counts as failed.
    """
    # 16 bits are what a phone computes in unless told otherwise
    precision: Precision = "fp16" if driver.has_float16 else "fp32"
    start = time.monotonic()
    result = _ask_child(path, inputs, driver, precision, time_limit_s)
    seconds = time.monotonic() - start
    log = read_log(result.ended.log)
    nodes = len(graph.ops)
    verdict, reason = _verdict(result, log, driver, time_limit_s)
    run = GpuRun(
        route=driver.route,
        verdict=verdict,
        reason=reason,
        adapter=log.adapter,
        library=_mapped(result, driver),
        precision=precision,
        nodes=nodes,
        delegated=_delegated(nodes, result, log),
        seconds=round(seconds, 2),
        refused=log.refused,
    )
    if verdict != "passed":
        return run
    assert result.gpu is not None
    return compared(run, graph, run_reference(path, graph, inputs, time_limit_s), result.gpu, precision)


def _verdict(result: ChildResult, log: Log, driver: Driver, time_limit_s: float) -> tuple[Verdict, str | None]:
    """Every way to fail before there is anything to compare, the most telling one first."""
    if result.ended.code is None:
        return "failed", f"ML Drift: no result within {time_limit_s:g} s"
    if log.adapter is None and result.gpu is None and (log.has_no_adapter or result.ended.code == 0):
        return "not_run", f"the driver of {driver.route} offers no adapter"
    if log.refused:
        return "failed", f"ML Drift refused: {'; '.join(log.refused[:3])}"
    if result.compiled is not None and _mapped(result, driver) is None:
        return "not_run", f"{' or '.join(driver.libraries)} was not mapped: LiteRT ran on another driver"
    if result.gpu is None:
        return "failed", _last_words(result, log)
    if log.validation is not None:
        return "failed", f"WebGPU validation error: {log.validation}"
    if log.delegated is not None or not (result.compiled and result.compiled.get("fully_accelerated")):
        return "failed", f"only {log.delegated} operators on the GPU"
    if log.adapter is None:
        return "not_run", "LiteRT names no adapter"
    return "passed", None


def _last_words(result: ChildResult, log: Log) -> str:
    assert result.ended.code is not None
    words = log.fatal or log.validation or next(iter(log.errors), None) or log.exception
    where = "running" if result.compiled is not None else "compiling"
    how = "aborted" if log.fatal else exit_words(result.ended.code)
    return f"ML Drift: {how} while {where}" + (f": {words}" if words else "")


def _mapped(result: ChildResult, driver: Driver) -> str | None:
    names = result.compiled.get("mapped") if result.compiled else None
    paths = [str(name) for name in names] if isinstance(names, list) else []
    return next((path for path in paths if Path(path).name in driver.libraries), None)


def _delegated(nodes: int, result: ChildResult, log: Log) -> int | None:
    if log.delegated is not None:
        return log.delegated
    return nodes if result.compiled and result.compiled.get("fully_accelerated") else None


def _ask_child(path: Path, inputs: Inputs, driver: Driver, precision: Precision, time_limit_s: float) -> ChildResult:
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        command = litert_command(path, inputs, folder, precision)
        # TensorFlow's variable would hide the lines that we read
        ended = run_limited(command, folder, time_limit_s, {**driver.environment(), "TF_CPP_MIN_LOG_LEVEL": "0"})
        return ChildResult(
            ended=ended,
            compiled=read_json(folder / "compiled.json"),
            gpu=read_runs(folder / "gpu.npz"),
        )
