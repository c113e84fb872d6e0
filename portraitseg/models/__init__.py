"""The networks by name. Importing this imports TensorFlow: do it inside the function that needs it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from portraitseg.errors import InputError
from portraitseg.models import fast_scnn

MODELS: dict[str, Callable[[tuple[int, int], int], Any]] = {
    **{name: partial(fast_scnn.build, variant=name) for name in fast_scnn.VARIANTS},
}


def build(name: str, size: tuple[int, int], channels: int = 3) -> Any:
    """Builds a network by name.

    Returns:
        Keras model: inputs (n, h, w, channels) float32 in [0, 1] → probability of person (n, h, w, 1); the layer `mask`
        is the sigmoid, its input the logits.

    Raises:
        InputError: no such network, or a size that it cannot take.
    """
    if name not in MODELS:
        raise InputError(f"model.name: no network '{name}' (there are: {', '.join(MODELS)})")
    return MODELS[name](size, channels)
