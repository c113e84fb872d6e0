"""The table of networks: size, arithmetic, quality and latency of each, float and int8, and its distance to a base."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmark.measuring.intervals import Difference, describe_difference
from benchmark.measuring.measure import Measurement
from benchmark.measuring.paired import changes
from benchmark.measuring.targets import FOREIGN, Target, collect_targets
from benchmark.tables.rows import make_rows
from benchmark.tables.table import Row, lines_to_csv, parse_cell, read_lines
from portraitseg import manifest, markdown
from portraitseg.config import Config, load_config
from portraitseg.data.base import Dataset, blank_per_epoch, is_test_split, trainable_keys
from portraitseg.errors import InputError
from portraitseg.runs import Run
from portraitseg.tflite import graph as tflite_graph

#: The files that stand for a network: the float one, and the integer one that phones' CPUs and NPUs take.
RECIPES = ("fp32", "qat_wi8_ai8")

#: Stands for the float file of a run that was exported as for a release.
STAND_IN = "fp16"

#: What `contest` puts before the names of its runs.
RUN_PREFIX = "compare-"


@dataclass(frozen=True)
class NetworkRow:
    """One file of a network on one split; scores are fractions, changes are against the base network's file.

    Attributes:
        network: the run without `compare-`; the name of the file for a peer.
        parameters: weights of the float file, batch normalization folded.
        macs: multiply-accumulates of convolutions and matrix products, for one photo.
        images_seen: photos that float training has seen, repetitions counted; None: not known.
        learning_rate: greatest of float training; None: not known.
        change, change_low, change_high: of the IoU to `base` on the same photos, with its 95 % interval.
        boundary_change, …: the same of the boundary IoU.
    """

    network: str
    model: str
    recipe: str
    size: str
    parameters: int | None
    macs: int | None
    bytes: int | None
    images_seen: int | None
    learning_rate: float | None
    split: str | None
    split_sha256_16: str | None
    photos: int | None
    iou: float | None
    iou_low: float | None
    iou_high: float | None
    iou_p10: float | None
    boundary_iou: float | None
    threads: int | None
    p50_ms: float | None
    ratio_to_reference: float | None
    reference: str | None
    latency_valid: bool
    base: str | None
    change: float | None
    change_low: float | None
    change_high: float | None
    boundary_change: float | None
    boundary_change_low: float | None
    boundary_change_high: float | None
    valid: bool
    reason: str
    runtime: str | None
    machine: str | None
    profile: str | None


@dataclass(frozen=True)
class Network:
    """One run and its files, or one peer.

    Attributes:
        name: see `NetworkRow.network`.
        targets: its files by recipe.
        images_seen, learning_rate: see there.
    """

    name: str
    targets: Mapping[str, Target]
    images_seen: int | None = None
    learning_rate: float | None = None


def collect_networks(runs: Sequence[Run], dataset: Dataset) -> list[Network]:
    """The float and the int8 file of each run.

    Raises:
        InputError: a run that was not exported, or not to these files.
    """
    networks = []
    for run in runs:
        found = {target.recipe: target for target in collect_targets(run, None) if _is_compared(target)}
        recipes = RECIPES if RECIPES[0] in found else (STAND_IN, *RECIPES[1:])
        missing = [recipe for recipe in recipes if recipe not in found]
        if missing:
            remedy = f"run `make export-android RUN={run.name} SET=export.recipes=all`"
            raise InputError(f"run '{run.name}': no rgb {missing[0]} .tflite in {run.android}: {remedy}")
        targets = {recipe: found[recipe] for recipe in recipes}
        config = load_config(run.config) if run.config.exists() else None
        seen, rate = (_images_seen(run, config, dataset), config.train.learning_rate) if config else (None, None)
        networks.append(Network(run.name.removeprefix(RUN_PREFIX), targets, seen, rate))
    return networks


def photos_per_epoch(config: Config, dataset: Dataset) -> int:
    """Photos with a truth that training sees in an epoch, whole batches: its split, and its share of blank ones."""
    photos, share = len(dataset.keys(config.data.train_split)), config.train.blank_share
    if trainable_keys(dataset, config.data.blank_sets, config.data.val_split):
        photos += blank_per_epoch(photos, share)
    return max(1, photos // config.train.batch_size) * config.train.batch_size


def peer_networks(targets: Sequence[Target]) -> list[Network]:
    """Files of others, each a network by itself."""
    return [Network(target.model, {FOREIGN: target}) for target in targets]


def make_network_rows(networks: Sequence[Network], base: str, measurement: Measurement) -> list[NetworkRow]:
    """The table, a row a file × thread count × split.

    Args:
        networks: in the order of the table.
        base: name of the one that the others are compared with.
        measurement: of all their files.
    """
    (base_network,) = [network for network in networks if network.name == base]
    measured = make_rows(measurement)
    rows = []
    for network in networks:
        graphs = {recipe: tflite_graph.read_graph(target.path) for recipe, target in network.targets.items()}
        first = next(iter(graphs.values()))
        facts = {
            "network": network.name,
            "size": "×".join(str(side) for side in first.inputs[0].shape[1:3]),
            "parameters": tflite_graph.parameters(first),
            "macs": sum(tflite_graph.multiply_accumulates(op) for op in first.ops),
            "images_seen": network.images_seen,
            "learning_rate": network.learning_rate,
        }
        for recipe, target in network.targets.items():
            # a peer is compared with what apps take of the base: its int8 file
            other = base_network.targets.get(recipe) or list(base_network.targets.values())[-1]
            for row in (row for row in measured if row.file == target.name):
                found = {} if network is base_network else changes(measurement, target, other, row.split)
                rows.append(_row(row, base if found else None, facts | found))
    return rows


def to_csv(rows: Sequence[NetworkRow]) -> str:
    """CSV with a header, as the benchmark's own table."""
    return lines_to_csv([column.name for column in fields(NetworkRow)], map(asdict, rows))


