"""One run of a stage, in a child forked from a process that has imported TensorFlow already, which may kill itself.

Importing takes more time than all that these tiny runs do; so that every kill falls into the stage's own work, and not
into imports, it is done once, before the forks. No operation of TensorFlow runs before them: its threads would be gone.
"""

import errno
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORK = "tiny"

#: Everything heavy that a stage imports.
_HEAVY = ("train.stage", "export.stage", "benchmark.measuring.measure", "tensorflow_model_optimization", "coremltools")

#: Python's audit events that change a name or a file; `open` for writing is one too.
_CHANGES = frozenset({"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate"})


#: Changes that a full disk refuses; names can still be changed and taken away.
_NEED_ROOM = frozenset({"open", "os.mkdir", "os.link"})


@dataclass(frozen=True)
class SelfKill:
    """Where a run kills itself.

    Attributes:
        at: right before its change of a file of this number, from 1.
        is_group: with all processes that it started.
    """

    at: int
    is_group: bool

    def strike(self, event: str, name: str, number: int) -> None:
        """Called before change `number`."""
        del event, name
        if number == self.at:
            (os.killpg if self.is_group else os.kill)(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Fault:
    """From which change of a file on the system refuses them.

    Attributes:
        at: number of the first that fails, from 1.
        error: such as `errno.ENOSPC`; 0: for want of memory, and that one change alone.
    """

    at: int
    error: int

    def strike(self, event: str, name: str, number: int) -> None:
        """Called before change `number`.

        Raises:
            OSError, MemoryError: as the system does.
        """
        if number < self.at or (self.error == errno.ENOSPC and event not in _NEED_ROOM):
            return
        if self.error:
            raise OSError(self.error, os.strerror(self.error), name)
        if number == self.at:
            raise MemoryError


def prepare() -> None:
    """Imports what real stages need, and registers the tiny network; once, before the first fork."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from portraitseg import models

    models.MODELS[NETWORK] = build
    for name in _HEAVY:
        importlib.import_module(name)


def build(size: tuple[int, int]) -> Any:
    """Three convolutions: QAT and the converters take a second each, and Core ML has weights enough to compress."""
    from portraitseg.models import blocks
    from portraitseg.models.keras_route import keras

    image = keras.Input((*size, 3), name="image")
    x = blocks.conv_bn(image, 16, kernel=3, stride=2, name="down")
    x = blocks.conv_bn(x, 32, kernel=3, name="body")
    x = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, blocks.mask_head(blocks.upsample(x, 2, name="logits")), name=NETWORK)


def start(
    arguments: tuple[str, ...],
    folder: Path,
    act: SelfKill | Fault | None = None,
    times: Path | None = None,
    log: Path = Path("log.txt"),
) -> int:
    """Forks a child, leader of its own process group, that runs `python -m <arguments>` in a folder.

    Args:
        arguments: such as ("train", "fit", "--run", "a").
        folder: current folder of the run.
        act: what happens to it before one of its changes of a file, if anything does.
        log: what it prints is added here; relative to `folder`.
        times: where it writes, at its end, the seconds from its start to each change of a file.

    Returns:
        The child's process id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        printed = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(printed, 1)
        os.dup2(printed, 2)
        counted: list[float] = []
        sys.addaudithook(_watcher(act, counted))
        code = _run(arguments)
        if times is not None:
            times.write_text(json.dumps(counted))
    except BaseException:
        # as Python would, did it end here by itself
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # not into the parent's code, nor its clean-up
        os._exit(code)


def _run(arguments: tuple[str, ...]) -> int:
    from portraitseg import cli

    stage, *rest = arguments
    app = importlib.import_module(f"{stage}.__main__").app
    try:
        cli.run(lambda: app(rest))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def changed_here(event: str, arguments: tuple[Any, ...], here: str) -> str | None:
    """The path, if an audit event of Python is a change of a file under the folder `here`."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return None
    elif event in _CHANGES:
        path = arguments[0]
    else:
        return None
    if isinstance(path, int):
        return None
    name = os.fsdecode(path)
    return name if not Path(name).is_absolute() or name.startswith(here + os.sep) else None


def _watcher(act: SelfKill | Fault | None, counted: list[float]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that appends the time of each change to `counted`, and lets `act` strike before it."""
    here, begin = os.getcwd(), time.monotonic()  # noqa: PTH109 (a string, compared with strings)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        name = changed_here(event, arguments, here)
        if name is None:
            return
        counted.append(time.monotonic() - begin)
        if act is not None:
            act.strike(event, name, len(counted))

    return watch
