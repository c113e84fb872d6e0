"""The band around an outline: where it lies, how thick it is, and where there is none."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.edges import THICKNESSES, edge_band


def _square(size, side):
    mask = np.zeros((size, size), np.uint8)
    start = (size - side) // 2
    mask[start : start + side, start : start + side] = 255
    return mask


def test_a_straight_outline_by_hand():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    # the person's size is 45 px, so the bands have 1, 1 and 3 px. Canny's edge is the last pixel of the person or the
    # first of the background: both have the same slope, and builds of OpenCV were seen to take either
    row = edge_band(mask)[0]
    (middle,) = np.flatnonzero(row == 255)
    assert middle in (31, 32)
    expected = np.zeros(64)
    expected[middle - 1 : middle + 2] = 85, 255, 85
    np.testing.assert_array_equal(edge_band(mask), np.tile(expected, (64, 1)))


@pytest.mark.parametrize("side", [64, 128, 256])
def test_the_band_grows_with_the_person(side):
    across = edge_band(_square(512, side))[256, :256]
    # two of the bands may round to the same thickness
    assert {0, 85, 255} <= set(across) <= {0, 85, 170, 255}
    for share, least in zip(sorted(THICKNESSES), (255, 170, 85), strict=True):
        assert abs((across >= least).sum() - share * side) <= 1


def test_it_lies_on_the_outline():
    mask = _square(128, 60)
    edge = edge_band(mask)
    inner = cv2.erode(mask, np.ones((9, 9)))
    outer = cv2.dilate(mask, np.ones((9, 9)))
    assert edge[(outer > 0) & (inner == 0)].max() == 255
    assert not edge[(outer == 0) | (inner > 0)].any()


@pytest.mark.parametrize("value", [0, 127, 255])
def test_no_outline_no_band(value):
    assert not edge_band(np.full((48, 64), value, np.uint8)).any()


def test_where_the_photo_cuts_the_person_off_is_no_outline():
    mask = np.zeros((64, 64), np.uint8)
    mask[32:, :] = 255
    assert edge_band(mask)[-8:].max() == 0


@settings(max_examples=25)
@given(h=st.integers(8, 40), w=st.integers(8, 40), seed=st.integers(0, 2**32 - 1))
def test_soft_masks_are_cut_and_nothing_is_written_to(h, w, seed):
    target = np.random.default_rng(seed).integers(0, 256, (h, w), np.uint8)
    before = target.copy()
    band = edge_band(target)
    assert band.shape == (h, w) and band.dtype == np.uint8 and set(np.unique(band)) <= {0, 85, 170, 255}
    np.testing.assert_array_equal(target, before)
    np.testing.assert_array_equal(band, edge_band(np.where(target > 127, np.uint8(255), np.uint8(0))))
