"""Edge refinement: by hand, against a plain guided filter, and its promises on odd input."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import contract, refine
from portraitseg.refine import EdgeRefiner

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def scene(size: tuple[int, int] = (96, 128), shift: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo of a bright disc, its truth, and a mask at a quarter of the size whose outline is a little off."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    truth = (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 3) ** 2
    image = np.full((height, width, 3), (40, 60, 90), np.uint8)
    image[truth] = (210, 170, 150)
    off = ((y - height / 2) ** 2 + (x - width / 2 - shift) ** 2 < (height / 3) ** 2).astype(np.float32)
    probability = cv2.resize(cv2.GaussianBlur(off, (0, 0), 3), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return image, truth, probability


def plain_guided_filter(image: np.ndarray, target: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """He et al., 2013, equations 19 to 21, pixel by pixel with numpy's solver: slow, and nothing shared with ours."""
    guide = image.astype(np.float64) / 255
    height, width = target.shape

    def window(values: np.ndarray, y: int, x: int) -> np.ndarray:
        rows = np.clip(np.arange(y - radius, y + radius + 1), 0, height - 1)
        columns = np.clip(np.arange(x - radius, x + radius + 1), 0, width - 1)
        return values[np.ix_(rows, columns)].reshape(len(rows) * len(columns), -1)

    a, b = np.zeros((height, width, 3)), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            colours, values = window(guide, y, x), window(target, y, x)[:, 0]
            variance = np.cov(colours.T, bias=True) + epsilon * np.eye(3)
            covariance = (colours * values[:, None]).mean(axis=0) - colours.mean(axis=0) * values.mean()
            a[y, x] = np.linalg.solve(variance, covariance)
            b[y, x] = values.mean() - a[y, x] @ colours.mean(axis=0)
    means = np.array([[window(np.dstack([a, b]), y, x).mean(axis=0) for x in range(width)] for y in range(height)])
    return np.clip((means[..., :3] * guide).sum(axis=2) + means[..., 3], 0, 1)


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-2), (2, 1e-3), (3, 1e-4)])
def test_it_is_the_guided_filter(radius: int, epsilon: float) -> None:
    generator = np.random.default_rng(3)
    image = cv2.resize(generator.integers(0, 256, (5, 6, 3), np.uint8), (18, 14), interpolation=cv2.INTER_CUBIC)
    target = cv2.resize(generator.random((4, 5), np.float32), (18, 14))
    solved = refine.coefficients(image, target, 18, radius, epsilon)
    expected = plain_guided_filter(image, target, radius, epsilon)
    # float32 variances of colours that hardly differ
    np.testing.assert_allclose(refine.evaluate(solved, image), expected, atol=2e-3)
    other = plain_guided_filter(image, target, radius, epsilon * 10)
    assert np.abs(other - expected).max() > 4e-3


def test_the_outline_follows_the_photo() -> None:
    image, truth, probability = scene()
    before = contract.probability_to_mask(probability, truth.shape)
    after = EdgeRefiner(side=32)(image, probability) > 0.5
    assert (after != truth).sum() < 0.4 * (before != truth).sum()


@quick
@given(seed=seeds, height=st.integers(1, 40), width=st.integers(1, 40), side=st.integers(1, 40))
def test_any_size_and_any_picture(seed: int, height: int, width: int, side: int) -> None:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (height, width, 3), np.uint8)
    probability = generator.random((int(generator.integers(1, 30)), int(generator.integers(1, 30))), np.float32)
    alpha = EdgeRefiner(side=side, radius=int(generator.integers(1, 5)))(image, probability)
    assert alpha.shape == (height, width) and alpha.dtype == np.float32
    assert np.isfinite(alpha).all() and alpha.min() >= 0 and alpha.max() <= 1


