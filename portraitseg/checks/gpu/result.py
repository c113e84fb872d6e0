"""What a route over a GPU found out about one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from portraitseg.checks.gpu.driver import Driver
from portraitseg.checks.gpu.tolerance import Precision
from portraitseg.tflite.graph import Graph

#: Seconds for one file. Software drivers take seconds; lavapipe compiles the shaders of a new file for one to two
#: minutes, and for seven (measured) on a machine that ten other processes share.
TIME_LIMIT_S = 600.0

Photos = Sequence[UInt8[np.ndarray, "h w 3"]]
Verdict = Literal["passed", "failed", "not_run"]
#: Runs of a file, each with one array an input.
Inputs = list[list[np.ndarray]]


@dataclass(frozen=True)
class Subject:
    """What a route is given.

    Attributes:
        path: of the .tflite.
        graph: what `read_graph(path)` gave.
        photos: RGB, of any size.
        time_limit_s: for each run.
        drivers: for the routes over Vulkan; None: all that this machine has.
    """

    path: Path
    graph: Graph
    photos: Photos
    time_limit_s: float = TIME_LIMIT_S
    drivers: Sequence[Driver] | None = None


#: Who runs the file, by the start of a route's name; `precision` is what it was asked for.
_ENGINES = {
    "litert_": "ML Drift (LiteRT)",
    "classic_": "the classic delegate (MediaPipe 0.10.21, OpenGL ES)",
    "web_mediapipe": "the classic delegate (MediaPipe in the browser, WebGL2)",
    "web_litert": "ML Drift (LiteRT in the browser, WebGPU)",
}

#: Words of drivers that compute on the CPU, in 32 bits whatever width the tensors have.
_SOFTWARE = ("swiftshader", "llvmpipe", "softpipe", "subzero")

#: What 32 bits do not show.
UNSEEN = "a phone's GPU computes in 16 bits, where more than 65,504 is infinite: this run cannot show that"


@dataclass(frozen=True)
class GpuRun:
    """What one driver did with one file.

    Attributes:
        route: by name, such as `litert_swiftshader`.
        reason: why it failed or did not run.
        adapter: what the delegate ran on, in its own words.
        library: the driver's file that was mapped into the process, or its version.
        precision: what the GPU computed in.
        nodes, delegated: operators of the file, and those that ran on the GPU.
        bound, bound_reason: the tolerance.
        kernels: what it was compared with: `reference` kernels, or `xnnpack` where an operator has none.
        beside: the same in words, and what was done to the file before.
        warnings: what is no verdict on the GPU, and to be known all the same.
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
    beside: str | None = None
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    refused: tuple[str, ...] = ()

    @property
    def conditions(self) -> str | None:
        """Who ran the file, on what, in what precision and beside what; None where it did not run."""
        if self.adapter is None:
            return self.beside
        engine = next((words for start, words in _ENGINES.items() if self.route.startswith(start)), self.route)
        parts = [f"{engine} on {self.adapter}", precision_words(self.adapter, self.precision)]
        if self.beside is not None:
            parts.append(f"compared with {self.beside}")
        return "; ".join(parts)


def precision_words(adapter: str, precision: Precision | None) -> str:
    """In how many bits a run computed, and what that does not show."""
    is_software = any(name in adapter.lower() for name in _SOFTWARE)
    if is_software and precision == "fp16":
        # half-width textures: what is stored overflows as on a phone, sums inside an operator do not
        return f"16-bit tensors, 32-bit arithmetic of a software driver ({UNSEEN} for sums inside an operator)"
    if precision == "fp16":
        return "16-bit arithmetic"
    return f"32-bit arithmetic{' of a software driver' if is_software else ''} ({UNSEEN})"
