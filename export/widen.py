"""The RGBA twin of an RGB network: the same network with a fourth input channel that changes nothing."""

from typing import Any

from export.qat import quantize
from portraitseg import models
from portraitseg.models.widen import copy_widened


def rgba_twin(model: Any) -> Any:
    """Rebuilds a network with 4 input channels and the same weights, its outputs the same whatever the alpha.

    Args:
        model: of `models.build` or of `qat.quantize`, inputs (n, h, w, 3).

    Returns:
        The same kind of model, inputs (n, h, w, 4).
    """
    size = tuple(model.input_shape[1:3])
    twin = models.build(model.name.removeprefix("quant_"), size, 4)
    if type(model.layers[1]).__name__ == "QuantizeLayer":
        twin = quantize(twin)
    copy_widened(model, twin)
    return twin
