"""Where 8 bits hurt: the signal-to-noise ratio of every tensor of an integer file beside its float file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from portraitseg import files, tables
from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.plots import Bar, Picture, bars
from portraitseg.runners import open_runner
from portraitseg.runs import Run
from portraitseg.tflite.flatbuffer import keras_layer
from portraitseg.tflite.graph import Graph, Op, Tensor, read_graph

Photos = Sequence[UInt8[np.ndarray, "_ _ 3"]]

#: Casts between scales and types; the operator beside them is what a row is named after.
_CASTS = frozenset({"QUANTIZE", "DEQUANTIZE"})

#: A tensor without any noise: higher than anything that rounding gives.
_MAX_DB = 120.0

#: Rows of the Markdown table.
_SHOWN_ROWS = 15


@dataclass(frozen=True)
class Row:
    """One layer's output, over all photos.

    Attributes:
        order: in the float graph, from 0.
        layer: of Keras, the last of those that became one operator.
        snr_db: 10·log10 of signal power over noise power; the noise is the integer file's value minus the float one's.
        added_db: by how much it is below the noisiest of the layer's inputs; high: the harm is done here.
        rms: of the float values.
        low, high: their range.
        scale: one step of the integer tensor.
    """

    order: int
    layer: str
    operator: str
    snr_db: float
    added_db: float
    rms: float
    low: float
    high: float
    scale: float


COLUMNS = tables.names_of(Row)


@dataclass
class _Sums:
    signal: float = 0.0
    noise: float = 0.0
    count: int = 0
    low: float = math.inf
    high: float = -math.inf

    def add(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        self.signal += float(np.square(theirs, dtype=np.float64).sum())
        self.noise += float(np.square(ours.astype(np.float64) - theirs).sum())
        self.count += theirs.size
        self.low = min(self.low, float(theirs.min()))
        self.high = max(self.high, float(theirs.max()))

    @property
    def snr_db(self) -> float:
        if self.noise <= 0:
            return _MAX_DB
        return min(10 * math.log10(max(self.signal, 1e-30) / self.noise), _MAX_DB)


def compare(float_path: Path, integer_path: Path, photos: Photos) -> list[Row]:
    """Runs both files on photos and compares what each layer says.

    The two are matched by the Keras layer in a tensor's name. Beside a file of quantization-aware training the noise
    holds what the weights have moved since, too.

    Args:
        float_path: the `fp32` file.
        integer_path: an integer file of the same network, size and channels.
        photos: at least one.

    Returns:
        Rows in the order of the float graph.

    Raises:
        InputError: files of different networks.
    """
    floats, integers = read_graph(float_path), read_graph(integer_path)
    theirs, ours = _outputs(floats), _outputs(integers)
    layers = [layer for layer in theirs if layer in ours and theirs[layer][1].shape == ours[layer][1].shape]
    if len(layers) < max(1, len(theirs) // 2):
        raise InputError(
            f"{integer_path}: {len(layers)} of {len(theirs)} layers of {float_path.name} are in it: "
            "name two files of one network"
        )
    sums = {layer: _Sums() for layer in layers}
    runs = _Probe(float_path), _Probe(integer_path)
    for photo in photos:
        for probe in runs:
            probe.run(photo)
        for layer in layers:
            sums[layer].add(runs[1].read(ours[layer][1]), runs[0].read(theirs[layer][1]))
    return _rows(floats, theirs, ours, sums)


def _outputs(graph: Graph) -> dict[str, tuple[str, Tensor]]:
    """Layer → its operator and the last tensor that bears its name, be it only the same values on another scale."""
    last: dict[str, tuple[str, Tensor]] = {}
    for op in graph.ops:
        layer = _layer(op)
        name = last[layer][0] if op.name in _CASTS and layer in last else op.name
        last[layer] = (name, op.outputs[0])
    return last


def _layer(op: Op) -> str:
    return keras_layer(op.outputs[0].name)


def _rows(
    graph: Graph,
    theirs: dict[str, tuple[str, Tensor]],
    ours: dict[str, tuple[str, Tensor]],
    sums: dict[str, _Sums],
) -> list[Row]:
    makers = {tensor.index: _layer(op) for op in graph.ops for tensor in op.outputs}
    rows: list[Row] = []
    for op in graph.ops:
        layer = _layer(op)
        if layer not in sums or theirs[layer][1] is not op.outputs[0]:
            continue
        total = sums[layer]
        before = [makers.get(tensor.index) for tensor in op.runtime_inputs]
        inputs = [sums[name].snr_db for name in before if name is not None and name in sums]
        scales = ours[layer][1].scales
        rows.append(
            Row(
                order=len(rows),
                layer=layer,
                operator=op.name,
                snr_db=total.snr_db,
                added_db=min(inputs) - total.snr_db if inputs else 0.0,
                rms=math.sqrt(total.signal / max(total.count, 1)),
                low=total.low,
                high=total.high,
                scale=scales[0] if scales else 0.0,
            )
        )
    return rows


class _Probe:
    """A file whose inner tensors can be read after a run: no delegate, every tensor kept."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._runner = open_runner(path)
        self._interpreter: Any = Interpreter(
            str(path),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]

    def run(self, photo: UInt8[np.ndarray, "_ _ 3"]) -> None:
        self._interpreter.set_tensor(self._input, self._runner.prepare(photo))
        self._interpreter.invoke()

    def read(self, tensor: Tensor) -> Float32[np.ndarray, "..."]:
        """Values of a tensor, integers by their scale."""
        values: np.ndarray = self._interpreter.get_tensor(tensor.index)
        if not np.issubdtype(values.dtype, np.integer) or not tensor.scales:
            return values.astype(np.float32)
        return (values.astype(np.float32) - np.float32(tensor.zero_points[0])) * np.float32(tensor.scales[0])


