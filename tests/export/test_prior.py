"""A network that sees the previous mask, from training to the benchmark, beside which its RGB kin stays what it was."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export.publishing import golden
from portraitseg import manifest
from portraitseg.runners import open_runner
from portraitseg.synthetic import portraits as synthetic

ROOT = Path(__file__).parents[2]

CONFIG = """
[data]
synthetic_photos = 32
[model]
name = "fast_scnn"
size = [128, 160]
prior = true
[train]
epochs = 4
batch_size = 8
learning_rate = 5e-4
ema = 0.8
[qat]
epochs = 1
freeze_bn_epochs = 0
[export]
recipes = ["all"]
calibration_photos = 24
parity_photos = 4
"""

pytestmark = pytest.mark.full


def _run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        # no driver: GPU checks in software take minutes for all files, and are tested elsewhere
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(folder), "VK_ICD_FILENAMES": "none"},
    )
    return done.returncode, done.stdout + done.stderr


def _sound(folder, *arguments):
    code, text = _run(folder, *arguments)
    assert code == 0, f"{arguments}: {text[-2000:]}"
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Trained from RGB weights, exported, measured."""
    place = tmp_path_factory.mktemp("clone")
    (place / "video.toml").write_text(CONFIG)
    weights = ROOT / "weights/fast_scnn-256x256.h5"
    _sound(place, "train", "fit", "--run", "video", "--config", "video.toml", "--init", str(weights))
    _sound(place, "export", "android", "--run", "video")
    _sound(place, "benchmark", "run", "--run", "video", "--profile", "quick", "--robustness")
    return place


def test_names_and_manifest_say_prior(folder):
    assets = folder / "android_assets/video"
    listed = manifest.read(manifest.Manifest, assets / manifest.MANIFEST_NAME)
    manifest.verify(listed, assets)
    names = {path.name for path in assets.glob("*.tflite")}
    assert {f"fast_scnn-128x160-prior-{r}.tflite" for r in ("fp32", "fp16", "static_wi8_ai8", "qat_wi8_ai8")} <= names
    assert all("-prior-" in name for name in names) and {entry.path for entry in listed.files} == names
    for entry in listed.files:
        assert (entry.channels, entry.input.color, entry.input.name) == ("prior", "RGB+prior", "image_and_prior")
        assert entry.input.shape == (1, 128, 160, 4) and entry.parity.passed
    assert golden.check(assets) == len(names)
    # what an app takes for photos is never a file that wants a mask as well
    assert not (assets / "recommended.json").exists() or "prior" not in (assets / "recommended.json").read_text()


@pytest.mark.parametrize("recipe", ["fp32", "qat_wi8_ai8", "qat_wi8_ai8_u8"])
def test_the_fourth_channel_counts(folder, recipe):
    runner = open_runner(folder / f"android_assets/video/fast_scnn-128x160-prior-{recipe}.tflite")
    photo, mask = synthetic.render(3, (128, 160), 0)
    alone, after = runner.predict(photo), runner.predict(photo, mask.astype(np.float32) / 255)
    assert np.abs(alone - after).max() > 0.01


def test_the_benchmark_knows_it(folder):
    with (folder / "runs/video/benchmark/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["channels"] for row in rows} == {"prior"} and all(row["valid"] or row["reason"] for row in rows)
    assert all(float(row["iou"]) > 0.5 for row in rows)
    with (folder / "runs/video/benchmark/flicker.csv").open() as file:
        clips = list(csv.DictReader(file))
    assert clips and all(np.isfinite(float(row["dtssd"])) for row in clips)


def test_what_cannot_take_it_says_so(folder):
    code, text = _run(folder, "export", "ios", "--run", "video")
    assert code == 2 and "model.prior = false" in text
    code, text = _run(folder, "benchmark", "networks", "--runs", "video")
    assert code == 2 and "no rgb fp32" in text
