"""Smoothing over time: noise goes, motion does not lag, and nothing of another scene stays."""

from itertools import pairwise

import numpy as np
import pytest

from portraitseg.smooth import MaskSmoother


def frame(middle: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    x = np.arange(64, dtype=np.float32)[None].repeat(32, axis=0)
    values = 1 / (1 + np.exp((np.abs(x - middle) - 12) / 2))
    values = values + np.random.default_rng(seed).normal(0, noise, values.shape)
    return np.clip(values, 0, 1).astype(np.float32)


def test_the_formula_by_hand() -> None:
    smoother = MaskSmoother(keep=0.8, low=0.1, high=0.5, reach=0, cut=1.0)
    smoother(np.array([[0.5, 0.5, 0.5, 0.5]], np.float32))
    smoothed = smoother(np.array([[0.55, 0.4, 0.8, 1.0]], np.float32))
    # differences .05, .1: the whole weight; .3: half of it; .5: none
    np.testing.assert_allclose(smoothed, [[0.51, 0.48, 0.8 - 0.3 * 0.4, 1.0]], atol=1e-6)
    # the previous mask is the smoothed one
    np.testing.assert_allclose(smoother(np.full((1, 4), 0.5, np.float32))[0, 0], 0.5 + 0.01 * 0.8, atol=1e-6)


def test_noise_is_damped() -> None:
    smoother = MaskSmoother()
    frames = [frame(30, 0.04, seed) for seed in range(20)]
    smoothed = [smoother(one) for one in frames]
    change, before = (np.mean([np.abs(b - a).mean() for a, b in pairwise(c[5:])]) for c in (smoothed, frames))
    assert change < 0.25 * before


def test_what_moves_does_not_lag() -> None:
    """An average of as much weight is half a person behind."""
    smoother, last = MaskSmoother(), None
    for step in range(8):
        new = frame(14 + 4 * step)
        average = new if last is None else new + (last - new) * 0.9
        last = average
        smoothed = smoother(new)
    truth = new > 0.5
    assert ((smoothed > 0.5) != truth).mean() < 0.02 < 0.1 < ((average > 0.5) != truth).mean()


def test_the_neighbourhood_lets_a_moving_outline_go() -> None:
    """The soft foot of an outline hardly changes by itself: alone it stays behind."""
    ghosts = {}
    for reach in (0, 4):
        smoother = MaskSmoother(reach=reach)
        for step in range(8):
            new = frame(14 + 4 * step)
            smoothed = smoother(new)
        ghosts[reach] = float(np.abs(smoothed - new).mean())
    assert ghosts[4] < 0.5 * ghosts[0]


@pytest.mark.parametrize(
    ("second", "time_s"),
    [
        (1 - frame(30), 0.04),  # a cut
        (frame(31), 1.0),  # a gap
        (frame(31), -0.1),  # back to the beginning
        (np.zeros((8, 8), np.float32), 0.04),  # another camera
    ],
)
def test_it_begins_anew(second: np.ndarray, time_s: float) -> None:
    smoother = MaskSmoother()
    smoother(frame(30), 0.0)
    np.testing.assert_array_equal(smoother(second, time_s), second)


def test_reset_and_frames_that_belong_to_nobody_else() -> None:
    smoother = MaskSmoother()
    first = frame(30)
    smoothed = smoother(first)
    smoothed[:] = 0  # a caller's array is the caller's
    assert not np.array_equal(smoother(frame(31)), frame(31))
    smoother.reset()
    np.testing.assert_array_equal(smoother(frame(31)), frame(31))


def test_keep_of_nothing_smooths_nothing() -> None:
    smoother = MaskSmoother(keep=0.0)
    smoother(frame(30))
    np.testing.assert_array_equal(smoother(frame(31)), frame(31))


@pytest.mark.parametrize("wrong", [{"keep": 1.0}, {"low": 0.5}, {"reach": -1}, {"cut": 0.0}, {"gap_s": 0.0}])
def test_impossible_parameters(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need keep in"):
        MaskSmoother(**wrong)  # type: ignore[arg-type]
