"""Training: the same again after a stop, a clean end on faults, and nothing half-written."""

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from portraitseg import files, manifest, models, terms
from portraitseg.config import DistillConfig, parse_config
from portraitseg.data import open_dataset
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras, tf
from portraitseg.runs import Run
from tests import in_process, small_network
from train import state
from train.fit import Interrupted, Plan, fit
from train.machines.team import Team
from train.optimize import Optimization
from train.stream import maker_of

registered, batches = small_network.registered, in_process.batches

PLAN = Plan(epochs=3, learning_rate=2e-3)


def _config(**train):
    return parse_config(
        {
            "data": {"synthetic_photos": 16},
            "model": {"name": small_network.NAME, "size": [64, 64]},
            "train": {"batch_size": 4, "workers": 1, "warmup_epochs": 0.5, **train},
            "augment": {"horizontal_flip": {"p": 0.5}, "gamma": {"p": 0.5}},
        },
        "test",
    )


def _fit(folder, config=None, plan=PLAN, evaluate=None, team=None):
    config = config or _config()
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    model = models.build(config.model.name, config.model.size)
    dataset = open_dataset(config.data, config.seed)
    maker = maker_of(dataset, config)
    result = fit(
        Optimization(model, config),
        maker=maker,
        config=config,
        plan=plan,
        folder=folder,
        label="test",
        evaluate=evaluate,
        team=team,
    )
    return model, result


def _raising_scores():
    scores = iter(np.linspace(0.1, 0.9, 9))
    return lambda model: float(next(scores))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted training, its last epoch the best."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, *_fit(folder, evaluate=_raising_scores())


def test_writes_what_it_says(whole):
    folder, model, result = whole
    assert result.best_epoch == 3 and result.best_iou == pytest.approx(0.3)
    assert {p.name for p in folder.iterdir()} == {"best.h5", "last.h5", "state.npz", "tensorboard"}
    saved = checkpoint.load(folder / "best.h5")
    for a, b in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_loss_falls(whole):
    progress, _ = state.load(whole[0])
    losses = [row["loss"] for row in progress.history]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_a_stopped_run_goes_on_bit_for_bit(whole, tmp_path, number):
    scores = _raising_scores()

    def stop_in_the_first_epoch(model):
        score = scores(model)
        if score < 0.15:
            os.kill(os.getpid(), number)
        return score

    with pytest.raises(Interrupted):
        _fit(tmp_path, evaluate=stop_in_the_first_epoch)
    progress, _ = state.load(tmp_path)
    assert 0 < progress.step < 12
    model, result = _fit(tmp_path, evaluate=scores)
    assert result == whole[2] and state.load(tmp_path)[0].history == state.load(whole[0])[0].history
    for a, b in zip(model.get_weights(), whole[1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_row_of_a_resumed_epoch_is_of_all_its_steps(whole, tmp_path, monkeypatch):
    plain = Optimization.step

    def stop_within_the_second_epoch(self, batch, rate, step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, batch, rate, step)

    monkeypatch.setattr(Optimization, "step", stop_within_the_second_epoch)
    scores = _raising_scores()
    with pytest.raises(Interrupted):
        _fit(tmp_path, evaluate=scores)
    monkeypatch.undo()
    assert state.load(tmp_path)[0].step == 6
    _fit(tmp_path, evaluate=scores)
    assert state.load(tmp_path)[0].history == state.load(whole[0])[0].history


def test_a_finished_run_is_not_trained_again(whole):
    folder, model, result = whole
    before = (folder / "last.h5").stat().st_mtime_ns
    again, repeated = _fit(folder, evaluate=lambda model: pytest.fail("evaluated"))
    assert repeated == result and (folder / "last.h5").stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])


def test_another_configuration_does_not_go_on(whole):
    with pytest.raises(InputError, match="another configuration"):
        _fit(whole[0], config=_config(weight_decay=0.5))


def test_how_many_workers_there_are_does_not_matter(whole):
    _fit(whole[0], config=_config(workers=2))


