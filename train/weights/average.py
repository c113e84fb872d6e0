"""The mean of the weights of several trainings of one network: a model soup.

Trainings that began with the same weights end in the same basin, and their mean errs less than each of them, for the
price of one network (Wortsman et al. 2022, arXiv:2203.05482, the uniform soup). Weighed between the weights that a
fine-tuning began with and those that it ended with, the mean keeps what was gained and gives back what was forgotten
(WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from train.weights.terms import note_of, of_weights


def average(weights: Sequence[Path], out: Path, share: float | None = None) -> None:
    """Writes an h5 with the mean of every weight, the statistics of batch norm among them.

    Args:
        weights: two float h5 or more, of the same network and size.
        out: the h5 to write.
        share: of the second of two, in [0, 1]; the first, with which its training began, has the rest. None: all count
            alike.

    Raises:
        InputError: fewer than two, or other than two with a share, another network or size among them, `out` exists, or
            as `checkpoint.load`.
    """
    if len(weights) < 2:
        raise InputError("average: needs two h5 or more: give --weights once for each")
    if share is not None and (len(weights) != 2 or not 0 <= share <= 1):
        raise InputError(
            f"average: --share {share:g} is that of the second of two h5, between 0 and 1: "
            "give --weights START --weights TUNED"
        )
    if out.exists():
        raise InputError(f"--out {out}: exists: name a new file")
    networks = [checkpoint.load(path) for path in weights]
    first, *others = (_describe(network) for network in networks)
    for path, other in zip(weights[1:], others, strict=True):
        if other != first:
            raise InputError(
                f"{path}: holds {other}, not {first} as {weights[0]}: only weights of one network and size have a mean"
            )
    arrays = zip(*(network.get_weights() for network in networks), strict=True)
    shares = None if share is None else np.array([1 - share, share])
    # in float64: the order of the files decides nothing
    means = [np.average(np.stack(array).astype(np.float64), axis=0, weights=shares) for array in arrays]
    networks[0].set_weights([mean.astype(np.float32) for mean in means])
    checkpoint.save(networks[0], out)
    bound = [part for path in weights for part in of_weights(path)]
    checkpoint.annotate(out, note_of(dict.fromkeys(bound)))


def _describe(network: Any) -> str:
    return f"{network.name} {'x'.join(map(str, network.input_shape[1:]))}"
