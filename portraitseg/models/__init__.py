"""The networks by name. Importing this imports TensorFlow: do it inside the function that needs it."""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from portraitseg.errors import InputError
from portraitseg.models import banet, contour, fast_scnn, mattingnet, merges, mmnet, portraitnet, selfie, sinet


def _variants(network: ModuleType) -> dict[str, Callable[..., Any]]:
    return {name: partial(network.build, variant=name) for name in network.VARIANTS}


MODELS: dict[str, Callable[..., Any]] = {
    **_variants(fast_scnn),
    **_variants(contour),
    **_variants(banet),
    **_variants(mattingnet),
    **_variants(mmnet),
    **_variants(portraitnet),
    **_variants(selfie),
    **_variants(sinet),
}

#: Networks that learn the outline too: their `build` takes `with_boundary`, which adds the output `boundary`.
WITH_BOUNDARY: frozenset[str] = frozenset({*banet.VARIANTS, *mattingnet.VARIANTS, *portraitnet.VARIANTS})


def build(name: str, size: tuple[int, int]) -> Any:
    """Builds a network by name, as it is exported.

    Returns:
        Keras model: inputs (n, h, w, 3) float32 in [0, 1] → probability of person (n, h, w, 1); the layer `mask`
        is the sigmoid, its input the logits.

    Raises:
        InputError: no such network, or a size that it cannot take.
    """
    return merges.with_layers(as_written(name, size))


def as_written(name: str, size: tuple[int, int]) -> Any:
    """The network as its file writes it: `build` puts a layer for each `x + y` on tensors.

    Raises:
        InputError: as `build`.
    """
    return _find(name)(size)


def build_for_training(name: str, size: tuple[int, int]) -> Any:
    """Builds a network with all that it learns; its outputs are [mask], or [mask, boundary] where it has that head.

    `boundary` is the layer of a sigmoid too: probability of the outline, (n, h / k, w / k, 1) for a whole k. What only
    leads there is in no exported file and in no h5.

    Raises:
        InputError: as `build`.
    """
    if name not in WITH_BOUNDARY:
        return build(name, size)
    return merges.with_layers(_find(name)(size, with_boundary=True))


def _find(name: str) -> Callable[..., Any]:
    if name not in MODELS:
        raise InputError(f"model.name: no network '{name}' (there are: {', '.join(MODELS)})")
    return MODELS[name]
