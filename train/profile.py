"""Where the time of a training step goes, by kind of operator, from TensorFlow's own profiler."""

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from portraitseg.errors import CheckFailed
from portraitseg.models.keras_route import tf


@dataclass(frozen=True)
class OperatorTime:
    """All operators of one kind in one step.

    Attributes:
        kind: TensorFlow's name, without oneDNN's prefix; gradients are kinds of their own (`Conv2DBackpropFilter`).
        milliseconds: summed, mean over the steps. Operators that run beside each other count in full.
        share: of the sum over all kinds, in [0, 1].
        count: in one step.
    """

    kind: str
    milliseconds: float
    share: float
    count: int


#: oneDNN's kernels are rewritten operators; the longer name first.
_PREFIXES = ("_MklNative", "_Mkl")

#: Lines of the trace on which operators are executed.
_EXECUTOR = "tf_Compute"


def profile(step: Callable[[], object], steps: int) -> list[OperatorTime]:
    """Runs a step under the profiler.

    Args:
        step: already traced, and run at least once.
        steps: to take the mean of.

    Returns:
        The longest kind first.

    Raises:
        CheckFailed: the profiler saw no operator.
    """
    # XLA's own description of the file; TensorFlow brings it along
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, options)
        try:
            for _ in range(steps):
                step()
        finally:
            tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    picoseconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            if line.name.startswith(_EXECUTOR):
                for event in line.events:
                    name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                    # what belongs to the executor itself has two colons, or none
                    if name and not name.endswith(":"):
                        picoseconds[_plain(kind)] += event.duration_ps
                        counts[_plain(kind)] += 1
    total = sum(picoseconds.values())
    if not total:
        raise CheckFailed("TensorFlow's profiler recorded no operator: this version names its lines otherwise")
    return [
        OperatorTime(kind, duration / 1e9 / steps, duration / total, round(counts[kind] / steps))
        for kind, duration in picoseconds.most_common()
    ]


def _plain(kind: str) -> str:
    for prefix in _PREFIXES:
        kind = kind.removeprefix(prefix)
    return kind.lstrip("_")
