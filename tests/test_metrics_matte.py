"""Mattes, pieces and clips against other implementations of the same definitions: SciPy, plain loops, by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from portraitseg.metrics import (
    COUNTS,
    MATTE_METRICS,
    connectivity_error,
    dtssd,
    flipped_share,
    gradient_error,
    holes,
    islands,
    mse,
    sad,
)

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16)
LEVELS = st.sampled_from([0.0, 0.1, 0.15, 0.25, 0.5, 0.65, 0.9, 1.0])


@st.composite
def matte_pairs(draw):
    shape = draw(SHAPES)
    return draw(hnp.arrays(np.float64, shape, elements=LEVELS)), draw(hnp.arrays(np.float64, shape, elements=LEVELS))


@st.composite
def mask_pairs(draw):
    shape = draw(SHAPES)
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


def portraits(seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """A soft disc, and the same moved, blurred otherwise, with a piece torn off."""
    generator = np.random.default_rng(seed)
    y, x = np.indices((90, 70))
    truth = np.clip((25 - np.hypot(y - 45, x - 35)) / 8 + 0.5, 0, 1)
    alpha = np.clip((24 - np.hypot(y - 43, x - 37)) / 4 + 0.5, 0, 1)
    alpha[5:10, 5:12] = 0.8
    alpha[30:33] *= 0.5
    return np.clip(alpha + generator.normal(0, 0.02, alpha.shape), 0, 1), truth


@pytest.mark.parametrize("measure", MATTE_METRICS.values(), ids=MATTE_METRICS)
@settings(max_examples=50)
@given(pair=matte_pairs())
def test_properties_of_errors(measure, pair):
    alpha, truth = pair
    assert measure(alpha, truth) >= 0
    assert measure(alpha, truth) == pytest.approx(measure(truth, alpha), abs=1e-9)
    assert measure(alpha, alpha) == 0


@given(pair=matte_pairs())
def test_sums_equal_plain_loops(pair):
    alpha, truth = pair
    differences = [a - b for a, b in zip(alpha.ravel().tolist(), truth.ravel().tolist(), strict=True)]
    assert sad(alpha, truth) == pytest.approx(math.fsum(abs(d) for d in differences) / 1000)
    assert mse(alpha, truth) == pytest.approx(math.fsum(d * d for d in differences) / len(differences))


def scipy_gradient(alpha: np.ndarray, sigma: float = 1.4) -> np.ndarray:
    """The published code, line by line, with SciPy's convolution."""
    epsilon = 1e-2
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * epsilon)))
    size = 2 * half + 1
    kernel = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            u, v = i - half, j - half
            gauss = math.exp(-(u**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
            slope = -v * math.exp(-(v**2) / (2 * sigma**2)) / (sigma**3 * math.sqrt(2 * math.pi))
            kernel[i, j] = gauss * slope
    kernel /= math.sqrt((kernel**2).sum())
    along_x = ndimage.convolve(alpha, kernel, mode="nearest")
    along_y = ndimage.convolve(alpha, kernel.T, mode="nearest")
    return np.hypot(along_x, along_y)


def test_gradient_equals_scipy():
    for pair in (portraits(), (portraits()[1][:7, :5], portraits()[0][:7, :5])):
        alpha, truth = pair
        expected = ((scipy_gradient(alpha) - scipy_gradient(truth)) ** 2).sum() / 1000
        assert gradient_error(alpha, truth) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_gradient_is_that_of_a_gaussian():
    # SciPy's own derivative of a Gaussian, cut off at 4 sigma, differs by a factor and by the tails
    alpha = portraits()[1]
    theirs = np.hypot(
        ndimage.gaussian_filter(alpha, 1.4, order=(0, 1)), ndimage.gaussian_filter(alpha, 1.4, order=(1, 0))
    )
    assert np.corrcoef(theirs.ravel(), scipy_gradient(alpha).ravel())[0, 1] > 0.999


def scipy_connectivity(alpha: np.ndarray, truth: np.ndarray) -> float:
    """Rhemann's measure pixel by pixel, with SciPy's labels."""
    level = np.full(alpha.shape, np.nan)
    thresholds = [0.1 * step for step in range(11)]
    for before, threshold in pairwise(thresholds):
        labels, count = ndimage.label((alpha >= threshold - 1e-12) & (truth >= threshold - 1e-12))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        omega = labels == 1 + int(np.argmax(sizes)) if count else np.zeros(alpha.shape, bool)
        for pixel in zip(*np.nonzero(np.isnan(level) & ~omega), strict=True):
            level[pixel] = before
    level[np.isnan(level)] = 1

    def connected(value: float, last: float) -> float:
        return 1 - (value - last) if value - last >= 0.15 else 1

    pairs = zip(alpha.ravel(), truth.ravel(), level.ravel(), strict=True)
    return sum(abs(connected(a, last) - connected(t, last)) for a, t, last in pairs) / 1000


@settings(max_examples=60)
@given(pair=matte_pairs())
def test_connectivity_equals_scipy(pair):
    # multiples of 1/8 and the thresholds themselves: no step lies within rounding of another
    alpha, truth = (np.round(matte * 8) / 8 for matte in pair)
    assert connectivity_error(alpha, truth) == pytest.approx(scipy_connectivity(alpha, truth), abs=1e-9)


def test_connectivity_of_portraits_equals_scipy():
    alpha, truth = portraits()
    assert connectivity_error(alpha, truth) == pytest.approx(scipy_connectivity(alpha, truth), rel=1e-9)


def test_connectivity_by_hand():
    truth, alpha = np.zeros((1, 9)), np.zeros((1, 9))
    truth[0, :5] = 1
    alpha[0, :5] = 1
    # three pixels of 0.8 apart from the body: never in omega, so l = 0 and they count 1 - 0.8 instead of 1
    alpha[0, 6:] = 0.8
    assert connectivity_error(alpha, truth) == pytest.approx(3 * 0.8 / 1000)
    # 0.1 is below theta: as good as connected
    alpha[0, 6:] = 0.1
    assert connectivity_error(alpha, truth) == 0


EIGHT = np.ones((3, 3), int)


@given(pair=mask_pairs())
def test_pieces_equal_scipy(pair):
    mask, truth = pair
    labels, count = ndimage.label(mask, structure=EIGHT)
    assert islands(mask, truth) == sum(not truth[labels == part].any() for part in range(1, count + 1))
    labels, count = ndimage.label(~mask)
    assert holes(mask, truth) == sum(truth[labels == part].all() for part in range(1, count + 1))


def test_pieces_by_hand():
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    mask = truth.copy()
    assert (holes(mask, truth), islands(mask, truth)) == (0, 0)
    mask[8, 8] = mask[10, 11] = False
    mask[1:3, 1:3] = mask[18, 18] = True
    # a diagonal neighbour belongs to its island, and does not let a hole out
    mask[3, 3] = True
    assert (holes(mask, truth), islands(mask, truth)) == (2, 2)
    # a bulge is no island
    mask[15:18, 10] = True
    assert islands(mask, truth) == 2


@pytest.mark.parametrize("measure", [*COUNTS.values(), *MATTE_METRICS.values()], ids=[*COUNTS, *MATTE_METRICS])
def test_empty_and_unequal(measure):
    kind = bool if measure in COUNTS.values() else np.float64
    empty, full = np.zeros((6, 7), kind), np.ones((6, 7), kind)
    assert measure(empty, empty) == measure(full, full) == 0
    with pytest.raises(Exception, match=r"resize|dimension|shape|type"):
        measure(empty, np.ones((6, 1), kind))


def test_flicker_by_hand():
    still = [np.zeros((4, 5)) for _ in range(3)]
    assert dtssd(still, still) == 0 and flipped_share([a > 0.5 for a in still], [a > 0.5 for a in still]) == 0
    blink = [frame.copy() for frame in still]
    blink[1][0, :] = 1  # 5 of 20 pixels come and go
    assert dtssd(blink, still) == pytest.approx(100 * math.sqrt(5 / 20))
    assert flipped_share([a > 0.5 for a in blink], [a > 0.5 for a in still]) == 5 / 20
    # what moves with the truth does not flicker, nor does an error that stays
    assert dtssd(blink, blink) == 0 and flipped_share([a > 0.5 for a in blink], [a > 0.5 for a in blink]) == 0
    wrong = [frame + 1 for frame in still]
    assert dtssd(wrong, still) == 0


def test_flicker_of_short_and_unequal_clips():
    frame, mask = np.zeros((4, 5)), np.zeros((4, 5), bool)
    assert dtssd([], []) == dtssd([frame], [frame]) == 0 == flipped_share([mask], [mask])
    # every pixel of the truth changes: nothing is left that must stand still
    assert flipped_share([mask, mask], [mask, ~mask]) == 0
    with pytest.raises(ValueError, match="one for each"):
        dtssd([frame, frame], [frame])
    with pytest.raises(ValueError, match="first one"):
        flipped_share([mask, np.zeros((5, 5), bool)], [mask, np.zeros((5, 5), bool)])


@settings(max_examples=50)
@given(
    frames=hnp.arrays(np.float64, (4, 6, 5), elements=LEVELS), truths=hnp.arrays(np.float64, (4, 6, 5), elements=LEVELS)
)
def test_flicker_equals_the_direct_formula(frames, truths):
    change = np.diff(frames, axis=0) - np.diff(truths, axis=0)
    expected = 100 * np.sqrt((change**2).mean(axis=(1, 2))).mean()
    assert dtssd(list(frames), list(truths)) == pytest.approx(expected, abs=1e-9)
