"""Tests of the procedural portraits: the same everywhere, plausible in amount, exact in alpha."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.data.synthetic_dataset import open_synthetic
from portraitseg.errors import InputError
from portraitseg.synthetic import portraits as synthetic
from portraitseg.synthetic.paint import fill, limb, oval, paint, stroke
from portraitseg.synthetic.portraits import render

SMALL = (64, 64)


@pytest.fixture(scope="module")
def portraits() -> list[tuple[np.ndarray, np.ndarray]]:
    return [render(i, SMALL) for i in range(40)]


def test_same_arguments_give_the_same_portrait_whatever_was_drawn_before():
    image, alpha = render(3, SMALL, seed=5)
    np.random.seed(0)  # the global generator must not matter
    np.random.random(7)
    render(4, (48, 80), seed=5)
    again, alpha_again = render(3, SMALL, seed=5)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(alpha, alpha_again)


def test_global_generator_is_left_alone():
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    render(0, SMALL)
    assert np.random.random() == expected


def test_index_and_seed_change_the_portrait():
    image, alpha = render(0, SMALL)
    for other in (render(1, SMALL), render(0, SMALL, seed=1)):
        assert not np.array_equal(image, other[0])
        assert not np.array_equal(alpha, other[1])


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 64), (64, 128), (256, 144), (720, 16), (8, 8), (1, 1)])
def test_shape_and_dtype(size: tuple[int, int]):
    image, alpha = render(2, size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert alpha.shape == size and alpha.dtype == np.uint8
    assert image.flags.c_contiguous and alpha.flags.c_contiguous


@pytest.mark.parametrize("size", [SMALL, (32, 32), (48, 96), (96, 48)])
def test_person_covers_a_plausible_share(size: tuple[int, int]):
    shares = [render(i, size)[1].mean() / 255 for i in range(40)]
    # the documented bounds, which the last redraw may miss a little
    assert min(shares) > 0.08 and max(shares) < 0.75
    assert max(shares) - min(shares) > 0.2, "people should stand both far and near"


def test_alpha_is_mostly_hard_and_soft_at_the_edges(portraits):
    soft = [((alpha > 8) & (alpha < 247)).mean() for _, alpha in portraits]
    # at 64 x 64 an outline is a larger part of the frame than at a network's size: hence a wide upper bound
    assert min(soft) > 0.002 and max(soft) < 0.35
    assert all((alpha == 255).any() and (alpha == 0).any() for _, alpha in portraits)


def test_portraits_vary_in_light_and_colour(portraits):
    means = np.array([image.mean() for image, _ in portraits])
    assert means.std() > 15 and means.min() > 5 and means.max() < 250
    chroma = [np.ptp(image.astype(int), axis=2).mean() for image, _ in portraits]
    assert max(chroma) > 30


def test_picture_is_composed_with_exactly_this_alpha(monkeypatch):
    """Before white and before black the pictures differ by 255 - alpha: the matting equation, solved for alpha."""
    monkeypatch.setattr(synthetic, "_light", lambda rng, colour, background: (colour, background))
    monkeypatch.setattr(synthetic, "_photograph", lambda rng, image: image)
    for index in range(8):
        pictures = []
        for shade in (255, 0):
            monkeypatch.setattr(
                synthetic, "draw_background", lambda rng, size, shade=shade: np.full((*size, 3), shade, np.uint8)
            )
            image, alpha = render(index, (96, 96))
            pictures.append(image.astype(int))
        np.testing.assert_array_equal(pictures[0] - pictures[1], 255 - alpha[..., None].astype(int).repeat(3, axis=2))


def test_every_brush_blends_colour_and_alpha_alike():
    """White strokes on an empty canvas: colour must equal alpha, to within the rounding of overlapping edges."""
    canvas = np.zeros((60, 60, 4), np.uint8)
    paint(canvas, oval(30, 30, 20, 14), np.full((4, 4, 3), 255, np.uint8), fringe_px=2.0)
    fill(canvas, limb((10.3, 8.1), (40.7, 22.9), 3.3, 1.2), (255, 255, 255))
    stroke(canvas, [np.array([(5.0, 50.0), (50.2, 3.3)])], (255, 255, 255), 1)
    assert ((canvas[..., 3] > 0) & (canvas[..., 3] < 255)).any()
    np.testing.assert_array_equal(canvas[..., :3], canvas[..., 3:].repeat(3, axis=2))
    before = canvas[..., 3].copy()
    paint(canvas, oval(30, 30, 29, 29), np.zeros((4, 4, 3), np.uint8), fringe_px=3.0, is_atop=True)
    np.testing.assert_allclose(canvas[..., 3].astype(int), before.astype(int), atol=1)  # a shadow is no person
    assert canvas[30, 30, 0] == 0


def test_same_scene_at_another_size():
    for index in range(6):
        small, large = render(index, (64, 64))[1], render(index, (128, 128))[1]
        shrunk = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
        both, either = ((small > 127) & (shrunk > 127)).sum(), ((small > 127) | (shrunk > 127)).sum()
        # strokes are at least a pixel wide, so small frames are a little fatter; another scene scores below 0.8
        assert both / either > 0.93


def test_colour_alone_does_not_find_the_person(portraits):
    """A background pixel is often closer to the person's mean colour than a pixel of the person is."""
    confused = []
    for image, alpha in portraits:
        distance = np.linalg.norm(image - image[alpha == 255].mean(axis=0), axis=2)
        confused.append((distance[alpha == 0] < np.median(distance[alpha == 255])).mean())
    assert np.mean(confused) > 0.1


@pytest.mark.parametrize(("index", "size", "seed"), [(-1, SMALL, 0), (0, SMALL, -1), (0, (0, 64), 0)])
def test_bad_arguments_are_refused(index: int, size: tuple[int, int], seed: int):
    with pytest.raises(ValueError, match="need index"):
        render(index, size, seed)


def test_weights_that_a_training_began_with_may_bind_it():
    with pytest.raises(InputError, match=r"DATA photos: .* leave DATA out, or FORMAT=folder"):
        open_synthetic(DataConfig(format="synthetic", root=Path("photos")), 7)
    terms_of_set = open_dataset(DataConfig(format="synthetic"), 7).terms_of("synthetic")
    assert terms_of_set.licence.startswith("Apache-2.0") and terms_of_set.use == "any"
    bound = open_dataset(DataConfig(format="synthetic", licence="non-commercial"), 7).terms_of("synthetic")
    assert bound.licence == bound.use == "non-commercial"