def to_markdown(rows: Sequence[Row], title: str) -> str:
    """The layers that lose most, the worst first."""
    worst = sorted(rows, key=lambda row: -row.added_db)[:_SHOWN_ROWS]
    cells = [(row.layer, row.operator, f"{row.snr_db:.1f}", f"{row.added_db:.1f}") for row in worst]
    lines = tables.markdown(("layer", "operator", "SNR, dB", "lost here, dB"), cells, texts=2)
    return "\n".join([f"# {title}", "", *lines, ""])


def draw(rows: Sequence[Row], title: str) -> Picture:
    """A bar for each layer, in the order of the graph; its colour tells where half of the rest (3 dB) is lost."""
    greatest = max([row.snr_db for row in rows if row.snr_db < _MAX_DB], default=1.0)
    lost = {True: "more than 3 dB lost in this layer", False: "less"}
    values = [
        Bar(
            row.layer[:36],
            min(max(row.snr_db, 0.0), greatest),
            f"{row.snr_db:.1f} ({row.added_db:+.1f})",
            lost[row.added_db > 3],
        )
        for row in rows
    ]
    return bars(values, f"{title}: signal-to-noise ratio, dB (lost in this layer)")


def write_report(rows: Sequence[Row], folder: Path, name: str) -> list[Path]:
    """Writes `sensitivity-<name>.csv`, `.md` and `.png`."""
    base = folder / f"sensitivity-{name}"
    paths = [base.with_suffix(end) for end in (".csv", ".md", ".png")]
    tables.write_csv(paths[0], COLUMNS, rows, floats=".6g")
    files.write_text(paths[1], to_markdown(rows, f"Sensitivity of {name}"))
    files.write_bytes(paths[2], draw(rows, name).to_png())
    return paths


def run_sensitivity(run: Run, config: Config, recipe: str, photo_count: int) -> None:
    """Compares a run's exported files on photos of its training split, and prints the table.

    Raises:
        InputError: not exported yet, or without this recipe.
    """
    from rich.console import Console

    from portraitseg.cli import say
    from portraitseg.data import open_dataset, spread

    paths = []
    for wanted in ("fp32", recipe):
        fitting = sorted(run.android.glob(f"*-rgb-{wanted}.tflite"))
        if len(fitting) != 1:
            listed = sorted(path.name for path in run.android.glob("*-rgb-*.tflite"))
            raise InputError(
                f"{run.android}: {len(fitting)} files of recipe '{wanted}' (there are: {', '.join(listed) or 'none'}): "
                f"run `make export-android RUN={run.name} SET=export.recipes=all` first"
            )
        paths.append(fitting[0])
    dataset = open_dataset(config.data, config.seed)
    keys = spread(dataset.keys(config.data.train_split), photo_count)
    photos = [dataset.load(key).image for key in keys]
    rows = compare(paths[0], paths[1], photos)
    written = write_report(rows, run.folder / "export", paths[1].stem)
    Console(highlight=False, soft_wrap=True).print(
        to_markdown(rows, f"{paths[1].name}, {len(keys)} photos"), markup=False
    )
    say(f"written: {', '.join(str(path) for path in written)}")
