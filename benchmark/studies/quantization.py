"""What integers cost: the files of runs by recipe, each beside its own float file, photo by photo."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmark.measuring.intervals import Difference, describe_difference
from benchmark.measuring.measure import Measurement
from benchmark.measuring.paired import changes, measure_together, open_measured
from benchmark.measuring.targets import FOREIGN, Target, choose_reference, collect_peers, collect_targets
from benchmark.tables.rows import make_rows
from benchmark.tables.table import Row, lines_to_csv
from portraitseg import cli, files, markdown
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

#: What quantization-aware training may lose against the float file: IoU and boundary IoU, as fractions.
PROMISED = (0.002, 0.005)


@dataclass(frozen=True)
class RecipeRow:
    """One file on one split and thread count; scores are fractions, changes are against the run's float file.

    Attributes:
        change, change_low, change_high: of the IoU on the same photos, with its 95 % interval.
        boundary_change, …: the same of the boundary IoU.
        ratio_to_float: p50 latency over that of the float file.
        is_kept: whether no more is lost than `PROMISED`; None for the float file and for peers.
    """

    run: str
    file: str
    recipe: str
    bytes: int | None
    split: str | None
    split_sha256_16: str | None
    photos: int | None
    iou: float | None
    boundary_iou: float | None
    change: float | None
    change_low: float | None
    change_high: float | None
    boundary_change: float | None
    boundary_change_low: float | None
    boundary_change_high: float | None
    threads: int | None
    p50_ms: float | None
    ratio_to_reference: float | None
    ratio_to_float: float | None
    latency_valid: bool
    reference: str | None
    is_kept: bool | None
    reason: str
    machine: str | None
    runtime: str | None


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
    found = {run.name: run_files(run, (FLOAT, *recipes)) for run in runs}
    targets = [target for own in found.values() for target in own.values()]
    targets += collect_peers(peers) if peers else []
    targets, reference_target = choose_reference(targets, reference)
    measurement = measure_together(
        targets, reference_target, dataset, splits, profile, threads, config.data.soft_masks, out
    )
    rows = make_recipe_rows(found, measurement)
    files.write_text(out, to_csv(rows))
    files.write_text(out.with_suffix(".md"), to_markdown(rows))
    shutil.rmtree(measurement.journal)
    print(to_markdown(rows), end="")
    cli.say(f"{out} and {out.with_suffix('.md').name} written")


def run_files(run: Run, recipes: Sequence[str]) -> dict[str, Target]:
    """Recipe → the run's .tflite of RGB photos, in the order of `RECIPES`.

    Raises:
        InputError: not exported, or without a float file to compare with.
    """
    found = {
        target.recipe: target
        for target in collect_targets(run, None)
        if target.path.suffix == ".tflite" and target.channels == "rgb" and target.recipe in recipes
    }
    if FLOAT not in found:
        remedy = f"make export-android RUN={run.name} SET=export.recipes=all"
        raise InputError(f"run '{run.name}': no {FLOAT} .tflite in {run.android}: {remedy}")
    return {recipe: found[recipe] for recipe in RECIPES if recipe in found}


def make_recipe_rows(found: Mapping[str, Mapping[str, Target]], measurement: Measurement) -> list[RecipeRow]:
    """A row a file × thread count × split: of each run by recipe, then of the peers."""
    measured = make_rows(measurement)
    listed = [(run, own[FLOAT], target) for run, own in found.items() for target in own.values()]
    ours = {target.name for _, _, target in listed}
    peers = [("", target, target) for target in measurement.targets if target.name not in ours]
    rows = []
    for run, base, target in (*listed, *peers):
        for row in (row for row in measured if row.file == target.name):
            found_changes = {} if target is base else changes(measurement, target, base, row.split)
            floats = [other for other in measured if other.file == base.name and _same_conditions(other, row)]
            rows.append(_row(run, row, found_changes, floats[0] if run and floats else None))
    return rows


def _same_conditions(one: Row, other: Row) -> bool:
    return (one.split, one.threads) == (other.split, other.threads)


def _row(run: str, row: Row, changes: Mapping[str, float], base: Row | None) -> RecipeRow:
    is_timed = base is not None and base.latency_valid and row.latency_valid
    ratio = row.p50_ms / base.p50_ms if is_timed and base and row.p50_ms and base.p50_ms else None
    kept = None
    if changes:
        kept = changes["change"] >= -PROMISED[0] and changes["boundary_change"] >= -PROMISED[1]
    values: dict[str, Any] = {column.name: getattr(row, column.name, None) for column in fields(RecipeRow)}
    values |= dict.fromkeys(_CHANGES) | dict(changes)
    return RecipeRow(**{**values, "run": run, "ratio_to_float": ratio, "is_kept": kept, "file": row.name})


_CHANGES = tuple(column.name for column in fields(RecipeRow) if "change" in column.name)


def to_csv(rows: Sequence[RecipeRow]) -> str:
    """CSV with a header, as the benchmark's own table."""
    return lines_to_csv([column.name for column in fields(RecipeRow)], map(asdict, rows))