def is_networks(path: Path) -> bool:
    """True where a CSV is a table of networks, by its first column."""
    with path.open("rb") as file:
        return file.read(16).startswith(b"network,")


def read_csv(path: Path) -> list[NetworkRow]:
    """Reads what `to_csv` wrote.

    Raises:
        InputError: missing, another table, or a cell that is no value of its column.
    """
    kinds = {column.name: str(column.type) for column in fields(NetworkRow)}
    rows = []
    for number, line in enumerate(read_lines(path), 2):
        try:
            values: dict[str, Any] = {
                name: None if _text(line, name) == "" else parse_cell(kind, _text(line, name))
                for name, kind in kinds.items()
            }
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: line {number}: not a row of the table of networks: {error}") from error
        rows.append(NetworkRow(**{**values, "reason": values["reason"] or ""}))
    return rows


def _text(line: Mapping[str, str], name: str) -> str:
    # these columns came after the first tables
    return line.get(name, "") if name in ("learning_rate", "profile") else line[name]


def to_markdown(rows: Sequence[NetworkRow]) -> str:
    """A line a file, the splits side by side, and the conditions below."""
    splits = list(dict.fromkeys(row.split for row in rows if row.split))
    timed = sorted({row.threads for row in rows if row.threads is not None})
    header = ["Network", "Size", "Rate", "Recipe", "Parameters", "MACs", "MB"]
    for split in splits:
        header += [f"IoU {split}", f"boundary {split}", f"IoU − base {split}"]
    header += [f"× reference, {count} thread{'s' * (count > 1)}" for count in timed]
    lines = []
    for network, recipe in dict.fromkeys((row.network, row.recipe) for row in rows):
        own = [row for row in rows if (row.network, row.recipe) == (network, recipe)]
        scores = [text for split in splits for text in _scores(own, split)]
        lines.append([*_identity(own[0]), *scores, *(_ratio(own, count) for count in timed)])
    return "\n".join([*markdown.table(header, lines, texts=4), "", _conditions(rows, splits)]) + "\n"


def to_short_markdown(rows: Sequence[NetworkRow]) -> str:
    """A line a file with what decides: size, quality on the test splits (on all where none is one), time."""
    named = list(dict.fromkeys(row.split for row in rows if row.split))
    splits = [split for split in named if is_test_split(split)] or named
    timed = sorted({row.threads for row in rows if row.threads is not None})
    header = ["Network", "MACs", "MB", *(f"{split}: IoU / boundary IoU, %" for split in splits)]
    header += [f"time ÷ reference's, {count} thread{'s' * (count > 1)}" for count in timed]
    lines = []
    for network, recipe in dict.fromkeys((row.network, row.recipe) for row in rows):
        own = [row for row in rows if (row.network, row.recipe) == (network, recipe)]
        macs, megabytes = _identity(own[0])[-2:]
        scores = [" / ".join(filter(None, _scores(own, split)[:2])) for split in splits]
        lines.append([network, macs, megabytes, *scores, *(_ratio(own, count) for count in timed)])
    return "\n".join([*markdown.table(header, lines), "", _conditions(rows, splits, with_base=False)]) + "\n"