@quick
@given(value=st.sampled_from([0.0, 1.0]), seed=seeds)
def test_nobody_stays_nobody_and_a_full_mask_full(value: float, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
    np.testing.assert_array_equal(EdgeRefiner(side=16)(image, np.full((20, 20), value, np.float32)), value)


def test_one_colour_changes_little() -> None:
    """Where the photo has no edge there is nothing to follow: the mask is only blurred."""
    _, truth, probability = scene()
    gray = np.full((*truth.shape, 3), 128, np.uint8)
    after = EdgeRefiner(side=32, radius=1)(gray, probability) > 0.5
    assert (after != contract.probability_to_mask(probability, truth.shape)).mean() < 0.01


def test_coefficients_are_applied_in_one_line() -> None:
    image, _, probability = scene()
    solved = EdgeRefiner(side=32).coefficients(image, probability)
    assert solved.shape == (24, 32, 4)
    stretched = cv2.resize(solved, (128, 96), interpolation=cv2.INTER_LINEAR)
    expected = np.clip((stretched[..., :3] * (image / 255)).sum(axis=2) + stretched[..., 3], 0, 1)
    np.testing.assert_allclose(refine.apply(solved, image), expected, atol=1e-6)


def test_shaping_clears_haze_and_leaves_one_half() -> None:
    alpha = np.array([[0.0, 0.05, 0.1, 0.5, 0.9, 0.95, 1.0]], np.float32)
    shaped = refine.shape(alpha, 0.1, 0.9)
    np.testing.assert_array_equal(shaped[0, [0, 1, 3, 5, 6]], [0, 0, 0.5, 1, 1])
    every = np.linspace(0, 1, 1001, dtype=np.float32)[None]
    np.testing.assert_array_equal(refine.shape(every, 0.1, 0.9) > 0.5, every > 0.5)
    np.testing.assert_array_equal(refine.shape(every, 0.0, 1.0), every)


def test_specks_and_holes_go_and_the_person_stays() -> None:
    alpha = np.zeros((100, 100), np.float32)
    alpha[20:80, 20:80] = 1
    alpha[19, 20:80] = 0.4  # a soft outline
    clean = alpha.copy()
    alpha[50:52, 50:52] = 0.2  # a hole
    alpha[5:7, 5:7] = 0.9  # a speck, with its seam
    alpha[4, 5:7] = 0.3
    cleaned = refine.clean(alpha, specks=0.002, holes=0.0005)
    np.testing.assert_array_equal(cleaned, clean)
    np.testing.assert_array_equal(refine.clean(alpha, 0.0, 0.0), alpha)
    # larger ones are parts of the picture
    np.testing.assert_array_equal(refine.clean(alpha, specks=0.0003, holes=0.0003), alpha)


def test_specks_of_the_small_mask_have_no_coefficients() -> None:
    image, _, probability = scene(shift=0.0)
    image[8:20, 100:116] = (210, 170, 150)
    probability[4:10, 50:58] = 0.9
    kept = EdgeRefiner(side=64, specks=0.0, holes=0.0)(image, probability)
    gone = EdgeRefiner(side=64, specks=0.02, holes=0.0)(image, probability)
    assert (kept[8:20, 100:116] > 0.5).any() and not (gone[:24, 98:] > 0).any()
    np.testing.assert_array_equal(gone[40:], kept[40:])


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 0},
        {"radius": 0},
        {"epsilon": 0.0},
        {"low": 0.2},
        {"low": 0.5, "high": 0.5},
        {"specks": 1.0},
        {"holes": -1.0},
    ],
)
def test_impossible_parameters(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EdgeRefiner(**wrong)  # type: ignore[arg-type]


@quick
@given(seed=seeds, share=st.sampled_from([0.0, 0.004, 0.02]), neighbours=st.sampled_from([4, 8]))
def test_small_pieces_are_those_of_few_pixels(seed: int, share: float, neighbours: int) -> None:
    mask = np.random.default_rng(seed).random((20, 30)) > 0.6
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=neighbours)
    few = [label for label, row in enumerate(stats) if label and row[cv2.CC_STAT_AREA] < share * mask.size]
    np.testing.assert_array_equal(refine._small(mask, share, neighbours), np.isin(labels, few))
