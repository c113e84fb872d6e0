"""Child processes for what may crash or never come back: a time limit, the whole process group ended with it."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: What a child says is read up to this length: a fault that repeats itself fills a disk otherwise.
MAX_LOG = 2_000_000

#: Seconds in which a process that was asked to end may do so by itself.
GRACE_S = 5.0

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ended:
    """A child process that is gone.

    Attributes:
        code: its exit code; None when it was stopped at the time limit.
        log: what it wrote on stdout and stderr, the first MAX_LOG bytes of it.
    """

    code: int | None
    log: str


def run_limited(
    command: Sequence[str], folder: Path, time_limit_s: float, variables: Mapping[str, str] | None = None
) -> Ended:
    """Runs a command, at most for a time; then it and everything that it started is killed.

    Args:
        command: program and arguments; its current folder is that of the checkout.
        folder: scratch, where its log is kept.
        time_limit_s: seconds.
        variables: of the environment, over our own.
    """
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(command),
            cwd=_ROOT,
            env={**os.environ, **(variables or {})},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        code: int | None = None
        try:
            code = process.wait(time_limit_s)
        except subprocess.TimeoutExpired:
            # asked first: a browser's own processes are in other groups, and its driver ends them
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    with (folder / "log").open("rb") as log:
        return Ended(code, log.read(MAX_LOG).decode(errors="replace"))


def exit_words(code: int) -> str:
    """`exit 1`, or `crash (SIGSEGV)`."""
    if code >= 0:
        return f"exit {code}"
    try:
        return f"crash ({signal.Signals(-code).name})"
    except ValueError:
        return f"crash (signal {-code})"
