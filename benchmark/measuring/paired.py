"""What the tables that compare files of several runs share: one measurement, and differences paired by photo."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.measuring.intervals import paired_difference
from benchmark.measuring.latency import PROFILES
from benchmark.measuring.measure import Measurement, Plan, measure
from benchmark.measuring.model_files import ModelFile
from portraitseg.config import Config
from portraitseg.data import open_dataset
from portraitseg.data.base import Dataset
from portraitseg.errors import InputError


@dataclass(frozen=True)
class Study:
    """How the files of several runs are measured together.

    Attributes:
        config: with the photos.
        splits: to score on.
        peers, reference, threads, profile: as in `benchmark run`.
        out: the CSV.
    """

    config: Config
    splits: Sequence[str]
    peers: Path | None
    reference: Path | None
    threads: Sequence[int]
    profile: str
    out: Path

    def open_dataset(self) -> Dataset:
        """The photos to measure on, before anything else is looked at.

        Raises:
            InputError: no such profile or split, or photos that cannot be read.
        """
        if self.profile not in PROFILES:
            raise InputError(f"--profile {self.profile}: choose one of {', '.join(PROFILES)}")
        dataset = open_dataset(self.config.data, self.config.seed)
        for split in self.splits:
            dataset.keys(split)
        return dataset

    def measure(self, model_files: Sequence[ModelFile], reference: ModelFile | None, dataset: Dataset) -> Measurement:
        """Scores and times in one process; the journal beside `out` is the caller's to remove once `out` is written.

        Raises:
            KeyboardInterrupt: Ctrl-C; the scores so far stay in the journal.
        """
        journal, is_soft = self.out.with_name(f".{self.out.stem}-journal"), self.config.data.soft_masks
        plan = Plan(model_files, reference, self.profile, self.threads, is_soft, journal, is_brief=True)
        measurement = measure(plan, dataset, self.splits)
        if measurement.is_interrupted:
            raise KeyboardInterrupt
        return measurement


def changes(
    measurement: Measurement, model_file: ModelFile, base: ModelFile, split_name: str | None
) -> dict[str, float]:
    """What differs from a base file on a split, photo by photo; empty where either has no good scores."""
    split = next((split for split in measurement.splits if split.split == split_name), None)
    scores_of_file, other = (split.files.get(item.name) if split else None for item in (model_file, base))
    if scores_of_file is None or other is None or scores_of_file.fault or other.fault:
        return {}
    columns: dict[str, float] = {}
    for score, prefix in (("iou", "change"), ("boundary_iou", "boundary_change")):
        columns |= paired_difference(other.values(score), scores_of_file.values(score)).columns(prefix)
    return columns
