"""A full disk, a read-only one, no permission, no memory: what a stage says, and what is left of the files.

`refused` puts the fault into Python itself, before any change of a file; `full_disk` and `read_only` mount a real disk
for it, which reaches the libraries in C as well, and need root.
"""

import argparse
import errno
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.hardening.kills import document, stage, whole
from tests.hardening.kills.campaign import COMMANDS, STANDIN, copy, finish, start_of

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


def refused(name: str, fault: str, at: int, start: Path, folder: Path, results: Set[str] = frozenset()) -> Outcome:
    """Runs a stage on a copy of `start` whose changes of files fail from number `at` on.

    Args:
        results: names of files that must be there if it says that it is done.
    """
    copy(start, folder)
    return _watch(fault, name, folder, stage.Fault(at, FAULTS[fault]), results)


def run_refused(name: str, count: int, work: Path, seed: int = 0) -> Iterator[Outcome]:
    """`count` faults of every kind in turn, each at a random change."""
    start = start_of(name, work)
    pace = finish(name, copy(start, work / f"{name}-refused"))
    results = _results(work / f"{name}-refused")
    generator = random.Random(f"{name} {seed}")
    for number in range(count):
        fault = list(FAULTS)[number % len(FAULTS)]
        yield refused(name, fault, generator.randint(1, pace.operations), start, work / f"{name}-refused", results)


def full_disk(name: str, start: Path, folder: Path, spare_bytes: int) -> Outcome:
    """Runs a stage on a disk that has `spare_bytes` left."""
    with _disk(folder):
        subprocess.run(["cp", "-a", f"{start}/.", folder], check=True)
        disk = os.statvfs(folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + spare_bytes}", folder], check=True)
        return _watch("a mounted disk with too little room", name, folder)


def read_only(name: str, start: Path, folder: Path) -> Outcome:
    """Runs a stage on a disk that was mounted read-only."""
    with _disk(folder):
        subprocess.run(["cp", "-a", f"{start}/.", folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        return _watch("a disk mounted read-only", name, folder)


def can_mount(folder: Path) -> bool:
    """Whether this process may mount a disk: root, outside of a container that forbids it."""
    try:
        with _disk(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=1G", "tmpfs", folder]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _results(folder: Path) -> Set[str]:
    """What a stage that is done has left under final names; TensorBoard puts the time into its own."""
    return {name for name in whole.snapshot(folder) if "tensorboard" not in name}


def _watch(
    fault: str, name: str, folder: Path, act: stage.Fault | None = None, results: Set[str] = frozenset()
) -> Outcome:
    """Runs a stage to its end, and looks at what it said and left."""
    before = whole.snapshot(folder)
    # not in `folder`, which is full
    log = folder.with_name(f"{folder.name}.log")
    log.unlink(missing_ok=True)
    code = os.waitstatus_to_exitcode(os.waitpid(stage.start(COMMANDS[name], folder, act, log=log), 0)[1])
    text = log.read_text(errors="replace")
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    outcome = Outcome(fault, name, code, errors[-1] if errors else "")
    if code not in (0, 2):
        outcome.broken.append(f"exit {code}: {text[-1500:]}")
    if "Traceback" in text:
        outcome.broken.append(f"a traceback: {text[-1500:]}")
    if code and len(errors) != 1:
        outcome.broken.append(f"{len(errors)} error lines: {errors}")
    outcome.broken += whole.faults(folder)
    now = whole.snapshot(folder)
    outcome.broken += [f"{path} is lost" for path in before.keys() - now.keys()]
    if code == 0:
        outcome.broken += [f"done, but without {path}" for path in sorted(results - now.keys())]
    return outcome


def run_on_disks(name: str, count: int, work: Path) -> Iterator[Outcome]:
    """A disk that is read-only, and `count` that have more and more room, up to what the stage needs."""
    start = start_of(name, work)
    used, done = _bytes(start), copy(start, work / f"{name}-refused")
    finish(name, done)
    yield read_only(name, start, work / "disk")
    for number in range(count):
        yield full_disk(name, start, work / "disk", max(0, _bytes(done) - used) * number // count)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """`python -m tests.hardening.kills.faults train --count 50 --disks 10`; exit 1: something broke."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--count", type=int, default=50, help="faults put into Python, of each stage")
    parser.add_argument("--disks", type=int, default=0, help="full disks, of each stage; needs root")
    parser.add_argument("--record", action="store_true", help="put the lines into docs/hardening.md")
    arguments = parser.parse_args()
    if arguments.stages != [STANDIN]:
        stage.prepare()
    broken = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.stages:
            outcomes = list(run_refused(name, arguments.count, Path(folder))) if arguments.count else []
            if arguments.disks:
                outcomes += run_on_disks(name, arguments.disks, Path(folder))
            broken += show(name, outcomes)
            if arguments.record:
                document.record("faults", rows(outcomes))
    if broken:
        sys.exit(f"error: {broken} ended in another way than with one line and the old files: see above")


def show(name: str, outcomes: list[Outcome]) -> int:
    """Prints how a stage's faults ended; returns how many ended badly."""
    codes = Counter(outcome.code for outcome in outcomes)
    counts = ", ".join(f"exit {code}: {count}" for code, count in sorted(codes.items()))
    print(f"{name}: {len(outcomes)} faults, {counts}", flush=True)
    bad = [outcome for outcome in outcomes if outcome.broken]
    for outcome in bad:
        print(f"  {outcome.fault}: {' / '.join(outcome.broken)}", flush=True)
    return len(bad)


def rows(outcomes: list[Outcome]) -> dict[str, dict[str, object]]:
    """For the document: every kind of fault of a stage, how often it struck, how that ended, and its first line."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(f"{outcome.stage} {outcome.fault}", []).append(outcome)
    return {
        kind: {
            "what": alike[0].fault,
            "command": alike[0].stage,
            "count": len(alike),
            "codes": {str(code): count for code, count in sorted(Counter(one.code for one in alike).items())},
            "broken": [broken for one in alike for broken in one.broken],
            "line": next((one.line for one in alike if one.line), ""),
        }
        for kind, alike in kinds.items()
    }


if __name__ == "__main__":
    main()
