"""What a route over a GPU found out about one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from export.gpu.driver import Driver
from export.gpu.tolerance import Precision
from portraitseg.tflite_graph import Graph

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
