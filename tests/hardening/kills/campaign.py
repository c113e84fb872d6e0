"""Kills a stage again and again at random moments, and looks at what is left after each."""

import json
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tests.hardening.kills import stage, whole

RUN = "a"

#: A worker process asks every moment whether its parent is still there; under load it may take seconds.
_WORKERS_END_S = 60.0

CONFIG = """
[data]
synthetic_photos = 8
[model]
name = "tiny"
size = [32, 32]
[train]
epochs = 12
batch_size = 4
learning_rate = 1e-2
schedule = "constant"
ema = 0.8
workers = 1
save_every = 4
[augment]
horizontal_flip = { p = 0.5 }
gamma = { p = 0.5 }
[qat]
epochs = 3
freeze_bn_epochs = 1
[export]
calibration_photos = 4
parity_photos = 2
"""

#: What is killed; each begins with what those before it left.
STAGES: dict[str, tuple[str, ...]] = {
    "train": ("train", "fit", "--run", RUN, "--config", "tiny.toml"),
    "export-android": ("export", "android", "--run", RUN),
    "export-ios": ("export", "ios", "--run", RUN),
    "benchmark": ("benchmark", "run", "--run", RUN),
}

#: For `make test`; see `tests.hardening.kills.standin`.
STANDIN = "standin"

COMMANDS = {**STAGES, STANDIN: ("tests.hardening.kills.standin", "--run", RUN, "--seed", "7")}


@dataclass
class Pace:
    """How an undisturbed run of a stage went; `end_s` follows the machine, which may have less to do later.

    Attributes:
        begin_s, end_s: from its start to its first change of a file, and to its end.
        operations: changes of files, as `tests.hardening.kills.stage` counts them.
    """

    begin_s: float
    end_s: float
    operations: int


@dataclass
class Result:
    """Of one stage; the counts are of kills unless they say otherwise.

    Attributes:
        at_a_moment, at_a_change: where the kill came: after a random time, or right before a random change of a file.
        process_alone, with_children: who was killed.
        files_checked: files under final names, summed over the kills.
        half_written, lost, outlived: faults, a line each; `outlived`: processes that went on without their parent.
        with_leftovers: kills after which something lay under a temporary name.
        finished: runs that were left to finish after kills; `left_behind`: temporary names after those.
        greatest_difference: of any number between a finished run and an undisturbed one; `compared`: what that was.
    """

    stage: str
    kills: int = 0
    at_a_moment: int = 0
    at_a_change: int = 0
    process_alone: int = 0
    with_children: int = 0
    files_checked: int = 0
    with_leftovers: int = 0
    finished: int = 0
    left_behind: int = 0
    half_written: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    outlived: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    greatest_difference: float = 0.0
    compared: str = ""


def finish(name: str, folder: Path, *more: str) -> Pace:
    """Runs a stage to its end.

    Raises:
        RuntimeError: another exit code than 0, with the last lines it wrote.
    """
    times, begin = folder / "times.json", time.monotonic()
    code = os.waitstatus_to_exitcode(os.waitpid(stage.start((*COMMANDS[name], *more), folder, times=times), 0)[1])
    if code:
        raise RuntimeError(f"{name}: exit {code}: {last_words(folder)}")
    counted = json.loads(times.read_text())
    times.unlink()
    return Pace(counted[0], time.monotonic() - begin, len(counted))


def last_words(folder: Path) -> str:
    """The end of what runs printed in a folder."""
    return (folder / "log.txt").read_text(errors="replace")[-1000:]


