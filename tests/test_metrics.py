"""Metrics against their definitions: by hand, by brute force, and by the properties that any IoU has."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from portraitseg.metrics import METRICS, boundary_iou, boundary_width_px, iou, miou

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)


@st.composite
def mask_pairs(draw):
    shape = draw(SHAPES)
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


def brute_band(mask: np.ndarray, width_px: int) -> np.ndarray:
    """Mask pixels from which a step of `width_px` in some direction leaves the mask or the photo."""
    height, width = mask.shape
    band = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        top, left, bottom, right = y - width_px, x - width_px, y + width_px + 1, x + width_px + 1
        is_inside = top >= 0 and left >= 0 and bottom <= height and right <= width
        band[y, x] = not (is_inside and mask[top:bottom, left:right].all())
    return band


@pytest.mark.parametrize("measure", METRICS.values(), ids=METRICS)
@given(pair=mask_pairs())
def test_properties(measure, pair):
    mask, truth = pair
    assert 0 <= measure(mask, truth) <= 1
    assert measure(mask, truth) == measure(truth, mask)
    assert measure(mask, mask) == 1


@given(pair=mask_pairs())
def test_dice_follows_from_iou(pair):
    mask, truth = pair
    total = mask.sum() + truth.sum()
    dice = 2 * (mask & truth).sum() / total if total else 1
    j = iou(mask, truth)
    assert dice == pytest.approx(2 * j / (1 + j))


@settings(max_examples=200)
@given(pair=mask_pairs())
def test_boundary_iou_equals_brute_force(pair):
    mask, truth = pair
    width_px = boundary_width_px(*mask.shape)
    assert boundary_iou(mask, truth) == iou(brute_band(mask, width_px), brute_band(truth, width_px))


@pytest.mark.parametrize("shape", [(150, 200), (101, 37)])
def test_boundary_iou_equals_brute_force_with_wide_bands(shape):
    generator = np.random.default_rng(3)
    y, x = np.indices(shape)
    centres = generator.random((6, 2)) * shape
    masks = [(y - a) ** 2 + (x - b) ** 2 < (0.4 * min(shape)) ** 2 for a, b in centres]
    width_px = boundary_width_px(*shape)
    assert width_px > 1
    for mask, truth in pairwise(masks):
        assert boundary_iou(mask, truth) == iou(brute_band(mask, width_px), brute_band(truth, width_px))


def distance_band(mask: np.ndarray, width_px: int) -> np.ndarray:
    """Mask pixels no further than `width_px` from the background, by SciPy's chessboard distance transform."""
    distance = ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard")[1:-1, 1:-1]
    return mask & (distance <= width_px)


@given(pair=mask_pairs())
def test_boundary_iou_equals_scipys_distance_transform(pair):
    mask, truth = pair
    width_px = boundary_width_px(*mask.shape)
    assert boundary_iou(mask, truth) == iou(distance_band(mask, width_px), distance_band(truth, width_px))


def test_wide_bands_equal_scipys_distance_transform():
    y, x = np.indices((416, 312))
    noise = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal((416, 312)), 12) * 40
    mask, truth = np.hypot(y - 230, x - 150) + 40 * noise < 130, np.hypot(y - 240, x - 160) < 120
    width_px = boundary_width_px(*mask.shape)
    assert width_px == 10 and 0.1 < boundary_iou(mask, truth) < 0.9
    assert boundary_iou(mask, truth) == iou(distance_band(mask, width_px), distance_band(truth, width_px))
    # a band of another width is told apart
    assert boundary_iou(mask, truth) != iou(distance_band(mask, width_px + 1), distance_band(truth, width_px + 1))


@pytest.mark.parametrize(
    ("height", "width", "width_px"), [(1, 1, 1), (60, 80, 2), (300, 400, 10), (416, 312, 10), (30, 40, 1)]
)
def test_boundary_width(height, width, width_px):
    # 30×40: 0.02 · 50 = 1; 60×80: 2; 300×400: 10; 416×312: 10.4
    assert boundary_width_px(height, width) == width_px


def test_by_hand():
    mask, truth = np.zeros((2, 10, 10), bool)
    mask[2:6, 2:6] = True  # 16 pixels, the inner 4 of them are no boundary
    truth[2:6, 3:7] = True
    assert iou(mask, truth) == 12 / 20
    assert miou(mask, truth) == (12 / 20 + 80 / 88) / 2
    # bands of 12 pixels each share 3 columns × 2 rows at top and bottom, and nothing else but the inner columns' ends
    assert boundary_iou(mask, truth) == 6 / 18


def test_photo_edge_is_outline():
    full = np.ones((10, 10), bool)
    core = np.zeros((10, 10), bool)
    core[1:9, 1:9] = True
    # without the ring of background the band of a full photo would be empty, and this 1
    assert boundary_iou(full, np.zeros((10, 10), bool)) == 0
    # the band of the full photo is its edge, that of the core the ring inside it
    assert boundary_iou(full, core) == 0
    touching = np.zeros((10, 10), bool)
    touching[5:, :] = True
    assert boundary_iou(touching, touching) == 1
    np.testing.assert_array_equal(brute_band(touching, 1)[9], np.ones(10, bool))


@pytest.mark.parametrize("measure", METRICS.values(), ids=METRICS)
def test_empty_masks(measure):
    empty, full = np.zeros((5, 7), bool), np.ones((5, 7), bool)
    assert measure(empty, empty) == measure(full, full) == 1
    assert measure(empty, full) == measure(full, empty) == 0


@pytest.mark.parametrize("measure", METRICS.values(), ids=METRICS)
def test_refuses_masks_of_different_sizes(measure):
    # what numpy would broadcast, and what jaxtyping may refuse before we do
    with pytest.raises(Exception, match=r"resize|dimension|shape|type"):
        measure(np.ones((4, 1), bool), np.ones((4, 6), bool))
