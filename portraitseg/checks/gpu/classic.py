"""The route over the classic GPU delegate: mediapipe 0.10.21 on EGL, in an environment and a process of its own."""

import ctypes.util
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from portraitseg.checks.gpu import environment
from portraitseg.checks.gpu.inputs import image_inputs, make_images
from portraitseg.checks.gpu.log import Log, read_log
from portraitseg.checks.gpu.process import compared, read_runs, run_reference
from portraitseg.checks.gpu.result import GpuRun, Inputs, Subject, Verdict
from portraitseg.checks.gpu.segmenter import prepare, why_not, why_not_comparable
from portraitseg.checks.gpu.tolerance import Precision, arithmetic
from portraitseg.child import Ended, exit_words, run_limited
from portraitseg.errors import InputError

ROUTE = "classic_mediapipe"

FOLDER = environment.CACHE / "gpu-classic"
LOCK = Path(__file__).with_name("classic-requirements.lock")
CHILD = Path(__file__).with_name("classic_child.py")

VERSION = "0.10.21"

#: That mediapipe has wheels for no later one.
PYTHON_END = (3, 13)

#: The libraries that mediapipe loads, and where Debian and Ubuntu have them; the last is Mesa's OpenGL in software.
LIBRARIES = ("EGL", "GLESv2")
PACKAGES = "apt-get install libegl1 libegl-mesa0 libgles2 libgl1-mesa-dri"

#: The child's exit code where mediapipe does not start: a library that it links is not there.
NO_MEDIAPIPE = 3

#: mediapipe lets the delegate keep its tensors in 16 bits, and hands over masks of 16 bits.
PRECISION: Precision = "fp16"

#: Without a display; the driver in software, so that a run is the same everywhere.
VARIABLES = {"EGL_PLATFORM": "surfaceless", "LIBGL_ALWAYS_SOFTWARE": "1", "TF_CPP_MIN_LOG_LEVEL": "0"}


def install() -> None:
    """Builds the environment from its hashed lock, where it is not there yet.

    Raises:
        InputError: no Python for it, or the packages could not be fetched.
    """
    if environment.is_installed(FOLDER, LOCK):
        return
    python = _python()
    environment.call([python, "-m", "venv", "--clear", str(FOLDER)])
    pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # no dependencies: mediapipe's own list has jax in it, which a segmenter never loads
    environment.call([*pip, "--no-deps", "--require-hashes", "--requirement", str(LOCK)])
    environment.record(FOLDER, LOCK)


def _python() -> str:
    if sys.version_info < PYTHON_END:
        return sys.executable
    program = next((path for name in ("python3.12", "python3.11") if (path := shutil.which(name))), None)
    if program is None:
        raise InputError("mediapipe 0.10.21 has wheels up to Python 3.12: install python3.12")
    return program


def missing() -> str | None:
    """What this machine lacks for the route, with the remedy; None: nothing."""
    if not environment.is_installed(FOLDER, LOCK):
        return "mediapipe 0.10.21 is not installed: `make check-gpu-classic` does it"
    if absent := [f"lib{name}" for name in LIBRARIES if ctypes.util.find_library(name) is None]:
        return f"no {' and no '.join(absent)}: {PACKAGES}"
    return None


@dataclass(frozen=True)
class ChildResult:
    """What the child left behind."""

    ended: Ended
    log: Log
    gpu: Inputs | None

    @property
    def renderer(self) -> tuple[str, str] | None:
        """What OpenGL runs on, and its version; None where there was no context."""
        match = re.search(r"GL version: \S+ \((.*?)\), renderer: (.*)", self.ended.log)
        return (match[2].strip(), match[1].strip()) if match else None

    @property
    def has_delegate(self) -> bool:
        """Whether TFLite made the delegate, and left nothing to the CPU."""
        log = self.ended.log
        return "Created TensorFlow Lite delegate for GPU" in log and "XNNPACK delegate for CPU" not in log


