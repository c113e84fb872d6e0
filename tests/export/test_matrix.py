"""The parity matrix over the tiny network's files: sound ones, and damaged ones that it must name."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from export.analysis import matrix
from export.analysis.layers import first_divergence
from export.analysis.matrix import Member, compare_all
from export.product import parity
from export.product.parity import Bound
from portraitseg import files, manifest
from portraitseg.config import Config, DataConfig, ExportConfig, ModelConfig
from portraitseg.data import open_dataset
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from portraitseg.runners.coreml.evaluator import CoreMLEvaluator, CoreMLNative
from portraitseg.runners.coreml.values import read_spec
from portraitseg.runs import Run
from tests.export import tiny
from tests.export.conftest import Exported
from tests.export.test_files import _scramble_kernel
from tests.export.test_onnx_variants import _damaged
from tests.export.test_onnx_variants import _scramble_kernel as _scramble_onnx
from tests.runners import test_coreml as damages

#: The matrix is a study of a run, and costs a run of every export target.
pytestmark = pytest.mark.full

CONFIG = Config(
    data=DataConfig(synthetic_photos=32),
    model=ModelConfig(name="tiny", size=(64, 64)),
    export=ExportConfig(parity_photos=3),
)

#: One of each runtime is enough here: the others have their parity elsewhere.
ANDROID = ("-rgb-fp32.tflite", "-rgba-fp32.tflite", "-rgb-qat_wi8_ai8.tflite")
ONNX = ("-nchw-fp32.onnx", "-nhwc-qdq.onnx")
IOS = ("-fp16.mlpackage", "-fp16.mlmodel")


def _entry(exported: Exported, end: str) -> manifest.FileEntry:
    product, path = exported.find(end)
    source, mask = product.describe(path)
    return manifest.FileEntry(
        path=product.path,
        sha256=files.sha256(path),
        bytes=files.size_bytes(path),
        model="tiny",
        channels=product.channels,
        recipe=product.recipe,
        input=source,
        output=mask,
        parity=manifest.Parity(reference="keras", passed=True),
    )


@pytest.fixture
def run(exported: Exported, float_model: Any, qat_model: Any, tmp_path: Path) -> Iterator[Run]:
    """A run as the exports leave it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        run = Run("tiny")
        checkpoint.save(float_model, run.best)
        checkpoint.save(qat_model, run.qat / "best.h5")
        files.write_text(run.config, CONFIG.model_dump_json())
        split = open_dataset(CONFIG.data, CONFIG.seed).split_hash("train")
        source = manifest.Source(
            model="tiny",
            config_sha256="0" * 64,
            git_commit="unknown",
            seed=CONFIG.seed,
            weights_sha256=files.sha256(run.best),
            data=(manifest.DataSource(set="synthetic", split="train", sha256_16=split, licence="Apache-2.0"),),
            tools={},
        )
        manifest.add_stage(run.artifact, source, "train", {})
        for folder, ends in ((run.android, ANDROID), (run.onnx, ONNX), (run.ios, IOS)):
            folder.mkdir(parents=True)
            for end in ends:
                _, path = exported.find(end)
                (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
            path = folder / manifest.MANIFEST_NAME
            manifest.write(path, manifest.extended(path, source, [_entry(exported, end) for end in ends]))
        yield run


def test_sound_files_are_in_bounds(run: Run) -> None:
    pairs = matrix.matrix(run, CONFIG)
    # two Keras models and seven files, of which the RGBA twin is left out
    assert len(pairs) == 8 * 7 / 2
    assert not any(pair.faults for pair in pairs)
    rows = list(csv.DictReader((run.folder / "matrix.csv").open()))
    assert [(row["first"], row["second"]) for row in rows] == [(pair.first, pair.second) for pair in pairs]
    assert rows[0]["first"] == "keras float" and rows[0]["mean_abs_limit"] == "" and rows[0]["photos"] == "3"
    assert all(row["mask_iou_limit"] and not row["faults"] for row in rows[1:])
    text = (run.folder / "matrix.md").read_text(encoding="utf-8")
    assert "its RGB twin is here" in text and "**bold**" in text and text.count("**") == 2
    assert "coreml evaluator" in text
    picture = cv2.imread(str(run.folder / "matrix.png"))
    assert picture.shape[0] == 9 * 64 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10


def test_damaged_files_are_named_with_their_layer(run: Run, exported: Exported, tmp_path: Path) -> None:
    lite = next(run.android.glob("*-rgb-fp32.tflite"))
    lite.write_bytes(_scramble_kernel(lite.read_bytes()))
    path = run.android / manifest.MANIFEST_NAME
    with pytest.raises(InputError, match="SHA-256 differs"):
        matrix.matrix(run, CONFIG)
    stored = manifest.read(manifest.Manifest, path)
    entries = [
        entry.model_copy(update={"sha256": files.sha256(lite)}) if entry.path == lite.name else entry
        for entry in stored.files
    ]
    manifest.write(path, stored.model_copy(update={"files": tuple(entries)}))
    with pytest.raises(CheckFailed, match=rf"keras float and {lite.name}: .*leaves keras float at layer down0_relu"):
        matrix.matrix(run, CONFIG)
    # each pair with the damaged file, and none without
    rows = list(csv.DictReader((run.folder / "matrix.csv").open()))
    out = [row for row in rows if row["faults"]]
    assert out and all(lite.name in (row["first"], row["second"]) for row in out)
    assert "at layer down0_relu" in (run.folder / "matrix.md").read_text(encoding="utf-8")


def test_files_of_other_weights_and_of_no_export_are_refused(run: Run) -> None:
    path = run.onnx / manifest.MANIFEST_NAME
    stored = manifest.read(manifest.Manifest, path)
    other = stored.source.model_copy(update={"weights_sha256": "1" * 64})
    manifest.write(path, stored.model_copy(update={"source": other}))
    with pytest.raises(InputError, match=r"of other weights .*: export the run again"):
        matrix.matrix(run, CONFIG)
    for folder in (run.android, run.onnx, run.ios):
        (folder / manifest.MANIFEST_NAME).unlink()
    with pytest.raises(InputError, match="nothing exported yet"):
        matrix.matrix(run, CONFIG)


@pytest.mark.parametrize(
    "end", ["-rgb-fp32.tflite", "-rgb-fp16.tflite", "-rgb-qat_wi8_ai8.tflite", *ONNX, *IOS, "-palette4.mlpackage"]
)
def test_sound_files_leave_at_no_layer(exported: Exported, networks: Any, end: str) -> None:
    product, path = exported.find(end)
    photo = exported.references["float"].photos[0]
    assert first_divergence(path, networks.get(product.reference), photo, is_fp32="fp32" in end) is None


def test_first_layer_is_found_in_every_runtime(exported: Exported, networks: Any, tmp_path: Path) -> None:
    photo = exported.references["float"].photos[0]

    def first(path: Path, reference: str) -> str:
        return str(first_divergence(path, networks.get(reference), photo)).split(" ")[0]

    lite = tmp_path / "x-rgb-qat_wi8_ai8.tflite"
    lite.write_bytes(_scramble_kernel(exported.find("-rgb-qat_wi8_ai8.tflite")[1].read_bytes()))
    assert first(lite, "qat") == "down0_relu"
    for end, reference in (("-nchw-fp32.onnx", "float"), ("-nhwc-qdq.onnx", "qat")):
        damaged = _damaged(exported.find(end)[1], tmp_path, _scramble_onnx)
        assert first(damaged, reference) in ("down0_bn", "down0_relu")
    package = exported.find("-fp16.mlpackage")[1]
    (tmp_path / "a").mkdir()
    assert first(damages.damage(package, tmp_path / "a", damages.scramble_kernel), "float").startswith("classifier")
    (tmp_path / "b").mkdir()
    assert first(damages.damage(package, tmp_path / "b", damages.forget_to_scale_the_mask), "float") == "mask"


@pytest.mark.parametrize("is_sound", [True, False])
def test_on_macos_core_ml_and_the_evaluator_are_compared(
    exported: Exported, networks: Any, monkeypatch: pytest.MonkeyPatch, is_sound: bool
) -> None:
    """Core ML is played by the evaluator; where it computes otherwise, the pair of the two says so."""
    end = "-fp16.mlpackage"
    _, path = exported.find(end)
    evaluator = CoreMLEvaluator(path)

    class Model:
        def get_spec(self) -> Any:
            return read_spec(path)[0]

        def predict(self, inputs: dict[str, Any]) -> dict[str, Any]:
            mask = evaluator.run(np.asarray(inputs["image"])[None])[0, :, :, 0]
            return {"mask": mask if is_sound else mask.T}

    monkeypatch.setattr(matrix, "open_runner", lambda path, threads: CoreMLNative(path, Model(), "all"))
    photos = exported.references["float"].photos
    members, _ = matrix.open_members([(path, _entry(exported, end))], {"float": networks.float_model}, photos)
    assert [member.label for member in members] == ["keras float", path.name, f"{path.name} (evaluator)"]
    faulty = {(pair.first, pair.second) for pair in compare_all(members, photos) if pair.faults}
    wrong = {("keras float", path.name), (path.name, f"{path.name} (evaluator)")}
    assert faulty == (set() if is_sound else wrong)


def _members(*changes: Any) -> tuple[list[Member], parity.Photos]:
    """A Keras model of random masks, and files that are it with a change."""
    random = np.random.default_rng(0)
    small = random.random((4, 6, 6)).astype(np.float32)
    outputs = np.stack([cv2.resize(picture, (48, 48), interpolation=cv2.INTER_CUBIC).clip(0, 1) for picture in small])
    keras = Member("keras float", "keras", "float", None, None, outputs)
    bound = Bound(0.05, 0.01, 0.97)
    made = [
        Member(f"file {i}", "x", "float", bound, None, change(outputs).astype(np.float32))
        for i, change in enumerate(changes)
    ]
    return [keras, *made], tiny.samples(4)[0]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda y: y * 0.97, "gain"),
        (lambda y: y / 255, "gain"),
        (lambda y: np.roll(y, 1, axis=2), "shifted"),
        (lambda y: 1 - y, "mask IoU"),
        (lambda y: y + 0.02, "mean_abs"),
    ],
)
def test_pairs_with_keras_catch(change: Any, word: str) -> None:
    members, photos = _members(change, lambda y: y)
    pairs = {(pair.first, pair.second): pair for pair in compare_all(members, photos)}
    assert any(word in fault for fault in pairs["keras float", "file 0"].faults)
    assert pairs["keras float", "file 1"].faults == ()


def test_limit_of_two_files_is_the_sum_of_theirs() -> None:
    members, photos = _members(lambda y: y + 0.009, lambda y: y - 0.009, lambda y: y - 0.012)
    pairs = {(pair.first, pair.second): pair for pair in compare_all(members, photos)}
    limit = pairs["file 0", "file 1"].limit
    assert limit is not None
    assert (limit.max_abs, limit.mean_abs, limit.mask_iou) == pytest.approx((0.1, 0.02, 0.94))
    assert pairs["file 0", "file 1"].faults == ()
    assert any("mean_abs" in fault for fault in pairs["file 0", "file 2"].faults)
