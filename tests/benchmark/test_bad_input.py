"""What stays of the benchmark's table when it is given something by mistake; the lines are in docs/bad-input.md."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency
from portraitseg.errors import InputError
from tests.benchmark.conftest import write_manifest, write_photos
from tests.data.bad_cases.stages import NO_SEGMENTERS
from tests.runners.tiny import write_tflite

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _calm_machine(monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setitem(latency.PROFILES, "quick", latency.Profile(warmup=0, rounds=latency.MIN_ROUNDS, budget_s=1.0))


def write(path: Path, values: dict[str, Any]) -> Path:
    return write_tflite(path, **{"shape": (1, 24, 30, 3), **values})


def run(*arguments: str):
    return CliRunner().invoke(app, ["run", "--run", "tiny", "--splits", "test_b", *arguments], catch_exceptions=False)


def test_peers_that_are_no_portrait_files_are_rows_with_a_reason(workspace):
    Path("peers").mkdir()
    for number, (values, _) in enumerate(NO_SEGMENTERS.values()):
        write(Path(f"peers/{number}.tflite"), values)
    Path("peers/text.tflite").write_text("no flatbuffer")
    Path("peers/empty.tflite").write_bytes(b"")
    assert run("--peers", "peers").exit_code == 0
    with Path("runs/tiny/benchmark/results.csv").open() as file:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(file)}
    for number, (_, message) in enumerate(NO_SEGMENTERS.values()):
        row = rows[str(number)]
        assert row["valid"] == "false" and row["iou"] == row["p50_ms"] == ""
        assert row["reason"].startswith("not_run: ") and message in row["reason"], row["reason"]
    assert all("not_run: " in rows[name]["reason"] for name in ("text", "empty"))
    # ours stand beside them
    assert float(rows["tiny-24x30-rgb-fp32"]["iou"]) > 0.9 and rows["tiny-24x30-rgb-fp32"]["valid"] == "true"


def test_a_file_of_ours_that_is_none_stops_it(workspace):
    values, message = NO_SEGMENTERS["a classifier, no segmenter"]
    write(Path("android_assets/tiny/tiny-24x30-rgb-fp32.tflite"), values)
    write_manifest(Path("android_assets/tiny"), "tiny-24x30-rgb-fp32.tflite")
    with pytest.raises(InputError) as error:
        run()
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not Path("runs/tiny/benchmark/results.csv").exists()


def test_a_photo_without_a_mask(workspace):
    # a split of an unlabelled set can be read, but there is nothing to compare with
    folder = Path("photos/loose/images")
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(Path("photos/images/test_a_0.png").read_bytes())
    for name in ("images", "masks"):
        (Path("photos/first") / name).parent.mkdir(exist_ok=True)
        Path(f"photos/{name}").rename(f"photos/first/{name}")
    Path("photos/splits.json").write_text(json.dumps({"splits": {"test_b": ["loose/a"]}}))
    with pytest.raises(InputError, match=r"photo loose/a: no mask to compare with"):
        run("--set", 'data.unlabelled_sets=["loose"]')


def test_photos_that_cannot_be_read(workspace):
    Path("photos/images/test_b_1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"test_b_1\.png"):
        run()
    assert not Path("runs/tiny/benchmark/results.csv").exists()
    # what was scored before it stays for the next time, when the photo is whole again
    assert list(Path("runs/tiny/benchmark/journal").glob("*.scores"))


@pytest.mark.full
def test_ctrl_c_in_the_middle_of_it(workspace):
    write_photos(workspace / "many", {"test_a": 8, "test_b": 600})
    command = [sys.executable, "-m", "benchmark", "run", "--run", "tiny", "--data", "many"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    journal, until = Path("runs/tiny/benchmark/journal"), time.monotonic() + 120
    # eight photos do not come to this: the second split is under way
    while not any(path.stat().st_size > 3000 for path in journal.glob("*.scores")):
        assert time.monotonic() < until and started.poll() is None
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130 and "Traceback" not in errors and "of 600 photos are kept" in errors
    with Path("runs/tiny/benchmark/results.csv").open() as file:
        assert {row["split"] for row in csv.DictReader(file)} == {"test_a"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "of 600 photos are there from before" in done.stderr and not journal.exists()