def start_of(name: str, work: Path) -> Path:
    """The folder in which a stage begins: trained, and with the exports and the table of earlier, other weights."""
    first = work / "start-train"
    if not first.exists():
        first.mkdir(parents=True)
        (first / "tiny.toml").write_text(CONFIG)
    if name == STANDIN:
        return _start_of_standin(work)
    if name == "train":
        return first
    exported = work / "start-export"
    if not exported.exists():
        scratch = copy(first, work / "scratch")
        finish("train", scratch, "--set", "seed=8")
        for earlier in list(STAGES)[1:]:
            finish(earlier, scratch)
        finish("train", scratch, "--overwrite")
        scratch.rename(exported)
    if name.startswith("export"):
        return exported
    measured = work / "start-benchmark"
    if not measured.exists():
        scratch = copy(exported, work / "scratch")
        for earlier in list(STAGES)[1:]:
            finish(earlier, scratch)
        scratch.rename(measured)
    return measured


def _start_of_standin(work: Path) -> Path:
    """With files of an earlier run of another seed, which are to be replaced."""
    start = work / "start-standin"
    if not start.exists():
        scratch = work / "scratch"
        scratch.mkdir()
        stage.start((*COMMANDS[STANDIN][:-1], "8"), scratch)
        _, status = os.wait()
        if status:
            raise RuntimeError(last_words(scratch))
        scratch.rename(start)
    return start


def copy(source: Path, target: Path) -> Path:
    """A fresh copy of a folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
    return target


def run_campaign(name: str, kills: int, work: Path, kills_a_chain: int = 5, seed: int = 0) -> Iterator[Result]:
    """Kills a stage `kills` times; after every few kills one run is left to finish, and is compared.

    The run after a kill is the next victim, as when somebody's machine fails again and again.

    Args:
        name: a key of `STAGES`, or `STANDIN`.
        kills: how many.
        work: folder for the runs.
        kills_a_chain: kills until a run is left to finish.
        seed: of the moments.

    Yields:
        The result so far, after each kill and each finished run.
    """
    start = start_of(name, work)
    undisturbed = copy(start, work / f"{name}-undisturbed")
    pace = finish(name, undisturbed)
    generator = random.Random(f"{name} {seed}")
    result = Result(name)
    while result.kills < kills:
        folder = copy(start, work / f"{name}-killed")
        for _ in range(min(kills_a_chain, kills - result.kills)):
            kill_once(result, start, folder, pace, generator)
            yield result
        try:
            finish(name, folder)
        except RuntimeError as error:
            result.failed.append(str(error))
        else:
            result.finished += 1
            check(result, folder, {})
            result.left_behind += len(whole.leftovers(folder))
            compare(result, folder, undisturbed)
        yield result


def kill_once(result: Result, start: Path, folder: Path, pace: Pace, generator: random.Random) -> None:
    """Starts the stage and kills it; after a run that ended before its kill the folder is a fresh one."""
    # each of the four combinations equally often
    is_at_change, is_group = bool(result.kills & 1), bool(result.kills & 2)
    arguments = COMMANDS[result.stage]
    is_fresh = False
    while True:
        before, begin = whole.snapshot(folder), time.monotonic()
        if is_at_change:
            pid = stage.start(arguments, folder, stage.SelfKill(generator.randint(1, pace.operations), is_group))
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        else:
            pid = stage.start(arguments, folder)
            code = _kill_after(pid, generator.uniform(0, pace.end_s), is_group)
        if code:
            break
        if is_fresh:
            pace.end_s = min(pace.end_s, time.monotonic() - begin)
        copy(start, folder)
        is_fresh = True
    if code != -signal.SIGKILL:
        result.failed.append(f"exit {code}: {last_words(folder)}")
    result.kills += 1
    result.at_a_change += is_at_change
    result.at_a_moment += not is_at_change
    result.with_children += is_group
    result.process_alone += not is_group
    result.outlived += _wait_for_workers(pid)
    check(result, folder, before)
    result.with_leftovers += bool(whole.leftovers(folder))


def _kill_after(pid: int, seconds: float, is_group: bool) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    (os.killpg if is_group else os.kill)(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check(result: Result, folder: Path, before: dict[str, str]) -> None:
    """Notes what is not whole, and what was there before and is not now."""
    now = whole.snapshot(folder)
    result.files_checked += len(now)
    result.half_written += [f"kill {result.kills}: {fault}" for fault in whole.faults(folder)]
    # the benchmark takes its journals away once its new results stand: their scores are in those
    is_done = any(name.endswith("benchmark/results.csv") and now[name] != before.get(name) for name in now)
    # a lock holds nothing: the one of the journals goes with their folder
    gone = [name for name in sorted(before.keys() - now.keys()) if Path(name).name != ".lock"]
    gone = [name for name in gone if not (is_done and name.endswith(".scores"))]
    result.lost += [f"kill {result.kills}: {name}" for name in gone]


def _wait_for_workers(group: int) -> list[str]:
    """Waits until the process group is empty; what is left after that is stopped, and named."""
    end = time.monotonic() + _WORKERS_END_S
    while (left := _members(group)) and time.monotonic() < end:
        time.sleep(0.2)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return [f"process {pid} outlived its parent by {_WORKERS_END_S:g} s" for pid in left]


def _members(group: int) -> list[int]:
    """Processes of a group that are not zombies; Linux only."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            members.append(int(path.parent.name))
    return members


