"""Runs a file on LiteRT's GPU accelerator, GPU alone, in a child process, and compares it with the CPU."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from export.gpu.child import KEY
from export.gpu.compare import Difference, compare
from export.gpu.driver import Driver
from export.gpu.graph import Graph, Tensor
from export.gpu.tolerance import Precision, tolerance
from portraitseg import contract

Photos = Sequence[UInt8[np.ndarray, "h w 3"]]
Verdict = Literal["passed", "failed", "not_run"]
#: Runs of a file, each with one array an input.
Inputs = list[list[np.ndarray]]

#: Seconds for one file. SwiftShader takes seconds; lavapipe compiles the shaders of a new file for up to a minute.
TIME_LIMIT_S = 300.0

#: What LiteRT says is read up to this length: a fault that repeats itself fills a disk otherwise.
MAX_LOG = 2_000_000

_ROOT = Path(__file__).resolve().parents[2]

_NUMPY = {"FLOAT32": np.float32, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8, "BOOL": np.bool_}


@dataclass(frozen=True)
class GpuRun:
    """What one driver did with one file.

    Attributes:
        route: of the driver, such as `litert_swiftshader`.
        reason: why it failed or did not run.
        adapter: what LiteRT chose, in its own words.
        library: the driver's file that was mapped into the process.
        precision: what the GPU computed in.
        nodes, delegated: operators of the file, and those that ran on the GPU.
        bound, bound_reason: the tolerance.
        kernels: what it was compared with: `reference` kernels, or `xnnpack` where an operator has none.
        refused: operators that the delegate named as not supported, with its own words.
    """

    route: str
    verdict: Verdict
    reason: str | None = None
    adapter: str | None = None
    library: str | None = None
    precision: Precision | None = None
    nodes: int | None = None
    delegated: int | None = None
    max_abs: float | None = None
    mean_abs: float | None = None
    mask_iou: float | None = None
    bound: float | None = None
    bound_reason: str | None = None
    kernels: str | None = None
    seconds: float | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Said:
    """What the child left behind.

    Attributes:
        code: its exit code; None when it was stopped at the time limit.
        log: what it wrote on stderr.
        compiled: libraries that were mapped after compilation, and whether LiteRT says that everything is on the GPU.
    """

    code: int | None
    log: str
    kernels: str | None
    reference_error: str | None
    compiled: dict[str, object] | None
    reference: Inputs | None
    gpu: Inputs | None


def make_inputs(graph: Graph, photos: Photos, noise: int = 2, seed: int = 0) -> Inputs:
    """Photos, by the contract, where the file takes a photo; then noise."""
    random = np.random.default_rng(seed)
    runs: Inputs = []
    if len(graph.inputs) == 1 and _takes_photo(graph.inputs[0]):
        runs += [[_photo_input(graph.inputs[0], photo)] for photo in photos]
    return runs + [[_noise(tensor, random) for tensor in graph.inputs] for _ in range(noise)]


def _takes_photo(tensor: Tensor) -> bool:
    shape = tensor.shape
    return len(shape) == 4 and shape[0] == 1 and shape[3] in (3, 4) and tensor.dtype in ("FLOAT32", "UINT8", "INT8")


def _photo_input(tensor: Tensor, photo: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
    channels: contract.Channels = "rgb" if tensor.shape[3] == 3 else "rgba"
    size = (tensor.shape[1], tensor.shape[2])
    if tensor.dtype == "UINT8":
        return contract.image_to_inputs(photo, size, channels, "uint8")
    values = contract.image_to_inputs(photo, size, channels)
    if tensor.dtype == "FLOAT32":
        return values
    steps = np.round(values / np.float32(tensor.scales[0])) + tensor.zero_points[0]
    return np.clip(steps, -128, 127).astype(np.int8)


def _noise(tensor: Tensor, random: np.random.Generator) -> np.ndarray:
    shape = tuple(max(side, 1) for side in tensor.shape)
    if tensor.dtype == "FLOAT32":
        return random.uniform(0, 1, shape).astype(np.float32)
    if tensor.dtype in ("INT8", "UINT8"):
        kind = np.int8 if tensor.dtype == "INT8" else np.uint8
        return random.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
    return np.ones(shape, _NUMPY.get(tensor.dtype, np.float32))


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
    said = _ask_child(path, inputs, driver, precision, time_limit_s)
    seconds = time.monotonic() - start
    found = read_log(said.log)
    limit = tolerance(graph, precision, said.kernels)
    nodes = len(graph.ops)
    verdict, reason = _verdict(said, found, driver, time_limit_s)
    difference = None
    if verdict == "passed":
        assert said.reference is not None
        assert said.gpu is not None
        difference = compare(graph, said.reference, said.gpu, limit)
        verdict, reason = ("passed", None) if difference.fault is None else ("failed", difference.fault)
    return GpuRun(
        route=driver.route,
        verdict=verdict,
        reason=reason,
        adapter=found.adapter,
        library=_mapped(said, driver),
        precision=precision,
        nodes=nodes,
        delegated=_delegated(nodes, said, found),
        max_abs=difference.max_abs if difference else None,
        mean_abs=difference.mean_abs if difference else None,
        mask_iou=difference.mask_iou if difference else None,
        bound=limit.bound,
        bound_reason=limit.reason,
        kernels=said.kernels,
        seconds=round(seconds, 2),
        refused=found.refused,
    )


@dataclass(frozen=True)
class Log:
    """What LiteRT's accelerator wrote on stderr.

    Attributes:
        delegated: operators on the GPU, where it says so: only when there are others.
        refused: its lines on operators that it does not take, `NAME: why`.
        validation: its first validation error, for which it raises nothing.
        fatal: the last words before an abort.
        errors: other errors and warnings of the runtime, without those of the search for accelerators.
    """

    adapter: str | None = None
    delegated: int | None = None
    refused: tuple[str, ...] = ()
    validation: str | None = None
    fatal: str | None = None
    has_no_adapter: bool = False
    errors: tuple[str, ...] = ()


def read_log(text: str) -> Log:
    """Reads what LiteRT's accelerator wrote on stderr, by its own phrases (ai-edge-litert 2.3.0)."""
    adapter = re.search(r"Selected adapter: (.*)", text)
    refused = re.search(
        r"Following operations are not supported by GPU delegate:\n(.*?)\n[^\n]*operations will run", text, re.S
    )
    count = re.search(r"(\d+|No) operations will run on the GPU, and (?:the remaining|all) \d+", text)
    validation = re.search(r"Validation error: (.*)", text)
    fatal = re.search(r"^F\d{4} .*?\] (.*)", text, re.M)
    return Log(
        adapter=adapter[1].strip() if adapter else None,
        delegated=(0 if count[1] == "No" else int(count[1])) if count else None,
        refused=tuple(line.strip() for line in refused[1].splitlines() if line.strip()) if refused else (),
        validation=validation[1].strip() if validation else None,
        fatal=fatal[1].strip() if fatal else None,
        has_no_adapter="No adapters found" in text or "Couldn't load Vulkan" in text,
        errors=tuple(match[1].strip() for match in re.finditer(r"^(?:ERROR|WARNING): (?!\[|Logging)(.*)", text, re.M)),
    )


