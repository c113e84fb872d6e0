"""Previous masks that training makes up: their cases, how often each comes, and what they keep."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import metrics
from train import prior

TARGET = np.zeros((96, 80), np.uint8)
cv2.ellipse(TARGET, (40, 52), (22, 34), 0, 0, 360, 255, -1)

#: Of so many draws a share of 0.1 is within 0.03, three standard deviations.
DRAWS = 1000


@pytest.fixture(scope="module")
def drawn():
    return [prior.simulate(TARGET, np.random.default_rng([1, seed])) for seed in range(DRAWS)]


def _iou(mask):
    return metrics.iou(mask > 127, TARGET > 127)


@settings(max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_any_size_gives_a_mask_of_that_size(height, width, seed):
    target = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    before = target.copy()
    mask = prior.simulate(target, np.random.default_rng(seed))
    assert mask.shape == target.shape and mask.dtype == np.uint8
    np.testing.assert_array_equal(target, before)


def test_the_same_draws_give_the_same_mask():
    for seed in range(20):
        first, second = (prior.simulate(TARGET, np.random.default_rng(seed)) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_shares(drawn):
    empty = np.mean([not mask.any() for mask in drawn])
    assert empty == pytest.approx(1 - prior.P_NEAR - prior.P_FAR - prior.P_FALSE, abs=0.04)
    # a near one overlaps by 0.75 to 0.99, a false one by 0.50 at most, one in thirty far ones by more than 0.7
    near = np.mean([_iou(mask) > 0.7 for mask in drawn])
    assert near == pytest.approx(prior.P_NEAR, abs=0.06)


def test_false_masks_tell_nothing_of_the_target():
    masks = [prior._false(TARGET.shape, np.random.default_rng(seed)) for seed in range(200)]
    inside = np.mean([(mask[TARGET > 127] > 127).mean() for mask in masks])
    outside = np.mean([(mask[TARGET <= 127] > 127).mean() for mask in masks])
    assert abs(inside - outside) < 0.05


def test_outlines_are_slopes(drawn):
    """A network that saw hard outlines alone would not know what to make of its own masks."""
    soft = [np.mean((mask > 0) & (mask < 255)) for mask in drawn if mask.any()]
    assert np.median(soft) > 0.02


def test_an_empty_target_has_no_near_prior():
    empty = np.zeros_like(TARGET)
    masks = [prior.simulate(empty, np.random.default_rng([2, seed])) for seed in range(200)]
    # a false one can come up all the same: a network must not take a mask for a person
    assert np.mean([mask.any() for mask in masks]) == pytest.approx(prior.P_FALSE, abs=0.06)
