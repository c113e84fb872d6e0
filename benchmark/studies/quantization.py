"""What integers cost: the files of runs by recipe, each beside its own float file, photo by photo."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmark.measuring.latency import ratio
from benchmark.measuring.measure import Measurement
from benchmark.measuring.model_files import ModelFile, choose_reference, collect_files, collect_peers
from benchmark.measuring.paired import Study, changes
from benchmark.tables import views
from benchmark.tables.results import RECIPES as RECIPE_COLUMNS
from benchmark.tables.results import Results, Row
from benchmark.tables.rows import make_rows
from benchmark.tables.views import PROMISED
from portraitseg import cli, files
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


def write_recipe_table(runs: Sequence[Run], recipes: Sequence[str], study: Study) -> None:
    """Measures the files of runs by recipe, prints the table and writes it as `study.out` and the same as .md.

    Args:
        runs: exported.
        recipes: of `RECIPES`; what a run does not have is left out, but for the float file.
        study: how, and where to.

    Raises:
        InputError: a run without its float file, an unknown recipe, split or profile.
        KeyboardInterrupt: Ctrl-C; nothing is written.
    """
    if unknown := [name for name in recipes if name not in RECIPES]:
        raise InputError(f"--recipes {unknown[0]}: choose of {', '.join(RECIPES)}")
    dataset, out = study.open_dataset(), study.out
    by_run = {run.name: run_files(run, (FLOAT, *recipes)) for run in runs}
    model_files = [model_file for of_run in by_run.values() for model_file in of_run.values()]
    model_files += collect_peers(study.peers) if study.peers else []
    model_files, reference_file = choose_reference(model_files, study.reference)
    measurement = study.measure(model_files, reference_file, dataset)
    results = make_recipe_rows(by_run, measurement)
    results.write(out)
    text = views.RECIPES.to_markdown(results.rows)
    files.write_text(out.with_suffix(".md"), text)
    shutil.rmtree(measurement.plan.journal)
    print(text, end="")
    cli.say(f"{out} and {out.with_suffix('.md').name} written")


def run_files(run: Run, recipes: Sequence[str]) -> dict[str, ModelFile]:
    """Recipe → the run's .tflite of RGB photos, in the order of `RECIPES`.

    Raises:
        InputError: not exported, or without a float file to compare with.
    """
    by_recipe = {
        model_file.recipe: model_file
        for model_file in collect_files(run, None)
        if model_file.path.suffix == ".tflite" and model_file.channels == "rgb" and model_file.recipe in recipes
    }
    if FLOAT not in by_recipe:
        remedy = f"make export-android RUN={run.name} SET=export.recipes=all"
        raise InputError(f"run '{run.name}': no {FLOAT} .tflite in {run.android}: {remedy}")
    return {recipe: by_recipe[recipe] for recipe in RECIPES if recipe in by_recipe}


def make_recipe_rows(by_run: Mapping[str, Mapping[str, ModelFile]], measurement: Measurement) -> Results:
    """A row a file × thread count × split: of each run by recipe, then of the peers."""
    measured = make_rows(measurement)
    listed = [(run, files[FLOAT], model_file) for run, files in by_run.items() for model_file in files.values()]
    ours = {model_file.name for _, _, model_file in listed}
    peers = [("", model_file, model_file) for model_file in measurement.plan.model_files if model_file.name not in ours]
    rows = []
    for run, base, model_file in (*listed, *peers):
        for row in (row for row in measured if row.file == model_file.name):
            lost = {} if model_file is base else changes(measurement, model_file, base, row.split)
            floats = (other for other in measured if run and other.file == base.name and _same_conditions(other, row))
            float_ms = next((other.p50_ms for other in floats if other.latency_valid and row.latency_valid), None)
            kept = lost["change"] >= -PROMISED[0] and lost["boundary_change"] >= -PROMISED[1] if lost else None
            further: dict[str, Any] = {"ratio_to_float": ratio(row.p50_ms, float_ms), "is_kept": kept, **lost}
            rows.append(replace(row, run=run, file=row.name, **further))
    return Results(rows, RECIPE_COLUMNS)


def _same_conditions(one: Row, other: Row) -> bool:
    return (one.split, one.threads) == (other.split, other.threads)
