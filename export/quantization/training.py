"""Quantization-aware training of a run, done once for the same weights and configuration."""

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.quantization import preflight, qat
from export.quantization.ranges import share_ranges
from export.quantization.recipes import RECIPES
from portraitseg import contract, files, identity, manifest, metrics
from portraitseg.cli import say, warn
from portraitseg.config import Config
from portraitseg.data import Dataset
from portraitseg.runners import open_runner
from portraitseg.runs import Run

if TYPE_CHECKING:
    from train.fit import Plan
    from train.machines.together import Together

#: What the QAT folder was trained from; a folder of something else is taken away.
ORIGIN_NAME = "origin.json"

#: In that folder: the float network as a file, for the processes in which it teaches (`qat.teacher`).
TEACHER_NAME = "teacher.tflite"


@dataclass(frozen=True)
class TfliteEvaluator:
    """Mean IoU of what a QAT network becomes: it is converted, and the int8 file run on photos, by docs/metrics.md.

    Keras sums in float and does not round the sigmoid, so that its best epoch need not be the file's. A conversion
    takes some two seconds, a photo about what the file takes on a phone.

    Attributes:
        dataset, keys: the photos.
        recipe: of the file.
    """

    dataset: Dataset
    keys: tuple[str, ...]
    recipe: str = "qat_wi8_ai8"

    def __call__(self, model: Any) -> float:
        """Returns the mean IoU in [0, 1]."""
        size = model.input_shape[1:]
        content = RECIPES[self.recipe].convert(model, np.zeros((1, *size), np.float32))
        with tempfile.TemporaryDirectory(prefix="portraitseg-qat-") as folder:
            path = Path(folder) / f"{model.name}-rgb-{self.recipe}.tflite"
            path.write_bytes(content)
            runner = open_runner(path, threads=2)
            return float(np.mean([self._iou(runner.predict, key) for key in self.keys]))

    def _iou(self, predict: Any, key: str) -> float:
        sample = self.dataset.load(key)
        assert sample.mask is not None
        mask = contract.probability_to_mask(predict(sample.image), sample.mask.shape)
        return metrics.iou(mask, contract.truth_to_mask(sample.mask), sample.ignore)


def trained_qat(
    run: Run,
    source: manifest.Source,
    config: Config,
    dataset: Dataset,
    float_model: Any,
    calibration: Any,
    together: "Together | None" = None,
) -> Any:
    """The QAT network of a run: trained now, resumed, or read where it is finished.

    Args:
        run: `run.qat` holds the training.
        source: of the float weights.
        config: of the run, with the overrides of this export.
        dataset: photos of the run.
        float_model: to start from.
        calibration: photos (n, h, w, 3) in [0, 1] that set the first ranges.
        together: the machines and devices that train; None: TensorFlow's default device. Their chief alone writes.

    Raises:
        InputError: a layer that cannot be quantized.
        CheckFailed: training diverged.
    """
    from train import losses
    from train.fit import fit
    from train.optimize import Optimization
    from train.stream import maker_of

    if (best := finished_qat(run, source, config)) is not None:
        _record_settings(run, source, config)
        return qat.load_qat(best)
    origin, best = identity.of_qat(config, source.weights_sha256), run.qat / "best.h5"
    team = together.team if together else None
    is_chief = team is None or team.is_chief
    if is_chief:
        _clear_if_of_another(run, origin)
        # the next export reads its settings from here: with others it would train anew and clear what this one made
        files.write_text(run.config, config.model_dump_json(indent=2) + "\n")
    for finding in preflight.rewritten(float_model):
        say(f"qat {run.name}: '{finding.layer}' ({finding.kind}) rewritten: {finding.remedy}")
    float_model = qat.sharpened(float_model, config.qat.sharpen)
    model = qat.quantize(float_model)
    qat.calibrate(model, float_model, calibration, config.qat.range_percentile)
    is_by_file = config.qat.select != "keras"
    trained = config_of(config)
    if config.qat.teacher == "float":
        files.write_bytes(run.qat / TEACHER_NAME, RECIPES["fp16"].convert(float_model, calibration))
        distill = config.distill.model_copy(update={"files": (run.qat / TEACHER_NAME,), "blend": 1.0})
        trained = trained.model_copy(update={"distill": distill})
    maker, optimization = maker_of(dataset, trained, losses.needs(trained.loss)), None
    if together:
        maker = replace(maker, share=together.share)
        optimization = together.optimization(model, lambda: qat.quantize(float_model), trained, share_ranges)
    result = fit(
        optimization or Optimization(model, trained),
        maker=maker,
        config=trained,
        plan=plan_of(config, source.weights_sha256),
        folder=run.qat,
        label=f"qat {run.name}",
        evaluate=TfliteEvaluator(dataset, dataset.keys(config.data.val_split)) if is_by_file else None,
        freeze_ranges=qat.freeze_ranges,
        remedy="delete that folder to begin it anew",
        team=team,
    )
    if not is_chief:
        return model
    facts = {
        "origin": origin,
        "weights_sha256": files.sha256(best),
        "best_val_iou": result.best_iou,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "settings": _settings(config),
    }
    manifest.add_stage(run.artifact, source, "qat", facts)
    return model


