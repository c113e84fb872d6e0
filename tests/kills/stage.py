"""One run of a stage, in a child forked from a process that has imported TensorFlow already, which may kill itself.

Importing takes more time than all that these tiny runs do; so that every kill falls into the stage's own work, and not
into imports, it is done once, before the forks. No operation of TensorFlow runs before them: its threads would be gone.
"""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETWORK = "tiny"

#: Everything heavy that a stage imports.
_HEAVY = ("train.stage", "export.stage", "benchmark.measure", "tensorflow_model_optimization", "coremltools")

#: Python's audit events that change a name or a file; `open` for writing is one too.
_CHANGES = frozenset({"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate"})


@dataclass(frozen=True)
class SelfKill:
    """Where a run kills itself.

    Attributes:
        at: right before its change of a file of this number, from 1.
        is_group: with all processes that it started.
    """

    at: int
    is_group: bool


def prepare() -> None:
    """Imports what stages need, and registers the tiny network; once, before the first fork."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from portraitseg import models

    models.MODELS[NETWORK] = build
    for name in _HEAVY:
        importlib.import_module(name)


def build(size: tuple[int, int], channels: int = 3) -> Any:
    """Three convolutions: QAT and the converters take a second each, and Core ML has weights enough to compress."""
    from portraitseg.models import blocks
    from portraitseg.models.keras_route import keras

    image = keras.Input((*size, channels), name="image")
    x = blocks.conv_bn(image, 16, kernel=3, stride=2, name="down")
    x = blocks.conv_bn(x, 32, kernel=3, name="body")
    x = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, blocks.mask_head(blocks.upsample(x, 2, name="logits")), name=NETWORK)


def start(arguments: tuple[str, ...], folder: Path, kill: SelfKill | None = None, times: Path | None = None) -> int:
    """Forks a child, leader of its own process group, that runs `python -m <arguments>` in a folder.

    Args:
        arguments: such as ("train", "fit", "--run", "a").
        folder: current folder of the run; what it prints goes to `log.txt` there.
        kill: where it kills itself, if it does.
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
        os.setsid()
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        counted: list[float] = []
        sys.addaudithook(_watcher(kill, counted))
        code = _run(arguments)
        if times is not None:
            times.write_text(json.dumps(counted))
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


def changes_here(event: str, arguments: tuple[Any, ...], here: str) -> bool:
    """Whether an audit event of Python is a change of a file under the folder `here`."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
    elif event in _CHANGES:
        path = arguments[0]
    else:
        return False
    if isinstance(path, int):
        return False
    name = os.fsdecode(path)
    return not Path(name).is_absolute() or name.startswith(here + os.sep)


def _watcher(kill: SelfKill | None, counted: list[float]) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that appends the time of each change to `counted`, and kills before the one that `kill` names."""
    here, begin = os.getcwd(), time.monotonic()  # noqa: PTH109 (a string, compared with strings)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not changes_here(event, arguments, here):
            return
        counted.append(time.monotonic() - begin)
        if kill is not None and len(counted) == kill.at:
            (os.killpg if kill.is_group else os.kill)(os.getpid(), signal.SIGKILL)

    return watch
