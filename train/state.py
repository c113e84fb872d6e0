"""What a training run needs to go on where it was: weights, their average, optimizer, step and history, in one file."""

import io
import json
import lzma
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from zipfile import BadZipFile, is_zipfile

import numpy as np

from portraitseg import files
from portraitseg.errors import InputError

STATE_NAME = "state.npz"


#: What zipfile and numpy raise on a damaged archive, found by fuzzing: RuntimeError says encrypted, and, as
#: NotImplementedError, an unknown version or compression.
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    OverflowError,
    RuntimeError,
    BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
)


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        fingerprint: hash of all that decides the course of training; a state of another one does not fit.
        step: steps done, over all epochs.
        best_iou: best validation IoU so far, [0, 1]; -1 before the first.
        best_epoch: the epoch (from 1) that reached it.
        history: one row of figures per epoch.
        recent: figures of each step since the last epoch's end; a resumed epoch's row is the mean of all of them.
    """

    fingerprint: str
    step: int = 0
    best_iou: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    recent: list[dict[str, float]] = field(default_factory=list)


def save(folder: Path, progress: Progress, arrays: Mapping[str, list[np.ndarray]]) -> None:
    """Writes the state atomically; `arrays` are lists by group, such as `weights`."""
    with files.replacing(folder / STATE_NAME) as temporary, temporary.open("wb") as file:
        _write(file, progress, arrays)


def to_bytes(progress: Progress, arrays: Mapping[str, list[np.ndarray]]) -> bytes:
    """The state as `save` writes it, for another machine."""
    content = io.BytesIO()
    _write(content, progress, arrays)
    return content.getvalue()


def of_bytes(content: bytes) -> tuple[Progress, dict[str, list[np.ndarray]]]:
    """What `to_bytes` made; anything else raises what numpy and zipfile raise."""
    return _read(io.BytesIO(content))


def _write(file: io.IOBase, progress: Progress, arrays: Mapping[str, list[np.ndarray]]) -> None:
    flat = {f"{group}/{index}": array for group, values in arrays.items() for index, array in enumerate(values)}
    np.savez(file, progress=np.array(json.dumps(asdict(progress))), **flat)  # type: ignore[arg-type]


def _read(file: Path | io.IOBase) -> tuple[Progress, dict[str, list[np.ndarray]]]:
    with np.load(file, allow_pickle=False) as stored:
        progress = Progress(**json.loads(str(stored["progress"])))
        groups: dict[str, list[np.ndarray]] = {}
        # savez keeps the order in which the arrays were given
        for name in stored.files:
            if name != "progress":
                groups.setdefault(name.partition("/")[0], []).append(stored[name])
    return progress, groups


def load(folder: Path) -> tuple[Progress, dict[str, list[np.ndarray]]] | None:
    """Reads the state; None where there is none yet.

    Raises:
        InputError: damaged.
    """
    path = folder / STATE_NAME
    if not path.exists():
        return None
    if not is_zipfile(path):
        # numpy would take it for a pickle, and advise to load it as one
        raise InputError(f"{path}: damaged (no .npz): take it away to train anew")
    try:
        return _read(path)
    except _DAMAGED as error:
        raise InputError(f"{path}: damaged ({error}): take it away to train anew") from error
