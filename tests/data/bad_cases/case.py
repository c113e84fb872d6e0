"""A bad input and what came of it; how one is run, and the table of all."""

import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from portraitseg import cli
from tests.data.bad_cases.spoil import write_photos

ROOT = Path(__file__).parents[3]

_KNOWN = re.compile(r"(\((?:known|there are): [^,)]+)[^)]*\)")

#: The number that `nobody` has on Linux; on other systems nobody's either.
_NOBODY = 65534

#: Exit code of a process that did not become somebody else.
_STILL_READABLE = 77

CHECK = ("check-data", "--data", "DATA")
_SETTINGS = ("data.synthetic_photos=8", "model.name=fast_scnn", "model.size=[32, 32]", "train.workers=1")
FIT = ("fit", *(word for pair in (*_SETTINGS, "train.blank_share=0") for word in ("--set", pair)))


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        what: the input, in words.
        arguments: of `python -m <stage>`, run in a folder that holds DATA, four good portraits.
        prepare: spoils something in that folder.
        code: exit code to expect.
        says: parts that the one line must have: the thing and the remedy.
        stage: train, export or benchmark.
        barred: a file or folder that the command may not read; it runs as another user where this one may read all.
    """

    what: str
    code: int
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    arguments: tuple[str, ...] = CHECK
    stage: str = "train"
    barred: str | None = None


class NobodyElseError(Exception):
    """This system does not let a process become a user whom permissions hold."""


@dataclass(frozen=True)
class Outcome:
    code: int
    lines: tuple[str, ...]

    def starting(self, word: str) -> list[str]:
        return [line for line in self.lines if line.startswith(word)]


def run(arguments: tuple[str, ...], folder: Path, stage: str = "train") -> Outcome:
    """`python -m train …` in a folder, in this process: importing TensorFlow fifty times would take minutes."""
    app = import_module(f"{stage}.__main__").app
    printed = io.StringIO()
    code = 0
    with contextlib.chdir(folder), contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        try:
            cli.run(partial(app, list(arguments)))
        except SystemExit as error:
            code = int(error.code or 0)
    return Outcome(code, tuple(printed.getvalue().splitlines()))


def run_process(arguments: list[str], folder: Path) -> Outcome:
    """Python in a folder, in a process of its own."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, tuple(done.stderr.splitlines()))


def run_case(case: Case, folder: Path) -> Outcome:
    write_photos(folder / "DATA")
    case.prepare(folder)
    if case.barred is not None:
        return _run_barred(case.barred, case.arguments, folder, case.stage)
    return run(case.arguments, folder, case.stage)


#: Root may read everything, so it becomes nobody. Libraries are loaded late, and may lie where only root reads: a first
#: pass, to which nothing is barred, loads them.
_AS_NOBODY = f"""
import contextlib, io, os, sys
from functools import partial
from importlib import import_module
from portraitseg import cli
barred, stage, *arguments = sys.argv[1:]
command = partial(import_module(f"{{stage}}.__main__").app, arguments)
if os.geteuid() == 0:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
        command()
    with contextlib.suppress(OSError):
        os.setuid({_NOBODY})
if os.access(barred, os.R_OK):
    sys.exit({_STILL_READABLE})
cli.run(command)
"""


def _run_barred(barred: str, arguments: tuple[str, ...], folder: Path, stage: str) -> Outcome:
    """The command in a process of its own that may not read one of the files.

    Raises:
        NobodyElseError: there is no such user to become.
    """
    (folder / barred).chmod(0)
    # a temporary folder is its owner's alone
    folder.chmod(0o755)
    outcome = run_process(["-c", _AS_NOBODY, barred, stage, *arguments], folder)
    (folder / barred).chmod(0o755)
    if outcome.code == _STILL_READABLE:
        raise NobodyElseError(f"{barred} can be read in spite of its permissions")
    return outcome


_CTRL_C = (
    "Ctrl-C in the middle has exit code 130 and a line that begins with `error: interrupted`; every file is whole.",
    "Training saves its state and names the command that goes on; the benchmark says how many photos are kept, and the",
    "same command goes on. `tests/train/test_stop.py` and `tests/benchmark/test_bad_input.py` press it on real",
    "processes, in `make test-full`.",
)


def table(outcomes: list[tuple[Case, Outcome]]) -> str:
    """docs/bad-input.md."""
    lines = [
        "# Bad input: what each command answers",
        "",
        "Each mistake gets one line that names the thing and the remedy: `error:` with exit code 2, or `warning:` with",
        "a count where the input could be used after all (exit code 0). Written by",
        "`python -m tests.golden.write` from the cases that `tests/test_bad_input.py` runs; `DATA` is a folder of four",
        "photos, one of which was spoilt.",
        "",
        "| input | exit | line |",
        "|---|---|---|",
    ]
    for case, outcome in outcomes:
        messages = outcome.starting("error:") + outcome.starting("warning:")
        # shortened, so that a new network or loss does not rewrite the table
        brief = [_KNOWN.sub(r"\1, …)", text) for text in messages]
        line = "; ".join(f"`` {text} ``" for text in brief).replace("|", "\\|") or "none: it is good"
        lines.append(f"| {case.what} | {outcome.code} | {line} |")
    return "\n".join([*lines, "", *_CTRL_C]) + "\n"
