"""Whether 16 bits hold a file's values: the greatest of each tensor, on photos and on extremes, by layer.

Phones' GPUs keep tensors as IEEE 754 halves unless told otherwise: more than 65,504 becomes infinite and then NaN, less
than 6e-8 becomes 0. Drivers in software compute in 32 bits, so that no run on them shows it. Nothing here is on a GPU.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portraitseg.checks.gpu.inputs import make_extremes, make_inputs
from portraitseg.checks.gpu.log import read_log
from portraitseg.checks.gpu.process import litert_command, read_json
from portraitseg.checks.gpu.result import GpuRun, Subject
from portraitseg.checks.gpu.tolerance import arithmetic
from portraitseg.child import exit_words, run_limited
from portraitseg.tflite.graph import Graph, Op

ROUTE = "range_fp16"

#: Greatest finite half, and the least that is not rounded to 0 (half of the least subnormal).
GREATEST = float(np.finfo(np.float16).max)
LEAST = 2.0**-25

#: Other photos may reach further than those that were tried: over 60 of EG1800 the greatest value of a tensor was at
#: most 1.99 (contour_small) and 2.10 times (contour_medium) that over three synthetic portraits, noise, plain colours.
MARGIN = 4.0

_REMEDIES = {
    "SUM": "average instead (GlobalAveragePooling2D) and put the number of pixels into the next kernel",
    "SQUARE": "scale its input down first, and the kernel behind it up by the square",
    "MUL": "scale one factor down, and the kernel behind it up",
    "EXP": "subtract the greatest value first, as softmax does",
    "DIV": "add a larger epsilon to the divisor (1e-3)",
    "RSQRT": "add a larger epsilon (1e-3)",
    "POW": "scale its input down first",
}
_OTHER_REMEDY = "scale the kernel before it down and that behind it up, or bound it (ReLU6)"


@dataclass(frozen=True)
class Reach:
    """How far the results of one operator go.

    Attributes:
        greatest: absolute value, infinite where it is not finite.
        on: the kind of input that reached it: `photos`, `plain colours` or `noise`.
    """

    op: Op
    greatest: float
    on: str


def run_file(subject: Subject) -> list[GpuRun]:
    """Says which layers leave the range of 16 bits, and which come near."""
    graph = subject.graph
    start = time.monotonic()
    tiny: tuple[str, ...] = ()
    error = None
    if arithmetic(graph) in ("int8", "int16"):
        reaches = _by_scales(graph)
    else:
        reaches, tiny, error = _by_running(subject)
    seconds = round(time.monotonic() - start, 2)
    nodes = len(graph.ops)
    if error is not None:
        return [GpuRun(ROUTE, "not_run", f"its values are not known: {error}", nodes=nodes, seconds=seconds)]
    beyond = [reach for reach in reaches if not reach.greatest <= GREATEST]
    near = [reach for reach in reaches if GREATEST / MARGIN < reach.greatest <= GREATEST]
    warnings = tuple(
        f"{_words(reach)}, near the {GREATEST:,.0f} that 16 bits hold; {_remedy(reach)}" for reach in near[:3]
    )
    return [
        GpuRun(
            ROUTE,
            "failed" if beyond else "passed",
            _fault(beyond),
            nodes=nodes,
            max_abs=None,
            seconds=seconds,
            warnings=(*warnings, *tiny),
            beside="32-bit values of the file on the CPU; nothing ran on a GPU",
        )
    ]


def _fault(beyond: list[Reach]) -> str | None:
    if not beyond:
        return None
    more = f" (and {len(beyond) - 1} more)" if len(beyond) > 1 else ""
    first = beyond[0]
    return f"{_words(first)}, more than the {GREATEST:,.0f} that 16 bits hold: NaN on a phone; {_remedy(first)}{more}"


def _words(reach: Reach) -> str:
    value = f"{reach.greatest:,.0f}" if np.isfinite(reach.greatest) else "no finite number"
    return f"operator {reach.op.index} {reach.op.name} of layer '{reach.op.layer}' reaches {value} on {reach.on}"


def _remedy(reach: Reach) -> str:
    return _REMEDIES.get(reach.op.name, _OTHER_REMEDY)


def _by_scales(graph: Graph) -> list[Reach]:
    """8-bit tensors reach what their scales say; the GPU computes them as float."""
    reaches = []
    for op in graph.ops:
        for tensor in op.outputs:
            if len(tensor.scales) != 1 or tensor.dtype not in ("INT8", "UINT8", "INT16"):
                continue
            low, high = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-32768, 32767)}[tensor.dtype]
            ends = [(end - tensor.zero_points[0]) * tensor.scales[0] for end in (low, high)]
            reaches.append(Reach(op, max(map(abs, ends)), "any photo, by its scale"))
    return reaches


def _by_running(subject: Subject) -> tuple[list[Reach], tuple[str, ...], str | None]:
    """Runs a float file on the CPU with all tensors kept; what a constant loses in 16 bits is told too."""
    graph = subject.graph
    photos, noise = make_inputs(graph, subject.photos, noise=0), make_inputs(graph, [], noise=1)
    extremes = make_extremes(graph)
    kinds = ["photos"] * len(photos) + ["plain colours"] * len(extremes) + ["noise"] * len(noise)
    with tempfile.TemporaryDirectory(prefix="check-gpu-") as name:
        folder = Path(name)
        command = litert_command(subject.path, [*photos, *extremes, *noise], folder, "range")
        ended = run_limited(command, folder, subject.time_limit_s)
        ranges = read_json(folder / "range.json")
    if ended.code != 0 or ranges is None:
        log = read_log(ended.log)
        words = next(iter(log.errors), None) or log.exception
        how = f"no result within {subject.time_limit_s:g} s" if ended.code is None else exit_words(ended.code)
        return [], (), f"TFLite's kernels on the CPU: {how}" + (f": {words}" if words else "")
    reaches = []
    greatest: dict[str, list[float]] = ranges["greatest"]  # type: ignore[assignment]
    for op in graph.ops:
        for tensor in op.outputs:
            if (values := greatest.get(str(tensor.index))) is not None:
                greatest_at = int(np.argmax(values))
                reaches.append(
                    Reach(op, values[greatest_at] if values[greatest_at] >= 0 else np.inf, kinds[greatest_at])
                )
    tiny: list[int] = ranges["vanishing"]  # type: ignore[assignment]
    return reaches, tuple(_vanishing(graph, index) for index in tiny[:3]), None


def _vanishing(graph: Graph, index: int) -> str:
    reader = next(op for op in graph.ops if any(t.index == index for t in op.constant_inputs))
    return (
        f"operator {reader.index} {reader.name} of layer '{reader.layer}' reads a constant that is 0 in 16 bits (below "
        "3e-8): use 1e-3 for an epsilon"
    )
