"""The stage on a run of a small network: manifest, resumed QAT, refusals, and what happens to files that fail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import stage
from export.formats import to_coreml, to_tflite
from export.formats.to_coreml import VARIANTS
from export.product.parity import Bound
from export.quantization.recipes import RECIPES, Recipe
from export.targets import TARGETS
from portraitseg import files, manifest, models
from portraitseg.config import (
    Config,
    DataConfig,
    ExportConfig,
    ModelConfig,
    QatConfig,
    TrainConfig,
    parse_config,
)
from portraitseg.data import open_dataset
from portraitseg.errors import CheckFailed, InputError
from portraitseg.manifest import Manifest
from portraitseg.models import checkpoint
from portraitseg.runs import Run
from tests import in_process
from tests.export import tiny

CONFIG = Config(
    data=DataConfig(synthetic_photos=32),
    model=ModelConfig(name="small", size=(64, 64)),
    train=TrainConfig(epochs=1, workers=1, batch_size=8),
    qat=QatConfig(epochs=1, learning_rate=1e-5, freeze_bn_epochs=1),
    export=ExportConfig(recipes=("all",), calibration_photos=16, parity_photos=3),
)

batches = in_process.batches

IOS = ["fp16.mlpackage", "fp16-multiarray.mlpackage", "palette6.mlpackage"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run as training leaves it, in a folder of its own that is the current one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, "small", tiny.build_small)
        patch.chdir(tmp_path_factory.mktemp("project"))
        run = Run("tiny")
        checkpoint.save(tiny.trained_model("small", (64, 64)), run.best)
        files.write_text(run.config, CONFIG.model_dump_json())
        dataset = open_dataset(CONFIG.data, CONFIG.seed)
        source = manifest.Source(
            model="small",
            config_sha256="0" * 64,
            git_commit="unknown",
            seed=CONFIG.seed,
            weights_sha256=files.sha256(run.best),
            data=(
                manifest.DataSource(
                    set="synthetic", split="train", sha256_16=dataset.split_hash("train"), licence="Apache-2.0"
                ),
            ),
            tools={},
        )
        manifest.add_stage(run.artifact, source, "train", {})
        # two recipes are enough here: every one of them is converted in test_files
        patch.setattr(to_tflite, "RECIPES", {name: RECIPES[name] for name in ("fp32", "qat_wi8_ai8")})
        # test_coreml_variants has all of them, of a larger network
        patch.setattr(to_coreml, "VARIANTS", {end: VARIANTS[end] for end in IOS})
        yield run


@pytest.fixture(scope="module")
def android(trained: Run) -> Manifest:
    return stage.export_run(trained, CONFIG, "android")


def test_android_manifest(trained: Run, android: Manifest) -> None:
    stored = manifest.read(Manifest, trained.android / manifest.MANIFEST_NAME)
    assert stored == android
    manifest.verify(stored, trained.android)
    assert {entry.path for entry in stored.files} == {
        f"small-64x64-{channels}-{recipe}.tflite" for channels in ("rgb", "rgba") for recipe in ("fp32", "qat_wi8_ai8")
    }
    for entry in stored.files:
        assert entry.parity.passed
        assert entry.parity.photos == 3
        verdicts = {check.route: check.verdict for check in entry.gpu}
        assert verdicts.pop("rules_classic") == verdicts.pop("rules_mldrift") == "passed"
        # whatever drivers this machine has
        assert set(verdicts.values()) <= {"passed", "not_run"} and verdicts
    assert not list(trained.android.glob(".tmp-*"))


def test_recommended_names_only_files_that_exist(trained: Run, android: Manifest) -> None:
    import json

    recommended = json.loads((trained.android / manifest.RECOMMENDED_NAME).read_text())
    assert recommended["cpu"] == "small-64x64-rgb-qat_wi8_ai8.tflite"
    listed = {entry.path for entry in android.files}
    assert set(recommended.values()) <= listed


def test_finished_qat_is_not_trained_again(trained: Run, android: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    import train.fit

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    stages = manifest.read(manifest.Artifact, trained.artifact).stages
    assert stages["qat"]["weights_sha256"] == files.sha256(trained.qat / "best.h5")
    # as what finished before its settings were recorded
    facts = {name: value for name, value in stages["qat"].items() if name != "settings"}
    source = manifest.read(manifest.Artifact, trained.artifact).source
    manifest.add_stage(trained.artifact, source, "qat", facts)
    monkeypatch.setattr(train.fit, "fit", no_training)
    result = stage.export_run(trained, CONFIG, "onnx")
    assert [entry.path for entry in result.files] == [
        f"small-64x64-{layout}-{recipe}.onnx" for layout in ("nchw", "nhwc") for recipe in ("fp32", "qdq")
    ]
    assert manifest.read(manifest.Artifact, trained.artifact).stages["qat"] == stages["qat"]
    assert stages["qat"]["settings"] == CONFIG.qat.model_dump(mode="json")
    other = CONFIG.model_copy(update={"qat": CONFIG.qat.model_copy(update={"learning_rate": 2e-5})})
    with pytest.raises(AssertionError, match="trained again"):
        stage.export_run(trained, other, "onnx")
    assert not (trained.qat / "best.h5").exists()


@pytest.mark.parametrize("teacher", ["train", "float"])
def test_the_float_network_can_teach(trained: Run, teacher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import train.fit

    batches = []

    def recorded(*_: object, maker: Any, **__: object) -> None:
        batches.append(maker.make(0))
        raise AssertionError("this would train")

    monkeypatch.setattr(train.fit, "fit", recorded)
    qat = CONFIG.qat.model_copy(update={"teacher": teacher, "learning_rate": 3e-5})
    with pytest.raises(AssertionError, match="this would train"):
        stage.export_run(trained, CONFIG.model_copy(update={"qat": qat}), "onnx")
    network = checkpoint.load(trained.best)
    asked = network(batches[0].images / np.float32(255)).numpy()[..., 0] * 255
    difference = np.abs(batches[0].targets - asked)
    # the file has weights of 16 bits, the target whole numbers; what was drawn is 0 or 255 nearly everywhere
    assert difference.max() < 3 if teacher == "float" else difference.mean() > 10


# by default the whole chain exports for iOS: tests/test_end_to_end.py
@pytest.mark.full
def test_ios_manifest(trained: Run) -> None:
    result = stage.export_run(trained, CONFIG, "ios")
    assert len(result.files) == len(IOS)
    for entry in result.files:
        assert (entry.input.dtype, entry.input.shape, entry.input.color) == ("image", (1, 64, 64, 3), "RGB")
        kind = ("float32", (0, 1)) if "multiarray" in entry.path else ("image", (0, 255))
        assert (entry.output.name, (entry.output.dtype, entry.output.range)) == ("mask", kind)
        assert entry.parity.passed


def test_failing_file_is_taken_away_and_others_stay(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # fp32 alone: neither QAT nor the files of other tests are touched
    run = trained
    stage.export_run(run, CONFIG, "android", skip_qat=True)
    name = "small-64x64-rgb-fp32.tflite"
    assert (run.android / name).exists()
    too_tight = Recipe(RECIPES["fp32"].convert, "float", Bound(0.0, 0.0, 1.0))
    monkeypatch.setattr(to_tflite, "RECIPES", {"fp32": too_tight, "fp16": RECIPES["fp16"]})
    with pytest.raises(CheckFailed, match=r"2 of 4 files not published.*max_abs"):
        stage.export_run(run, CONFIG, "android", skip_qat=True)
    assert not (run.android / name).exists()
    stored = manifest.read(Manifest, run.android / manifest.MANIFEST_NAME)
    manifest.verify(stored, run.android)
    paths = {entry.path for entry in stored.files}
    assert name not in paths and "small-64x64-rgb-fp16.tflite" in paths


def test_conversion_that_fails_its_check_is_reported(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    not_int8 = Recipe(RECIPES["fp32"].convert, "float", Bound(None, 1.0, 0.0), "INT8")
    monkeypatch.setattr(to_tflite, "RECIPES", {"static_wi8_ai8": not_int8})
    with pytest.raises(CheckFailed, match="not whole int8"):
        stage.export_run(trained, CONFIG, "android", skip_qat=True)


@pytest.mark.parametrize(
    ("target", "asked", "with_qat", "expected"),
    [
        ("android", "released", True, {"fp16", "qat_wi8_ai8", "qat_wi8_ai8_u8"}),
        # what `recommended.json` then names for CPUs
        ("android", "released", False, {"fp16", "static_wi8_ai8", "static_wi8_ai8_u8"}),
        ("android", "all", True, set(RECIPES)),
        ("android", "fp32, qdq", True, {"fp32"}),
        ("ios", "released", True, {"fp16", "int8", "palette6"}),
        ("ios", "palette4,qat_wi8_ai8", True, {"palette4"}),
        ("onnx", "released", False, {"fp32"}),
    ],
)
def test_which_files_are_made(target: str, asked: str, with_qat: bool, expected: set[str]) -> None:
    config = parse_config({"export": {"recipes": asked}}, "x")
    assert TARGETS[target].choose(config.export.recipes, with_qat) == expected


@pytest.mark.parametrize(
    ("target", "asked", "message"),
    [
        ("android", "int4", r"unknown recipe 'int4' \(known: released, all, dynamic"),
        ("ios", "qat_wi8_ai8", r"none is for this target \(it has: fp16, int8"),
    ],
)
def test_recipes_that_are_refused(target: str, asked: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TARGETS[target].choose(parse_config({"export": {"recipes": asked}}, "x").export.recipes)


def test_what_a_release_keeps_is_what_a_device_is_told_to_take() -> None:
    for target in TARGETS.values():
        ends = {end for ends in target.recommended.values() for end in ends[:1]}
        assert all(any(f"-{recipe}." in end for recipe in target.released) for end in ends)


def test_a_recipe_that_nobody_asked_for_is_not_made(trained: Run, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"export": CONFIG.export.model_copy(update={"recipes": ("palette6",)})})
    result = stage.export_run(trained, config, "ios")
    made = manifest.read(manifest.Artifact, trained.artifact).stages["export_ios"]["files"]
    assert list(made) == ["small-64x64-palette6.mlpackage"]
    # what an earlier export of these weights made stays
    assert set(made) <= {entry.path for entry in result.files}


def test_untrained_run_is_refused(trained: Run) -> None:
    with pytest.raises(InputError, match="make train RUN=nobody"):
        stage.load_run_config(Run("nobody"), None)
    with pytest.raises(InputError, match="make train RUN=nobody"):
        stage.export_run(Run("nobody"), CONFIG, "ios")


@pytest.mark.parametrize("override", ["model.name=mattingnet", "seed=3", "data.train_split=test", "train.epochs=2"])
def test_overrides_of_the_training_are_refused(trained: Run, override: str) -> None:
    with pytest.raises(InputError, match="at export only"):
        stage.load_run_config(trained, [override])


def test_overrides_of_the_export_are_taken(trained: Run) -> None:
    config = stage.load_run_config(trained, ["qat.epochs=3", "export.parity_photos=5"])
    assert (config.qat.epochs, config.export.parity_photos) == (3, 5)


def test_photos_that_moved_keep_their_format(trained: Run) -> None:
    photos = CONFIG.data.model_copy(update={"format": "eg1800", "root": Path("x")})
    files.write_text(trained.config, CONFIG.model_copy(update={"data": photos}).model_dump_json())
    try:
        moved = stage.load_run_config(trained, None, Path('pho"tos'))
        assert (moved.data.root, moved.data.format) == (Path('pho"tos'), "eg1800")
        assert stage.load_run_config(trained, None, Path("photos"), "folder").data.format == "folder"
    finally:
        files.write_text(trained.config, CONFIG.model_dump_json())
    # portraits that are drawn lie nowhere: a folder in their place is one
    assert stage.load_run_config(trained, None, Path("photos")).data.format == "folder"


def test_other_photos_are_refused(trained: Run) -> None:
    config = CONFIG.model_copy(update={"data": CONFIG.data.model_copy(update={"synthetic_photos": 48})})
    with pytest.raises(InputError, match="was trained on"):
        stage.export_run(trained, config, "ios")


def test_other_weights_are_refused(trained: Run) -> None:
    kept = trained.best.read_bytes()
    try:
        trained.best.write_bytes(kept + b"\0")
        with pytest.raises(InputError, match="SHA-256 differs"):
            stage.export_run(trained, CONFIG, "ios")
    finally:
        trained.best.write_bytes(kept)


def test_help_is_instant_and_imports_no_tensorflow() -> None:
    import subprocess
    import sys

    code = "import sys, export.__main__; print('tensorflow' in sys.modules)"
    root = Path(stage.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_what_no_gpu_ran_is_said_once_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("android_assets/contour_small")
    listed = manifest.read(Manifest, Path(__file__).parents[2] / folder / manifest.MANIFEST_NAME)
    check = manifest.GpuCheck(route="litert_swiftshader", verdict="not_run", reason="no Vulkan driver: get one")
    entries = [entry.model_copy(update={"gpu": (check,)}) for entry in listed.files[:2]]
    stage._show([stage.Made(entry.path, entry, None) for entry in entries], folder)
    assert capsys.readouterr().err.count("GPU, not run: litert_swiftshader: no Vulkan driver: get one") == 1