def compare(result: Result, folder: Path, undisturbed: Path) -> None:
    """Compares what a run after kills made with what an undisturbed one made."""
    if result.stage in ("train", STANDIN):
        names = ("best.h5", "last.h5", "state.npz")
        result.compared = "weights, optimizer state and moving average"
        pairs = [(_numbers(side / "runs" / RUN / name) for side in (folder, undisturbed)) for name in names]
    elif result.stage == "benchmark":
        result.compared = "scores of every file"
        pairs = [(_scores(side) for side in (folder, undisturbed))]
    elif result.stage == "export-android":
        result.compared = "QAT weights; bytes of every .tflite"
        pairs = [(_numbers(side / f"runs/{RUN}/qat/best.h5") for side in (folder, undisturbed))]
        pairs.append(_same_bytes(side, undisturbed) for side in (folder, undisturbed))
    else:
        result.compared = "bytes of every weight file"
        pairs = [(_same_bytes(side, undisturbed) for side in (folder, undisturbed))]
    for ours, theirs in pairs:
        difference = _greatest_difference(ours, theirs)
        result.greatest_difference = max(result.greatest_difference, difference)


def _greatest_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Infinite where one has what the other has not."""
    if ours.keys() != theirs.keys() or any(ours[name].shape != theirs[name].shape for name in ours):
        return float("inf")
    differences = [float(np.abs(ours[name] - theirs[name]).max(initial=0.0)) for name in ours]
    # what is no number is different from every number
    return max((float("inf") if math.isnan(value) else value for value in differences), default=float("inf"))


def _numbers(path: Path) -> dict[str, np.ndarray]:
    """Every array of an h5 or an npz, as float64."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name].astype(np.float64) for name in stored.files if name != "progress"}
    import h5py

    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path, "r") as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[()].astype(np.float64)}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return arrays


def _scores(folder: Path) -> dict[str, np.ndarray]:
    import csv

    with (folder / f"runs/{RUN}/benchmark/results.csv").open(encoding="utf-8") as file:
        return {
            row["file"]: np.array([float(row["iou"] or -1), float(row["boundary_iou"] or -1)])
            for row in csv.DictReader(file)
        }


def _same_bytes(folder: Path, undisturbed: Path) -> dict[str, np.ndarray]:
    """Each file of weights → 0 where its bytes are those of the undisturbed run's, else 1."""
    equal = {}
    for pattern in ("android_assets/**/*.tflite", "ios_assets/**/*.bin", "ios_assets/**/*.mlmodel"):
        for path in undisturbed.glob(pattern):
            ours = folder / path.relative_to(undisturbed)
            is_same = ours.exists() and ours.read_bytes() == path.read_bytes()
            equal[str(path.relative_to(undisturbed))] = np.array([float(not is_same)])
    return equal


def as_json(result: Result) -> dict[str, object]:
    """For the file that the table is made from."""
    return asdict(result)