def run_file(subject: Subject) -> list[GpuRun]:
    """Segments photos and noise with the delegate, and compares the masks with those of the CPU."""
    graph, nodes = subject.graph, len(subject.graph.ops)
    reason = why_not(subject) or _not_float(subject) or missing()
    if reason is not None:
        return [GpuRun(ROUTE, "not_run", reason, nodes=nodes)]
    images = make_images(graph, subject.photos)
    start = time.monotonic()
    result = _ask_child(subject, images)
    verdict, reason = _verdict(result, subject)
    renderer = result.renderer
    run = GpuRun(
        route=ROUTE,
        verdict=verdict,
        reason=reason,
        adapter=renderer[0] if renderer else None,
        library=renderer[1] if renderer else None,
        precision=PRECISION,
        nodes=nodes,
        delegated=_delegated(result, nodes),
        seconds=round(time.monotonic() - start, 2),
        refused=result.log.refused,
    )
    if verdict != "passed":
        return [run]
    assert result.gpu is not None
    reference = run_reference(subject.path, graph, image_inputs(graph, images), subject.time_limit_s)
    return [compared(run, graph, reference, result.gpu, PRECISION)]


def _not_float(subject: Subject) -> str | None:
    if arithmetic(subject.graph) in ("int8", "int16") or subject.graph.inputs[0].dtype != "FLOAT32":
        return "mediapipe 0.10.21 hands float files alone to the delegate"
    return None


def _verdict(result: ChildResult, subject: Subject) -> tuple[Verdict, str | None]:
    """Every way to fail before there is anything to compare, the most telling one first."""
    if result.ended.code is None:
        return "failed", f"MediaPipe {VERSION}: no result within {subject.time_limit_s:g} s"
    if result.ended.code == NO_MEDIAPIPE:
        return "not_run", _line(result.ended.log, "no mediapipe: ") or "mediapipe does not start"
    if result.renderer is None and _has_no_egl(result.ended.log):
        return "not_run", f"EGL offers no context: {PACKAGES}"
    if result.log.refused:
        return "failed", f"the classic delegate refused: {'; '.join(result.log.refused[:3])}"
    if result.gpu is None or result.renderer is None:
        return "failed", _last_words(result)
    # in all of these mediapipe raises nothing and returns a mask, often a wrong one
    if result.log.delegated is not None:
        return "failed", f"only {result.log.delegated} operators on the GPU"
    if not result.has_delegate:
        return "failed", "TFLite made no GPU delegate, or left operators to the CPU"
    if (reason := why_not_comparable(subject.graph)) is not None:
        return "not_run", reason
    return "passed", None


def _last_words(result: ChildResult) -> str:
    assert result.ended.code is not None
    prepare_error = next((error for error in result.log.errors if "TfLiteGpuDelegate Prepare" in error), None)
    words = prepare_error or next(iter(result.log.errors), None) or result.log.fatal or result.log.exception
    return f"MediaPipe {VERSION}: {exit_words(result.ended.code)}" + (f": {words}" if words else "")


def _has_no_egl(log: str) -> bool:
    return "kGpuService" in log or re.search(r"gl_context_egl\.cc.*(RET_CHECK failure|returned error)", log) is not None


def _line(log: str, start: str) -> str | None:
    return next((line[:200] for line in log.splitlines() if line.startswith(start)), None)


def _delegated(result: ChildResult, nodes: int) -> int | None:
    if result.log.delegated is not None:
        return result.log.delegated
    return nodes if result.gpu is not None and result.has_delegate else None


def _ask_child(subject: Subject, images: UInt8[np.ndarray, "n h w c"]) -> ChildResult:
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        prepare(subject.path, folder / "model.tflite")
        command = [str(FOLDER / "bin" / "python"), str(CHILD)]
        command += [str(folder / part) for part in ("model.tflite", "images.npy", "gpu.npz")]
        ended = run_limited(command, folder, subject.time_limit_s, VARIABLES)
        return ChildResult(ended, read_log(ended.log), read_runs(folder / "gpu.npz"))
