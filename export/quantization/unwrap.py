"""The weights of quantization-aware training without its wrappers, for files that compute in float."""

from dataclasses import replace
from typing import Any

from export.product.product import Networks, ReferenceName
from export.product.quiet import quiet
from export.quantization import hard_swish, qat
from export.quantization.training import finished_qat
from portraitseg import manifest, models
from portraitseg.cli import say
from portraitseg.config import Config
from portraitseg.data import Dataset
from portraitseg.runs import Run


def unwrap(qat_model: Any) -> Any:
    """Rebuilds the float network and gives it the weights that a QAT network has, batch norm included.

    Args:
        qat_model: of `qat.quantize` or `qat.load_qat`.

    Returns:
        Keras model without any rounding: inputs (n, h, w, 3) float32 in [0, 1] → probability.
    """
    float_model = models.build(qat_model.name.removeprefix("quant_"), qat_model.input_shape[1:3])
    # TFMOT keeps the names of the weights that it wraps
    values = {weight.name: weight for weight in qat_model.weights}
    for weight in float_model.weights:
        weight.assign(values[weight.name])
    hard_swish.scale(float_model, hard_swish.find(float_model), hard_swish.DIVISOR)
    return float_model


def pick_weights(networks: Networks, run: Run, source: manifest.Source, config: Config, dataset: Dataset) -> Networks:
    """Chooses the weights of the files that compute in float by IoU on `val`: the float ones, or QAT's unwrapped.

    Without a finished quantization-aware training of these weights there is nothing to choose: none is begun.

    Returns:
        The networks; `unwrapped_model` is there only where it is the better one. `val_iou` says what was measured.
    """
    from train.evaluate import KerasEvaluator

    path = finished_qat(run, source, config)
    if path is None:
        say(f"weights: float; RUN={run.name} has no finished quantization-aware training to compare with")
        return networks
    if config.qat.teacher == "float":
        say("weights: float; quantization-aware training learnt their masks alone, and cannot be better")
        return networks
    with quiet():
        # as soft as the float network again: float files need no steeper outline
        unwrapped = qat.sharpened(unwrap(qat.load_qat(path)), 1.0 / config.qat.sharpen)
    evaluate = KerasEvaluator(dataset, dataset.keys(config.data.val_split), networks.size)
    scores: dict[ReferenceName, float] = {
        "float": evaluate(networks.float_model),
        "unwrapped": evaluate(unwrapped),
    }
    is_better = scores["unwrapped"] > scores["float"]
    name = "those of quantization-aware training, unwrapped" if is_better else "float"
    say(
        f"weights: {name} (IoU on {config.data.val_split}: float {100 * scores['float']:.2f} %, "
        f"unwrapped {100 * scores['unwrapped']:.2f} %)"
    )
    return replace(networks, unwrapped_model=unwrapped if is_better else None, val_iou=scores)
