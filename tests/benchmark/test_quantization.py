"""The table of recipes: every file beside its run's float file, photo by photo."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency
from benchmark.tables import views
from benchmark.tables.results import Row
from portraitseg.errors import InputError
from tests.benchmark.conftest import write_manifest
from tests.runners.tiny import write_tflite

SHAPE = (1, 24, 30, 3)


def command(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def run(workspace, monkeypatch):
    """Run `tiny` with a float file, one that scores the same, and one that finds nothing."""
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setitem(latency.PROFILES, "quick", latency.Profile(warmup=0, rounds=latency.MIN_ROUNDS, budget_s=1.0))
    folder = Path("android_assets/tiny")
    names = [f"tiny-24x30-rgb-{recipe}.tflite" for recipe in ("fp32", "static_wi8_ai8", "qat_wi8_ai8")]
    write_tflite(folder / names[1], shape=SHAPE)
    write_tflite(folder / names[2], SHAPE, dtype="uint8", scale=1 / 255, out_scale=0.4 / 255)
    write_manifest(folder, *names)
    return folder


def test_the_table(run):
    done = command("quantization", "--runs", "tiny", "--data", "photos", "--splits", "test_a,val", "--out", "out/q.csv")
    text = Path("out/q.md").read_text()
    assert done.exit_code == 0 and text in done.output
    lines = Path("out/q.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 2 and lines[0].startswith("run,file,recipe,bytes,split,")
    assert [line.split(",")[2] for line in lines[1::2]] == ["fp32", "static_wi8_ai8", "qat_wi8_ai8"]
    header, _, float_line, same, dark = text.splitlines()[:5]
    assert header.count("− float") == 4
    assert float_line.split(" | ")[4] == "" and same.count("the same on every photo") == 4
    assert "| tiny | qat_wi8_ai8 |" in dark and "-" in dark.split(" | ")[4] and "inside" not in dark.split(" | ")[4]
    assert "lost more than 0.2 points of IoU and 0.5 of boundary IoU at most: tiny qat_wi8_ai8 on test_a" in text
    assert not list(Path("out").glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "nowhere"], "export it first"),
        (["--runs", ","], "name the runs"),
        (["--runs", "tiny", "--recipes", "int4"], "--recipes int4: choose of fp32"),
        (["--runs", "tiny", "--profile", "fast"], "quick, full"),
        (["--runs", "tiny", "--splits", "nowhere"], "no split 'nowhere'"),
    ],
)
def test_bad_use(run, arguments, message):
    with pytest.raises(InputError, match=message):
        command("quantization", "--data", "photos", *arguments)
    assert not Path("runs/quantization.csv").exists()


def test_a_run_without_its_float_file_is_refused(run):
    write_manifest(run, "tiny-24x30-rgb-qat_wi8_ai8.tflite")
    with pytest.raises(InputError, match="run 'tiny': no fp32"):
        command("quantization", "--runs", "tiny", "--data", "photos")


@pytest.mark.parametrize(("kept", "words"), [(True, "qat files lose 0.2"), (False, "lost more than 0.2")])
def test_the_promise_is_said(kept, words):
    row = Row(file="a.tflite", run="a", recipe="qat_wi8_ai8", split="val", is_kept=kept, quality_valid=True)
    assert words in views.RECIPES.to_markdown([replace(row, iou=0.9, boundary_iou=0.7, runtime="x")])
