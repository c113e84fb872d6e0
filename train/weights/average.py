"""The mean of the weights of several trainings of one network: a model soup.

Trainings that began with the same weights end in the same basin, and their mean errs less than each of them, for the
price of one network (Wortsman et al. 2022, arXiv:2203.05482, the uniform soup). Weighed between the weights that a
fine-tuning began with and those that it ended with, the mean keeps what was gained and gives back what was forgotten
(WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from train.weights.terms import note_of, of_weights


def average(
    weights: Sequence[Path], out: Path, shares: Sequence[float] = (), size: tuple[int, int] | None = None
) -> list[float] | None:
    """Writes an h5 with the mean of every weight, the statistics of batch norm among them.

    Args:
        weights: two float h5 or more, of one network; their input sizes may differ, as a convolution's weights do not.
        out: the h5 to write.
        shares: one for each, in [0, 1], 1 together; one alone is that of the second of two, the first, with which its
            training began, having the rest. Empty: all count alike.
        size: height and width of the new network's input. None: those of the first.

    Returns:
        The share of each, None where all count alike.

    Raises:
        InputError: fewer than two, shares that are not theirs, another network among them, a size that it does
            not take, `out` exists, or as `checkpoint.load`.
    """
    if len(weights) < 2:
        raise InputError("average: needs two h5 or more: give --weights once for each")
    completed = _complete(shares, len(weights))
    if out.exists():
        raise InputError(f"--out {out}: exists: name a new file")
    networks = [checkpoint.load(path) for path in weights]
    first = networks[0]
    for path, network in zip(weights[1:], networks[1:], strict=True):
        if network.name != first.name:
            raise InputError(f"{path}: holds {network.name}, not {first.name} as {weights[0]}: give one network's")
    mean = models.build(first.name, size) if size is not None else first
    arrays = zip(*(network.get_weights() for network in networks), strict=True)
    # in float64: the order of the files decides nothing
    means = [np.average(np.stack(array).astype(np.float64), axis=0, weights=completed) for array in arrays]
    mean.set_weights([array.astype(np.float32) for array in means])
    checkpoint.save(mean, out)
    bound = [part for path in weights for part in of_weights(path)]
    checkpoint.annotate(out, note_of(dict.fromkeys(bound)))
    return completed


def _complete(shares: Sequence[float], count: int) -> list[float] | None:
    """One share for each, or None for equal ones."""
    if len(shares) == 1 and count == 2:
        shares = [1 - shares[0], shares[0]]
    if not shares:
        return None
    # written as decimals, they add up to 1 but for rounding
    if len(shares) != count or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        given = " ".join(f"--share {share:g}" for share in shares)
        raise InputError(
            f"average: {given}: give one for each of the {count} h5, 1 together, or of two that of the second alone"
        )
    return list(shares)
