"""The routes in a browser: headless Chromium with MediaPipe on WebGL2 and LiteRT on WebGPU, pages on loopback."""

import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from portraitseg.checks.gpu import environment
from portraitseg.checks.gpu.inputs import image_inputs, make_images, make_inputs, opaque
from portraitseg.checks.gpu.log import Log, read_log
from portraitseg.checks.gpu.process import compared, read_json, run_reference
from portraitseg.checks.gpu.result import GpuRun, Inputs, Subject, Verdict
from portraitseg.checks.gpu.segmenter import prepare, why_not, why_not_comparable
from portraitseg.checks.gpu.tolerance import Precision
from portraitseg.child import Ended, exit_words, run_limited
from portraitseg.errors import InputError
from portraitseg.tflite.graph import Graph

Library = Literal["mediapipe", "litert"]

FOLDER = environment.CACHE / "gpu-web"
SOURCES = Path(__file__).with_name("browser")
LOCK = SOURCES / "package-lock.json"

#: What playwright-core asks for.
NODE_LEAST = 20

#: Names under which distributions install Chromium; this variable names another one.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "CHROMIUM"

#: The driver's exit code where there is no browser to start.
NO_BROWSER = 3

#: Who ran a file, for verdicts.
_NAMES: dict[Library, str] = {"mediapipe": "MediaPipe in the browser", "litert": "LiteRT in the browser"}

#: Tensors that LiteRT's web runtime knows.
_DTYPES = {"FLOAT32": np.float32, "UINT8": np.uint8, "INT32": np.int32}


def install() -> None:
    """Installs the packages from their lock, where they are not there yet. Chromium itself is the system's.

    Raises:
        InputError: no npm, or the packages could not be fetched.
    """
    if environment.is_installed(FOLDER, LOCK):
        return
    if shutil.which("npm") is None:
        raise InputError(f"no npm: install Node.js {NODE_LEAST} or later")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCES / name, FOLDER / name)
    # the lock names no addresses: npm takes the user's own registry, and checks the hashes
    environment.call(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], FOLDER)
    environment.record(FOLDER, LOCK)


def missing() -> str | None:
    """What this machine lacks for the routes, with the remedy; None: nothing."""
    if not environment.is_installed(FOLDER, LOCK):
        return "the browser's packages are not installed: `make check-gpu-web` does it"
    if find_browser() is None:
        return f"no Chromium: apt-get install chromium, or name one with {VARIABLE}="
    if (version := _node_version()) < NODE_LEAST:
        return f"node is {version or 'not installed'}: install Node.js {NODE_LEAST} or later"
    return None


def find_browser() -> str | None:
    """Chromium's program."""
    if named := os.environ.get(VARIABLE):
        return shutil.which(named)
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _node_version() -> int:
    if shutil.which("node") is None:
        return 0
    match = re.match(r"v(\d+)", environment.call(["node", "--version"]))
    return int(match[1]) if match else 0


@dataclass(frozen=True)
class BrowserResult:
    """What the browser left behind.

    Attributes:
        facts: adapter, precision and what the library says of itself; None where the page broke off.
    """

    library: Library
    ended: Ended
    log: Log
    facts: dict[str, Any] | None
    gpu: Inputs | None

    @property
    def is_on_gpu_alone(self) -> bool:
        """What the console says: LiteRT's `isFullyAccelerated` is true with operators on WASM.

        MediaPipe makes a delegate for the CPU where it left something to it; LiteRT makes one always.
        """
        words = r"Partially delegating|not fully compiled|[Ff]alling back|[Ff]all back"
        if self.library == "mediapipe":
            words += "|XNNPACK delegate for CPU"
        fell_back = re.search(words, self.ended.log)
        return self.log.delegated is None and fell_back is None and bool((self.facts or {}).get("accelerated"))


def run_file(subject: Subject) -> list[GpuRun]:
    """Runs a file in a browser by both libraries, and compares the outputs with those of the CPU."""
    return [_run_mediapipe(subject), _run_litert(subject)]


def _run_mediapipe(subject: Subject) -> GpuRun:
    graph = subject.graph
    reason = why_not(subject)
    if reason is None and graph.inputs[0].dtype != "FLOAT32":
        reason = "MediaPipe's segmenter takes no bytes from the GPU: float input and output alone"
    if reason is not None:
        return _not_run("mediapipe", subject, reason)
    images = make_images(graph, subject.photos)
    sent = [opaque(image).tobytes() for image in images]
    return _run("mediapipe", subject, sent, image_inputs(graph, images), why_not_comparable(graph))


