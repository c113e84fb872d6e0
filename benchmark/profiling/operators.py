"""Time per operator of a .tflite on the CPU, as LiteRT's profiler and XNNPACK's tell it: a table and a plot."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from benchmark.measuring.cold import child_environment
from benchmark.profiling.profile_child import INSIDE_DELEGATE, OPERATOR, Event
from portraitseg import tables
from portraitseg.errors import InputError
from portraitseg.plots import Bar, bars
from portraitseg.tflite import graph as tflite_graph
from portraitseg.tflite.graph import Op

#: Runs that count, and those before them; a run of a portrait network takes milliseconds.
RUNS, WARMUP = 100, 10

TIMEOUT_S = 300.0

#: What XNNPACK calls the operators of TFLite; a fused activation is a Clamp of its own where it cannot be folded.
_XNNPACK = {
    "CONV_2D": ("convolution", "fully connected"),
    "DEPTHWISE_CONV_2D": ("convolution",),
    "FULLY_CONNECTED": ("fully connected",),
    "TRANSPOSE_CONV": ("deconvolution",),
    "Convolution2DTransposeBias": ("deconvolution",),
    "ADD": ("add",),
    "SUB": ("subtract",),
    "MUL": ("multiply",),
    "DIV": ("divide",),
    "RESIZE_BILINEAR": ("resize bilinear",),
    "AVERAGE_POOL_2D": ("average pooling", "global average pooling"),
    "MAX_POOL_2D": ("max pooling",),
    "MEAN": ("mean", "global average pooling", "average pooling"),
    "CONCATENATION": ("copy", "concatenate"),
    "RESHAPE": ("copy",),
    "LOGISTIC": ("sigmoid",),
    "TANH": ("tanh",),
    "HARD_SWISH": ("hardswish",),
    "SOFTMAX": ("softmax",),
    "PRELU": ("prelu",),
    "QUANTIZE": ("convert",),
    "DEQUANTIZE": ("convert",),
    "RELU": ("clamp",),
    "RELU6": ("clamp",),
    "PAD": ("constant pad", "pad"),
    "TRANSPOSE": ("transpose",),
    "DEPTH_TO_SPACE": ("depth to space",),
}


@dataclass(frozen=True)
class OperatorTime:
    """One operator that ran.

    Attributes:
        order: of execution, from 0.
        operator: as the kernel's library calls it, such as `Convolution (NHWC, QC8) DWConv`.
        runs_on: `xnnpack`, or `tflite` for TFLite's own kernels.
        layer, output, macs: of the operator in the file, where it can be told which one it is.
        p50_us: median over the runs, of whole microseconds.
        share: of the sum over all operators.
    """

    order: int
    operator: str
    runs_on: str
    layer: str | None
    output: str | None
    macs: int | None
    p50_us: float
    share: float


def profile(path: Path, threads: int = 1, runs: int = RUNS) -> list[OperatorTime]:
    """Measures a file, in a process of its own.

    Raises:
        InputError: no TFLite file, an open size, or a LiteRT without the profiler that we know.
    """
    graph = tflite_graph.read_graph(path)
    open_inputs = [tensor.name for tensor in graph.inputs if tensor.is_dynamic]
    if open_inputs or len(graph.inputs) != 1 or len(graph.outputs) != 1:
        what = (
            f"its input '{open_inputs[0]}' has an open size"
            if open_inputs
            else (f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
        )
        raise InputError(f"{path}: {what}: only files with one input and one output of fixed size are profiled")
    command = [
        sys.executable,
        "-m",
        "benchmark.profiling.profile_child",
        str(path),
        str(threads),
        str(WARMUP),
        str(runs),
    ]
    try:
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: no profile within {TIMEOUT_S:.0f} s: take fewer runs (--runs)") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise InputError(f"{path}: not profiled: {lines[-1][:200]}")
    return summarize(json.loads(done.stdout.splitlines()[-1]), graph.ops)


def summarize(runs: Sequence[Sequence[Sequence[object]]], ops: Sequence[Op]) -> list[OperatorTime]:
    """From the events of each run to medians, and to the operators of the file.

    Args:
        runs: each a list of (tag, type, microseconds, index); other events than operators are left out, and so is
            a delegate as a whole, whose operators stand by themselves.
        ops: of the file.

    Raises:
        InputError: runs of different operators.
    """
    kept = [[event for event in map(_event, run) if _is_operator(event)] for run in runs]
    if not kept or not kept[0]:
        raise InputError("the profiler saw no operator")
    names = [event[:2] for event in kept[0]]
    if any([event[:2] for event in run] != names for run in kept):
        raise InputError("the profiler saw other operators in each run: its buffer may be too small for this file")
    medians = np.median([[event[2] for event in run] for run in kept], axis=0)
    total = float(medians.sum()) or 1.0
    matched = match(kept[0], ops)
    rows = []
    for order, ((tag, kind, _, _), p50_us, op) in enumerate(zip(kept[0], medians, matched, strict=True)):
        output = op.outputs[0].shape if op and op.outputs else None
        rows.append(
            OperatorTime(
                order=order,
                operator=tag,
                runs_on="xnnpack" if kind == INSIDE_DELEGATE else "tflite",
                layer=op.layer if op else None,
                output="×".join(str(side) for side in output) if output else None,
                macs=tflite_graph.multiply_accumulates(op) if op else None,
                p50_us=float(p50_us),
                share=float(p50_us) / total,
            )
        )
    return rows


def match(events: Sequence[Event], ops: Sequence[Op]) -> list[Op | None]:
    """Which operator of the file each event is.

    TFLite tells the index of its own operators. XNNPACK does not: its operators are laid beside those left in the file,
    the longest common sequence of kinds; where convolutions are not as many on both sides, none is named.
    """
    indexed = {event[3]: ops[event[3]] for event in events if event[1] == OPERATOR and event[3] < len(ops)}
    left = [op for op in ops if op.index not in indexed and op.name in _XNNPACK]
    inside = [event for event in events if event[1] == INSIDE_DELEGATE]
    heavy = {"convolution", "fully connected", "deconvolution"}
    are_equal = sum(_kind(event) in heavy for event in inside) == sum(set(_XNNPACK[op.name]) <= heavy for op in left)
    pairs = iter(_longest_common([_kind(event) for event in inside], left) if are_equal else [None] * len(inside))
    return [next(pairs) if event[1] == INSIDE_DELEGATE else indexed.get(event[3]) for event in events]


def _longest_common(kinds: Sequence[str], ops: Sequence[Op]) -> list[Op | None]:
    lengths = np.zeros((len(kinds) + 1, len(ops) + 1), np.int64)
    for i in reversed(range(len(kinds))):
        for j in reversed(range(len(ops))):
            is_same = kinds[i] in _XNNPACK[ops[j].name]
            lengths[i, j] = 1 + lengths[i + 1, j + 1] if is_same else max(lengths[i + 1, j], lengths[i, j + 1])
    pairs: list[Op | None] = []
    i = j = 0
    while i < len(kinds):
        if j < len(ops) and kinds[i] in _XNNPACK[ops[j].name]:
            pairs.append(ops[j])
            i, j = i + 1, j + 1
        elif j < len(ops) and lengths[i, j + 1] >= lengths[i + 1, j]:
            j += 1
        else:
            pairs.append(None)
            i += 1
    return pairs


def by_kind(rows: Sequence[OperatorTime]) -> list[tuple[str, int, float, float]]:
    """(kernel, how many, microseconds, share), the slowest first."""
    ordered = sorted(rows, key=lambda row: (row.runs_on, row.operator))
    kinds = [
        (kind, list(of_kind)) for kind, of_kind in groupby(ordered, key=lambda row: f"{row.runs_on}: {row.operator}")
    ]
    summed = [
        (kind, len(of_kind), sum(r.p50_us for r in of_kind), sum(r.share for r in of_kind)) for kind, of_kind in kinds
    ]
    return sorted(summed, key=lambda kind: -kind[2])


def show(path: Path, rows: Sequence[OperatorTime], most: int = 20) -> None:
    """Prints the kinds, and the slowest operators, to stdout."""
    total_ms = sum(row.p50_us for row in rows) / 1000
    title = f"{path}: {total_ms:.2f} ms in {len(rows)} operators"
    kinds = [[kind, str(count), f"{us / 1000:.3f}", f"{100 * share:.1f}"] for kind, count, us, share in by_kind(rows)]
    tables.show(("Kernel", "Count", "ms", "%"), kinds, title=title)
    slowest = []
    for row in sorted(rows, key=lambda row: -row.p50_us)[:most]:
        macs = "" if not row.macs else f"{row.macs / 1e6:.2f} M"
        speed = "" if not row.macs or not row.p50_us else f"{row.macs / row.p50_us / 1000:.1f}"
        cells = [row.operator, row.layer or "", row.output or "", str(row.order), macs, f"{row.p50_us / 1000:.3f}"]
        slowest.append([*cells, f"{100 * row.share:.1f}", speed])
    tables.show(("Kernel", "Layer", "Output", "Order", "MACs", "ms", "%", "GMAC/s"), slowest, 3)


def plot(path: Path, rows: Sequence[OperatorTime], most: int = 30) -> bytes:
    """PNG: the slowest operators in the order of execution, coloured by kernel."""
    shown = sorted(sorted(rows, key=lambda row: -row.p50_us)[:most], key=lambda row: row.order)
    times = [Bar(_label(row), row.p50_us / 1000, f"{row.p50_us / 1000:.3f} ms", row.operator) for row in shown]
    total_ms = sum(row.p50_us for row in rows) / 1000
    share = sum(row.share for row in shown)
    title = f"{path.name}: {len(shown)} of {len(rows)} operators, {100 * share:.0f} % of {total_ms:.2f} ms"
    return bars(times, title).to_png()


def _label(row: OperatorTime) -> str:
    name = row.layer or row.operator
    # long names end with what tells them apart; Pillow's font knows neither the ellipsis nor the sign of times
    name = name if len(name) <= 40 else f"..{name[-38:]}"
    return f"{row.order}  {name}  {(row.output or '').replace('×', 'x')}".rstrip()


def _event(values: Sequence[object]) -> Event:
    tag, kind, us, index = values
    assert isinstance(kind, int)
    assert isinstance(us, int)
    assert isinstance(index, int)
    return str(tag).removeprefix("Delegate/"), kind, us, index


def _is_operator(event: Event) -> bool:
    return event[1] == INSIDE_DELEGATE or (event[1] == OPERATOR and "Delegate" not in event[0])


def _kind(event: Event) -> str:
    return event[0].partition("(")[0].strip().lower()
