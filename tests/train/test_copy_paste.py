"""Copy-paste: who stands where, and what the mask says of it."""

import numpy as np
import pytest

from train.copy_paste import paste

SIDE = 24


def _half(side):
    """255 on one half of the columns."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, : SIDE // 2] = 255
    return mask if side == "left" else mask[:, ::-1]


def _grey(level):
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def test_the_person_stands_before_the_other_photo():
    image, mask = paste(_grey(200), _half("left"), _grey(40), np.zeros((SIDE, SIDE), np.uint8))
    assert image.dtype == mask.dtype == np.uint8
    # three pixels off the outline nothing of the other side is left
    assert (image[:, : SIDE // 2 - 3] == 200).all() and (image[:, SIDE // 2 + 3 :] == 40).all()
    # softened, and not shifted: the two columns at the outline are as far from the middle
    beside = image[0, SIDE // 2 - 1 : SIDE // 2 + 1, 0].astype(int)
    assert 40 < beside[1] < 120 < beside[0] < 200 and beside.sum() == pytest.approx(240, abs=2)
    np.testing.assert_array_equal(mask, _half("left"))


def test_both_persons_are_in_the_mask():
    _, mask = paste(_grey(200), _half("left"), _grey(40), _half("right"))
    assert (mask == 255).all()
    _, mask = paste(_grey(200), _half("left"), _grey(40), _half("left"))
    np.testing.assert_array_equal(mask, _half("left"))


def test_soft_masks_add_as_probabilities():
    half = np.full((SIDE, SIDE), 128, np.uint8)
    image, mask = paste(_grey(200), half, _grey(40), half)
    assert (mask == round(128 + 127 * 128 / 255)).all()
    assert (image == round(40 + 160 * 128 / 255)).all()


def test_nothing_is_changed_in_place():
    given = [_grey(200), _half("left"), _grey(40), _half("right")]
    copies = [array.copy() for array in given]
    paste(*given)
    for array, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
