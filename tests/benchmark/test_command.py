"""The whole command on tiny files: table, scores in the manifests, refusals, and what an interruption leaves."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency, measure, refinement
from benchmark.measuring.model_files import FOREIGN, ModelFile, choose_reference
from benchmark.tables import results
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from portraitseg.manifest import Manifest, Refine, read
from portraitseg.refine import EdgeRefiner
from portraitseg.runners import tflite
from portraitseg.runners.onnx import OnnxRunner
from portraitseg.segment.segmenter import Segmenter
from tests.benchmark.conftest import SPLITS, write_manifest, write_photos
from tests.runners.tiny import write_tflite

ROOT = Path(__file__).parents[2]

#: Other people's scripts read them in this order.
INTERFACE_COLUMNS = (
    "file,model,channels,recipe,runtime,threads,delegate,split,split_sha256_16,photos,iou,iou_low,iou_high,miou,"
    "boundary_iou,p50_ms,p90_ms,ratio_to_reference,bytes,valid,reason"
)


@pytest.fixture(autouse=True)
def _calm_machine(monkeypatch):
    # what CI's machines do meanwhile is not under test
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))


def run(*arguments: str):
    # our own exceptions come out as they do under cli.run
    return CliRunner().invoke(app, ["run", "--run", "tiny", *arguments], catch_exceptions=False)


def rows() -> list[dict[str, str]]:
    with Path("runs/tiny/benchmark/results.csv").open() as file:
        return list(csv.DictReader(file))


def qualities(folder: str) -> dict[str, float]:
    (entry,) = read(Manifest, Path(folder) / "manifest.json").files
    return {quality.split: quality.iou for quality in entry.quality}


def test_columns_are_those_of_the_interface():
    assert ",".join(results.RESULTS).startswith(INTERFACE_COLUMNS + ",quality_valid,latency_valid,")
    assert f"\n{INTERFACE_COLUMNS}\n" in (ROOT / "docs/interface.md").read_text(encoding="utf-8")


def test_table_over_all_files(core_ml):
    result = run("--threads", "1,2")
    assert result.exit_code == 0 and "not_run: needs macOS" in result.stdout
    table = rows()
    assert tuple(table[0]) == results.RESULTS
    measured = [row for row in table if row["valid"] == "true"]
    # two files × two thread counts × test_a and test_b, not val and not train
    assert len(measured) == 8 and {row["split"] for row in measured} == {"test_a", "test_b"}
    assert {row["runtime"].split()[0] for row in measured} == {"ai-edge-litert", "onnxruntime"}
    # brightness at half the photo's size: right but for the outline
    assert all(0.9 < float(row["iou_low"]) <= float(row["iou"]) <= float(row["iou_high"]) <= 1 for row in measured)
    assert all(float(row["p99_ms"]) >= float(row["p90_ms"]) >= float(row["p50_ms"]) > 0 for row in measured)
    # each start is a process of its own: `quick` makes them on the first thread count only
    assert {(row["threads"], row["first_ms"], row["peak_mb"]) for row in measured} == {
        ("1", "2.000", "1.50000"),
        ("2", "", ""),
    }
    assert all(float(row["no_xnnpack_p50_ms"]) > 0 for row in measured if row["file"].endswith(".tflite"))
    assert {(row["split"], row["photos"]) for row in measured} == {("test_a", "4"), ("test_b", "3")}
    reference = [row for row in measured if row["file"].endswith(".tflite")]
    assert all(float(row["ratio_to_reference"]) == 1 for row in reference)
    (core_ml,) = (row for row in table if row["file"].endswith(".mlpackage"))
    assert (core_ml["valid"], core_ml["reason"], core_ml["iou"]) == ("false", "not_run: needs macOS", "")
    markdown = Path("runs/tiny/benchmark/results.md").read_text()
    assert "IoU %" in markdown and "not_run: needs macOS" in markdown


def test_a_file_that_can_be_scored_but_not_timed(workspace, monkeypatch):
    # as Core ML files are on Linux
    monkeypatch.setattr(OnnxRunner, "latency_reason", "needs macOS", raising=False)
    # nothing is wrong with what was measured
    assert "INVALID" not in run("--threads", "1,2", "--splits", "test_a").stdout
    (row,) = (row for row in rows() if row["file"].endswith(".onnx"))
    assert float(row["iou"]) > 0.9 and (row["threads"], row["p50_ms"], row["ratio_to_reference"]) == ("", "", "")
    assert (row["valid"], row["reason"]) == ("false", "latency not_run: needs macOS")
    assert (row["quality_valid"], row["latency_valid"]) == ("true", "false")
    assert qualities("runs/tiny/onnx").keys() == {"older", "test_a"}


def test_noise_spoils_the_latency_alone(core_ml, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", 0.5)
    shown = run("--splits", "test_a").stdout
    # a word a row, and below the table once what it means; the reasons are in the files
    assert "INVALID" not in shown and shown.count("noisy: something else ran") == 1 and shown.count("noisy") == 3
    assert "INVALID: latency too noisy" in Path("runs/tiny/benchmark/results.md").read_text()
    measured = [row for row in rows() if row["split"]]
    assert {(row["valid"], row["quality_valid"], row["latency_valid"]) for row in measured} == {
        ("false", "true", "false")
    }
    assert all("too noisy" in row["reason"] for row in measured)
    (not_run,) = (row for row in rows() if not row["split"])
    assert (not_run["quality_valid"], not_run["latency_valid"]) == ("false", "false")


def test_table_is_read_as_it_was_written(workspace):
    run("--splits", "test_a")
    path = Path("runs/tiny/benchmark/results.csv")
    assert results.read(path).to_csv() == path.read_text()
    path.write_text(path.read_text().replace(",true,", ",maybe,", 1))
    with pytest.raises(InputError, match=r"line 2: valid is 'maybe'"):
        results.read(path)


def test_results_name_the_worst_photos(workspace):
    run("--splits", "test_a")
    text = Path("runs/tiny/benchmark/results.md").read_text()
    assert "Worst photos" in text and text.count("test_a_3 ") == 2


def test_refined_masks_are_scored_of_the_same_runs(workspace, monkeypatch):
    refiner = EdgeRefiner(side=15, radius=1, epsilon=1e-4)
    chosen = Refine(**refinement.parameters(refiner))
    write_manifest(Path("android_assets/tiny"), "tiny-24x30-rgb-fp32.tflite", refine=chosen)
    calls, original = [], tflite.TfliteRunner.predict
    monkeypatch.setattr(
        tflite.TfliteRunner, "predict", lambda self, *inputs: calls.append(1) or original(self, *inputs)
    )
    assert run("--splits", "test_a").exit_code == 0 and len(calls) == SPLITS["test_a"]
    assert "| Refined boundary IoU % |" in Path("runs/tiny/benchmark/results.md").read_text()
    ours, other = (next(row for row in rows() if row["file"].endswith(kind)) for kind in (".tflite", ".onnx"))
    # what was not chosen is not measured
    assert other["iou_refined"] == other["boundary_iou_refined"] == ""
    assert ours["boundary_iou"] == other["boundary_iou"] != ours["boundary_iou_refined"]
    # the same figures as those of `benchmark refine`
    segmenter = Segmenter("android_assets/tiny/tiny-24x30-rgb-fp32.tflite")
    assert segmenter.refiner == refiner
    dataset = open_dataset(DataConfig(root=Path("photos"), format="folder"), 7)
    alone = refinement.score_photos(list(refinement.predict_photos(segmenter, dataset, "test_a")), refiner)
    for name in ("iou", "boundary_iou"):
        assert ours[f"{name}_refined"] == f"{alone[name].mean():.5f}"
    with Path("runs/tiny/benchmark/photos.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["file"] == ours["file"]]
    assert [line["iou_refined"] for line in lines] == [f"{value:.5f}" for value in alone["iou"]]


def test_without_chosen_parameters_no_column_is_added(workspace):
    assert "Refined" not in run("--splits", "test_a").stdout


def test_photos_csv_has_each_photo_of_each_file(workspace):
    run()
    with Path("runs/tiny/benchmark/photos.csv").open() as file:
        photos = list(csv.DictReader(file))
    assert len(photos) == 2 * 7
    first = [float(row["iou"]) for row in photos if row["file"].endswith(".tflite") and row["split"] == "test_a"]
    row = next(row for row in rows() if row["file"].endswith(".tflite") and row["split"] == "test_a")
    assert sum(first) / 4 == pytest.approx(float(row["iou"]), abs=1e-5)


def test_manifests_get_the_scores_and_keep_other_splits(core_ml):
    run("--splits", "test_a")
    assert qualities("android_assets/tiny").keys() == {"older", "test_a"}
    assert qualities("ios_assets/tiny").keys() == {"older"}
    run("--splits", "test_a,test_b")
    assert qualities("runs/tiny/onnx").keys() == {"older", "test_a", "test_b"}


def test_peers_and_named_reference(workspace):
    Path("peers").mkdir()
    write_tflite(Path("peers/other.tflite"), shape=(1, 24, 30, 3))
    write_tflite(Path("peers/two_channels.tflite"), shape=(1, 24, 30, 3), out_channels=2)
    run("--peers", "peers", "--reference", "other.tflite", "--splits", "test_a")
    table = {Path(row["file"]).name: row for row in rows()}
    assert table["other.tflite"]["recipe"] == "foreign" and table["other.tflite"]["model"] == "other"
    assert {row["reference"] for row in table.values() if row["valid"] == "true"} == {"other.tflite"}
    assert table["two_channels.tflite"]["reason"].startswith("not_run:")


def test_val_only_with_a_warning(workspace):
    write_photos(workspace / "only_val", {"train": 2, "val": 2})
    result = run("--data", "only_val")
    assert {row["split"] for row in rows()} == {"val"}
    assert "warning: no split begins with 'test'" in result.stderr


def test_a_file_that_differs_from_its_manifest_is_refused(workspace):
    path = Path("android_assets/tiny/tiny-24x30-rgb-fp32.tflite")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="SHA-256 differs"):
        run()
    assert not Path("runs/tiny/benchmark").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--splits", "nowhere"], "no split 'nowhere'"),
        (["--threads", "0"], "--threads 0"),
        (["--threads", "two"], "--threads two"),
        (["--profile", "fast"], "quick, full"),
        (["--peers", "missing"], "no such folder"),
        (["--peers", "photos"], "no .tflite"),
        (["--reference", "missing.tflite"], "no such file"),
        (["--data", "missing"], "no such folder"),
        (["--format", "tiff"], "data.format"),
    ],
)
def test_bad_use(workspace, arguments, message):
    with pytest.raises(InputError, match=message):
        run(*arguments)


def test_a_run_without_files(workspace):
    with pytest.raises(InputError, match="export it first"):
        CliRunner().invoke(app, ["run", "--run", "other"], catch_exceptions=False)


def test_a_released_run_needs_to_be_told_its_data(workspace):
    Path("runs/tiny/config.json").unlink()
    with pytest.raises(InputError, match="--data"):
        run()
    assert run("--data", "photos").exit_code == 0


def test_interrupted_while_scoring_keeps_the_splits_that_are_done(workspace, monkeypatch):
    original, calls = tflite.TfliteRunner.run, []

    def interrupted(self, inputs):
        calls.append(1)
        if len(calls) == 6:  # test_a has four photos: this is the second of test_b
            raise KeyboardInterrupt
        return original(self, inputs)

    monkeypatch.setattr(tflite.TfliteRunner, "run", interrupted)
    assert run().exit_code == 130
    table = rows()
    assert len(table) == 2 and {(row["split"], row["valid"], row["p50_ms"]) for row in table} == {
        ("test_a", "true", "")
    }
    assert "interrupted" in table[0]["reason"]
    assert qualities("android_assets/tiny").keys() == {"older", "test_a"}
    assert "INTERRUPTED" in Path("runs/tiny/benchmark/results.md").read_text()


def test_interrupted_before_anything_was_measured_keeps_the_earlier_table(workspace, monkeypatch):
    run("--splits", "test_a")
    before = rows()

    def interrupted(self, inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(tflite.TfliteRunner, "run", interrupted)
    assert run().exit_code == 130
    assert rows() == before


def test_interrupted_while_timing_keeps_the_rounds_that_are_done(workspace, monkeypatch):
    def interrupted(runs, profile):
        for _ in range(latency.MIN_ROUNDS):
            yield dict.fromkeys(runs, 2.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "interleave", interrupted)
    assert run("--threads", "1,2").exit_code == 130
    table = rows()
    assert {(row["threads"], row["p50_ms"]) for row in table} == {("1", "2.000"), ("2", "")}
    assert all(row["valid"] == "true" for row in table)


def test_exit_code_and_no_training_stack(workspace):
    script = """
