"""What of a run is committed: files for apps, with a manifest and golden vectors of just those; small or nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export import golden, recipes, release
from export.targets import TARGETS
from portraitseg import files, manifest
from portraitseg.config import Config
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import FileEntry, Manifest, Parity, Source, Tensor
from portraitseg.models import checkpoint
from portraitseg.runs import Run

STEM = "fast_scnn-256x256-rgb"


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    model = checkpoint.load(Path("weights/fast_scnn-256x256.h5"))
    nothing = np.zeros((1, 256, 256, 3), np.float32)
    return {name: recipes.RECIPES[name].convert(model, nothing) for name in ("fp32", "fp16")}


@pytest.fixture
def run(contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    weights = Path("weights/fast_scnn-256x256.h5").resolve()
    monkeypatch.chdir(tmp_path)
    run = Run("a")
    run.folder.mkdir(parents=True)
    shutil.copy(weights, run.best)
    files.write_text(run.config, Config().model_dump_json())
    Path("weights").mkdir()
    source = Source(
        model="fast_scnn",
        config_sha256="0" * 64,
        git_commit="unknown",
        seed=7,
        weights_sha256=files.sha256(run.best),
        data=(),
        tools={},
    )
    manifest.add_stage(run.artifact, source, "train", {})
    run.android.mkdir(parents=True)
    entries = [_entry(run.android / f"{STEM}-{name}.tflite", name, content) for name, content in contents.items()]
    manifest.write(run.android / manifest.MANIFEST_NAME, Manifest(source=source, files=tuple(entries)))
    return run


def _entry(path: Path, recipe: str, content: bytes) -> FileEntry:
    path.write_bytes(content)
    image = Tensor(name="image", shape=(1, 256, 256, 3), dtype="float32", layout="NHWC", color="RGB", range=(0, 1))
    mask = Tensor(name="mask", shape=(1, 256, 256, 1), dtype="float32", range=(0, 1), foreground="high")
    return FileEntry(
        path=path.name,
        sha256=files.sha256(path),
        bytes=len(content),
        model="fast_scnn",
        channels="rgb",
        recipe=recipe,
        input=image,
        output=mask,
        parity=Parity(reference="keras", not_run="only made for this test"),
    )


def test_what_is_kept(run: Run) -> None:
    assert release.release(run, ["android"]) == [run.android, Path("weights/fast_scnn-256x256.h5")]
    kept = f"{STEM}-fp16.tflite"
    assert {path.name for path in run.android.iterdir()} == {kept, "manifest.json", "recommended.json", "golden"}
    assert json.loads((run.android / "recommended.json").read_text()) == {"gpu": kept, "old": kept}
    assert golden.check(run.android) == 1
    assert files.sha256(Path("weights/fast_scnn-256x256.h5")) == files.sha256(run.best)
    # once more changes nothing
    release.release(run, ["android"])
    assert golden.check(run.android) == 1


def test_a_large_file_stops_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name for path in run.android.iterdir()}
    monkeypatch.setattr(release, "MAX_BYTES", 1000)
    with pytest.raises(CheckFailed, match=f"{STEM}-fp16.tflite: over 1,000 bytes"):
        release.release(run, ["android"])
    assert {path.name for path in run.android.iterdir()} == before


def test_files_of_other_weights_are_refused(run: Run) -> None:
    path = run.android / manifest.MANIFEST_NAME
    other = manifest.read(Manifest, path)
    manifest.write(
        path, other.model_copy(update={"source": other.source.model_copy(update={"weights_sha256": "1" * 64})})
    )
    with pytest.raises(InputError, match="exported from other weights"):
        release.release(run, ["android"])


def test_what_was_not_exported_is_refused(run: Run) -> None:
    assert not TARGETS["ios"].folder(run).exists()
    with pytest.raises(InputError, match="nothing exported"):
        release.release(run, ["ios"])
