"""A full disk, a read-only one, no permission, no memory: what a stage says, and what is left of the files.

`refused` puts the fault into Python itself, before any change of a file; `full_disk` and `read_only` mount a real disk
for it, which reaches the libraries in C as well, and need root.
"""

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills import stage, whole
from tests.kills.campaign import STAGES, copy, finish, start_of

#: What strikes → errno; 0: no memory.
FAULTS = {"disk full": errno.ENOSPC, "disk read-only": errno.EROFS, "no permission": errno.EACCES, "no memory": 0}


@dataclass
class Outcome:
    """Of one fault.

    Attributes:
        code: of the stage.
        line: its error.
        broken: what is wrong with how it ended: another exit code than 0 or 2, a traceback, no line, lost files.
    """

    fault: str
    stage: str
    code: int
    line: str
    broken: list[str] = field(default_factory=list)


def refused(name: str, fault: str, at: int, start: Path, folder: Path) -> Outcome:
    """Runs a stage on a copy of `start` whose changes of files fail from number `at` on."""
    copy(start, folder)
    return _watch(fault, name, folder, stage.Fault(at, FAULTS[fault]))


def run_refused(name: str, count: int, work: Path, seed: int = 0) -> Iterator[Outcome]:
    """`count` faults of every kind in turn, each at a random change."""
    start = start_of(name, work)
    pace = finish(name, copy(start, work / f"{name}-refused"))
    generator = random.Random(f"{name} {seed}")
    for number in range(count):
        fault = list(FAULTS)[number % len(FAULTS)]
        yield refused(name, fault, generator.randint(1, pace.operations), start, work / f"{name}-refused")


def full_disk(name: str, start: Path, folder: Path, spare_bytes: int) -> Outcome:
    """Runs a stage on a disk that has `spare_bytes` left."""
    # every file and folder takes a page at least
    pages = sum(1 + path.stat().st_size // 4096 for path in start.rglob("*")) + 16
    with _disk(folder, 4096 * pages + spare_bytes):
        subprocess.run(["cp", "-a", f"{start}/.", folder], check=True)
        return _watch("disk full", name, folder)


def read_only(name: str, start: Path, folder: Path) -> Outcome:
    """Runs a stage on a disk that was mounted read-only."""
    with _disk(folder, 500_000_000):
        subprocess.run(["cp", "-a", f"{start}/.", folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        return _watch("disk read-only", name, folder)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a disk: root, outside of a container that forbids it."""
    try:
        with _disk(folder, 4096):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _watch(fault: str, name: str, folder: Path, act: stage.Fault | None = None) -> Outcome:
    """Runs a stage to its end, and looks at what it said and left."""
    before = whole.snapshot(folder)
    # not in `folder`, which is full
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    code = os.waitstatus_to_exitcode(os.waitpid(stage.start(STAGES[name], folder, act, log=log), 0)[1])
    said = log.read_text(errors="replace")
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    outcome = Outcome(fault, name, code, errors[-1] if errors else "")
    if code not in (0, 2):
        outcome.broken.append(f"exit {code}: {said[-1500:]}")
    if "Traceback" in said:
        outcome.broken.append(f"a traceback: {said[-1500:]}")
    if code and len(errors) != 1:
        outcome.broken.append(f"{len(errors)} error lines: {errors}")
    outcome.broken += whole.faults(folder)
    outcome.broken += [f"{path} is lost" for path in before.keys() - whole.snapshot(folder).keys()]
    return outcome
