"""What of a run is committed: files for apps, with a manifest and golden vectors of just those; small or nothing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from export import release
from export.publishing import golden
from export.quantization import recipes
from export.targets import TARGETS
from portraitseg import files, manifest
from portraitseg.config import Config
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import Manifest
from portraitseg.models import checkpoint
from portraitseg.runs import Run
from tests.export.assets import entry, source

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
    origin = source(files.sha256(run.best))
    manifest.add_stage(run.artifact, origin, "train", {})
    run.android.mkdir(parents=True)
    entries = []
    # half precision was asked for
    for name, content in {**contents, "fp16acc16": contents["fp16"]}.items():
        path = run.android / f"{STEM}-{name}.tflite"
        path.write_bytes(content)
        entries.append(entry(path, name))
    manifest.write(run.android / manifest.MANIFEST_NAME, Manifest(source=origin, files=tuple(entries)))
    return run


def test_what_is_kept(run: Run) -> None:
    assert release.release(run, ["android"]) == [run.android, Path("weights/fast_scnn-256x256.h5")]
    kept = f"{STEM}-fp16.tflite"
    assert {path.name for path in run.android.iterdir()} == {
        kept,
        f"{STEM}-fp16acc16.tflite",
        "manifest.json",
        "recommended.json",
        "README.md",
        "labels.txt",
        "golden",
    }
    assert json.loads((run.android / "recommended.json").read_text()) == {"gpu": kept, "old": kept}
    assert golden.check(run.android) == 2
    assert files.sha256(Path("weights/fast_scnn-256x256.h5")) == files.sha256(run.best)
    # once more changes nothing
    release.release(run, ["android"])
    assert golden.check(run.android) == 2


def test_a_large_file_stops_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name for path in run.android.iterdir()}
    monkeypatch.setattr(release, "MAX_BYTES", 1000)
    with pytest.raises(CheckFailed, match=f"{STEM}-fp16.tflite, .*: over 1,000 bytes"):
        release.release(run, ["android"])
    assert {path.name for path in run.android.iterdir()} == before


def test_weights_that_are_too_large_stop_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name for path in run.android.iterdir()}
    # the files are smaller than the h5
    largest = max(path.stat().st_size for path in run.android.glob("*-fp16.tflite"))
    monkeypatch.setattr(release, "MAX_BYTES", largest)
    with pytest.raises(CheckFailed, match=r"best\.h5: over"):
        release.release(run, ["android"])
    assert {path.name for path in run.android.iterdir()} == before and not list(Path("weights").iterdir())


def test_commercial_use_is_refused_unless_all_allows_it(run: Run) -> None:
    before = {path.name: path.read_bytes() for path in run.android.iterdir()}
    with pytest.raises(CheckFailed, match="nothing is known of it"):
        release.release(run, ["android"], commercial=True)
    origin = source(files.sha256(run.best))
    photos = manifest.DataSource(set="own", split="train", sha256_16="0" * 16, licence="own photos", use="any")
    others = photos.model_copy(update={"set": "eg1800", "licence": "academic, non-commercial", "use": None})
    teacher = manifest.Derived(kind="teacher", name="t.tflite", licence="unknown", use="unknown")
    bound = origin.model_copy(update={"data": (photos, others), "derived_from": (teacher,)})
    manifest.add_stage(run.artifact, bound, "train", {})
    with pytest.raises(
        CheckFailed, match=r"a: not .*: eg1800 \(academic, non-commercial\); t\.tflite \(unknown: not known"
    ):
        release.release(run, ["android"], commercial=True)
    assert {path.name: path.read_bytes() for path in run.android.iterdir()} == before
    free = origin.model_copy(update={"data": (photos,), "use": "any"})
    manifest.add_stage(run.artifact, free, "train", {})
    release.release(run, ["android"], commercial=True)


def test_nothing_changes_where_one_of_two_targets_cannot_be_released(run: Run) -> None:
    before = {path.name for path in run.android.iterdir()}
    with pytest.raises(InputError, match="ios_assets/a: nothing exported"):
        release.release(run)
    assert {path.name for path in run.android.iterdir()} == before and not list(Path("weights").iterdir())


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


def test_a_misspelt_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="runs/mispelt: no finished training"):
        release.release(Run("mispelt"))
    assert not Path("runs/mispelt").exists()
