"""`python -m tests.hardening.fuzz.campaign --runs 100000 --record`: each target in turn; half an hour or more.

With `--record` what it counts goes into tests/hardening/kills/figures.json, from which docs/hardening.md has its table.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.hardening.fuzz.forked import LIMIT_S, read_h5_files
from tests.hardening.fuzz.mutate import inputs
from tests.hardening.fuzz.seeds import WORDS, seeds
from tests.hardening.fuzz.targets import SLOW, TARGETS
from tests.hardening.kills import document

ROOT = Path(__file__).parents[3]

#: libFuzzer's lines: inputs so far, branches of Python reached.
_LINE = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ", re.MULTILINE)
_SLOWEST = re.compile(r"^stat::slowest_unit_time_sec:\s+(\d+)", re.MULTILINE)


def fuzz(name: str, runs: int) -> dict[str, object]:
    """One target under atheris: inputs, branches at its seeds and at the end, findings.

    Raises:
        RuntimeError: the fuzzer itself did not start.
    """
    begin = time.monotonic()
    command = [sys.executable, "-m", "tests.hardening.fuzz.run", name, "--runs", str(runs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    lines = _LINE.findall(done.stderr)
    if not lines:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    slowest = _SLOWEST.search(done.stderr)
    text = f"exit {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return {
        "target": name,
        "guided": True,
        "inputs": int(lines[-1][0]),
        "branches_of_seeds": next(int(line[2]) for line in lines if line[1] == "INITED"),
        "branches": int(lines[-1][2]),
        "slowest_s": int(slowest[1]) if slowest else None,
        "seconds": round(time.monotonic() - begin),
        "finding": "" if done.returncode == 0 else text,
    }


def fuzz_h5(runs: int, seed: int) -> dict[str, object]:
    """The HDF5 library in forked children, changed at random: its branches are not seen from Python."""
    begin = time.monotonic()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        ends = read_h5_files(inputs(seeds("h5"), WORDS, runs, seed), Path(folder))
    return {
        "target": "h5",
        "guided": False,
        "inputs": ends.total(),
        "ends": dict(sorted(ends.items())),
        "limit_s": LIMIT_S,
        "seconds": round(time.monotonic() - begin),
        "finding": "".join(end for end in ends if end.startswith("finding")),
    }


def main() -> None:
    """Runs the targets asked for, and writes what came of each when it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs of each")
    parser.add_argument("--record", action="store_true", help="put the figures into docs/hardening.md")
    parser.add_argument("--seed", type=int, default=1, help="of the changes of h5 files")
    arguments = parser.parse_args()
    is_clean = True
    for name in arguments.targets or TARGETS:
        row = fuzz_h5(arguments.runs, arguments.seed) if name in SLOW else fuzz(name, arguments.runs)
        if arguments.record:
            document.record("fuzz", {name: row})
        print(f"{name}: {row['inputs']} inputs in {row['seconds']} s, {'FINDING' if row['finding'] else 'no finding'}")
        print(row["finding"], file=sys.stderr)
        sys.stdout.flush()
        is_clean &= not row["finding"]
    if not is_clean:
        sys.exit(1)


if __name__ == "__main__":
    main()