def to_markdown(rows: Sequence[RecipeRow]) -> str:
    """A line a file, the splits side by side, and the conditions below."""
    splits = list(dict.fromkeys(row.split for row in rows if row.split))
    timed = sorted({row.threads for row in rows if row.threads is not None})
    header = ["Run", "Recipe", "MB"]
    for split in splits:
        header += [f"IoU {split}", "− float", f"boundary {split}", "− float"]
    for count in timed:
        threads = f"{count} thread{'s' * (count > 1)}"
        header += [f"× float, {threads}", f"× reference, {threads}"]
    lines = []
    for run, file in dict.fromkeys((row.run, row.file) for row in rows):
        own = [row for row in rows if (row.run, row.file) == (run, file)]
        name = own[0].recipe if own[0].recipe != FOREIGN else Path(file).stem
        cells = [run, name, "" if own[0].bytes is None else f"{own[0].bytes / 1e6:.2f}"]
        for split in splits:
            cells += _scores(own, split)
        for count in timed:
            cells += _ratios(own, count)
        lines.append(cells)
    return "\n".join([*markdown.table(header, lines, texts=2), "", _conditions(rows, splits)]) + "\n"


def _scores(rows: Sequence[RecipeRow], split: str) -> list[str]:
    row = next((row for row in rows if row.split == split and row.iou is not None), None)
    if row is None or row.iou is None or row.boundary_iou is None:
        return ["", "", "", ""]
    inner = _change(row.change, row.change_low, row.change_high)
    outer = _change(row.boundary_change, row.boundary_change_low, row.boundary_change_high)
    return [f"{100 * row.iou:.2f}", inner, f"{100 * row.boundary_iou:.2f}", outer]


def _change(mean: float | None, low: float | None, high: float | None) -> str:
    if mean is None or low is None or high is None:
        return ""
    if mean == low == high == 0:
        return "the same on every photo"
    return describe_difference(Difference(mean, low, high))


def _ratios(rows: Sequence[RecipeRow], threads: int) -> list[str]:
    row = next((row for row in rows if row.threads == threads and row.latency_valid), None)
    ratios = (None, None) if row is None else (row.ratio_to_float, row.ratio_to_reference)
    return ["" if ratio is None else f"{ratio:.2f}" for ratio in ratios]


def _conditions(rows: Sequence[RecipeRow], splits: Sequence[str]) -> str:
    parts = []
    for split in splits:
        row = next(row for row in rows if row.split == split)
        parts.append(f"{split}: {row.photos} photos, list {row.split_sha256_16}")
    parts.append(f"− float: points against the {FLOAT} file of the same run, paired by photo, 95 % interval")
    lost = [
        f"{row.run} {row.recipe} on {row.split}"
        for row in rows
        if row.is_kept is False and row.recipe.startswith("qat_")
    ]
    promise = f"{100 * PROMISED[0]:g} points of IoU and {100 * PROMISED[1]:g} of boundary IoU at most"
    if any(row.recipe.startswith("qat_") for row in rows):
        parts.append(
            f"qat files lose {promise}" if not lost else f"lost more than {promise}: {', '.join(dict.fromkeys(lost))}"
        )
    references = sorted({row.reference for row in rows if row.reference and row.latency_valid})
    machines = sorted({row.machine for row in rows if row.machine})
    if references:
        parts.append(
            f"latency as ratios of p50, interleaved in one process, to the run's {FLOAT} file and to "
            f"{references[0]}, on {'; '.join(machines)}"
        )
    parts.append(", ".join(sorted({row.runtime for row in rows if row.runtime})))
    if any(row.iou is None or (row.threads is not None and not row.latency_valid) for row in rows):
        parts.append("an empty cell: not measured, or too noisy to count")
    return f"*{'; '.join(parts)}.*"
