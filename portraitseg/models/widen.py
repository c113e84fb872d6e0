"""Copies the weights of an RGB network into the same network with more input channels, which then change nothing."""

from typing import Any

import numpy as np


def copy_widened(source: Any, target: Any) -> None:
    """Gives `target` the weights of `source`; its first kernel gets a row of zeros for the channel more.

    The outputs are equal bit for bit, whatever the fourth channel holds. Costs no operator and, as GPUs store channels
    in slices of four, no time.

    Args:
        source: Keras model, inputs (n, h, w, 3).
        target: the same network, inputs (n, h, w, 4); changed in place.
    """
    # by position: Keras numbers TFMOT's unnamed layers, so names differ from one model to the next
    pairs = list(zip(source.weights, target.weights, strict=True))
    widened = [have.name for have, want in pairs if have.shape != want.shape]
    assert len(widened) == 1, f"only the first kernel sees the image's channels, but these differ: {widened}"
    for have, want in pairs:
        value = have.numpy()
        if have.shape != want.shape:
            assert value.shape[2] == 3, f"{have.name}: {value.shape} is not a convolution of RGB"
            value = np.concatenate([value, np.zeros_like(value[:, :, :1])], axis=2)
        want.assign(value)
