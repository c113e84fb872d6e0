"""One clone gives it all, through the command line: train → QAT → export → parity → benchmark → assets."""

import csv
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portraitseg import files, manifest
from portraitseg.models import checkpoint
from tests import in_process
from tests.export import tiny

batches = in_process.batches

ROOT = Path(__file__).parents[1]

CONFIG = """
[data]
synthetic_photos = 32
[model]
name = "{network}"
size = [{height}, {width}]
[train]
epochs = {epochs}
batch_size = 8
learning_rate = 5e-4
ema = 0.8
workers = 1
[qat]
epochs = 1
freeze_bn_epochs = 0
[export]
calibration_photos = 24
parity_photos = 8
"""

COMMANDS = (
    ("train", "fit", "--run", "tiny", "--config", "tiny.toml", "--init", "begin.h5"),
    *(("export", target, "--run", "tiny") for target in ("android", "ios", "onnx")),
    ("benchmark", "run", "--run", "tiny", "--profile", "quick"),
)


def _call(package, *arguments):
    """As the shell would, in this process: each of its own would load TensorFlow anew."""
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"{package}.__main__").app(arguments)
    assert not ended.value.code, arguments


def _run(package, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", package, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(Path.cwd())},
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"


@pytest.fixture(scope="module", params=["small-64x64", pytest.param("contour_small-128x160", marks=pytest.mark.full)])
def network(request):
    return request.param


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """All that the commands leave. Parity refuses to compare outputs as flat as those of a few steps from scratch."""
    folder = tmp_path_factory.mktemp("clone")
    name, _, size = network.partition("-")
    height, _, width = size.partition("x")
    is_small = name == tiny.SMALL
    text = CONFIG.format(network=name, height=height, width=width, epochs=2 if is_small else 4)
    (folder / "tiny.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch, tiny.registered():
        patch.chdir(folder)
        if is_small:
            checkpoint.save(tiny.trained_model(name, (int(height), int(width))), Path("begin.h5"))
        else:
            shutil.copy(ROOT / "weights/contour_small-256x256.h5", "begin.h5")
        for command in COMMANDS:
            (_call if is_small else _run)(*command)
        yield folder


def _android(folder):
    return {path.name: files.sha256(path) for path in (folder / "android_assets/tiny").glob("*.tflite")}


def _named(network, *recipes):
    return {f"{network}-{channels}-{recipe}.tflite" for channels in ("rgb", "rgba") for recipe in recipes}


def test_the_files_for_android(folder, network):
    assert _android(folder).keys() >= _named(network, "fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8")


def test_the_files_for_ios_and_onnx(folder, network):
    assert (folder / f"ios_assets/tiny/{network}-fp16.mlpackage").is_dir()
    names = {path.name for path in (folder / "runs/tiny/onnx").glob("*.onnx")}
    assert names >= {f"{network}-nhwc-{recipe}.onnx" for recipe in ("fp32", "qdq")}


@pytest.mark.parametrize("assets", ["android_assets/tiny", "ios_assets/tiny", "runs/tiny/onnx"])
def test_each_manifest_holds_and_fits_the_schema(folder, assets):
    import jsonschema

    path = folder / assets / manifest.MANIFEST_NAME
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
        for assets in ("android_assets/tiny", "ios_assets/tiny", "runs/tiny/onnx")
        for entry in manifest.read(manifest.Manifest, folder / assets / manifest.MANIFEST_NAME).files
    ]
    assert {Path(row["file"]).name for row in rows} == {entry.path for entry in listed}
    for entry in listed:
        if entry.path.endswith((".tflite", ".onnx")):
            assert [score.split for score in entry.quality] == ["test"]


def test_recommended_files_exist(folder):
    for assets in ("android_assets/tiny", "ios_assets/tiny"):
        recommended = json.loads((folder / assets / "recommended.json").read_text())
        assert recommended
        assert all((folder / assets / path).exists() for path in recommended.values())


def test_nothing_temporary_is_left(folder):
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.full
def test_a_second_export_repeats_nothing_and_what_one_asks_for_on_top_joins(folder, network):
    before = _android(folder)
    assert before.keys() == _named(network, "fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8")
    _call("export", "android", "--run", "tiny")
    assert _android(folder) == before
    _call("export", "android", "--run", "tiny", "--set", "export.recipes=static_wi8_ai8")
    after = _android(folder)
    assert after.keys() == before.keys() | _named(network, "static_wi8_ai8") and after == after | before
    listed = manifest.read(manifest.Manifest, folder / "android_assets/tiny" / manifest.MANIFEST_NAME)
    assert {entry.path for entry in listed.files} == after.keys()
