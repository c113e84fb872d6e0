"""What the three command lines share: exit codes, one-line errors, and a quiet start of TensorFlow."""

import os
import sys
from collections.abc import Callable

import typer
from rich.console import Console

from portraitseg.errors import CheckFailed, InputError

#: Messages go to stderr, so that what a command prints can be piped.
console = Console(stderr=True, highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """Prints one warning line."""
    console.print(f"[yellow]warning:[/] {_escape(message)}")


def run(app: Callable[[], object]) -> None:
    """Runs a Typer app: exit 0 done, 1 a check failed, 2 bad use or bad input, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except InputError as error:
        _fail(str(error), 2)
    except CheckFailed as error:
        _fail(str(error), 1)
    except OSError as error:
        # a full disk or a read-only folder is the user's to mend; anything without a number is our own fault
        if error.errno is None:
            raise
        _fail(f"{error.filename or 'system'}: {error.strerror}", 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)


def _fail(message: str, code: int) -> None:
    one_line = " ".join(message.splitlines())
    console.print(f"[red]error:[/] {_escape(one_line)}")
    sys.exit(code)


def _escape(message: str) -> str:
    return message.replace("[", r"\[")


def new_app(help_text: str) -> typer.Typer:
    """A Typer app with our conventions: no shell completion, plain tracebacks for our own bugs."""
    return typer.Typer(help=help_text, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