def _settings(config: Config) -> dict[str, Any]:
    return config.qat.model_dump(mode="json")


def _record_settings(run: Run, source: manifest.Source, config: Config) -> None:
    """Of a training that finished before they were recorded; the origin is the same, so these were its settings."""
    facts = manifest.read(manifest.Artifact, run.artifact).stages["qat"]
    if "settings" not in facts:
        manifest.add_stage(run.artifact, source, "qat", {**facts, "settings": _settings(config)})


def finished_qat(run: Run, source: manifest.Source, config: Config) -> Path | None:
    """The h5 of a quantization-aware training of these weights with this configuration; None: not finished."""
    best = run.qat / "best.h5"
    finished = manifest.read(manifest.Artifact, run.artifact).stages.get("qat", {})
    is_this = finished.get("origin") == identity.of_qat(config, source.weights_sha256)
    return best if is_this and best.exists() and finished.get("weights_sha256") == files.sha256(best) else None


def config_of(config: Config) -> Config:
    """The configuration of quantization-aware training: that of the run, with the losses that a single mask has."""
    from train import losses

    # what is exported, and so quantized, has no boundary head; steps of 8 bits want whole precision around them
    train = config.train.model_copy(update={"precision": "float32"})
    return config.model_copy(update={"loss": losses.without(config.loss, "boundary_logits"), "train": train})


def plan_of(config: Config, init_sha256: str) -> "Plan":
    """What differs from float training."""
    from train.fit import Plan

    settings = config.qat
    # ranges without outliers would take them in again
    stays = settings.range_percentile is not None
    freeze_bn_epochs = settings.epochs if stays else min(settings.freeze_bn_epochs, settings.epochs)
    return Plan(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        freeze_bn_epochs=freeze_bn_epochs,
        init_sha256=init_sha256,
        schedule=settings.schedule,
        # batch norm whose statistics move would move activations away from ranges that do not
        freeze_ranges_epochs=freeze_bn_epochs if stays else min(settings.freeze_ranges_epochs, freeze_bn_epochs),
        keeps_last=settings.select == "last",
    )


def _clear_if_of_another(run: Run, origin: str) -> None:
    marker = run.qat / ORIGIN_NAME
    if _read_origin(marker) == origin:
        return
    if run.qat.exists():
        if identity.is_of_earlier_scheme(_read_origin(marker)):
            warn(f"{run.qat} is of an earlier version, and whether it is this training cannot be told: it begins anew")
        shutil.rmtree(run.qat)
    files.write_json(marker, {"origin": origin})


def _read_origin(marker: Path) -> str:
    """Empty where none is said."""
    return str(json.loads(marker.read_text(encoding="utf-8")).get("origin", "")) if marker.exists() else ""
