"""Measures all files: opens them, scores each split, times them interleaved, and keeps what an interruption left."""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.progress import track

from benchmark.flicker import Flicker, clip_keys
from benchmark.latency import PROFILES, interleave
from benchmark.peers import open_target
from benchmark.quality import SplitScores, score_split
from benchmark.robustness import Robustness
from benchmark.targets import Target
from portraitseg import cli
from portraitseg.data.base import Dataset
from portraitseg.errors import InputError
from portraitseg.runners import NotRunnable, Runner


@dataclass(frozen=True)
class Facts:
    """What is known of a file once it is open.

    Attributes:
        runtime, delegate, channels: as its runner says.
        chooses_threads: True where the runtime does that, and takes no count.
        latency_reason: why it can be scored here, but not timed; None where it can.
    """

    runtime: str
    delegate: str
    channels: str
    chooses_threads: bool = False
    latency_reason: str | None = None

    @staticmethod
    def of(runner: Runner) -> "Facts":
        reason = getattr(runner, "latency_reason", None)
        return Facts(runner.runtime, runner.delegate, runner.channels, runner.threads == 0, reason)


@dataclass
class Measurement:
    """What was measured so far; every part is complete in itself.

    Attributes:
        targets, reference, profile, threads: what to measure, and how.
        is_soft: True where the truth of the data holds alpha: the mattes are scored too.
        robustness: where scores under the conditions go; None: neither they nor clips are measured.
        flicker: where scores of clips go.
        facts: file name → what was found when it was opened.
        refused: file name → why nothing could be measured.
        splits: the splits that were scored to their end.
        rounds: thread count → complete rounds of latencies, file name → ms.
        first_ms: (file name, thread count) → the first run after opening, as an app's first frame has it.
        is_interrupted: True after Ctrl-C.
    """

    targets: Sequence[Target]
    reference: Target | None
    profile: str
    threads: Sequence[int]
    is_soft: bool = False
    robustness: Robustness | None = None
    flicker: Flicker = field(default_factory=Flicker)
    facts: dict[str, Facts] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    splits: list[SplitScores] = field(default_factory=list)
    rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    first_ms: dict[tuple[str, int], float] = field(default_factory=dict)
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
                self._time(self._open(threads, is_timed=True), dataset, splits[0], threads)
            if self.robustness is not None:
                runners = self._open(threads=1)
                for split in splits:
                    self._score_robustness(runners, dataset, split)
        except KeyboardInterrupt:
            self.is_interrupted = True

    def _open(self, threads: int, is_timed: bool = False) -> dict[str, Runner]:
        runners = {}
        for target in self.targets:
            if target.name in self.refused or (is_timed and self.facts[target.name].latency_reason):
                continue
            try:
                runner = open_target(target, threads)
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
            self.facts[target.name] = Facts.of(runner)
            runners[target.name] = runner
        return runners

    def _score(self, runners: dict[str, Runner], dataset: Dataset, split: str) -> None:
        notes: dict[str, int] = {}
        photos = len(dataset.keys(split))
        steps = progress(score_split(runners, dataset, split, notes, self.is_soft), f"quality on {split}", photos)
        # the last step is the complete one
        (scores,) = deque(steps, maxlen=1)
        self.splits.append(scores)
        for note, count in notes.items():
            cli.warn(f"{split}: {note}: {count} of {photos} photos")

    def _score_robustness(self, runners: dict[str, Runner], dataset: Dataset, split: str) -> None:
        assert self.robustness is not None
        steps = self.robustness.measure(runners, dataset, split)
        deque(progress(steps, f"robustness on {split}", len(dataset.keys(split))), maxlen=0)
        clips = clip_keys(dataset.keys(split))
        deque(progress(self.flicker.measure(runners, dataset, split), f"clips of {split}", len(clips)), maxlen=0)

    def _time(self, runners: dict[str, Runner], dataset: Dataset, split: str, threads: int) -> None:
        image = dataset.load(dataset.keys(split)[0]).image
        profile = PROFILES[self.profile]
        runs = {name: _bind(runner, runner.prepare(image)) for name, runner in runners.items()}
        for name, run in runs.items():
            begin_s = time.perf_counter()
            run()
            self.first_ms[name, threads] = 1000 * (time.perf_counter() - begin_s)
        rounds = interleave(runs, profile)
        kept = self.rounds.setdefault(threads, [])
        for times_ms in progress(rounds, f"latency on {threads} thread{'s' * (threads > 1)}", profile.rounds):
            kept.append(times_ms)


def progress(steps: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """Shows a bar while the steps go by, on a terminal only."""
    return track(steps, description, total, console=cli.console, transient=True, disable=not cli.console.is_terminal)


def _bind(runner: Runner, inputs: Any) -> Any:
    return lambda: runner.run(inputs)
