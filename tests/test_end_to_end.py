"""One clone gives it all, through the command line: train → QAT → export → parity → benchmark → assets."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from portraitseg import files, manifest

ROOT = Path(__file__).parents[1]

CONFIG = """
[data]
synthetic_photos = 32
[model]
name = "contour_small"
size = [128, 160]
[train]
epochs = 4
batch_size = 8
learning_rate = 5e-4
ema = 0.8
workers = 1
[qat]
epochs = 1
freeze_bn_epochs = 0
[export]
calibration_photos = 24
parity_photos = 4
"""


EXPORTS = """
from export.__main__ import app
for target in ("android", "ios", "onnx"):
    app([target, "--run", "tiny"], standalone_mode=False)
"""


def _run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder)},
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("clone")
    (place / "tiny.toml").write_text(CONFIG)
    # from our weights: parity refuses to compare outputs as flat as those of a few steps from scratch
    weights = ROOT / "weights/contour_small-256x256.h5"
    _run(place, "-m", "train", "fit", "--run", "tiny", "--config", "tiny.toml", "--init", str(weights))
    # in one process: each would load TensorFlow anew
    _run(place, "-c", EXPORTS)
    _run(place, "-m", "benchmark", "run", "--run", "tiny", "--profile", "quick")
    return place


def _android(folder):
    return {p.name: files.sha256(p) for p in (folder / "android_assets/tiny").glob("*.tflite")}


def _named(*recipes):
    return {f"contour_small-128x160-{channels}-{recipe}.tflite" for channels in ("rgb", "rgba") for recipe in recipes}


def test_the_files_for_android(folder):
    assert _android(folder).keys() >= _named("fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8")


def test_the_files_for_ios_and_onnx(folder):
    assert (folder / "ios_assets/tiny/contour_small-128x160-fp16.mlpackage").is_dir()
    names = {p.name for p in (folder / "runs/tiny/onnx").glob("*.onnx")}
    assert names >= {f"contour_small-128x160-nhwc-{r}.onnx" for r in ("fp32", "qdq")}


@pytest.mark.parametrize("place", ["android_assets/tiny", "ios_assets/tiny", "runs/tiny/onnx"])
def test_each_manifest_holds_and_fits_the_schema(folder, place):
    import jsonschema

    path = folder / place / manifest.MANIFEST_NAME
    listed = manifest.read(manifest.Manifest, path)
    manifest.verify(listed, path.parent)
    jsonschema.validate(json.loads(path.read_text()), json.loads((ROOT / "docs/manifest.schema.json").read_text()))
    artifact = manifest.read(manifest.Artifact, folder / "runs/tiny/artifact.json")
    assert listed.source == artifact.source
    for entry in listed.files:
        assert entry.parity.passed or entry.parity.not_run


def test_the_benchmark_has_a_row_a_file_and_writes_scores_back(folder):
    with (folder / "runs/tiny/benchmark/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    listed = [
        entry
        for place in ("android_assets/tiny", "ios_assets/tiny", "runs/tiny/onnx")
        for entry in manifest.read(manifest.Manifest, folder / place / manifest.MANIFEST_NAME).files
    ]
    assert {Path(row["file"]).name for row in rows} == {entry.path for entry in listed}
    for entry in listed:
        if entry.path.endswith((".tflite", ".onnx")):
            assert [score.split for score in entry.quality] == ["test"]


def test_recommended_files_exist(folder):
    for place in ("android_assets/tiny", "ios_assets/tiny"):
        recommended = json.loads((folder / place / "recommended.json").read_text())
        assert recommended
        assert all((folder / place / path).exists() for path in recommended.values())


def test_nothing_temporary_is_left(folder):
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.full
def test_a_second_export_repeats_nothing_and_what_one_asks_for_on_top_joins(folder):
    before = _android(folder)
    assert before.keys() == _named("fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8")
    _run(folder, "-m", "export", "android", "--run", "tiny")
    assert _android(folder) == before
    _run(folder, "-m", "export", "android", "--run", "tiny", "--set", "export.recipes=static_wi8_ai8")
    after = _android(folder)
    assert after.keys() == before.keys() | _named("static_wi8_ai8") and after == after | before
    listed = manifest.read(manifest.Manifest, folder / "android_assets/tiny" / manifest.MANIFEST_NAME)
    assert {entry.path for entry in listed.files} == after.keys()
