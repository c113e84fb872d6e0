"""Copy-paste: who stands where, and what the mask says of it."""

import numpy as np
import pytest

from train.copy_paste import GREATEST, SMALLEST, Window, draw_window, paste, shrink

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


@pytest.mark.parametrize("shape", [(256, 256), (144, 256), (32, 48), (3, 2)])
def test_windows_lie_within_the_picture(shape):
    rng = np.random.default_rng(0)
    windows = [draw_window(shape, rng) for _ in range(300)]
    for window in windows:
        assert window.top >= 0 and window.top + window.height <= shape[0] and window.height >= 1
        assert window.left >= 0 and window.left + window.width <= shape[1] and window.width >= 1
        # half a pixel of rounding
        assert SMALLEST - 0.5 / shape[0] <= window.height / shape[0] <= GREATEST + 0.5 / shape[0]
    if min(shape) > 100:
        # as many below the geometric mean as above it, and all corners are reached
        heights = np.array([window.height / shape[0] for window in windows])
        assert abs((heights < (SMALLEST * GREATEST) ** 0.5).mean() - 0.5) < 0.1
        assert min(window.top for window in windows) == 0 or min(window.left for window in windows) == 0
        assert max(window.top + window.height for window in windows) > 0.9 * shape[0]


def test_a_shrunk_photo_keeps_its_person_in_its_window():
    window = Window(top=10, left=2, height=6, width=12)
    image, mask = shrink(_grey(200), _half("left"), window)
    assert image.shape == (SIDE, SIDE, 3) and mask.shape == (SIDE, SIDE) and image.dtype == mask.dtype == np.uint8
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[10:16, 2:8] = 255
    np.testing.assert_array_equal(mask, expected)
    # no colour but the photo's, so that a person cut by its window gets no dark rim
    assert (image == 200).all()
    pasted, both = paste(image, mask, _grey(200), np.zeros((SIDE, SIDE), np.uint8))
    assert (pasted == 200).all()
    np.testing.assert_array_equal(both, expected)


def test_a_shrunk_photo_and_its_mask_stay_together():
    rng = np.random.default_rng(1)
    mask = (rng.random((SIDE, SIDE)) > 0.5).astype(np.uint8) * 255
    image = np.repeat(mask[..., None], 3, axis=2)
    window = Window(top=3, left=8, height=12, width=12)
    small, small_mask = shrink(image, mask, window)
    inside = np.s_[3:15, 8:20]
    np.testing.assert_array_equal(small[inside][..., 0], small_mask[inside])
    # the share of person is what it was
    assert small_mask.sum() / small_mask[inside].size == pytest.approx(mask.mean(), abs=1.0)
