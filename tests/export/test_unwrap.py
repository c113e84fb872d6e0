"""The weights of QAT without its wrappers: what they are, and when Core ML files are made of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import stage
from export.analysis import matrix
from export.analysis.matrix import Member, compare_all
from export.formats import to_coreml
from export.formats.to_coreml import VARIANTS
from export.product import parity
from export.product.parity import Bound
from export.product.product import Networks
from export.quantization import qat
from export.quantization.unwrap import pick_weights, unwrap
from portraitseg import files, identity, manifest
from portraitseg.config import Config, DataConfig, ExportConfig, ModelConfig
from portraitseg.data import open_dataset
from portraitseg.models import checkpoint
from portraitseg.runs import Run
from tests.export import tiny

CONFIG = Config(
    data=DataConfig(synthetic_photos=32),
    model=ModelConfig(name="fast_scnn_w050", size=(64, 64)),
    export=ExportConfig(calibration_photos=2, parity_photos=3),
)


def _copy(model: Any) -> Any:
    """The same QAT network once more."""
    twin = qat.quantize(unwrap(model))
    twin.set_weights(model.get_weights())
    return twin


def test_untrained_qat_is_the_float_network(float_model: Any, qat_model: Any) -> None:
    unwrapped = unwrap(qat_model)
    assert [weight.name for weight in unwrapped.weights] == [weight.name for weight in float_model.weights]
    for ours, theirs in zip(unwrapped.get_weights(), float_model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.full
def test_kernels_and_batch_norm_are_those_of_qat(float_model: Any, qat_model: Any, tmp_path: Path) -> None:
    trained = _copy(qat_model)
    for weight in trained.weights:
        if weight.name in ("down0_conv/kernel:0", "down0_bn/moving_mean:0", "logits/bias:0"):
            weight.assign(weight + 0.125)
    checkpoint.save(trained, tmp_path / "qat.h5")
    unwrapped = {weight.name: weight.numpy() for weight in unwrap(qat.load_qat(tmp_path / "qat.h5")).weights}
    before = {weight.name: weight.numpy() for weight in float_model.weights}
    moved = {name for name in before if (unwrapped[name] != before[name]).any()}
    assert moved == {"down0_conv/kernel:0", "down0_bn/moving_mean:0", "logits/bias:0"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    # one file is enough: all come from the same network
    monkeypatch.setattr(to_coreml, "VARIANTS", {"fp16.mlpackage": VARIANTS["fp16.mlpackage"]})
    return Run("tiny")


def _record(run: Run, float_model: Any, qat_model: Any, config: Config = CONFIG) -> None:
    """A run as training and QAT leave it."""
    checkpoint.save(float_model, run.best)
    checkpoint.save(qat_model, run.qat / "best.h5")
    files.write_text(run.config, config.model_dump_json())
    split = open_dataset(config.data, config.seed).split_hash("train")
    source = manifest.Source(
        model="fast_scnn_w050",
        config_sha256="0" * 64,
        git_commit="unknown",
        seed=config.seed,
        weights_sha256=files.sha256(run.best),
        data=(manifest.DataSource(set="synthetic", split="train", sha256_16=split, licence="Apache-2.0"),),
        tools={},
    )
    origin = identity.of_qat(config, source.weights_sha256)
    facts = {"origin": origin, "weights_sha256": files.sha256(run.qat / "best.h5")}
    manifest.add_stage(run.artifact, source, "qat", facts)


def _worse(model: Any) -> Any:
    """A network that takes everything for background, but not evenly: parity wants something to compare."""
    for weight in model.weights:
        if weight.name == "logits/bias:0":
            weight.assign(weight - 3.0)
    return model


def test_what_learnt_from_the_float_network_alone_is_not_asked(
    run: Run, float_model: Any, qat_model: Any, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn portraits had chosen it before Google's own weights, which are better on photos."""
    taught = CONFIG.model_copy(update={"qat": CONFIG.qat.model_copy(update={"teacher": "float"})})
    _record(run, float_model, qat_model, taught)
    monkeypatch.setattr("train.evaluate.KerasEvaluator", lambda *_: pytest.fail("measured"))
    dataset = open_dataset(taught.data, taught.seed)
    assert pick_weights(networks, run, stage.verified_source(run), taught, dataset) is networks