def _is_compared(target: Target) -> bool:
    return target.path.suffix == ".tflite" and target.channels == "rgb" and target.recipe in (*RECIPES, STAND_IN)


def _images_seen(run: Run, config: Config, dataset: Dataset) -> int | None:
    """None where training was of other photos than these, or began with weights that had seen some before."""
    if config.data.train_split not in dataset.splits or not run.artifact.exists():
        return None
    artifact = manifest.read(manifest.Artifact, run.artifact)
    trained_on = {item.sha256_16 for item in artifact.source.data if item.split == config.data.train_split}
    if "init" in artifact.stages.get("train", {}) or dataset.split_hash(config.data.train_split) not in trained_on:
        return None
    return config.train.epochs * photos_per_epoch(config, dataset)


def _row(row: Row, base: str | None, facts: Mapping[str, Any]) -> NetworkRow:
    names = [column.name for column in fields(NetworkRow)]
    values: dict[str, Any] = {name: getattr(row, name, None) for name in names} | dict(facts) | {"base": base}
    return NetworkRow(**values)


def _identity(row: NetworkRow) -> list[str]:
    parameters = "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M"
    macs = "" if row.macs is None else f"{row.macs / 1e6:.0f} M"
    rate = "" if row.learning_rate is None else f"{row.learning_rate:g}"
    return [
        row.network,
        row.size,
        rate,
        row.recipe,
        parameters,
        macs,
        "" if row.bytes is None else f"{row.bytes / 1e6:.2f}",
    ]


def _scores(rows: Sequence[NetworkRow], split: str) -> tuple[str, str, str]:
    row = next((row for row in rows if row.split == split and row.iou is not None), None)
    if row is None or row.iou is None or row.boundary_iou is None:
        return "", "", ""
    change = ""
    if row.change is not None and row.change_low is not None and row.change_high is not None:
        change = describe_difference(Difference(row.change, row.change_low, row.change_high))
    return f"{100 * row.iou:.2f}", f"{100 * row.boundary_iou:.2f}", change


def _ratio(rows: Sequence[NetworkRow], threads: int) -> str:
    found = next((row for row in rows if row.threads == threads and row.latency_valid), None)
    return "" if found is None or found.ratio_to_reference is None else f"{found.ratio_to_reference:.2f}"


def _conditions(rows: Sequence[NetworkRow], splits: Sequence[str], with_base: bool = True) -> str:
    parts = []
    for split in splits:
        row = next(row for row in rows if row.split == split)
        parts.append(f"{split}: {row.photos} photos, list {row.split_sha256_16}")
    if with_base and (bases := sorted({row.base for row in rows if row.base})):
        against = f"the same recipe of {bases[0]} (peers: its int8 file)"
        parts.append(f"IoU − base: points against {against}, paired by photo, 95 % interval")
    seen = sorted({row.images_seen for row in rows if row.images_seen})
    if seen:
        parts.append(
            f"float training saw {' to '.join(f'{count:,}' for count in dict.fromkeys((seen[0], seen[-1])))} photos"
        )
    references = sorted({row.reference for row in rows if row.reference and row.latency_valid})
    profiles = sorted({row.profile for row in rows if row.profile and row.latency_valid})
    machines = sorted({row.machine for row in rows if row.machine})
    if references:
        profile = f" (profile {', '.join(profiles)})" if profiles else ""
        parts.append(
            f"latency as a ratio to {references[0]}, interleaved in one process, on {'; '.join(machines)}{profile}"
        )
    runtimes = sorted({row.runtime for row in rows if row.runtime})
    parts.append(", ".join(runtimes))
    if any(row.iou is None or (row.threads is not None and not row.latency_valid) for row in rows):
        parts.append("an empty cell: not measured, or too noisy to count")
    return f"*{'; '.join(parts)}.*"