def _run_litert(subject: Subject) -> GpuRun:
    graph = subject.graph
    if len(graph.inputs) != 1 or graph.inputs[0].dtype not in _DTYPES:
        return _not_run("litert", subject, "the page feeds one tensor, of float32, uint8 or int32")
    inputs = make_inputs(graph, subject.photos)
    odd = next((output for output in graph.outputs if output.dtype not in _DTYPES), None)
    reason = f"LiteRT's web runtime hands over no {odd.dtype.lower()}" if odd else None
    return _run("litert", subject, [run[0].tobytes() for run in inputs], inputs, reason)


def _not_run(library: Library, subject: Subject, reason: str) -> GpuRun:
    return GpuRun(f"web_{library}", "not_run", reason, nodes=len(subject.graph.ops))


def _run(library: Library, subject: Subject, sent: list[bytes], inputs: Inputs, incomparable: str | None) -> GpuRun:
    if (reason := missing()) is not None:
        return _not_run(library, subject, reason)
    start = time.monotonic()
    result = _ask_browser(library, subject, sent)
    verdict, reason = _verdict(result, subject, incomparable)
    facts = result.facts or {}
    precision: Precision | None = facts.get("precision")
    nodes = len(subject.graph.ops)
    run = GpuRun(
        route=f"web_{library}",
        verdict=verdict,
        reason=reason,
        adapter=facts.get("adapter"),
        library=f"Chromium {facts['browser']}" if "browser" in facts else None,
        precision=precision,
        nodes=nodes,
        delegated=result.log.delegated
        if result.log.delegated is not None
        else nodes
        if result.is_on_gpu_alone
        else None,
        seconds=round(time.monotonic() - start, 2),
        refused=result.log.refused,
    )
    if verdict != "passed":
        return run
    assert result.gpu is not None
    assert precision is not None
    reference = run_reference(subject.path, subject.graph, inputs, subject.time_limit_s)
    return compared(run, subject.graph, reference, result.gpu, precision)


def _verdict(result: BrowserResult, subject: Subject, incomparable: str | None) -> tuple[Verdict, str | None]:
    """Every way to fail before there is anything to compare, the most telling one first."""
    if result.ended.code is None:
        return "failed", f"{_NAMES[result.library]}: no result within {subject.time_limit_s:g} s"
    if result.ended.code == NO_BROWSER:
        return "not_run", _line(result.ended.log, "no browser: ") or "the browser does not start"
    if result.facts is not None and result.facts.get("adapter") is None:
        return "not_run", "the browser offers no GPU: WebGL2 or WebGPU is missing"
    if result.log.refused:
        return "failed", f"{_NAMES[result.library]} refused: {'; '.join(result.log.refused[:3])}"
    if result.facts is None and incomparable is not None and "Element type" in result.ended.log:
        return "not_run", incomparable
    if result.facts is None:
        words = next(iter(result.log.errors), None) or result.log.fatal or _line(result.ended.log, "Error: ")
        return "failed", f"{_NAMES[result.library]}: {exit_words(result.ended.code)}" + (f": {words}" if words else "")
    if result.log.validation is not None:
        return "failed", f"WebGPU validation error: {result.log.validation}"
    if not result.is_on_gpu_alone:
        return "failed", "operators are left to WASM on the CPU"
    if incomparable is not None:
        return "not_run", incomparable
    if result.gpu is None:
        return "failed", "the page sent no output, or one of another size"
    return "passed", None


def _line(log: str, start: str) -> str | None:
    return next((line.removeprefix(start)[:200] for line in log.splitlines() if line.startswith(start)), None)


def _ask_browser(library: Library, subject: Subject, sent: list[bytes]) -> BrowserResult:
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        model = folder / "model.tflite"
        if library == "mediapipe":
            prepare(subject.path, model)
        else:
            shutil.copyfile(subject.path, model)
        for run, content in enumerate(sent):
            (folder / f"input_{run}.bin").write_bytes(content)
        job = {
            "library": library,
            "model": str(model),
            "folder": str(folder),
            "packages": str(FOLDER),
            "chromium": find_browser(),
            "runs": len(sent),
            "size": subject.graph.inputs[0].shape[1:3],
        }
        (folder / "job.json").write_text(json.dumps(job))
        command = ["node", str(SOURCES / "driver.mjs"), str(folder / "job.json")]
        ended = run_limited(command, folder, subject.time_limit_s)
        outputs = _outputs(folder, subject.graph, len(sent))
        return BrowserResult(library, ended, read_log(ended.log), read_json(folder / "facts.json"), outputs)


def _outputs(folder: Path, graph: Graph, runs: int) -> Inputs | None:
    """What the page sent back, run by run; None where one is missing."""
    try:
        return [
            [
                np.frombuffer((folder / f"output_{run}_{index}.bin").read_bytes(), _DTYPES.get(tensor.dtype, np.uint8))
                for index, tensor in enumerate(graph.outputs)
            ]
            for run in range(runs)
        ]
    except (OSError, ValueError):
        return None