@pytest.mark.parametrize("better", ["float", "unwrapped"])
def test_the_better_weights_are_picked(
    run: Run, float_model: Any, qat_model: Any, networks: Networks, monkeypatch: pytest.MonkeyPatch, better: str
) -> None:
    """With scores given, for `make test`; the exports below measure them."""
    _record(run, float_model, qat_model)
    monkeypatch.setattr(qat, "load_qat", lambda path: qat_model)
    score = {"float": 0.9, "unwrapped": 0.9}
    score[better] = 0.91
    name = {id(networks.float_model): "float"}
    monkeypatch.setattr(
        "train.evaluate.KerasEvaluator", lambda *_: lambda model: score[name.get(id(model), "unwrapped")]
    )
    dataset = open_dataset(CONFIG.data, CONFIG.seed)
    picked = pick_weights(networks, run, stage.verified_source(run), CONFIG, dataset)
    assert picked.val_iou == score
    (product,) = to_coreml.coreml_products(picked)
    assert product.reference == picked.better_float == better and picked.get(picked.better_float) is not None
    assert product.note is not None and f"weights: {better} (IoU on val: float 0.9" in product.note


@pytest.mark.full
@pytest.mark.parametrize("better", ["float", "unwrapped"])
def test_core_ml_is_made_of_the_better_weights(run: Run, float_model: Any, qat_model: Any, better: str) -> None:
    if better == "float":
        _record(run, float_model, _worse(_copy(qat_model)))
    else:
        _record(run, _worse(unwrap(qat_model)), qat_model)
    (entry,) = stage.export_run(run, CONFIG, "ios").files
    assert entry.parity.passed
    assert entry.parity.reference == {"float": "keras", "unwrapped": "keras_unwrapped"}[better]
    assert entry.note is not None and f"weights: {better} (IoU on val: float 0." in entry.note
    facts = manifest.read(manifest.Artifact, run.artifact).stages["export_ios"]
    assert facts["weights"] == better
    other = {"float": "unwrapped", "unwrapped": "float"}[better]
    assert facts["val_iou"][better] > facts["val_iou"][other]
    # the matrix compares it with the same network: with the other it is out of bounds
    pairs = matrix.matrix(run, CONFIG)
    (pair,) = [p for p in pairs if (p.first, p.second) == (f"keras {better}", entry.path)]
    assert pair.faults == ()
    # were the file made of the weights that were not chosen, parity would say so
    loaded = {"float": checkpoint.load(run.best), "unwrapped": unwrap(qat.load_qat(run.qat / "best.h5"))}
    wrong = parity.predict_keras(loaded[other], tiny.samples(3)[0])
    _, fault = parity.measure(run.ios / entry.path, wrong, VARIANTS["fp16.mlpackage"].bound)
    assert fault


def test_without_finished_qat_the_float_weights_are_taken(
    run: Run, float_model: Any, qat_model: Any, networks: Networks
) -> None:
    _record(run, float_model, qat_model)
    source = stage.verified_source(run)
    dataset = open_dataset(CONFIG.data, CONFIG.seed)
    (run.qat / "best.h5").write_bytes((run.qat / "best.h5").read_bytes() + b"\0")
    picked = pick_weights(networks, run, source, CONFIG, dataset)
    assert picked.better_float == "float" and not picked.val_iou


def test_between_three_keras_models_each_pair_has_its_own_limit() -> None:
    random = np.random.default_rng(0)
    outputs = random.random((2, 8, 8)).astype(np.float32) * 0.5
    keras = [
        Member("keras float", "keras", "float", None, None, outputs),
        Member("keras qat", "keras", "qat", None, None, outputs + np.float32(0.02)),
        Member("keras unwrapped", "keras", "unwrapped", None, None, outputs + np.float32(0.01)),
    ]
    bound = Bound(0.001, 0.001, 0.0, shift_px=99.0, gain_error=99.0)
    lite = Member("a", "x", "qat", bound, None, keras[1].probabilities)
    core = Member("b", "x", "unwrapped", bound, None, keras[2].probabilities)
    pairs = {(pair.first, pair.second): pair for pair in compare_all([*keras, lite, core], tiny.samples(2)[0])}
    limit = pairs["a", "b"].limit
    assert limit is not None and limit.mean_abs == pytest.approx(0.012, abs=1e-5)
    assert pairs["a", "b"].faults == ()
    assert pairs["keras float", "b"].limit is not None
    assert pairs["keras float", "keras unwrapped"].limit is None
