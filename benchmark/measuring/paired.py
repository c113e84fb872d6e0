"""What the tables that compare files of several runs share: one measurement, and differences paired by photo."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.measuring.intervals import paired_difference
from benchmark.measuring.latency import PROFILES
from benchmark.measuring.measure import Measurement, Plan, measure
from benchmark.measuring.targets import Target
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.data.base import Dataset
from portraitseg.errors import InputError


def open_measured(config: Config, splits: Sequence[str], profile: str) -> Dataset:
    """The photos to measure on, before anything else is looked at.

    Raises:
        InputError: no such profile or split, or photos that cannot be read.
    """
    if profile not in PROFILES:
        raise InputError(f"--profile {profile}: choose one of {', '.join(PROFILES)}")
    dataset = open_dataset(config.data, config.seed)
    for split in splits:
        dataset.keys(split)
    return dataset


def measure_together(
    targets: Sequence[Target],
    reference: Target | None,
    dataset: Dataset,
    splits: Sequence[str],
    profile: str,
    threads: Sequence[int],
    is_soft: bool,
    out: Path,
) -> Measurement:
    """Scores and times files in one process; the journal beside `out` is the caller's to remove once `out` is written.

    Raises:
        KeyboardInterrupt: Ctrl-C; the scores so far stay in the journal.
    """
    journal = out.with_name(f".{out.stem}-journal")
    plan = Plan(targets, reference, profile, threads, is_soft, journal, is_brief=True)
    measurement = measure(plan, dataset, splits)
    if measurement.is_interrupted:
        raise KeyboardInterrupt
    return measurement


def changes(measurement: Measurement, target: Target, base: Target, split_name: str | None) -> dict[str, float]:
    """What differs from a base file on a split, photo by photo; empty where either has no good scores."""
    split = next((split for split in measurement.splits if split.split == split_name), None)
    scores_of_target, other = (split.files.get(item.name) if split else None for item in (target, base))
    if scores_of_target is None or other is None or scores_of_target.fault or other.fault:
        return {}
    columns: dict[str, float] = {}
    for score, prefix in (("iou", "change"), ("boundary_iou", "boundary_change")):
        difference = paired_difference(other.values(score), scores_of_target.values(score))
        columns |= {prefix: difference.mean, f"{prefix}_low": difference.low, f"{prefix}_high": difference.high}
    return columns
