"""The history keeps every benchmark; the comparison tells noise from a regression, and fails on the latter."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency
from benchmark.tables import history
from benchmark.tables.compare import LATENCY_NOISE, LEAST_SCORE_CHANGE, Change, compare
from benchmark.tables.results import Results, Row
from portraitseg.errors import CheckFailed, InputError
from tests.benchmark.test_readme import row


def command(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_each_benchmark_is_one_line(workspace, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    folder = Path("runs/tiny/benchmark")
    command("run", "--run", "tiny", "--splits", "test_a")
    first = (folder / history.NAME).read_text()
    command("run", "--run", "tiny", "--splits", "test_a,test_b")
    assert (folder / history.NAME).read_text().startswith(first)
    older, newer = history.read(folder)
    assert [len(record["rows"]) for record in (older, newer)] == [2, 4]
    assert newer["profile"] == "quick" and newer["tools"]["ai-edge-litert"] and "machine" in newer
    assert newer["rows"][0]["iou"] > 0.9 and newer["is_interrupted"] is False


def test_a_line_that_was_cut_short_costs_only_itself(tmp_path):
    assert history.read(tmp_path) == []
    history.append(tmp_path, Results([row()]), profile="quick")
    with (tmp_path / history.NAME).open("a") as file:
        file.write('{"rows": [{"fi')
    history.append(tmp_path, Results([row()]), profile="full")
    assert [record["profile"] for record in history.read(tmp_path)] == ["quick", "full"]
    assert json.loads((tmp_path / history.NAME).read_text().splitlines()[0])["rows"][0]["iou"] == 0.9


def tables(folder: Path, rows: list[Row], scores: dict[str, np.ndarray] | None = None) -> Path:
    """Writes a table, with its photos where scores are given."""
    folder.mkdir()
    Results(rows).write(folder / "results.csv")
    if scores is not None:
        with (folder / "photos.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("file", "split", "key", "iou", "miou", "boundary_iou"))
            for index in range(len(scores["iou"])):
                values = (scores["iou"][index], scores["iou"][index], scores["boundary_iou"][index])
                writer.writerow((rows[0].file, rows[0].split, f"k{index}", *values))
    return folder / "results.csv"


def scores(shift: float = 0.0) -> dict[str, np.ndarray]:
    """Of two hundred photos, hard and easy ones; the same ones, but for noise of their own and a shift."""
    hardness = np.random.default_rng(0).normal(0.85, 0.08, 200)
    noise = np.random.default_rng(abs(int(1e6 * shift))).normal(0, 0.01, 200)
    return {"iou": hardness + noise + shift, "boundary_iou": hardness - 0.2}


def of(changes: list[Change], what: str) -> Change:
    (only,) = (change for change in changes if change.what.startswith(what))
    return only


def test_scores_are_compared_photo_by_photo(tmp_path):
    base = tables(tmp_path / "base", [row()], scores())
    fallen = compare(tables(tmp_path / "fallen", [row(iou=0.895)], scores(-0.005)), base)
    assert of(fallen, "test_a iou").is_regression and not of(fallen, "test_a boundary_iou").is_regression
    # the separate intervals would have said nothing
    (tmp_path / "fallen" / "photos.csv").unlink()
    alone = compare(tmp_path / "fallen" / "results.csv", base)
    assert not of(alone, "test_a iou").is_regression and "overlap" in of(alone, "test_a iou").change
    noisy = compare(tables(tmp_path / "noisy", [row(iou=0.8999)], scores(-0.0001)), base)
    assert "inside the noise" in of(noisy, "test_a iou").change and not any(c.is_regression for c in noisy)
    risen = compare(tables(tmp_path / "risen", [row(iou=0.905)], scores(0.005)), base)
    assert not any(change.is_regression for change in risen) and "noise" not in of(risen, "test_a iou").change


def test_a_fall_inside_a_wide_interval_is_no_regression(tmp_path):
    # a mean of -0.2 points that a few photos decide: the interval reaches from -0.6 to +0.2 or so
    wide = np.random.default_rng(5).normal(0, 0.03, 200)
    wide += -0.002 - wide.mean()
    before = scores()
    after = {**before, "iou": before["iou"] + wide}
    base = tables(tmp_path / "base", [row()], before)
    change = of(compare(tables(tmp_path / "new", [row(iou=0.898)], after), base), "test_a iou")
    assert change.change.startswith("-0.20") and "inside the noise" in change.change and not change.is_regression
    # the same mean, alike on every photo, is one
    steady = {**before, "iou": before["iou"] - 0.002}
    change = of(compare(tables(tmp_path / "steady", [row(iou=0.898)], steady), base), "test_a iou")
    assert change.change.startswith("-0.20") and change.is_regression


def test_photos_of_a_later_table_are_not_those_of_an_earlier_one_beside_it(tmp_path):
    new = tables(tmp_path / "run", [row(iou=0.6, iou_low=0.5, iou_high=0.7)], scores(-0.3))
    before = new.with_name("before.csv")
    Results([row()]).write(before)
    assert of(compare(new, before), "test_a iou").is_regression
    # with its own it is compared photo by photo
    shutil.copy(
        tables(tmp_path / "base", [row()], scores()).with_name("photos.csv"), new.with_name("before-photos.csv")
    )
    assert "overlap" not in of(compare(new, before), "test_a iou").change


def test_a_steady_difference_as_small_as_between_machines_is_no_regression(tmp_path):
    base = tables(tmp_path / "base", [row()], scores())
    for name, step, is_worse in (("small", 0.5, False), ("large", 2.0, True)):
        moved = {key: values - step * LEAST_SCORE_CHANGE for key, values in scores().items()}
        change = of(compare(tables(tmp_path / name, [row()], moved), base), "test_a iou")
        assert change.is_regression == is_worse and "noise" not in change.change


def test_gross_losses_are_found_without_photos(tmp_path):
    base = tables(tmp_path / "base", [row()])
    changes = compare(tables(tmp_path / "new", [row(iou=0.7, iou_low=0.6, iou_high=0.8)]), base)
    assert of(changes, "test_a iou").is_regression and "apart" in of(changes, "test_a iou").change
    broken = compare(tables(tmp_path / "broken", [row(quality_valid=False, valid=False, reason="NaN")]), base)
    assert of(broken, "test_a").is_regression


@pytest.mark.parametrize(
    ("values", "is_worse", "text"),
    [
        ({"ratio_to_reference": 0.5 * LATENCY_NOISE * 1.01}, True, "×"),
        ({"ratio_to_reference": 0.5 * LATENCY_NOISE * 0.99}, False, "inside the noise"),
        ({"ratio_to_reference": 0.3}, False, "× 0.60"),
        ({"ratio_to_reference": 2.0, "machine": "another"}, False, "not judged"),
        ({"ratio_to_reference": 2.0, "reference": "b.tflite"}, False, "other reference"),
    ],
)
def test_latency_ratios(tmp_path, values, is_worse, text):
    base = tables(tmp_path / "base", [row()])
    change = of(compare(tables(tmp_path / "new", [row(**values)]), base), "latency")
    assert change.is_regression == is_worse and text in change.change


def test_noisy_latencies_other_photos_and_missing_peers_are_not_judged(tmp_path):
    base = tables(tmp_path / "base", [row(), row("gone.tflite", recipe="foreign")])
    new = [row(latency_valid=False, ratio_to_reference=9.0, split_sha256_16="cd" * 8, iou=0.1, bytes=3_000_000)]
    changes = compare(tables(tmp_path / "new", new), base)
    assert not any(change.is_regression for change in changes)
    assert of(changes, "test_a").change == "other photos" and of(changes, "size").change == "+100.0 %"
    assert of(changes, "file").file == "gone.tflite"
    assert of(changes, "latency").after == "none" and "not judged" in of(changes, "latency").change


def test_a_file_that_ran_and_does_not_any_more_is_a_regression(tmp_path):
    base = tables(tmp_path / "base", [row(), row("gone.tflite")])
    refused = Row(row().file, "net", recipe="fp32", valid=False, reason="not_run: broken")
    changes = compare(tables(tmp_path / "new", [refused]), base)
    assert {change.file for change in changes if change.is_regression} == {Path(row().file).name, "gone.tflite"}
    assert "not_run: broken" in of(changes, "test_a").change
    # another choice of splits is none
    other = compare(tables(tmp_path / "other", [row(split="test_b"), row("gone.tflite")]), base)
    other = [change for change in other if change.file != "gone.tflite"]
    assert not any(change.is_regression for change in other) and "not in the new table" in of(other, "test_a").change


def test_command_fails_on_a_regression_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/mine").mkdir(parents=True)
    base = tables(tmp_path / "base", [row()], scores())
    tables(Path("runs/mine/benchmark"), [row(iou=0.89)], scores(-0.01))
    with pytest.raises(CheckFailed, match=r"1 regression.*net-24x30"):
        command("compare", "--run", "mine", "--base", str(base))
    shutil.rmtree("runs/mine/benchmark")
    tables(Path("runs/mine/benchmark"), [row()], scores())
    done = command("compare", "--run", "mine", "--base", str(base))
    assert done.exit_code == 0 and "the same on every photo" in done.stdout
    with pytest.raises(InputError, match="no file name in common"):
        compare(tables(tmp_path / "other", [replace(row(), file="x.tflite")]), base)
    for name in ("missing.csv", "."):
        with pytest.raises(InputError, match=r"name the earlier results\.csv"):
            command("compare", "--run", "mine", "--base", name)
    with pytest.raises(InputError, match="make benchmark RUN=new"):
        command("compare", "--run", "new", "--base", str(base))
