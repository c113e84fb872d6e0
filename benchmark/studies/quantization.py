"""What integers cost: the files of runs by recipe, each beside its own float file, photo by photo."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.measuring.latency import ratio
from benchmark.measuring.measure import Measurement
from benchmark.measuring.paired import changes, measure_together, open_measured
from benchmark.measuring.targets import Target, choose_reference, collect_peers, collect_targets
from benchmark.tables import views
from benchmark.tables.results import RECIPES as RECIPE_COLUMNS
from benchmark.tables.results import Results, Row
from benchmark.tables.rows import make_rows
from benchmark.tables.views import PROMISED
from portraitseg import cli, files
from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.runs import Run

#: The file that others of a run are compared with.
FLOAT = "fp32"

#: Recipes in the order of the table; of these a run must have the float one.
RECIPES = (
    FLOAT,
    "fp16",
    "dynamic_wi8_afp32",
    "static_wi8_ai8",
    "static_wi8_ai8_u8",
    "static_wi8_ai16",
    "qat_wi8_ai8",
    "qat_wi8_ai8_u8",
)


def compare_recipes(
    runs: Sequence[Run],
    recipes: Sequence[str],
    config: Config,
    splits: Sequence[str],
    peers: Path | None,
    reference: Path | None,
    threads: Sequence[int],
    profile: str,
    out: Path,
) -> None:
    """Measures the files of runs by recipe, prints the table and writes it as `out` and the same as .md.

    Args:
        runs: exported.
        recipes: of `RECIPES`; what a run does not have is left out, but for the float file.
        config: with the photos.
        splits: to score on.
        peers, reference, threads, profile: as in `benchmark run`.
        out: the CSV.

    Raises:
        InputError: a run without its float file, an unknown recipe, split or profile.
        KeyboardInterrupt: Ctrl-C; nothing is written.
    """
    if unknown := [name for name in recipes if name not in RECIPES]:
        raise InputError(f"--recipes {unknown[0]}: choose of {', '.join(RECIPES)}")
    dataset = open_measured(config, splits, profile)
    by_run = {run.name: run_files(run, (FLOAT, *recipes)) for run in runs}
    targets = [target for of_run in by_run.values() for target in of_run.values()]
    targets += collect_peers(peers) if peers else []
    targets, reference_target = choose_reference(targets, reference)
    measurement = measure_together(
        targets, reference_target, dataset, splits, profile, threads, config.data.soft_masks, out
    )
    results = make_recipe_rows(by_run, measurement)
    results.write(out)
    text = views.RECIPES.to_markdown(results.rows)
    files.write_text(out.with_suffix(".md"), text)
    shutil.rmtree(measurement.plan.journal)
    print(text, end="")
    cli.say(f"{out} and {out.with_suffix('.md').name} written")


def run_files(run: Run, recipes: Sequence[str]) -> dict[str, Target]:
    """Recipe → the run's .tflite of RGB photos, in the order of `RECIPES`.

    Raises:
        InputError: not exported, or without a float file to compare with.
    """
    by_recipe = {
        target.recipe: target
        for target in collect_targets(run, None)
        if target.path.suffix == ".tflite" and target.channels == "rgb" and target.recipe in recipes
    }
    if FLOAT not in by_recipe:
        remedy = f"make export-android RUN={run.name} SET=export.recipes=all"
        raise InputError(f"run '{run.name}': no {FLOAT} .tflite in {run.android}: {remedy}")
    return {recipe: by_recipe[recipe] for recipe in RECIPES if recipe in by_recipe}


def make_recipe_rows(by_run: Mapping[str, Mapping[str, Target]], measurement: Measurement) -> Results:
    """A row a file × thread count × split: of each run by recipe, then of the peers."""
    measured = make_rows(measurement)
    listed = [(run, files[FLOAT], target) for run, files in by_run.items() for target in files.values()]
    ours = {target.name for _, _, target in listed}
    peers = [("", target, target) for target in measurement.plan.targets if target.name not in ours]
    rows = []
    for run, base, target in (*listed, *peers):
        for row in (row for row in measured if row.file == target.name):
            lost = {} if target is base else changes(measurement, target, base, row.split)
            floats = (other for other in measured if run and other.file == base.name and _same_conditions(other, row))
            float_ms = next((other.p50_ms for other in floats if other.latency_valid and row.latency_valid), None)
            kept = lost["change"] >= -PROMISED[0] and lost["boundary_change"] >= -PROMISED[1] if lost else None
            further: dict[str, Any] = {"ratio_to_float": ratio(row.p50_ms, float_ms), "is_kept": kept, **lost}
            rows.append(replace(row, run=run, file=row.name, **further))
    return Results(rows, RECIPE_COLUMNS)


def _same_conditions(one: Row, other: Row) -> bool:
    return (one.split, one.threads) == (other.split, other.threads)
