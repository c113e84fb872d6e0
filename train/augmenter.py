"""The `augment` section of a configuration as something to call (numpy and OpenCV only: workers import this)."""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portraitseg.errors import InputError
from train.augment import AUGMENTATIONS, GEOMETRIC, Augmentation, Bounds, Image, Mask, Pair


@dataclass(frozen=True)
class Step:
    """One augmentation, how probable it is and its parameters."""

    augmentation: Augmentation
    probability: float
    parameters: dict[str, float]
    is_geometric: bool


@dataclass(frozen=True)
class Augmenter:
    """Applies the configured augmentations in their order; can be pickled, so that workers can have it."""

    steps: tuple[Step, ...]

    def __call__(self, image: Image, mask: Mask, rng: np.random.Generator) -> Pair:
        """The changed photo and mask: same shapes, uint8, contiguous; decided by the configuration and `rng` alone.

        Each step draws one number, which decides whether it is applied; if it is, its own draws follow. The result may
        be the very arrays that came in, which are never written to.
        """
        image, mask, *_ = self.with_others(image, mask, rng)
        return image, mask

    def with_others(
        self, image: Image, mask: Mask, rng: np.random.Generator, with_plain: bool = False, ignore: Mask | None = None
    ) -> tuple[Image, Mask, Image, Mask | None]:
        """As a call, and what moves with the photo.

        Args:
            image, mask, rng: as in a call; the result for these does not depend on what else is asked for.
            with_plain: whether the photo is wanted with the geometric changes alone.
            ignore: pixels that are not known, above 0.

        Returns:
            Photo, mask, the plain photo (without `with_plain` as it came in), and `ignore` with the geometric changes:
            whatever an unknown pixel had a part in is above 0.
        """
        image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
        plain, ignore = image, None if ignore is None else np.ascontiguousarray(ignore)
        for step in self.steps:
            # random() is below 1, so that p = 0 never applies and p = 1 always does
            if rng.random() < step.probability:
                if step.is_geometric and (with_plain or ignore is not None):
                    # the same draws once more
                    again = copy.deepcopy(rng)
                    plain, moved = step.augmentation(
                        plain, mask if ignore is None else ignore, again, **step.parameters
                    )
                    ignore = None if ignore is None else moved
                image, mask = step.augmentation(image, mask, rng, **step.parameters)
        return image, mask, plain, ignore


def build(augment: Mapping[str, Mapping[str, float]]) -> Augmenter:
    """Makes the `augment` section of a configuration into something to call.

    Args:
        augment: name → its probability `p` in [0, 1] and any of its keyword parameters. Empty: nothing is changed.

    Raises:
        InputError: unknown augmentation or parameter, `p` absent, a value out of range, `low` above `high`.
    """
    return Augmenter(tuple(_build_step(name, values) for name, values in augment.items()))


def _build_step(name: str, values: Mapping[str, float]) -> Step:
    where = f"augment.{name}"
    if name not in AUGMENTATIONS:
        raise InputError(f"{where}: unknown augmentation (known: {', '.join(AUGMENTATIONS)})")
    bounds, defaults = _describe_parameters(AUGMENTATIONS[name])
    if "p" not in values:
        raise InputError(f"{where}.p: needed, the probability with which it is applied, 0 to 1")
    for key, value in values.items():
        if key not in bounds:
            raise InputError(f"{where}.{key}: unknown parameter (known: {', '.join(bounds)})")
        # written so that NaN fails too
        if not bounds[key].least <= value <= bounds[key].most:
            raise InputError(f"{where}.{key}: {value} is not within {bounds[key].least:g} … {bounds[key].most:g}")
    parameters = defaults | {key: value for key, value in values.items() if key != "p"}
    if "low" in parameters and parameters["low"] > parameters["high"]:
        raise InputError(f"{where}.low: {parameters['low']} is above high, {parameters['high']}")
    return Step(AUGMENTATIONS[name], values["p"], parameters, name in GEOMETRIC)


def _describe_parameters(augmentation: Augmentation) -> tuple[dict[str, Bounds], dict[str, float]]:
    """Bounds (with those of `p`) and defaults, as the function's signature states them."""
    bounds: dict[str, Bounds] = {"p": Bounds(0.0, 1.0)}
    defaults: dict[str, float] = {}
    for parameter in inspect.signature(augmentation).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            annotation: Any = parameter.annotation
            bounds[parameter.name] = annotation.__metadata__[0]
            defaults[parameter.name] = parameter.default
    return bounds, defaults
