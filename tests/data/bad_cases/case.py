"""A bad input and what came of it; how one is run, and the table of all."""

import contextlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

from portraitseg import cli
from tests.data.bad_cases.spoil import write_photos

_KNOWN = re.compile(r"(\((?:known|there are): [^,)]+)[^)]*\)")

CHECK = ("check-data", "--data", "DATA")
FIT = ("fit", "--set", "data.synthetic_photos=8", "--set", "model.size=[32, 32]", "--set", "train.workers=1")


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
    """

    what: str
    code: int
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    arguments: tuple[str, ...] = CHECK
    stage: str = "train"


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


def run_case(case: Case, folder: Path) -> Outcome:
    write_photos(folder / "DATA")
    case.prepare(folder)
    return run(case.arguments, folder, case.stage)


def table(outcomes: list[tuple[Case, Outcome]]) -> str:
    """docs/bad-input.md."""
    lines = [
        "# Bad input: what each command answers",
        "",
        "Each mistake gets one line that names the thing and the remedy: `error:` with exit code 2, or `warning:` with",
        "a count where the input could be used after all (exit code 0). Written by `make golden` from the cases that",
        "`tests/test_bad_input.py` runs; `DATA` is a folder of four photos, one of which was spoilt.",
        "",
        "| input | exit | line |",
        "|---|---|---|",
    ]
    for case, outcome in outcomes:
        said = outcome.starting("error:") + outcome.starting("warning:")
        # shortened, so that a new network or loss does not rewrite the table
        brief = [_KNOWN.sub(r"\1, …)", text) for text in said]
        line = "; ".join(f"`` {text} ``" for text in brief).replace("|", "\\|") or "none: it is good"
        lines.append(f"| {case.what} | {outcome.code} | {line} |")
    return "\n".join(lines) + "\n"
