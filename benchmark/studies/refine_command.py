"""`python -m benchmark refine`: the tables of refinement and smoothing; with `--choose`, their parameters too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.measuring import refinement
from benchmark.measuring.intervals import Difference, describe_difference
from benchmark.measuring.model_files import collect_peers
from portraitseg import cli, files, manifest, tables
from portraitseg.data.base import Dataset, is_test_split
from portraitseg.errors import InputError
from portraitseg.manifest import ChosenOn, Manifest, Refine, Smooth
from portraitseg.runs import Run
from portraitseg.segment.segmenter import Segmenter, find_model


def choose(runs: Sequence[str], dataset: Dataset, split: str) -> None:
    """Chooses the parameters of each run's network on a split and writes them into its manifests.

    Raises:
        InputError: a test split, a run without released or exported files.
    """
    if is_test_split(split):
        raise InputError(f"--choose on '{split}': nothing is chosen on a test split")
    chosen_on = ChosenOn(split=split, sha256_16=dataset.split_hash(split))
    for name in runs:
        segmenter = Segmenter(find_model(name), refine=False)
        cli.say(f"{name}: {segmenter.path.name} on {split}")
        photos = list(refinement.predict_photos(segmenter, dataset, split))
        refiner, tried = refinement.choose_refiner(photos, refinement.guide_side(segmenter))
        for line in tried:
            cli.say("  " + ", ".join(f"{key} {value:g}" for key, value in line.items()))
        refine = Refine(**refinement.parameters(refiner), chosen_on=chosen_on)
        seen = list(
            refinement.predict_clips(segmenter, dataset, split, refinement.FIRST_CHOSEN, refinement.PERSONS_CHOSEN)
        )
        smoother, smooth_tried = refinement.choose_smoother(seen)
        for line in smooth_tried:
            cli.say("  " + ", ".join(f"{key} {value:.4g}" for key, value in line.items()))
        smooth = Smooth(**refinement.parameters(smoother), chosen_on=chosen_on)
        for path in Run(name).manifests.values():
            listed = manifest.read(Manifest, path)
            source = listed.source.model_copy(update={"refine": refine, "smooth": smooth})
            manifest.write(path, listed.model_copy(update={"source": source}))
            cli.say(f"{path}: {refiner}, {smoother}")


def measure(
    runs: Sequence[str],
    peers: Path | None,
    dataset: Dataset,
    splits: Sequence[str],
    out: Path,
    clip_splits: Sequence[str] | None = None,
) -> None:
    """Writes `<out>-photos.csv` and `<out>-clips.csv`, and both as Markdown in `<out>.md`.

    Args:
        runs: names of released networks, or files.
        peers: folder of others' files, or None.
        dataset: with the photos.
        splits: whose photos are scored.
        out: beginning of the names.
        clip_splits: those of them whose photos become clips, too; default: all. Clips cost four times as much.
    """
    paths = [find_model(name) for name in runs]
    paths += [model_file.path for model_file in collect_peers(peers)] if peers else []
    photo_rows: list[dict[str, Any]] = []
    clip_rows: list[dict[str, Any]] = []
    for path in paths:
        segmenter = Segmenter(path)
        refiner, smoother = segmenter.refiner, segmenter.smoother()
        assert refiner is not None
        cost = refinement.cost(segmenter, segmenter.smoother(), refiner)
        for split in splits:
            cli.say(f"{path.name} on {split}")
            photos = list(refinement.predict_photos(segmenter, dataset, split))
            photo_rows.append(refinement.photo_rows(path.name, split, photos, refiner) | cost)
            if split not in (splits if clip_splits is None else clip_splits):
                continue
            # persons that no parameter was chosen on
            first = refinement.PERSONS * (1 + list(splits).index(split))
            seen = list(refinement.predict_clips(segmenter, dataset, split, first))
            clip_rows += refinement.clip_rows(path.name, split, seen, smoother, refiner)
    for name, rows in (("photos", photo_rows), ("clips", clip_rows)):
        if rows:
            tables.write_csv(out.with_name(f"{out.name}-{name}.csv"), list(rows[0]), rows)
    files.write_text(out.with_name(f"{out.name}.md"), to_markdown(photo_rows, clip_rows))
    cli.say(f"{out}-photos.csv{f', {out}-clips.csv' if clip_rows else ''} and {out}.md written")


def to_markdown(photo_rows: Sequence[dict[str, Any]], clip_rows: Sequence[dict[str, Any]]) -> str:
    """Both tables: shares as percent, differences in points with their 95 % intervals over photos or clips."""
    photos = (
        "File",
        "Split",
        "IoU → refined",
        "Boundary IoU → refined",
        "Change",
        "Better on",
        "Stray pieces",
        "Holes",
        "Network, smoothing, refinement at 720p, ms",
    )
    clips = (
        "File",
        "Split",
        "Clip",
        "Way",
        "Flipped %",
        "Change",
        "dtSSD",
        "IoU",
        "Boundary IoU",
        "Change",
        "Ghost %",
        "Change",
    )
    lines = tables.markdown(photos, map(_photo_cells, photo_rows), texts=2)
    if clip_rows:
        lines += ["", *tables.markdown(clips, map(_clip_cells, clip_rows), texts=4)]
    return "\n".join(lines) + "\n"


def _photo_cells(row: dict[str, Any]) -> list[str]:
    cells = [row["file"], row["split"]]
    cells += [f"{100 * row[name]:.2f} → {100 * row[f'{name}_refined']:.2f}" for name in ("iou", "boundary_iou")]
    cells += [_change(row, "boundary_iou_change"), f"{row['better_share']:.0%}"]
    cells += [f"{row[name]:.2f} → {row[f'{name}_refined']:.2f}" for name in ("islands", "holes")]
    network, *added = (row[f"{name}_ms"] for name in ("network", "smooth", "refine"))
    return [*cells, f"{network:.1f}" + "".join(f" + {ms:.1f} ({ms / network:.2g}×)" for ms in added)]


def _clip_cells(row: dict[str, Any]) -> list[str]:
    is_plain, has_ghost = row["way"] == "plain", row["clip"].startswith("moving")
    cells = [row["file"], row["split"], row["clip"], row["way"], f"{100 * row['flipped_share']:.3f}"]
    cells += ["" if is_plain else _change(row, "flipped_change"), f"{row['dtssd']:.3f}"]
    cells += [f"{100 * row[name]:.2f}" for name in ("iou", "boundary_iou")]
    cells += ["" if is_plain else _change(row, "boundary_change")]
    cells += [f"{100 * row['ghost']:.1f}" if has_ghost else ""]
    return [*cells, _change(row, "ghost_change") if has_ghost and not is_plain else ""]


def _change(row: dict[str, Any], name: str) -> str:
    return describe_difference(Difference(row[name], row[f"{name}_low"], row[f"{name}_high"]))