def _verdict(said: Said, found: Log, driver: Driver, time_limit_s: float) -> tuple[Verdict, str | None]:
    """Every way to fail before there is anything to compare, the most telling one first."""
    if said.code is None:
        return "failed", f"no result within {time_limit_s:g} s"
    if found.adapter is None and said.gpu is None:
        if found.has_no_adapter or said.code == 0:
            return "not_run", f"the driver of {driver.route} offers no adapter"
        if said.kernels is None:
            return "failed", f"the reference kernels ended the process ({_exit(said.code)})"
    if found.refused:
        return "failed", f"refused: {'; '.join(found.refused[:3])}"
    if said.compiled is not None and _mapped(said, driver) is None:
        return "not_run", f"{' or '.join(driver.libraries)} was not mapped: LiteRT ran on another driver"
    if said.gpu is None:
        return "failed", _last_words(said, found)
    if found.validation is not None:
        return "failed", f"validation error: {found.validation}"
    if found.delegated is not None or not (said.compiled and said.compiled.get("fully_accelerated")):
        return "failed", f"only {found.delegated} operators on the GPU"
    if said.reference is None:
        return "failed", f"no reference to compare with: {said.reference_error}"
    if found.adapter is None:
        return "not_run", "LiteRT names no adapter"
    return "passed", None


def _last_words(said: Said, found: Log) -> str:
    assert said.code is not None
    words = found.fatal or found.validation or next(iter(found.errors), None) or said.reference_error
    where = "running" if said.compiled is not None else "compiling"
    how = "aborted" if found.fatal else _exit(said.code)
    return f"{how} while {where}" + (f": {words}" if words else "")


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return f"crash ({signal.Signals(-code).name})"
    except ValueError:
        return f"crash (signal {-code})"


def _mapped(said: Said, driver: Driver) -> str | None:
    names = said.compiled.get("mapped") if said.compiled else None
    paths = [str(name) for name in names] if isinstance(names, list) else []
    return next((path for path in paths if Path(path).name in driver.libraries), None)


def _delegated(nodes: int, said: Said, found: Log) -> int | None:
    if found.delegated is not None:
        return found.delegated
    return nodes if said.compiled and said.compiled.get("fully_accelerated") else None


def _ask_child(path: Path, inputs: Inputs, driver: Driver, precision: Precision, time_limit_s: float) -> Said:
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        arrays = {KEY.format(run=r, tensor=t): values for r, run in enumerate(inputs) for t, values in enumerate(run)}
        # savez's own parameters are named too, so that mypy does not take the arrays for them
        np.savez(folder / "inputs.npz", allow_pickle=False, **arrays)
        command = [sys.executable, "-m", "export.gpu.child"]
        command += [str(path.resolve()), str(folder / "inputs.npz"), str(folder), precision]
        # TensorFlow's variable would hide the lines that we read
        environment = {**os.environ, **driver.environment(), "TF_CPP_MIN_LOG_LEVEL": "0"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=_ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            code: int | None = None
            try:
                code = process.wait(time_limit_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                if code is None:
                    # the driver's threads and whatever it started go with it
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        with (folder / "log").open("rb") as log:
            text = log.read(MAX_LOG).decode(errors="replace")
        return _collect(folder, code, text)


def _collect(folder: Path, code: int | None, log: str) -> Said:
    reference = _read_json(folder / "reference.json") or {}
    return Said(
        code=code,
        log=log,
        kernels=str(reference["kernels"]) if "kernels" in reference else None,
        reference_error=str(reference["error"]) if "error" in reference else None,
        compiled=_read_json(folder / "compiled.json"),
        reference=_read_runs(folder / "reference.npz"),
        gpu=_read_runs(folder / "gpu.npz"),
    )


def _read_json(path: Path) -> dict[str, object] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        # the child ended while writing it
        return None


def _read_runs(path: Path) -> Inputs | None:
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


__all__ = ["Difference", "GpuRun", "Inputs", "Photos", "make_inputs", "read_log", "run_on_gpu"]
