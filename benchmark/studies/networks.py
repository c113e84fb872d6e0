"""The table of networks: size, arithmetic, quality and latency of each, float and int8, and its distance to a base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.measuring.measure import Measurement
from benchmark.measuring.model_files import FOREIGN, ModelFile, collect_files
from benchmark.measuring.paired import changes
from benchmark.tables.results import NETWORKS, Results
from benchmark.tables.rows import make_rows
from portraitseg import manifest
from portraitseg.config import Config, load_config
from portraitseg.data.base import Dataset, blank_per_epoch, trainable_keys
from portraitseg.errors import InputError
from portraitseg.runs import Run
from portraitseg.tflite import graph as tflite_graph

#: The files that stand for a network: the float one, and the integer one that phones' CPUs and NPUs take.
RECIPES = ("fp32", "qat_wi8_ai8")

#: Stands for the float file of a run that was exported as for a release.
STAND_IN = "fp16"

#: Of these a table of networks has none that do not count.
_SCORES = ("iou", "iou_low", "iou_high", "iou_p10", "boundary_iou")

#: What `contest` puts before the names of its runs.
RUN_PREFIX = "compare-"


@dataclass(frozen=True)
class Network:
    """One run and its files, or one peer.

    Attributes:
        name: of the run without `compare-`; of a peer that of its file.
        model_files: its files by recipe.
        images_seen: photos that float training has seen, repetitions counted; None: not known.
        learning_rate: greatest of float training; None: not known.
    """

    name: str
    model_files: Mapping[str, ModelFile]
    images_seen: int | None = None
    learning_rate: float | None = None


def collect_networks(runs: Sequence[Run], dataset: Dataset) -> list[Network]:
    """The float and the int8 file of each run.

    Raises:
        InputError: a run that was not exported, or not to these files.
    """
    networks = []
    for run in runs:
        by_recipe = {
            model_file.recipe: model_file for model_file in collect_files(run, None) if _is_compared(model_file)
        }
        recipes = RECIPES if RECIPES[0] in by_recipe else (STAND_IN, *RECIPES[1:])
        missing = [recipe for recipe in recipes if recipe not in by_recipe]
        if missing:
            remedy = f"run `make export-android RUN={run.name} SET=export.recipes=all`"
            raise InputError(f"run '{run.name}': no rgb {missing[0]} .tflite in {run.android}: {remedy}")
        model_files = {recipe: by_recipe[recipe] for recipe in recipes}
        config = load_config(run.config) if run.config.exists() else None
        seen, rate = (_images_seen(run, config, dataset), config.train.learning_rate) if config else (None, None)
        networks.append(Network(run.name.removeprefix(RUN_PREFIX), model_files, seen, rate))
    return networks


def photos_per_epoch(config: Config, dataset: Dataset) -> int:
    """Photos with a truth that training sees in an epoch, whole batches: its split, and its share of blank ones."""
    photos, share = len(dataset.keys(config.data.train_split)), config.train.blank_share
    if trainable_keys(dataset, config.data.blank_sets, config.data.val_split):
        photos += blank_per_epoch(photos, share)
    return max(1, photos // config.train.batch_size) * config.train.batch_size


def peer_networks(model_files: Sequence[ModelFile]) -> list[Network]:
    """Files of others, each a network by itself."""
    return [Network(model_file.model, {FOREIGN: model_file}) for model_file in model_files]


def make_network_rows(networks: Sequence[Network], base: str, measurement: Measurement) -> Results:
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
        graphs = {
            recipe: tflite_graph.read_graph(model_file.path) for recipe, model_file in network.model_files.items()
        }
        first = next(iter(graphs.values()))
        facts: dict[str, Any] = {
            "network": network.name,
            "size": "×".join(str(side) for side in first.inputs[0].shape[1:3]),
            "parameters": tflite_graph.parameters(first),
            "macs": sum(tflite_graph.multiply_accumulates(op) for op in first.ops),
            "images_seen": network.images_seen,
            "learning_rate": network.learning_rate,
        }
        for recipe, model_file in network.model_files.items():
            # a peer is compared with what apps take of the base: its int8 file
            other = base_network.model_files.get(recipe) or list(base_network.model_files.values())[-1]
            for row in (row for row in measured if row.file == model_file.name):
                change = {} if network is base_network else changes(measurement, model_file, other, row.split)
                none: dict[str, Any] = {} if row.quality_valid else dict.fromkeys(_SCORES)
                further = {**none, **facts, **change, "base": base if change else None}
                rows.append(replace(row, **further))
    return Results(rows, NETWORKS)


def _is_compared(model_file: ModelFile) -> bool:
    return (
        model_file.path.suffix == ".tflite"
        and model_file.channels == "rgb"
        and model_file.recipe in (*RECIPES, STAND_IN)
    )


def _images_seen(run: Run, config: Config, dataset: Dataset) -> int | None:
    """None where training was of other photos than these, or began with weights that had seen some before."""
    if config.data.train_split not in dataset.splits or not run.artifact.exists():
        return None
    artifact = manifest.read(manifest.Artifact, run.artifact)
    trained_on = {item.sha256_16 for item in artifact.source.data if item.split == config.data.train_split}
    if "init" in artifact.stages.get("train", {}) or dataset.split_hash(config.data.train_split) not in trained_on:
        return None
    return config.train.epochs * photos_per_epoch(config, dataset)
