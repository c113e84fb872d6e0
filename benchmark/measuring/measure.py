"""Measures all files: opens them, scores each split, times them interleaved, and keeps what an interruption left."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import Progress, track

from benchmark.measuring.cold import ColdStart, cold_start
from benchmark.measuring.flicker import CLIPS, Flicker
from benchmark.measuring.journal import locked
from benchmark.measuring.latency import PROFILES, WITHOUT_XNNPACK, Profile, interleave
from benchmark.measuring.model_files import ModelFile
from benchmark.measuring.peers import admit, open_file
from benchmark.measuring.quality import FileScores, SplitScores
from benchmark.measuring.robustness import CLEAN, CONDITIONS
from benchmark.measuring.scoring import Scoring, processes, shard_name
from portraitseg import cli
from portraitseg.data.base import Dataset, Shard, spread
from portraitseg.errors import InputError
from portraitseg.runners import NotRunnable, Runner

#: Where scores are kept while they are made, unless the caller names another folder.
JOURNAL = Path("runs/.benchmark-journal")

#: In rounds without XNNPACK: the reference as it always runs, so that ratios are to the same thing.
REFERENCE = "reference with XNNPACK"


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


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how; nothing of it changes meanwhile.

    Attributes:
        model_files, reference, profile, threads: what to measure, and how.
        is_soft: True where the truth of the data holds alpha: the mattes are scored too.
        journal: folder in which scores are kept while they are made.
        workers: processes that score; None: one for each core where there are photos enough.
        is_brief: True leaves out first runs, memory, and latencies without XNNPACK.
        with_robustness: True measures scores under the conditions, and clips.
    """

    model_files: Sequence[ModelFile]
    reference: ModelFile | None
    profile: str
    threads: Sequence[int]
    is_soft: bool = False
    journal: Path = JOURNAL
    workers: int | None = None
    is_brief: bool = False
    with_robustness: bool = False


@dataclass
class Measurement:
    """What was measured so far; every part is complete in itself.

    Attributes:
        plan: of it.
        facts: file name → what was found when it was opened.
        refused: file name → why nothing could be measured.
        splits: the splits that were scored to their end.
        rounds: thread count → complete rounds of latencies, file name → ms.
        plain_rounds: thread count → the same without XNNPACK; under REFERENCE the reference with it.
        plain_refused: file name → why it does not run without XNNPACK.
        starts: (file name, thread count) → loading, first run and memory, each time in a new process.
        robustness: (split, condition) → file name → its scores.
        flicker: scores of clips.
        is_interrupted: True after Ctrl-C.
    """

    plan: Plan
    facts: dict[str, Facts] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    splits: list[SplitScores] = field(default_factory=list)
    rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    plain_rounds: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    plain_refused: dict[str, str] = field(default_factory=dict)
    starts: dict[tuple[str, int], list[ColdStart]] = field(default_factory=dict)
    robustness: dict[tuple[str, str], dict[str, FileScores]] = field(default_factory=dict)
    flicker: Flicker = field(default_factory=Flicker)
    is_interrupted: bool = False


def measure(plan: Plan, dataset: Dataset, splits: Sequence[str]) -> Measurement:
    """Measures everything; Ctrl-C ends it early, with `is_interrupted` set.

    Raises:
        InputError: data that cannot be read; one of our own files that its runtime refuses; another benchmark that
            writes to the same journal.
    """
    done = Measurement(plan)
    try:
        with locked(plan.journal):
            _Session(plan, dataset, splits, done).run()
    except KeyboardInterrupt:
        done.is_interrupted = True
    return done


def score_shard(plan: Plan, dataset: Dataset, splits: Sequence[str], shard: Shard) -> dict[Shard, int]:
    """Scores one part of the photos, for `measure` to take up with what other machines have scored.

    Returns:
        Shard → photos that it has yet to score; empty: `measure` finds all scores.

    Raises:
        InputError: as `measure`; or another shard is of other photos or files.
        KeyboardInterrupt: Ctrl-C; what was scored is kept.
    """
    with locked(plan.journal / shard_name(shard)):
        return _Session(plan, dataset, splits, Measurement(plan)).run_shard(shard)


