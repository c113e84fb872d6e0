"""A stranger's file that crashes the runtime or never ends spoils its own row and nothing else."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency
from portraitseg.runners import tflite
from portraitseg.runs import Run
from tests.runners import hostile
from tests.runners.tiny import write_tflite


def test_the_table_goes_on_without_it(workspace, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setattr(tflite, "PROBE_LIMIT_S", 3.0)
    peers = Path("peers")
    peers.mkdir()
    hostile.write_crashing(peers / "crashing.tflite")
    hostile.write_endless(peers / "endless.tflite")
    write_tflite(peers / "sound.tflite", shape=hostile.SHAPE)
    arguments = ["run", "--run", "tiny", "--peers", "peers", "--splits", "test_b"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    with Path("runs/tiny/benchmark/results.csv").open() as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert rows["sound.tflite"]["valid"] == "true" and float(rows["sound.tflite"]["iou"]) > 0.9
    for name, reason in (("crashing", "ended in a crash (SIG"), ("endless", "took over 3 s")):
        row = rows[f"{name}.tflite"]
        assert row["valid"] == "false" and row["iou"] == row["p50_ms"] == ""
        assert row["reason"].startswith("not_run: ") and reason in row["reason"]


def test_a_run_that_another_process_writes_to_is_not_measured(workspace):
    from portraitseg.errors import InputError

    with Run("tiny").locked(), pytest.raises(InputError, match="another process is writing"):
        CliRunner().invoke(app, ["run", "--run", "tiny"], catch_exceptions=False)
    assert not Path("runs/tiny/benchmark").exists()
