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
    found = next((path for name in ("python3.12", "python3.11") if (path := shutil.which(name))), None)
    if found is None:
        raise InputError("mediapipe 0.10.21 has wheels up to Python 3.12: install python3.12")
    return found


def missing() -> str | None:
    """What this machine lacks for the route, with the remedy; None: nothing."""
    if not environment.is_installed(FOLDER, LOCK):
        return "mediapipe 0.10.21 is not installed: `make check-gpu-classic` does it"
    if absent := [f"lib{name}" for name in LIBRARIES if ctypes.util.find_library(name) is None]:
        return f"no {' and no '.join(absent)}: {PACKAGES}"
    return None


@dataclass(frozen=True)
class Said:
    """What the child left behind."""

    ended: Ended
    found: Log
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
    said = _ask_child(subject, images)
    verdict, reason = _verdict(said, subject)
    renderer = said.renderer
    run = GpuRun(
        route=ROUTE,
        verdict=verdict,
        reason=reason,
        adapter=renderer[0] if renderer else None,
        library=renderer[1] if renderer else None,
        precision=PRECISION,
        nodes=nodes,
        delegated=_delegated(said, nodes),
        seconds=round(time.monotonic() - start, 2),
        refused=said.found.refused,
    )
    if verdict != "passed":
        return [run]
    assert said.gpu is not None
    reference = run_reference(subject.path, graph, image_inputs(graph, images), subject.time_limit_s)
    return [compared(run, graph, reference, said.gpu, PRECISION)]


def _not_float(subject: Subject) -> str | None:
    if arithmetic(subject.graph) in ("int8", "int16") or subject.graph.inputs[0].dtype != "FLOAT32":
        return "mediapipe 0.10.21 hands float files alone to the delegate"
    return None


def _verdict(said: Said, subject: Subject) -> tuple[Verdict, str | None]:
    """Every way to fail before there is anything to compare, the most telling one first."""
    if said.ended.code is None:
        return "failed", f"MediaPipe {VERSION}: no result within {subject.time_limit_s:g} s"
    if said.ended.code == NO_MEDIAPIPE:
        return "not_run", _line(said.ended.log, "no mediapipe: ") or "mediapipe does not start"
    if said.renderer is None and _has_no_egl(said.ended.log):
        return "not_run", f"EGL offers no context: {PACKAGES}"
    if said.found.refused:
        return "failed", f"the classic delegate refused: {'; '.join(said.found.refused[:3])}"
    if said.gpu is None or said.renderer is None:
        return "failed", _last_words(said)
    # in all of these mediapipe raises nothing and returns a mask, often a wrong one
    if said.found.delegated is not None:
        return "failed", f"only {said.found.delegated} operators on the GPU"
    if not said.has_delegate:
        return "failed", "TFLite made no GPU delegate, or left operators to the CPU"
    if (reason := why_not_comparable(subject.graph)) is not None:
        return "not_run", reason
    return "passed", None


def _last_words(said: Said) -> str:
    assert said.ended.code is not None
    told = next((error for error in said.found.errors if "TfLiteGpuDelegate Prepare" in error), None)
    words = told or next(iter(said.found.errors), None) or said.found.fatal or said.found.exception
    return f"MediaPipe {VERSION}: {exit_words(said.ended.code)}" + (f": {words}" if words else "")


def _has_no_egl(log: str) -> bool:
    return "kGpuService" in log or re.search(r"gl_context_egl\.cc.*(RET_CHECK failure|returned error)", log) is not None


def _line(log: str, start: str) -> str | None:
    return next((line[:200] for line in log.splitlines() if line.startswith(start)), None)


def _delegated(said: Said, nodes: int) -> int | None:
    if said.found.delegated is not None:
        return said.found.delegated
    return nodes if said.gpu is not None and said.has_delegate else None


def _ask_child(subject: Subject, images: UInt8[np.ndarray, "n h w c"]) -> Said:
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        prepare(subject.path, folder / "model.tflite")
        command = [str(FOLDER / "bin" / "python"), str(CHILD)]
        command += [str(folder / part) for part in ("model.tflite", "images.npy", "gpu.npz")]
        ended = run_limited(command, folder, subject.time_limit_s, VARIABLES)
        return Said(ended, read_log(ended.log), read_runs(folder / "gpu.npz"))
