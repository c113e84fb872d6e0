"""The RGBA twin of an RGB network: the same network with a fourth input channel that changes nothing."""

from typing import Any

import numpy as np

from export.qat import quantize
from portraitseg import models


def rgba_twin(model: Any) -> Any:
    """Rebuilds a network with 4 input channels and the same weights; the first kernel gets a zero fourth input row.

    Costs no operator and, as the GPU stores channels in slices of four, no time. Its outputs equal those of the RGB
    network bit for bit, whatever the alpha.

    Args:
        model: of `models.build` or of `qat.quantize`, inputs (n, h, w, 3).

    Returns:
        The same kind of model, inputs (n, h, w, 4).
    """
    size = tuple(model.input_shape[1:3])
    twin = models.build(model.name.removeprefix("quant_"), size, 4)
    if type(model.layers[1]).__name__ == "QuantizeLayer":
        twin = quantize(twin)
    # by position: Keras numbers TFMOT's unnamed layers, so names differ from one model to the next
    pairs = list(zip(model.weights, twin.weights, strict=True))
    widened = [source.name for source, target in pairs if source.shape != target.shape]
    assert len(widened) == 1, f"only the first kernel sees the image's channels, but these differ: {widened}"
    for source, target in pairs:
        value = source.numpy()
        if source.shape != target.shape:
            assert value.shape[2] == 3, f"{source.name}: {value.shape} is not a convolution of RGB"
            value = np.concatenate([value, np.zeros_like(value[:, :, :1])], axis=2)
        target.assign(value)
    return twin
