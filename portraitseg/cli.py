"""What the three command lines share: exit codes, one-line errors, and a quiet start of TensorFlow."""

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from portraitseg import options
from portraitseg.errors import CheckFailed, InputError
from portraitseg.files import explain, find_refusal

#: Columns of a table in a log.
_LOG_WIDTH = 200

#: Messages go to stderr, so that what a command prints can be piped.
console = Console(stderr=True, highlight=False, soft_wrap=True)


def table_console(*, to_stderr: bool = False) -> Console:
    """Where a table is printed; a log has no width, and at rich's default of 80 every cell would be cut."""
    console = Console(stderr=to_stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=to_stderr, highlight=False, width=_LOG_WIDTH)


def warn(message: str) -> None:
    """Prints one warning line."""
    console.print(Text.assemble(("warning:", "yellow"), " ", one_line(message)))


def say(message: str) -> None:
    """Prints one line that may hold file names: nothing in it is taken for markup."""
    console.print(Text(one_line(message)))


def one_line(message: str) -> str:
    r"""The message with what cannot be printed written as an escape.

    A photo may be called `a\nerror: b`, or hold the codes that recolour a terminal.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)


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
        if error.errno is not None:
            _fail(f"{error.filename or 'system'}: {explain(error)}", 2)
        # copytree, with which coremltools puts a package in place, gathers refusals as (source, target, text)
        if not isinstance(error, shutil.Error) or (refusal := find_refusal(str(error))) is None:
            raise
        _fail(f"{error.args[0][0][1]}: {refusal}", 2)
    except MemoryError as error:
        _fail_for_memory(str(error))
    except BrokenExecutor:
        _fail(
            "a worker process was ended from outside, as systems do when memory runs out: close other programs, take "
            f"fewer workers (train.workers) or smaller batches (train.batch_size), then go on with: {command_again()}",
            2,
        )
    except KeyboardInterrupt as error:
        _fail_interrupted(error)
    except ImportError as error:
        # the dynamic loader's words where a library no longer fits
        if not any(message in str(error) for message in ("failed to map segment", "Cannot allocate memory")):
            raise
        _fail_for_memory(f"loading {error.name or 'a library'}")
    except Exception as error:
        # TensorFlow's own, by their module and name: commands that do without TensorFlow must not import it for this
        if not type(error).__module__.startswith("tensorflow."):
            raise
        message = str(error).split("\n")[0]
        if refusal := find_refusal(message):
            _fail(f"{message}: {refusal}", 2)
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        _fail_for_memory(message)


class _Group(TyperGroup):
    """Typer ends the process on a KeyboardInterrupt without a word; ours tells what it says."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            _fail_interrupted(error)


def command_again() -> str:
    """This command without `--overwrite`: what goes on where it was stopped."""
    script, *rest = sys.argv
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    # a console script is called by its name
    called = [str(python), "-m", Path(script).parent.name] if script.endswith(".py") else [Path(script).name]
    return shlex.join([*called, *(word for word in rest if word != "--overwrite")])


def _fail_interrupted(error: KeyboardInterrupt) -> NoReturn:
    _fail(f"interrupted: {error}; go on with: {command_again()}" if str(error) else "interrupted", 130)


def _fail_for_memory(request: str) -> None:
    # numpy says what it asked for, Python nothing
    detail = f" ({request})" if request else ""
    _fail(f"out of memory{detail}: close other programs, or take smaller photos or batches (train.batch_size)", 2)


def _fail(message: str, code: int) -> NoReturn:
    console.print(Text.assemble(("error:", "red"), " ", one_line(message)))
    sys.exit(code)


class _App(typer.Typer):
    """Typer with the groups of options of `portraitseg.options`."""

    def command(self, *arguments: Any, **settings: Any) -> Callable[[Any], Any]:
        register = super().command(*arguments, **settings)

        def add(command: Callable[..., Any]) -> Callable[..., Any]:
            register(options.spread(command))
            return command

        return add


def new_app(help_text: str) -> typer.Typer:
    """A Typer app with our conventions: no shell completion, plain tracebacks for our own bugs."""
    return _App(cls=_Group, help=help_text, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
