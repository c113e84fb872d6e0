"""One clone gives it all, through the command line: train → QAT → export → parity → benchmark → assets."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from portraitseg import manifest

ROOT = Path(__file__).parents[1]

CONFIG = """
[data]
synthetic_photos = 32
[model]
name = "fast_scnn"
size = [128, 160]
[train]
epochs = 4
batch_size = 8
learning_rate = 5e-4
ema = 0.8
[qat]
epochs = 1
freeze_bn_epochs = 0
[export]
calibration_photos = 24
parity_photos = 4
"""


def _run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
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
    weights = ROOT / "weights/fast_scnn-256x256.h5"
    _run(place, "train", "fit", "--run", "tiny", "--config", "tiny.toml", "--init", str(weights))
    # the default; and what one asks for on top joins it
    for target in ("android", "ios", "onnx"):
        _run(place, "export", target, "--run", "tiny")
    _run(place, "export", "android", "--run", "tiny", "--set", "export.recipes=static_wi8_ai8")
    _run(place, "benchmark", "run", "--run", "tiny", "--profile", "quick")
    return place


def test_the_files_for_android(folder):
    names = {p.name for p in (folder / "android_assets/tiny").glob("*.tflite")}
    recipes = ("fp16", "static_wi8_ai8", "qat_wi8_ai8", "qat_wi8_ai8_u8")
    assert names == {f"fast_scnn-128x160-{c}-{r}.tflite" for c in ("rgb", "rgba") for r in recipes}


def test_the_files_for_ios_and_onnx(folder):
    assert (folder / "ios_assets/tiny/fast_scnn-128x160-fp16.mlpackage").is_dir()
    names = {p.name for p in (folder / "runs/tiny/onnx").glob("*.onnx")}
    assert names >= {f"fast_scnn-128x160-nhwc-{r}.onnx" for r in ("fp32", "qdq")}


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


def test_a_second_export_repeats_nothing_and_changes_nothing(folder):
    path = folder / "android_assets/tiny/manifest.json"
    before = {entry.path: entry.sha256 for entry in manifest.read(manifest.Manifest, path).files}
    _run(folder, "export", "android", "--run", "tiny")
    after = {entry.path: entry.sha256 for entry in manifest.read(manifest.Manifest, path).files}
    assert after == before
