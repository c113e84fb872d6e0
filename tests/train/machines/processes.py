"""Workers as processes on loopback, on a few small portraits; what their trainings come to."""

import json
import os
import resource
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from portraitseg.synthetic import portraits
from tests import limits

ROOT = Path(__file__).parents[3]

#: Greatest difference of a weight after 24 steps at 0.002: 1.1e-6 was seen with 2 and 3 workers and after a kill. Sums
#: in another order differ in their last bit, and Adam carries that on. A step of which a stopped worker had left a part
#: made 8e-3.
BOUND = 1e-3

SETTINGS = [
    *("--set", 'model.name="small_network"', "--set", "model.size=[64, 64]", "--set", "train.batch_size=6"),
    *("--set", "train.workers=1", "--set", "train.ema=0.9", "--set", "train.epochs=4"),
    *("--set", "train.learning_rate=0.002", "--set", "qat.epochs=2", "--set", "qat.select=keras"),
    *("--set", "export.calibration_photos=8"),
]


def make_photos(place: Path) -> None:
    """44 small portraits in `place`/DATA."""
    keys = [f"{number:03d}" for number in range(44)]
    for name in ("images", "masks"):
        (place / "DATA" / name).mkdir(parents=True)
    for number, key in enumerate(keys):
        image, alpha = portraits.render(number, (80, 80), 0)
        cv2.imwrite(str(place / f"DATA/images/{key}.png"), image[..., ::-1])
        cv2.imwrite(str(place / f"DATA/masks/{key}.png"), np.where(alpha > 127, 255, 0).astype(np.uint8))
    (place / "DATA/splits.json").write_text(json.dumps({"splits": {"train": keys[:36], "val": keys[36:]}}))


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback that nobody uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{item.getsockname()[1]}" for item in sockets]
    for item in sockets:
        item.close()
    return addresses


def start(
    folder: Path,
    run: str,
    count: int,
    command: tuple[str, ...] = ("train", "fit"),
    other: dict[int, list[str]] = {},  # noqa: B006
    wait_s: float = 300,
    more: tuple[str, ...] = (),
    file_bytes: dict[int, int] = {},  # noqa: B006
) -> list[subprocess.Popen[str]]:
    """Starts the workers of a run.

    `other`: what one of them is given beside the rest; `file_bytes`: no file of one of them gets longer, as on a disk
    that is full.
    """
    workers, started = ",".join(free_addresses(count)), []
    for task in range(count):
        place = ["--workers", workers, "--task", str(task), "--wait", str(wait_s)] if count > 1 else []
        own = ["--data", "DATA", *SETTINGS, *more] if command == ("train", "fit") else []
        limit = file_bytes.get(task)
        words = [*command, "--run", run, *own, *other.get(task, []), *place]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.train.machines.small", *words],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(limits.NO_BYTECODE if limit else {})},
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)) if limit else None,
            )
        )
    return started


def end(started: list[subprocess.Popen[str]]) -> list[str]:
    """What each said on stderr, once all have ended."""
    told = [process.communicate(timeout=900)[1] for process in started]
    assert all("Traceback" not in text for text in told), told
    return told


def run(folder: Path, name: str, count: int, command: tuple[str, ...] = ("train", "fit"), **more: object) -> None:
    """Runs the workers of a run to their end."""
    started = start(folder, name, count, command, **more)  # type: ignore[arg-type]
    told = end(started)
    assert [process.returncode for process in started] == [0] * count, told


def difference(folder: Path, one: str, other: str) -> float:
    """Greatest, of any weight or averaged weight of two runs."""
    with np.load(folder / "runs" / one / "state.npz") as a, np.load(folder / "runs" / other / "state.npz") as b:
        assert a.files == b.files
        names = [name for name in a.files if name.startswith(("weights/", "average/"))]
        return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in names)


def history(folder: Path, name: str) -> list[dict[str, float]]:
    """Figures by epoch."""
    with np.load(folder / "runs" / name / "state.npz") as state:
        return json.loads(str(state["progress"]))["history"]


def step(folder: Path, name: str) -> int:
    """Steps in the state that is saved, all of which is read; 0: there is none."""
    if not (path := folder / "runs" / name / "state.npz").exists():
        return 0
    with np.load(path) as state:
        for array in state.files:
            state[array]
        return int(json.loads(str(state["progress"]))["step"])
