"""Several machines as processes on loopback: equal to one, and nothing lost when one of them goes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.machines.processes import BOUND, ROOT, difference, end, history, make_photos, run, start

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with 44 small portraits."""
    folder = tmp_path_factory.mktemp("machines")
    make_photos(folder)
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    run(folder, "one", 1)
    return folder


@pytest.mark.parametrize("count", [2, 3])
def test_several_machines_train_as_one_does_and_their_qat_too(one: Path, count: int) -> None:
    name = f"of_{count}"
    run(one, name, count)
    assert difference(one, "one", name) < BOUND
    for ours, theirs in zip(history(one, "one"), history(one, name), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    # every file is the chief's, and of the form that one machine writes
    here, there = (sorted(p.name for p in (one / "runs" / name).iterdir()) for name in ("one", name))
    assert here == there
    run(one, name, count, ("export", "qat"))
    again = start(one, name, 1, ("export", "qat"))
    end(again)
    assert again[0].returncode == 0 and (one / "runs" / name / "qat/best.h5").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
def test_a_worker_that_goes_is_named_and_another_number_of_workers_goes_on(one: Path, number: signal.Signals) -> None:
    name = f"left_{number.name}"
    started = start(one, name, 3)
    while not (one / "runs" / name / "state.npz").exists():
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
    run(one, name, 2)
    assert difference(one, "one", name) < BOUND


def test_a_full_disk_of_one_is_named_to_all_and_nothing_is_lost(one: Path) -> None:
    name = "full"
    started = start(one, name, 3)
    path = one / "runs" / name / "state.npz"
    while not path.exists():
        assert started[0].poll() is None
        time.sleep(0.05)
    started[0].send_signal(signal.SIGTERM)
    end(started)
    before = path.read_bytes()
    # the chief alone writes; settings still fit, weights do not
    started = start(one, name, 3, file_bytes={0: 20_000})
    for text in end(started):
        (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
        assert re.search(r"runs/full/\w+\.(h5|npz): the file is larger than", line), line
    assert [process.returncode for process in started] == [2, 1, 1] and path.read_bytes() == before
    run(one, name, 3)
    assert difference(one, "one", name) < BOUND


def test_other_settings_are_named(one: Path) -> None:
    started = start(one, "other", 2, other={1: ["--set", "train.learning_rate=0.003"]})
    for text in end(started):
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
