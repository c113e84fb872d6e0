"""Measures all files: opens them, scores each split, times them interleaved, and keeps what an interruption left."""

import os
import platform
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmark.latency import PROFILES, Latency, interleave, summarize
from benchmark.quality import FileScores, SplitScores, score_split
from benchmark.table import COLUMNS, Row
from benchmark.targets import Target
from portraitseg import cli
from portraitseg.data.base import Dataset
from portraitseg.errors import InputError
from portraitseg.metrics import METRICS
from portraitseg.runners import NotRunnable, Runner, open_runner


@dataclass
class Measurement:
    """What was measured so far; every part is complete in itself.

    Attributes:
        targets, reference, profile, threads: what to measure, and how.
        facts: file name → (runtime, delegate, channels), as found when it was opened.
        refused: file name → why nothing could be measured.
        splits: the splits that were scored to their end.
        rounds: thread count → complete rounds of latencies, file name → ms.
        is_interrupted: True after Ctrl-C.
    """

    targets: Sequence[Target]
    reference: Target | None
    profile: str
    threads: Sequence[int]
    facts: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    splits: list[SplitScores] = field(default_factory=list)
    rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    is_interrupted: bool = False

    def run(self, dataset: Dataset, splits: Sequence[str]) -> None:
        """Measures everything; Ctrl-C ends it early, with `is_interrupted` set.

        Raises:
            InputError: data that cannot be read; one of our own files that its runtime refuses.
        """
        try:
            runners = self._open(threads=1)
            if not runners:
                cli.warn("none of the files can be run on this machine: the table has no figures")
                return
            for split in splits:
                self._score(runners, dataset, split)
            # their memory is not needed twice
            del runners
            for threads in self.threads:
                self._time(self._open(threads), dataset, splits[0], threads)
        except KeyboardInterrupt:
            self.is_interrupted = True

    def rows(self) -> list[Row]:
        """The table: file × thread count × split; one row for a file that could not be run.

        After an interruption only valid rows are left.
        """
        rows: list[Row] = []
        latencies = {threads: summarize(self.rounds.get(threads, ())) for threads in self.threads}
        for target in self.targets:
            if target.name in self.refused:
                rows.append(_row(target, valid=False, reason=self.refused[target.name]))
                continue
            for threads in self.threads:
                for split in self.splits:
                    rows.append(self._measured_row(target, split, threads, latencies[threads]))
        return [row for row in rows if row.valid] if self.is_interrupted else rows

    def _open(self, threads: int) -> dict[str, Runner]:
        runners = {}
        for target in self.targets:
            if target.name in self.refused:
                continue
            try:
                runner = open_runner(target.path, threads)
            except NotRunnable as error:
                self.refused[target.name] = f"not_run: needs {error.needs}"
                continue
            except InputError as error:
                if target.manifest is not None:
                    # our own file does not open: that is no row, that is a broken export
                    raise
                self.refused[target.name] = f"not_run: {error}"
                cli.warn(str(error))
                continue
            self.facts[target.name] = (runner.runtime, runner.delegate, runner.channels)
            runners[target.name] = runner
        return runners

    def _score(self, runners: dict[str, Runner], dataset: Dataset, split: str) -> None:
        notes: dict[str, int] = {}
        photos = len(dataset.keys(split))
        steps = progress(score_split(runners, dataset, split, notes), f"quality on {split}", photos)
        # the last step is the complete one
        (scores,) = deque(steps, maxlen=1)
        self.splits.append(scores)
        for note, count in notes.items():
            cli.warn(f"{split}: {note}: {count} of {photos} photos")

    def _time(self, runners: dict[str, Runner], dataset: Dataset, split: str, threads: int) -> None:
        image = dataset.load(dataset.keys(split)[0]).image
        profile = PROFILES[self.profile]
        runs = {name: _bind(runner, runner.prepare(image)) for name, runner in runners.items()}
        rounds = interleave(runs, profile)
        kept = self.rounds.setdefault(threads, [])
        for times_ms in progress(rounds, f"latency on {threads} thread{'s' * (threads > 1)}", profile.rounds):
            kept.append(times_ms)

    def _measured_row(self, target: Target, split: SplitScores, threads: int, latencies: dict[str, Latency]) -> Row:
        scores = split.files[target.name]
        runtime, delegate, channels = self.facts[target.name]
        latency = latencies.get(target.name)
        reference = latencies.get(self.reference.name) if self.reference else None
        if self.is_interrupted:
            # the scores are complete: they stay, without a latency that does not count
            latency = latency if latency and not latency.fault else None
            reference = reference if reference and not reference.fault else None
        reason = "; ".join(self._faults(target, scores, latency, reference))
        note = "" if latency else "interrupted before the latency was measured"
        means = {name: scores.mean(name) for name in METRICS}
        low, high = scores.interval("iou")
        figures: dict[str, Any] = {name: value for name, value in means.items() if name in Row.__dataclass_fields__}
        return _row(
            target,
            channels=channels,
            runtime=runtime,
            delegate=delegate,
            threads=threads,
            split=split.split,
            split_sha256_16=split.sha256_16,
            photos=len(scores.keys),
            iou_low=low,
            iou_high=high,
            p50_ms=latency.p50_ms if latency else None,
            p90_ms=latency.p90_ms if latency else None,
            fastest_ms=latency.fastest_ms if latency else None,
            ratio_to_reference=latency.p50_ms / reference.p50_ms if latency and reference else None,
            valid=not reason,
            reason=reason or note,
            reference=self.reference.path.name if self.reference and reference else None,
            rounds=latency.rounds if latency else None,
            profile=self.profile,
            further_scores={name: value for name, value in means.items() if name not in figures},
            **figures,
        )

    def _faults(
        self, target: Target, scores: FileScores, latency: Latency | None, reference: Latency | None
    ) -> Iterable[str]:
        if scores.fault:
            yield scores.fault
        if latency and latency.fault:
            yield latency.fault
        # its own row has said so already
        if latency and reference and reference.fault and target is not self.reference:
            yield f"reference: {reference.fault}"


def progress(steps: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """Shows a bar while the steps go by, on a terminal only."""
    return track(steps, description, total, console=cli.console, transient=True, disable=not cli.console.is_terminal)


def machine() -> str:
    """The processor and its core count, for the reader of a latency."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text(errors="replace").splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def _bind(runner: Runner, inputs: Any) -> Any:
    return lambda: runner.run(inputs)


def _row(target: Target, **values: Any) -> Row:
    given: dict[str, Any] = {"channels": target.channels, **values}
    assert given.keys() <= {*COLUMNS, "further_scores"}
    return Row(
        file=target.name, model=target.model, recipe=target.recipe, bytes=target.bytes, machine=machine(), **given
    )
