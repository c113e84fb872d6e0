"""Golden vectors of a trained network: the usual mistakes are out of tolerance, another runtime's rounding is not."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.publishing import golden
from export.quantization import recipes
from portraitseg import manifest
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import Manifest
from portraitseg.models import checkpoint
from portraitseg.runners import open_runner
from tests.export.assets import entry, source

ENTRY = "fast_scnn-256x256-rgb-fp16.tflite"


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assets")
    model = checkpoint.load(Path("weights/fast_scnn-256x256.h5"))
    (folder / ENTRY).write_bytes(recipes.fp16(model, np.zeros((1, 256, 256, 3), np.float32)))
    listed = Manifest(source=source("0" * 64), files=(entry(folder / ENTRY, "fp16"),))
    manifest.write(folder / manifest.MANIFEST_NAME, listed)
    assert golden.write(folder, listed)
    return folder


@pytest.fixture
def copy(assets: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(assets, tmp_path / "copy"))


def test_a_copy_passes(copy: Path) -> None:
    assert golden.check(copy) == 1
    index = json.loads((copy / "golden" / "golden.json").read_text())
    assert index["masks"] == {ENTRY: f"{ENTRY}.png"} and index["tolerance"]["mean_steps"] == golden.MEAN_STEPS


@pytest.mark.parametrize("mistake", ["BGR", "not divided by 255", "x / 127.5 - 1"])
def test_each_mistake_is_out_of_tolerance(copy: Path, mistake: str) -> None:
    runner = open_runner(copy / ENTRY)
    portrait = golden._read_png(copy / "golden" / "portrait.png", 1)[..., ::-1]
    golden._write_png(
        copy / "golden" / f"{ENTRY}.png", golden.mistakes(runner, np.ascontiguousarray(portrait))[mistake]
    )
    with pytest.raises(CheckFailed, match=f"1 of 1 golden masks out of tolerance: {ENTRY}"):
        golden.check(copy)


def test_rounding_is_in_tolerance(copy: Path) -> None:
    path = copy / "golden" / f"{ENTRY}.png"
    mask = golden._read_png(path, 0).astype(int)
    golden._write_png(path, np.clip(mask + np.where(mask > 127, 2, -2), 0, 255).astype(np.uint8))
    assert golden.check(copy) == 1


def test_damage_is_named(copy: Path) -> None:
    (copy / "golden" / "golden.json").write_text(json.dumps({"masks": {ENTRY: "../../x.png"}}))
    with pytest.raises(InputError, match="names other pictures"):
        golden.check(copy)
    shutil.rmtree(copy / "golden")
    with pytest.raises(InputError, match=r"golden\.json: no golden vectors"):
        golden.check(copy)
    (copy / ENTRY).write_bytes(b"x")
    with pytest.raises(InputError, match="SHA-256 differs"):
        golden.check(copy)


def test_a_network_that_tells_nothing_has_none(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "_COVERAGE", (0.999, 1.0))
    copy = Path(shutil.copytree(assets, tmp_path / "copy"))
    assert not golden.write(copy, manifest.read(Manifest, copy / manifest.MANIFEST_NAME))
    assert not (copy / "golden").exists()
