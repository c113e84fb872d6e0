"""Runs files as a phone's core would, in a child process that may crash, hang or say nonsense."""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from portraitseg.checks.arm import fetch
from portraitseg.checks.arm.cores import CORES, make_root
from portraitseg.checks.arm.counts import BORDER, Count, read_sections, summarize
from portraitseg.checks.arm.symbols import Symbols, read_symbols
from portraitseg.checks.gpu.process import read_runs, write_runs
from portraitseg.checks.gpu.result import Inputs
from portraitseg.child import Ended, exit_words, run_limited
from portraitseg.tflite.graph import Graph

#: Seconds for one file on one core: an emulated inference of a float network takes 0.5 to 4, on a busy machine thrice.
TIME_LIMIT_S = 600.0

#: Seconds until Python, numpy and LiteRT are imported under the emulator: 3 on a free core.
_START_S = 120.0

#: How a process looks that its own alarm ended: by the signal, or as the emulator's exit code.
_ALARM = (-14, 128 + 14)

_GUEST = Path(__file__).with_name("guest.py")


@dataclass(frozen=True)
class Task:
    """One file and what it is run on."""

    path: Path
    graph: Graph
    inputs: Inputs


@dataclass(frozen=True)
class Outcome:
    """What came of one file.

    Attributes:
        outputs: run by run; None where there are none.
        error: why there are none.
        count: of the last run; None where nothing counted.
        is_ours: whether the emulator failed, and not the file.
    """

    outputs: Inputs | None
    error: str | None = None
    count: Count | None = None
    is_ours: bool = False


@dataclass(frozen=True)
class Machine:
    """What runs the emulated processes.

    Attributes:
        folder: what `fetch.fetch` unpacked.
        plugin: of `fetch.build_plugin`; None: nothing is counted.
    """

    folder: Path
    plugin: Path | None

    @property
    def symbols(self) -> Symbols:
        """Of LiteRT's library."""
        return read_symbols(self.folder / fetch.LIBRARY)

    def command(self, core: str, folder: Path) -> list[str]:
        """Runs the guest on a core, its jobs and its results in a folder."""
        kind = CORES[core]
        root = make_root(kind, self.folder / "guest", self.folder / "roots" / core)
        counting = ["-plugin", f"{self.plugin},out={folder}/count"] if self.plugin else []
        site = (self.folder / "site").resolve()
        variables = ("PYTHONHOME=/usr", f"PYTHONPATH={site}", "PYTHONDONTWRITEBYTECODE=1")
        named = ["-U", "LD_LIBRARY_PATH", "-U", "LD_PRELOAD"]
        named += [part for variable in variables for part in ("-E", variable)]
        emulator = [str(self.folder / fetch.QEMU), "-L", str(root), "-cpu", kind.cpu, *counting, *named]
        return [*emulator, str(self.folder / fetch.PYTHON), "-s", str(_GUEST), f"{folder}/jobs.json", str(folder)]

    def variables(self) -> dict[str, str]:
        """Of the emulator's own environment."""
        return {"LD_LIBRARY_PATH": str(self.folder / "host/usr/lib/x86_64-linux-gnu")}


#: Folder of jobs and results → what to run.
Command = Callable[[Path], list[str]]


def run_native(tasks: Sequence[Task], time_limit_s: float = TIME_LIMIT_S) -> list[Outcome]:
    """What this machine's own LiteRT makes of the files."""

    def command(folder: Path) -> list[str]:
        return [sys.executable, str(_GUEST), f"{folder}/jobs.json", str(folder)]

    return _run_all(tasks, command, {}, None, time_limit_s)


def run_emulated(
    tasks: Sequence[Task], core: str, machine: Machine, time_limit_s: float = TIME_LIMIT_S
) -> list[Outcome]:
    """What LiteRT's AArch64 build makes of the files on a core, a key of `CORES`; each has `time_limit_s`."""
    return _run_all(tasks, partial(machine.command, core), machine.variables(), machine, time_limit_s)


def _run_all(
    tasks: Sequence[Task], command: Command, variables: dict[str, str], machine: Machine | None, time_limit_s: float
) -> list[Outcome]:
    """Runs the files one behind the other in one process; where it ends early, the rest in another."""
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(tasks):
        with tempfile.TemporaryDirectory(prefix="check-arm-") as name:
            _run_rest(tasks, outcomes, Path(name), command, variables, machine, time_limit_s)
    return [outcomes[number] for number in range(len(tasks))]


def _run_rest(
    tasks: Sequence[Task],
    outcomes: dict[int, Outcome],
    folder: Path,
    command: Command,
    variables: dict[str, str],
    machine: Machine | None,
    time_limit_s: float,
) -> None:
    """One process for all files that have no outcome yet; at least one has, when it is gone."""
    jobs: list[dict[str, object] | None] = [None] * len(tasks)
    seconds = max(1, round(time_limit_s))
    counted = machine is not None and machine.plugin is not None
    for number, task in enumerate(tasks):
        if number not in outcomes:
            inputs = folder / f"inputs-{number}.npz"
            write_runs(inputs, task.inputs)
            named = {"file": str(task.path.resolve()), "inputs": str(inputs)}
            jobs[number] = {**named, "seconds": seconds, "counted": counted}
    border = machine.symbols.offset(BORDER) if machine else None
    library = fetch.LIBRARY.name if machine else None
    (folder / "jobs.json").write_text(json.dumps({"library": library, "border": border or 0, "jobs": jobs}))
    limit = _START_S + time_limit_s * sum(job is not None for job in jobs)
    ended = run_limited(command(folder), folder, limit, variables)
    for number, job in enumerate(jobs):
        outputs, error = read_runs(folder / f"{number}.npz"), folder / f"{number}.error"
        if job is not None and outputs is not None:
            outcomes[number] = Outcome(outputs, count=_count(folder, number, machine, tasks[number].graph))
        elif job is not None and error.is_file():
            outcomes[number] = Outcome(None, error.read_text())
    if len(outcomes) < len(tasks):
        _blame(len(tasks), outcomes, folder, ended, time_limit_s)


def _blame(count: int, outcomes: dict[int, Outcome], folder: Path, ended: Ended, time_limit_s: float) -> None:
    """The file that was running when the process ended gets the reason; where none had begun, all do."""
    begun = folder / "begun"
    last = (ended.log.strip().splitlines() or [""])[-1][:200]
    why = "no result in time" if ended.code is None else exit_words(ended.code)
    number = int(begun.read_text()) if begun.is_file() else None
    if number is None or number in outcomes:
        reason = f"the process did not {'start' if number is None else 'go on'} ({why}: {last})"
        outcomes.update({n: Outcome(None, reason, is_ours=True) for n in range(count) if n not in outcomes})
    elif ended.code is None or ended.code in _ALARM:
        outcomes[number] = Outcome(None, f"no result within {time_limit_s:g} s")
    else:
        outcomes[number] = Outcome(None, why if ended.code < 0 else f"{why}: {last}")


def _count(folder: Path, number: int, machine: Machine | None, graph: Graph) -> Count | None:
    path = folder / f"count.{number}"
    if machine is None or not path.is_file():
        return None
    start, stop = (int(part) for part in (folder / "maps").read_text().split())
    return summarize(read_sections(path, machine.symbols, start, stop), graph)
