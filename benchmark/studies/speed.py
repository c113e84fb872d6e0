"""How fast and how large we are ourselves: training against cores, export by file, memory against the number of photos.

The stages run as processes of their own, as a user would type them.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.measuring.cold import child_environment
from benchmark.measuring.model_files import FOREIGN, ModelFile
from benchmark.measuring.robustness import CLEAN
from benchmark.measuring.scoring import Scoring
from portraitseg import files, manifest
from portraitseg.data.base import Dataset, Sample
from portraitseg.errors import InputError
from portraitseg.runs import Run

#: Seconds between two looks at the memory of a process and its children.
_LOOK_S = 0.1

_RATE = re.compile(r"^(step|pipeline|both)\s+(\d+(?:\.\d)?) images/s$", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """One command: what it printed, how long it took, and the memory of it and its children (10⁶ bytes, or None)."""

    text: str
    seconds: float
    peak_mb: float | None


@dataclass(frozen=True)
class SmallPhotos(Dataset):
    """Discs of 48×60 pixels, drawn on demand: as many photos as one likes, at no cost of disk or time."""

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        index = int(key.rpartition("/")[2])
        y, x = np.indices((48, 60))
        disc = (y - 24) ** 2 + (x - 20 - index % 20) ** 2 < 14**2
        image = np.where(disc[..., None], np.uint8(230), np.uint8(20)).repeat(3, axis=2)
        return Sample(key, image, np.where(disc, np.uint8(255), np.uint8(0)))


def training_rates(arguments: Sequence[str], counts: Sequence[int], steps: int) -> Iterator[tuple[int, dict[str, int]]]:
    """Images per second of `python -m train speed` on so many cores.

    Args:
        arguments: `--config`, `--data` and the like, as typed.
        counts: of cores; the process may use no others.
        steps: batches of each measurement.

    Yields:
        The count, and images per second under `step`, `pipeline` and `both`.

    Raises:
        InputError: the command failed.
    """
    for count in counts:
        command = ["train", "speed", *arguments, "--steps", str(steps), "--set", f"train.workers={count}"]
        yield count, {name: round(float(rate)) for name, rate in _RATE.findall(run_stage(command, count).text)}


def export_seconds(run: Run, exports: Sequence[str]) -> Iterator[tuple[str, int, float]]:
    """Exports a run once more, from weights and QAT weights that are there.

    Yields:
        Export target, number of files, seconds for each of them: conversion, parity, GPU check and writing.

    Raises:
        InputError: the command failed, as where the run was not trained.
    """
    for export in exports:
        measured = run_stage(["export", export, "--run", run.name])
        count = len(manifest.read(manifest.Manifest, run.manifests[export]).files)
        yield export, count, measured.seconds / max(1, count)


def training_memory(arguments: Sequence[str], photos: Sequence[int]) -> Iterator[tuple[int, float | None]]:
    """Greatest memory of a training step with its worker processes, on so many synthetic portraits.

    Raises:
        InputError: the command failed.
    """
    for count in photos:
        # synthetic portraits have no blank photos
        sets = [f"data.synthetic_photos={count}", "train.blank_share=0"]
        chosen = ["--format", "synthetic", *(word for value in sets for word in ("--set", value)), "--steps", "8"]
        yield count, run_stage(["train", "speed", *arguments, *chosen]).peak_mb


def scoring_memory(file: Path, photos: Sequence[int], workers: int) -> Iterator[tuple[int, float | None, float]]:
    """Greatest memory of scoring one file on so many small photos, its processes included, and the seconds it took.

    Raises:
        InputError: the command failed.
    """
    for count in photos:
        command = [sys.executable, "-m", "benchmark.studies.speed", str(file), str(count), str(workers)]
        measured = _watch(command)
        yield count, measured.peak_mb, measured.seconds


def run_stage(arguments: Sequence[str], cores: int | None = None) -> Measured:
    """Runs `python -m …` to its end, on no more cores than said.

    Raises:
        InputError: it failed; its last line says why.
    """
    return _watch([sys.executable, "-m", *arguments], cores)


def score_small_photos(file: Path, photos: int, workers: int) -> float:
    """Scores a file on small photos by way of the journal; returns the mean IoU, so that all of it is read."""
    model_file = ModelFile(file, file.stem, FOREIGN, None, 0)
    keys = tuple(f"small/{index:06d}" for index in range(photos))
    dataset = SmallPhotos(name="small", splits={"test": keys})
    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY_PREFIX) as folder:
        scoring = Scoring([model_file], dataset, "test", [CLEAN], Path(folder), workers=workers)
        if workers == 1:
            from benchmark.measuring.peers import open_file

            scoring.runners = {model_file.name: open_file(model_file, threads=1)}
        deque(scoring.run(), maxlen=0)
        scores = scoring.result(CLEAN)[model_file.name]
        assert len(scores.values("iou")) == photos
        return scores.mean("iou")


def _watch(command: Sequence[str], cores: int | None = None) -> Measured:
    allowed = sorted(os.sched_getaffinity(0))[:cores] if hasattr(os, "sched_getaffinity") else []
    begin_s = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=child_environment(), stdout=output, stderr=errors, text=True)
        if cores is not None and allowed:
            # before the interpreter has started a thread
            os.sched_setaffinity(process.pid, allowed)
        peak = _Peak(process.pid)
        try:
            code = process.wait()
        finally:
            peak_mb = peak.stop()
        seconds = time.perf_counter() - begin_s
        output.seek(0)
        errors.seek(0)
        if code:
            last = [line for line in errors.read().splitlines() if line.strip()] or [f"exit code {code}"]
            raise InputError(f"{' '.join(command[1:4])} …: {last[-1][:300]}")
        return Measured(output.read(), seconds, peak_mb)


class _Peak:
    """Watches the memory of a process and its children until it is stopped."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._end = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """10⁶ bytes; None where the system does not tell."""
        self._end.set()
        self._thread.join()
        return self._peak / 1e6 if self._peak else None

    def _look(self) -> None:
        while not self._end.wait(_LOOK_S):
            self._peak = max(self._peak, sum(_memory(pid) for pid in _tree(self._pid)))


def _tree(pid: int) -> list[int]:
    """A process and all that descend from it, by /proc; threads may start children too."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return pids


def _memory(pid: int) -> int:
    """Bytes in memory; pages that several processes share count in parts, so that sums are right."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    print(score_small_photos(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
