"""A wider network that begins with the function of a narrower one."""

from pathlib import Path

import numpy as np

from portraitseg import contract, models
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras
from portraitseg.models.widen import copy_wider
from train.weights.foreign import portraits
from train.weights.terms import note_of, of_weights

#: Greatest difference in probability that is another order of sums: measured 5e-6 at most, between selfie_swish and
#: selfie_swish_d200; copies that are not shared out make 0.1 and more.
EQUAL = 1e-3


def widen(weights: Path, name: str, out: Path) -> float:
    """Writes the h5 of a wider network that computes what a narrower one does.

    Args:
        weights: float h5 of the narrower network.
        name: of the wider one: the same layers, none with fewer channels.
        out: the h5 to write.

    Returns:
        Greatest difference in probability between both, on portraits that we draw.

    Raises:
        InputError: `out` is there, no such network, one of other layers or fewer channels, or as `checkpoint.load`.
        CheckFailed: the functions differ: a network whose channels cannot simply be copied.
    """
    if out.exists():
        raise InputError(f"{out}: is there already: name another --out, or remove it")
    source = checkpoint.load(weights)
    wide = models.build(name, source.input_shape[1:3])
    _check_fits(source, wide)
    copy_wider(source, wide)
    difference = max(_difference(source, wide, photo) for photo in portraits())
    if not difference <= EQUAL:
        raise CheckFailed(
            f"{name}: widened, it differs by {difference:.2g} in probability from {source.name}: its channels are "
            "concatenated somewhere: it cannot begin as a copy"
        )
    checkpoint.save(wide, out)
    checkpoint.annotate(out, note_of(of_weights(weights)))
    return difference


def _difference(source: keras.Model, wide: keras.Model, photo: np.ndarray) -> float:
    inputs = contract.image_to_inputs(photo, source.input_shape[1:3])
    return float(np.abs(source(inputs).numpy() - wide(inputs).numpy()).max())


def _check_fits(source: keras.Model, wide: keras.Model) -> None:
    ours, theirs = ({layer.name: layer for layer in model.layers if layer.weights} for model in (wide, source))
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())[0]
        raise InputError(f"--model {wide.name}: '{odd}' is in one of it and {source.name} alone: name a wider variant")
    for name, layer in ours.items():
        for have, want in zip(theirs[name].weights, layer.weights, strict=True):
            if have.shape[:-2] != want.shape[:-2] or any(a > b for a, b in zip(have.shape, want.shape, strict=True)):
                raise InputError(
                    f"--model {wide.name}: '{name}' has {tuple(want.shape)} where {source.name} has "
                    f"{tuple(have.shape)}: name a wider variant"
                )