import sys
from portraitseg import cli
from benchmark.__main__ import app
assert not {"cv2", "ai_edge_litert", "onnxruntime"} & sys.modules.keys(), "--help would wait for these"
sys.argv = ["benchmark", "run", "--run", "tiny", *sys.argv[1:]]
try:
    cli.run(app)
finally:
    assert not {"tensorflow", "tf_keras", "coremltools", "train", "export"} & sys.modules.keys()
"""

    def code(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-c", script, *arguments]
        done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert code("--splits", "test_a")[0] == 0
    manifest = Path("android_assets/tiny/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "extra": 1}))
    exit_code, errors = code()
    assert exit_code == 2 and "extra" in errors and "Traceback" not in errors


def test_default_reference():
    peer = ModelFile(Path("p/mediapipe_selfie_general_256.tflite"), "mp", FOREIGN, None, 1)
    plain = ModelFile(Path("a/m-8x8-rgb-fp32.tflite"), "m", "fp32", "rgb", 1, Path("a/manifest.json"))
    onnx = ModelFile(Path("o/m-8x8-nhwc-fp32.onnx"), "m", "fp32", "rgb", 1, Path("o/manifest.json"))
    int8 = ModelFile(Path("a/m-8x8-rgb-qat_wi8_ai8.tflite"), "m", "qat_wi8_ai8", "rgb", 1, Path("a/manifest.json"))
    assert choose_reference([int8, onnx, plain, peer], None)[1] is peer
    assert choose_reference([int8, onnx, plain], None)[1] is plain
    assert choose_reference([int8], None) == ([int8], None)
    # what a release keeps: weights in float16, computed in float32
    half = ModelFile(Path("a/m-8x8-rgb-fp16.tflite"), "m", "fp16", "rgb", 1, Path("a/manifest.json"))
    apple = ModelFile(Path("i/m-8x8-fp16.mlpackage"), "m", "fp16", "rgb", 1, Path("i/manifest.json"))
    assert choose_reference([apple, int8, onnx, half], None)[1] is half
    assert choose_reference([half, plain], None)[1] is plain and choose_reference([apple], None)[1] is None