@dataclass(frozen=True)
class _Session:
    """The work on a plan; what comes of it goes to `done`."""

    plan: Plan
    dataset: Dataset
    splits: Sequence[str]
    done: Measurement

    def run_shard(self, shard: Shard) -> dict[Shard, int]:
        """See `score_shard`."""
        missing: dict[Shard, int] = {}
        runners = self._open(threads=1)
        if not runners:
            raise InputError("none of the files can be run on this machine: score its shard on another one")
        conditions = (CLEAN, *(CONDITIONS if self.plan.with_robustness else ()))
        for split in self.splits:
            self._stream(runners, split, conditions, f"quality on {split}, shard {shard}", shard)
        for split in self.splits:
            # once more: others have gone on meanwhile
            for other, photos in self._scoring(runners, split, conditions, shard).missing_shards().items():
                missing[other] = missing.get(other, 0) + photos
        return missing

    def run(self) -> None:
        """See `measure`."""
        runners = self._open(threads=1)
        if not runners:
            cli.warn("none of the files can be run on this machine: the table has no figures")
            return
        for split in self.splits:
            self._score(runners, split)
        # their memory is not needed twice
        del runners
        for threads in self.plan.threads:
            self._time(threads, self.splits[0])
            if not self.plan.is_brief:
                self._time_without_xnnpack(threads, self.splits[0])
                self._start(threads)
        if self.plan.with_robustness:
            runners = self._open(threads=1)
            for split in self.splits:
                self._score_robustness(runners, split)

    def _open(self, threads: int, is_timed: bool = False) -> dict[str, Runner]:
        runners = {}
        for model_file in self.plan.model_files:
            if model_file.name in self.done.refused or (is_timed and self.done.facts[model_file.name].latency_reason):
                continue
            try:
                if model_file.name not in self.done.facts:
                    admit(model_file, max(self.plan.threads))
                runner = open_file(model_file, threads)
            except NotRunnable as error:
                self.done.refused[model_file.name] = f"not_run: needs {error.needs}"
                continue
            except InputError as error:
                if model_file.manifest is not None:
                    # our own file does not open: that is no row, that is a broken export
                    raise
                self.done.refused[model_file.name] = f"not_run: {error}"
                cli.warn(str(error))
                continue
            self.done.facts[model_file.name] = Facts.of(runner)
            runners[model_file.name] = runner
        return runners

    def _score(self, runners: dict[str, Runner], split: str) -> None:
        scoring = self._stream(runners, split, (CLEAN,), f"quality on {split}")
        self.done.splits.append(SplitScores(split, self.dataset.split_hash(split), scoring.result(CLEAN)))
        for note, count in scoring.notes.items():
            cli.warn(f"{split}: {note}: {count} of {len(scoring.keys)} photos")

    def _score_robustness(self, runners: dict[str, Runner], split: str) -> None:
        scoring = self._stream(runners, split, tuple(CONDITIONS), f"robustness on {split}")
        self.done.robustness.update({(split, condition): scoring.result(condition) for condition in CONDITIONS})
        clips = spread(self.dataset.keys(split), CLIPS)
        scored = self.done.flicker.measure(runners, self.dataset, split)
        deque(progress(scored, f"clips of {split}", len(clips)), maxlen=0)

    def _scoring(self, runners: dict[str, Runner], split: str, conditions: tuple[str, ...], shard: Shard) -> Scoring:
        return Scoring(
            model_files=[model_file for model_file in self.plan.model_files if model_file.name in runners],
            dataset=self.dataset,
            split=split,
            conditions=conditions,
            folder=self.plan.journal,
            is_soft=self.plan.is_soft,
            workers=processes(self.plan.workers, len(self.dataset.keys(split))),
            runners=runners,
            shard=shard,
        )

    def _stream(
        self,
        runners: dict[str, Runner],
        split: str,
        conditions: tuple[str, ...],
        description: str,
        shard: Shard = Shard(),  # noqa: B008
    ) -> Scoring:
        """Scores the open files on a split, or what of it is missing in the journal."""
        scoring = self._scoring(runners, split, conditions, shard)
        known, total = scoring.photos_done, scoring.photos
        if known:
            cli.say(f"{description}: {known} of {total} photos are there from before")
        try:
            with bar(description, total) as advance:
                for photos in scoring.run():
                    advance(photos)
        except KeyboardInterrupt:
            kept = f"{scoring.photos_done} of {total} photos are kept in {self.plan.journal}"
            cli.say(f"{description}: {kept}: the same command goes on from there")
            raise
        return scoring

    def _time(self, threads: int, split: str) -> None:
        image = self.dataset.load(self.dataset.keys(split)[0]).image
        runners = self._open(threads, is_timed=True)
        runs = {name: _bind(runner, runner.prepare(image)) for name, runner in runners.items()}
        kept = self.done.rounds.setdefault(threads, [])
        _interleave(runs, PROFILES[self.plan.profile], kept, f"latency{_on(threads)}")

    def _time_without_xnnpack(self, threads: int, split: str) -> None:
        image = self.dataset.load(self.dataset.keys(split)[0]).image
        runs = {}
        for model_file in self._timed_files():
            if self.done.facts[model_file.name].delegate != "xnnpack" or model_file.name in self.done.plain_refused:
                continue
            try:
                runner = open_file(model_file, threads, with_xnnpack=False)
            except InputError as error:
                self.done.plain_refused[model_file.name] = f"not_run: {error}"
                continue
            runs[model_file.name] = _bind(runner, runner.prepare(image))
        if not runs:
            return
        if self.plan.reference is not None and self.plan.reference.name in self.done.facts:
            reference = open_file(self.plan.reference, threads)
            runs[REFERENCE] = _bind(reference, reference.prepare(image))
        kept = self.done.plain_rounds.setdefault(threads, [])
        _interleave(runs, WITHOUT_XNNPACK[self.plan.profile], kept, f"without XNNPACK{_on(threads)}")

    def _start(self, threads: int) -> None:
        """Starts every file in processes of its own; where time is short on the first thread count only."""
        count = PROFILES[self.plan.profile].starts
        if count == 1 and threads != self.plan.threads[0]:
            return
        jobs = [model_file for _ in range(count) for model_file in self._timed_files()]
        for model_file in progress(jobs, f"first runs{_on(threads)}", len(jobs)):
            try:
                self.done.starts.setdefault((model_file.name, threads), []).append(cold_start(model_file, threads))
            except InputError as error:
                cli.warn(str(error))

    def _timed_files(self) -> list[ModelFile]:
        names = {name for name, facts in self.done.facts.items() if not facts.latency_reason}
        return [
            model_file
            for model_file in self.plan.model_files
            if model_file.name in names and model_file.name not in self.done.refused
        ]


def progress(steps: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """Shows a bar while the steps go by, on a terminal only."""
    return track(steps, description, total, console=cli.console, transient=True, disable=not cli.console.is_terminal)


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for steps of several at a time, on a terminal only; yields what moves it on."""
    columns = Progress(console=cli.console, transient=True, disable=not cli.console.is_terminal)
    with columns as shown:
        task = shown.add_task(description, total=total)
        yield lambda count: shown.advance(task, count)


def _interleave(runs: dict[str, Any], profile: Profile, kept: list[dict[str, float]], description: str) -> None:
    """Adds complete rounds to a list, so that an interruption leaves those that were made."""
    for times_ms in progress(interleave(runs, profile), description, profile.rounds):
        kept.append(times_ms)


def _on(threads: int) -> str:
    return f" on {threads} thread{'s' * (threads > 1)}"


def _bind(runner: Runner, inputs: Any) -> Any:
    return lambda: runner.run(inputs)
