"""Several machines as processes on loopback: equal to one, and nothing lost when one of them goes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitseg.synthetic import portraits

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.full

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with 44 small portraits."""
    place = tmp_path_factory.mktemp("machines")
    keys = [f"{number:03d}" for number in range(44)]
    for name in ("images", "masks"):
        (place / "DATA" / name).mkdir(parents=True)
    for number, key in enumerate(keys):
        image, alpha = portraits.render(number, (80, 80), 0)
        cv2.imwrite(str(place / f"DATA/images/{key}.png"), image[..., ::-1])
        cv2.imwrite(str(place / f"DATA/masks/{key}.png"), np.where(alpha > 127, 255, 0).astype(np.uint8))
    (place / "DATA/splits.json").write_text(json.dumps({"splits": {"train": keys[:36], "val": keys[36:]}}))
    return place


def _free(count: int) -> str:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{item.getsockname()[1]}" for item in sockets]
    for item in sockets:
        item.close()
    return ",".join(addresses)


def _start(
    folder: Path,
    run: str,
    count: int,
    command: tuple[str, ...] = ("train", "fit"),
    other: dict[int, list[str]] = {},  # noqa: B006
) -> list[subprocess.Popen[str]]:
    workers, started = _free(count), []
    for task in range(count):
        place = ["--workers", workers, "--task", str(task), "--wait", "300"] if count > 1 else []
        own = ["--data", "DATA", *SETTINGS] if command == ("train", "fit") else []
        words = [*command, "--run", run, *own, *other.get(task, []), *place]
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.train.machines.small", *words],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
    return started


def _end(started: list[subprocess.Popen[str]]) -> list[str]:
    told = [process.communicate(timeout=900)[1] for process in started]
    assert all("Traceback" not in text for text in told), told
    return told


def _run(folder: Path, run: str, count: int, command: tuple[str, ...] = ("train", "fit")) -> None:
    started = _start(folder, run, count, command)
    told = _end(started)
    assert [process.returncode for process in started] == [0] * count, told


def _difference(folder: Path, one: str, other: str) -> float:
    with np.load(folder / "runs" / one / "state.npz") as a, np.load(folder / "runs" / other / "state.npz") as b:
        assert a.files == b.files
        names = [name for name in a.files if name.startswith(("weights/", "average/"))]
        return max(float(np.abs(a[name].astype(np.float64) - b[name]).max()) for name in names)


def _history(folder: Path, run: str) -> list[dict[str, float]]:
    with np.load(folder / "runs" / run / "state.npz") as state:
        return json.loads(str(state["progress"]))["history"]


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    _run(folder, "one", 1)
    return folder


@pytest.mark.parametrize("count", [2, 3])
def test_several_machines_train_as_one_does_and_their_qat_too(one: Path, count: int) -> None:
    run = f"of_{count}"
    _run(one, run, count)
    assert _difference(one, "one", run) < BOUND
    for ours, theirs in zip(_history(one, "one"), _history(one, run), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    # every file is the chief's, and of the form that one machine writes
    here, there = (sorted(p.name for p in (one / "runs" / name).iterdir()) for name in ("one", run))
    assert here == there
    _run(one, run, count, ("export", "qat"))
    again = _start(one, run, 1, ("export", "qat"))
    _end(again)
    assert again[0].returncode == 0 and (one / "runs" / run / "qat/best.h5").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_worker_that_goes_is_named_and_another_number_of_workers_goes_on(one: Path, number: signal.Signals) -> None:
    run = f"left_{number.name}"
    started = _start(one, run, 3)
    while not (one / "runs" / run / "state.npz").exists():
        assert started[0].poll() is None
        time.sleep(0.05)
    os.kill(started[1].pid, number)
    began = time.monotonic()
    told = [started[task].communicate(timeout=120)[1] for task in (0, 2)]
    seconds = time.monotonic() - began
    started[1].kill()
    started[1].communicate()
    assert seconds < 60 and all("Traceback" not in text for text in told)
    for text in told:
        (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
        assert re.search(r"error: worker 1 \(127\.0\.0\.1:\d+\) (has ended|has not answered|was stopped)", line), line
        assert "stopped after step" in line and "goes on" in line
    assert started[0].returncode == started[2].returncode == 1
    _run(one, run, 2)
    assert _difference(one, "one", run) < BOUND


def test_other_settings_are_named(one: Path) -> None:
    started = _start(one, "other", 2, other={1: ["--set", "train.learning_rate=0.003"]})
    for text in _end(started):
        assert re.search(r"worker 1 \(\S+\) has another configuration .*start all with the same CONFIG and SET", text)
    assert [process.returncode for process in started] == [2, 2] and not (one / "runs/other/state.npz").exists()


def test_two_devices_are_one(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tests.train.machines.two_devices"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    differences = json.loads(told.stdout.splitlines()[-1])
    # one step from the same weights: rounding alone; the rate is 0.001, so that a wrong sign would be 0.002
    assert differences["float32"] < 1e-5 and differences["qat"] < 1e-5, differences
    # half precision keeps 8 bits of a number: losses agree to that
    assert 0 < differences["bfloat16"] < 2**-7, differences
    # what the bounds are for: batch norm of each device alone
    assert differences["alone"] > 1e-3, differences