def test_the_last_is_kept_where_the_plan_says_so(tmp_path):
    scores = iter([0.1, 0.7, 0.5])
    plan = replace(PLAN, keeps_last=True)
    model, result = _fit(tmp_path, plan=plan, evaluate=lambda model: next(scores))
    assert (result.best_epoch, result.best_iou) == (3, 0.5)
    for name in ("best.h5", "last.h5"):
        for a, b in zip(checkpoint.load(tmp_path / name).get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_best_is_the_best_and_not_the_last(tmp_path):
    scores = iter([0.5, 0.7, 0.6])
    model, result = _fit(tmp_path, config=_config(save_every=2), evaluate=lambda model: next(scores))
    assert (result.best_epoch, result.best_iou) == (2, 0.7)
    kept = checkpoint.load(tmp_path / "epoch_002.h5")
    last = checkpoint.load(tmp_path / "last.h5")
    np.testing.assert_array_equal(model.get_weights()[0], kept.get_weights()[0])
    assert (model.get_weights()[0] != last.get_weights()[0]).any()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(tmp_path):
    with pytest.raises(CheckFailed, match="not finite"):
        # no clipping and an absurd rate: the first update throws the weights out of float32
        _fit(tmp_path, config=_config(clip_norm=None, warmup_epochs=0), plan=Plan(epochs=3, learning_rate=1e30))
    assert not (tmp_path / "state.npz").exists()


def test_what_begins_with_weights_keeps_them_if_training_only_loses(tmp_path):
    scores = iter((0.9, 0.5, 0.6, 0.7))
    plan = Plan(epochs=3, learning_rate=1e-3, init_sha256="0" * 64)
    model, result = _fit(tmp_path, plan=plan, evaluate=lambda _: next(scores))
    assert (result.best_iou, result.best_epoch) == (0.9, 0)
    keras.utils.set_random_seed(_config().seed)
    begun = models.build(_config().model.name, _config().model.size)
    for kept, first in zip(model.get_weights(), begun.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, first)


def test_the_chief_alone_looks_at_what_training_begins_with(tmp_path):
    class Other(Team):
        is_chief = False

    plan = Plan(epochs=1, learning_rate=1e-3, init_sha256="0" * 64)
    _fit(tmp_path / "none", plan=plan, evaluate=lambda _: pytest.fail("evaluated"), team=Other())
    assert not (tmp_path / "none").exists()


def test_a_damaged_state_is_refused(whole, tmp_path):
    content = (whole[0] / "state.npz").read_bytes()
    (tmp_path / "state.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="damaged"):
        _fit(tmp_path)


def test_a_state_with_damaged_compression_is_refused(tmp_path):
    path = tmp_path / "state.npz"
    np.savez_compressed(path, progress=np.arange(1000))
    content = bytearray(path.read_bytes())
    # behind the first file's header, its name and what more there is
    start = 30 + int.from_bytes(content[26:28], "little") + int.from_bytes(content[28:30], "little")
    # a deflate block of a kind that does not exist; found by fuzzing
    content[start] = 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        state.load(tmp_path)


def test_frozen_batch_norm_statistics_stay(tmp_path):
    seen = []

    def moving_statistics(model):
        seen.append(np.concatenate([w.numpy().ravel() for w in model.weights if "moving" in w.name]))
        return 0.5 + 0.1 * len(seen)

    plan = Plan(epochs=3, learning_rate=1e-3, freeze_bn_epochs=1)
    _fit(tmp_path, config=_config(ema=0), plan=plan, evaluate=moving_statistics)
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(seen[1], seen[2])


def test_the_stage_writes_an_artifact_that_holds(tmp_path, monkeypatch):
    from train.stage import train_run

    monkeypatch.chdir(tmp_path)
    run = Run("a")
    config = _config(epochs=1)
    train_run(run, config)
    artifact = manifest.read(manifest.Artifact, run.artifact)

    assert artifact.source.weights_sha256 == files.sha256(run.best)
    assert artifact.source.data[0].sha256_16 == open_dataset(config.data, config.seed).split_hash("train")
    assert set(artifact.stages) == {"train"}
    assert artifact.source.data[0].use == artifact.source.use == "any"
    # what binds the photos binds what begins with the weights, under whatever name: other photos, other licence
    bound = artifact.source.model_copy(
        update={"data": (artifact.source.data[0].model_copy(update={"licence": "academic", "use": None}),)}
    )
    copy = Path(shutil.copy(run.best, "copied.h5"))
    checkpoint.annotate(copy, terms.note(bound))
    kept = _config(epochs=0)
    train_run(Run("d"), kept, init=copy)
    begun_of_bound = manifest.read(manifest.Artifact, Run("d").artifact).source
    assert begun_of_bound.derived_from[0].name == "copied.h5: synthetic" and begun_of_bound.use == "non-commercial"
    assert terms.binding(begun_of_bound) == ["copied.h5: synthetic (academic)"]
    assert "academic" in checkpoint.read_note(Run("d").best)
    # both that a training leaves can be begun with and averaged
    assert checkpoint.read_note(run.best.with_name("last.h5")) == checkpoint.read_note(run.best) != ""
    # fine-tuning from it begins where it ended
    train_run(Run("b"), kept, init=run.best)
    begun = manifest.read(manifest.Artifact, Run("b").artifact).stages["train"]["init"]
    assert (
        begun == {"file": "best.h5", "sha256": artifact.source.weights_sha256}
        and "init" not in artifact.stages["train"]
    )
    again = models.build(small_network.NAME, (64, 64))
    another = keras.Model(again.input, again.output, name="another")
    monkeypatch.setitem(models.MODELS, "another", lambda size: another)
    other = _config(epochs=1).model_copy(update={"model": config.model.model_copy(update={"name": "another"})})
    with pytest.raises(InputError, match="same network"):
        train_run(Run("c"), other, init=run.best)


def test_overwriting_does_not_delete_what_it_begins_with(tmp_path, monkeypatch):
    from train.stage import train_run

    monkeypatch.chdir(tmp_path)
    checkpoint.save(models.build(small_network.NAME, (64, 64)), Path("begun.h5"))
    config = _config(epochs=0)
    train_run(Run("a"), config, init=Path("begun.h5"))
    before = {path: path.stat().st_mtime_ns for path in Run("a").folder.rglob("*") if path.suffix in (".h5", ".json")}
    linked = Path("linked.h5")
    linked.symlink_to(Run("a").best)
    for init in (Run("a").best, linked):
        with pytest.raises(InputError, match=r"INIT .*: --overwrite would delete it: copy it elsewhere"):
            train_run(Run("a"), config, init=init, overwrite=True)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    train_run(Run("a"), config, init=Path("begun.h5"), overwrite=True)


def test_a_training_is_prepared_once(tmp_path, monkeypatch):
    """What is built early is what is used: the optimizer's slots and the batches."""
    from train import stage
    from train.machines import together

    monkeypatch.chdir(tmp_path)
    built = []

    def counted(name, make):
        def call(*arguments, **settings):
            built.append(name)
            return make(*arguments, **settings)

        return call

    for module, name in ((together, "Optimization"), (stage, "maker_of")):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    checkpoint.save(models.build(small_network.NAME, (64, 64)), Path("begun.h5"))
    stage.train_run(Run("a"), _config(epochs=0), init=Path("begun.h5"))
    assert sorted(built) == ["Optimization", "maker_of"]


def test_a_state_of_an_earlier_version_is_told_apart(tmp_path):
    _fit(tmp_path, plan=Plan(epochs=0, learning_rate=1e-3), evaluate=lambda model: 0.5)
    progress, arrays = state.load(tmp_path)
    progress.fingerprint = "0" * 64
    state.save(tmp_path, progress, arrays)
    with pytest.raises(InputError, match=r"an earlier version began.*finish it with that version, or name another RUN"):
        _fit(tmp_path, plan=Plan(epochs=0, learning_rate=1e-3))


def test_without_epochs_the_weights_are_kept(tmp_path, monkeypatch):
    from train.stage import train_run

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="INIT="):
        train_run(Run("a"), _config(epochs=0))
    keras.utils.set_random_seed(5)
    begun = models.build(small_network.NAME, (64, 64))
    checkpoint.save(begun, Path("begun.h5"))
    for _ in range(2):
        # once more is a finished run's
        result = train_run(Run("a"), _config(epochs=0), init=Path("begun.h5"))
        assert (result.best_epoch, result.epochs) == (0, 0) and 0 <= result.best_iou < 1
    kept = checkpoint.load(Run("a").best)
    for was, now in zip(begun.get_weights(), kept.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    facts = manifest.read(manifest.Artifact, Run("a").artifact).stages["train"]
    assert facts["epochs"] == 0 and facts["best_val_iou"] == result.best_iou and facts["init"]["file"] == "begun.h5"


def test_the_stage_records_teachers_and_tells_of_blank_photos_that_are_not_there(tmp_path, monkeypatch, capsys):
    from portraitseg import files
    from tests.runners.tiny import write_tflite
    from train.stage import train_run

    monkeypatch.chdir(tmp_path)
    teacher = write_tflite(tmp_path / "t.tflite", shape=(1, 24, 30, 3))
    config = _config(epochs=1, blank_share=0.03)
    config = config.model_copy(update={"distill": DistillConfig(files=(Path("t.tflite"),), mixup=0.5)})
    train_run(Run("a"), config)
    facts = manifest.read(manifest.Artifact, Run("a").artifact).stages["train"]
    assert facts["distill"] == {"files_sha256": [files.sha256(teacher)], "blend": 0.5, "mixup": 0.5}
    assert "blank_photos" not in facts
    assert "train.blank_share: " in (output := capsys.readouterr().err) and "training goes without" in output
    # before anything is written
    with pytest.raises(InputError, match=r"none\.tflite: no such file"):
        train_run(Run("b"), config.model_copy(update={"distill": DistillConfig(files=(Path("none.tflite"),))}))
    assert not Run("b").config.exists()


def test_training_does_not_begin_with_weights_of_quantization_aware_training():
    """Its network is another: Keras would speak of layers that nobody wrote."""
    from train.stage import load_start

    config = parse_config({"model": {"name": "contour_small", "size": [256, 256]}}, "test")
    network = models.build("contour_small", (256, 256))
    weights = Path(__file__).parents[2] / "weights"
    load_start(network, config, weights / "contour_small-256x256.h5")
    with pytest.raises(InputError, match="quantization-aware training: give the float h5"):
        load_start(network, config, weights / "contour_small-256x256-qat.h5")


def test_two_writers_of_one_run_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Run("a").locked(), pytest.raises(InputError, match="another process"), Run("a").locked():
        pass
