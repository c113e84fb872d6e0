"""Our own speed: the commands that are timed, their memory, and that it does not grow with the photos."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.studies import speed
from benchmark.studies.speed import Measured, SmallPhotos, run_stage, score_small_photos, scoring_memory
from portraitseg.errors import InputError
from tests.benchmark.conftest import write_manifest
from tests.runners.tiny import write_tflite

HAS_PROC = Path("/proc/self/smaps_rollup").exists()


def test_small_photos_are_labelled_and_differ():
    photos = SmallPhotos(name="small", splits={"test": ("small/0", "small/1")})
    one, other = photos.load("small/0"), photos.load("small/1")
    assert one.mask is not None and 0.1 < (one.mask > 127).mean() < 0.5
    assert (one.image != other.image).any() and (one.image[one.mask > 0] == 230).all()


def test_scoring_small_photos(tmp_path):
    file = write_tflite(tmp_path / "a.tflite", shape=(1, 24, 30, 3))
    # brightness at half the photo's size: right but for the outline
    assert 0.9 < score_small_photos(file, 20, workers=1) < 1
    ((count, peak_mb, seconds),) = scoring_memory(file, [16], workers=1)
    assert count == 16 and seconds > 0
    assert not HAS_PROC or (peak_mb is not None and 30 < peak_mb < 2000)


@pytest.mark.skipif(not HAS_PROC, reason="this system does not tell the memory of a process")
def test_memory_of_children_counts(tmp_path):
    code = "import subprocess, sys, time; x = b'x' * {size}; {more}; time.sleep(0.6)"
    child = code.format(size=60_000_000, more="pass")
    parent = code.format(size=10, more=f"subprocess.run([sys.executable, '-c', {child!r}])")
    peak_mb = speed._watch([sys.executable, "-c", parent]).peak_mb
    assert peak_mb is not None and 60 < peak_mb < 200


def test_a_command_that_fails_is_a_line():
    begin_s = time.perf_counter()
    with pytest.raises(InputError, match=r"benchmark networks.*--runs"):
        run_stage(["benchmark", "networks", "--runs", ","])
    assert time.perf_counter() > begin_s


def test_tables(workspace, monkeypatch):
    calls: list[tuple[list[str], int | None]] = []

    def stage(arguments, cores=None):
        calls.append((list(arguments), cores))
        rates = {"step": 66.2, "pipeline": 522.9, "both": 53.0, "saving": 52.9}
        return Measured("".join(f"{name:9} {rate:8.1f} images/s\n" for name, rate in rates.items()), 8.0, 512.0)

    monkeypatch.setattr(speed, "run_stage", stage)
    monkeypatch.setattr(speed, "_watch", lambda command: Measured("0.97\n", 3.0, 140.0))
    for folder in ("runs/tiny/onnx", "ios_assets/tiny"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_manifest(Path(folder))
    options = ["--config", "c.toml", "--run", "tiny", "--file", "a.tflite", "--photos", "4,9000", "--steps", "5"]
    done = CliRunner().invoke(app, ["speed", *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert "| 1 | 66 | 523 | 53 |" in done.stdout
    assert "| android | 1 | 8.0 |" in done.stdout
    # no portraits fewer than the synthetic data have
    assert "| 8 | training | 512 |  |" in done.stdout and "| 9,000 | scoring | 140 | 3 |" in done.stdout
    first, cores = calls[0]
    assert first[:4] == ["train", "speed", "--config", "c.toml"] and "train.workers=1" in first and cores == 1
    with pytest.raises(InputError, match="--photos many"):
        CliRunner().invoke(app, ["speed", "--photos", "many"], catch_exceptions=False)


@pytest.mark.full
@pytest.mark.skipif(not HAS_PROC, reason="this system does not tell the memory of a process")
def test_memory_does_not_grow_with_the_photos(tmp_path):
    file = write_tflite(tmp_path / "a.tflite", shape=(1, 24, 30, 3))
    peaks = np.array([peak for _, peak, _ in scoring_memory(file, [100, 10_000], workers=2)], np.float64)
    # the list of keys grows: 10,000 of them are a megabyte; 10 MB are the noise of two measurements
    assert peaks[1] - peaks[0] < 12
