"""Ctrl-C as a user presses it, and too little memory: the whole process, with its workers."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from portraitseg.models import checkpoint

ROOT = Path(__file__).parents[2]

SMALL = [
    *("--set", "data.synthetic_photos=64", "--set", 'model.name="fast_scnn_w050"', "--set", "model.size=[64, 64]"),
    *("--set", "train.epochs=3", "--set", "train.batch_size=4"),
]

pytestmark = pytest.mark.full


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def _start(run: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "train", "fit", "--run", run, *SMALL]
    # a group of its own, so that Ctrl-C for it is none for pytest
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, **options)


def test_ctrl_c_goes_to_every_process_and_the_named_command_goes_on() -> None:
    started, until = _start("a"), time.monotonic() + 300
    while not Path("runs/a/state.npz").exists():
        assert time.monotonic() < until and started.poll() is None
        time.sleep(0.02)
    # as a terminal does
    os.killpg(started.pid, signal.SIGINT)
    _, output = started.communicate(timeout=120)
    assert started.returncode == 130 and "Traceback" not in output
    last = output.strip().splitlines()[-1]
    assert last.startswith("error: interrupted: stopped after step") and "go on with: " in last
    command = shlex.split(last.partition("go on with: ")[2])
    subprocess.run(command, check=True, capture_output=True)
    whole = _start("b")
    whole.communicate(timeout=600)
    models = [checkpoint.load(Path(f"runs/{run}/last.h5")) for run in ("a", "b")]
    for stopped, straight in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(stopped, straight)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit of address space")
def test_too_little_memory_is_one_line_and_nothing_half_written() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, 1_500_000_000))

    started = _start("a", preexec_fn=limit)
    _, output = started.communicate(timeout=600)
    assert started.returncode == 2, output[-2000:]
    assert "Traceback" not in output and "memory" in output.strip().splitlines()[-1]
    assert not list(Path().rglob(".tmp-portraitseg-*")) and not list(Path().rglob("*.h5"))
