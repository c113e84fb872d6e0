"""Properties of every augmentation, a case with a known answer for each, and the faults of a configuration."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg.errors import InputError
from train.augment import AUGMENTATIONS, GEOMETRIC, LUMA, NORMAL_OF_BYTE
from train.augmenter import build

PHOTOMETRIC = {
    *("add", "add_per_channel", "add_per_element", "gaussian_noise", "occlusion_patches", "mean_blur", "median_blur"),
    *("gaussian_blur", "motion_blur", "gamma", "colour_jitter", "grayscale", "jpeg", "low_light", "backlight"),
}

ROOT = Path(__file__).parents[2]

#: Bilinear weights are fixed-point, and OpenCV may round one channel and three by different instructions.
ROUNDING = 1

every_augmentation = pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
every_geometric = pytest.mark.parametrize("name", sorted(GEOMETRIC))
few = settings(max_examples=12, deadline=None)
sides = st.integers(1, 24)
seeds = st.integers(0, 2**32 - 1)


def make_pair(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 256, (height, width), np.uint8)


def flat(value, size=64):
    return np.full((size, size, 3), value, np.uint8), np.zeros((size, size), np.uint8)


def image_after(name, image, seed=0, **parameters):
    mask = np.zeros(image.shape[:2], np.uint8)
    return AUGMENTATIONS[name](image, mask, np.random.default_rng(seed), **parameters)[0]


def largest_difference(first, second):
    return np.abs(first.astype(int) - second).max()


# ---- every augmentation


def test_each_is_photometric_or_geometric():
    assert set(AUGMENTATIONS) == PHOTOMETRIC | GEOMETRIC and not PHOTOMETRIC & GEOMETRIC


@every_augmentation
@few
@given(height=sides, width=sides, seed=seeds)
def test_keeps_shape_dtype_and_contiguity_and_the_inputs(name, height, width, seed):
    image, mask = make_pair(height, width, seed)
    image_before, mask_before = image.copy(), mask.copy()
    for pixels in (image, mask):
        pixels.flags.writeable = False
    image_out, mask_out = AUGMENTATIONS[name](image, mask, np.random.default_rng(seed))
    for out, before in ((image_out, image_before), (mask_out, mask_before)):
        assert out.shape == before.shape and out.dtype == np.uint8 and out.flags.c_contiguous
    assert np.array_equal(image, image_before) and np.array_equal(mask, mask_before)


@every_augmentation
@few
@given(height=sides, width=sides, seed=seeds)
def test_same_seed_same_result(name, height, width, seed):
    image, mask = make_pair(height, width)
    first = AUGMENTATIONS[name](image, mask, np.random.default_rng(seed))
    second = AUGMENTATIONS[name](image, mask, np.random.default_rng(seed))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


@every_augmentation
def test_changes_a_photo(name):
    image, mask = make_pair(32, 40)
    assert not np.array_equal(AUGMENTATIONS[name](image, mask, np.random.default_rng(1))[0], image)


@pytest.mark.parametrize("name", sorted(PHOTOMETRIC))
@few
@given(height=sides, width=sides, seed=seeds)
def test_photometric_leaves_the_mask(name, height, width, seed):
    image, mask = make_pair(height, width)
    assert np.array_equal(AUGMENTATIONS[name](image, mask, np.random.default_rng(seed))[1], mask)


@every_geometric
@few
@given(height=sides, width=sides, seed=seeds)
def test_geometric_moves_the_mask_with_the_image(name, height, width, seed):
    _, mask = make_pair(height, width, seed)
    image_out, mask_out = AUGMENTATIONS[name](np.dstack([mask] * 3), mask, np.random.default_rng(seed))
    assert largest_difference(image_out, mask_out[..., None]) <= ROUNDING


@every_geometric
def test_the_tolerance_notices_a_mask_one_pixel_off(name):
    # a slope of 4 levels per px: smooth enough that only the displacement can be seen
    mask = np.add.outer(np.arange(32) * 4, np.arange(32) * 4).astype(np.uint8)
    image_out, mask_out = AUGMENTATIONS[name](np.dstack([mask] * 3), mask, np.random.default_rng(3))
    assert largest_difference(image_out, np.roll(mask_out, 1, axis=0)[..., None]) > ROUNDING
    assert largest_difference(image_out, mask[..., None]) > ROUNDING


# ---- known answers


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip"])
@few
@given(height=sides, width=sides, seed=seeds)
def test_a_flip_undoes_itself(name, height, width, seed):
    image, mask = make_pair(height, width, seed)
    rng = np.random.default_rng(0)
    image_back, mask_back = AUGMENTATIONS[name](*AUGMENTATIONS[name](image, mask, rng), rng)
    assert np.array_equal(image_back, image) and np.array_equal(mask_back, mask)


def test_flips_are_named_for_the_sides_they_swap():
    image, mask = make_pair(5, 7)
    assert np.array_equal(AUGMENTATIONS["horizontal_flip"](image, mask, np.random.default_rng())[1], mask[:, ::-1])
    assert np.array_equal(AUGMENTATIONS["vertical_flip"](image, mask, np.random.default_rng())[0], image[::-1])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("add", {"low": 0.0, "high": 0.0}),
        ("add_per_channel", {"low": 0.0, "high": 0.0}),
        ("add_per_element", {"low": 0.0, "high": 0.0}),
        ("gaussian_noise", {"low": 0.0, "high": 0.0}),
        ("mean_blur", {"low": 1.0, "high": 1.0}),
        ("median_blur", {"low": 1.0, "high": 1.0}),
        ("gaussian_blur", {"low": 0.0, "high": 0.0}),
        ("motion_blur", {"low": 1.0, "high": 1.0}),
        ("gamma", {"low": 1.0, "high": 1.0}),
        ("colour_jitter", {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "temperature": 0.0}),
        ("low_light", {"low": 0.0, "high": 0.0, "noise": 0.0}),
        ("backlight", {"low": 0.0, "high": 0.0, "glare": 0.0}),
        ("rotate_scale", {"degrees": 0.0, "low": 1.0, "high": 1.0, "translation": 0.0}),
        ("crop_stretch", {"low": 1.0, "high": 1.0}),
    ],
)
def test_the_neutral_parameters_change_nothing(name, parameters):
    image, mask = make_pair(24, 31)
    image_out, mask_out = build({name: {"p": 1.0, **parameters}})(image, mask, np.random.default_rng(5))
    assert np.array_equal(image_out, image) and np.array_equal(mask_out, mask)


def test_add_is_exact_and_saturates():
    image, _ = make_pair(16, 16)
    assert np.array_equal(image_after("add", image, low=40.0, high=40.0), np.minimum(image.astype(int) + 40, 255))
    assert np.array_equal(image_after("add", image, low=-40.0, high=-40.0), np.maximum(image.astype(int) - 40, 0))


def test_add_per_channel_moves_each_channel_as_one():
    out = image_after("add_per_channel", flat(128)[0], low=-60.0, high=60.0)
    assert len(np.unique(out[0, 0])) == 3 and (out == out[0, 0]).all()


def test_add_per_element_fills_its_range():
    offsets = image_after("add_per_element", flat(128)[0], low=-20.0, high=10.0).astype(int) - 128
    assert (offsets.min(), offsets.max()) == (-20, 10)
    # 12,288 uniform draws: the mean is known to 0.08, its deviation; five of them
    assert abs(offsets.mean() + 5) < 0.4


def test_gaussian_noise_has_its_deviation():
    noise = image_after("gaussian_noise", flat(128)[0], low=10.0, high=10.0).astype(int) - 128
    # 12,288 draws: the mean is known to 0.09 and the deviation to 0.064; five of each
    assert abs(noise.mean()) < 0.45 and abs(noise.std() - 10) < 0.32
    assert NORMAL_OF_BYTE.std() == pytest.approx(1) and np.all(np.diff(NORMAL_OF_BYTE) > 0)


def test_occlusion_covers_no_more_than_its_share():
    image, _ = make_pair(100, 100)
    for seed in range(20):
        covered = (image_after("occlusion_patches", image, seed, low=0.1, high=0.2, most=2.0) != image).any(axis=2)
        assert 0 < covered.mean() <= 2 * 0.2**2


@pytest.mark.parametrize("name", ["mean_blur", "median_blur", "gaussian_blur", "motion_blur"])
def test_a_blur_calms_noise_and_leaves_a_flat_photo(name):
    image, _ = make_pair(64, 64)
    assert np.array_equal(image_after(name, flat(90)[0]), flat(90)[0])
    assert image_after(name, image, low=3.0, high=3.0).std() < 0.7 * image.std()


def test_gamma_two_squares_brightness():
    assert image_after("gamma", flat(128)[0], low=2.0, high=2.0)[0, 0, 0] == round(255 * (128 / 255) ** 2)


def test_grayscale_is_bt601_luma():
    image, _ = make_pair(32, 32)
    out = image_after("grayscale", image)
    assert (out == out[..., :1]).all()
    assert largest_difference(out[..., 0], np.rint(image @ LUMA)) <= 1  # OpenCV rounds in fixed point


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "temperature"])
def test_colour_jitter_does_what_its_parameters_say(name):
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "temperature": 0.0}
    image = np.full((4, 4, 3), (150, 110, 90), np.uint8)
    before, after = (
        image[0, 0].astype(int),
        image_after("colour_jitter", image, 2, **off | {name: 0.2})[0, 0].astype(int),
    )
    change = after - before
    assert change.any()
    if name == "brightness":
        assert len(set(change)) == 1
    elif name == "contrast":
        factors = (after - 127.5) / (before - 127.5)
        assert np.ptp(factors) < 2 * 0.5 / 17.5  # one factor about mid-grey, each byte rounded by up to a half
    elif name == "saturation":
        assert abs(change @ LUMA) <= 1  # three channels, each rounded by up to a half
    else:
        assert change[0] * change[2] < 0 and change[1] == 0


def test_jpeg_keeps_the_channel_order_and_loses_with_quality():
    image = np.full((32, 32, 3), (200, 60, 20), np.uint8)
    # a flat block is one coefficient a plane, in steps of 3/8 level at quality 90: 0.19 level off. Colour adds luma and
    # up to 1.8 chroma: 0.5 from the steps, 1.4 from rounding the planes, 0.5 from rounding the result
    assert largest_difference(image_after("jpeg", image, low=90.0, high=90.0), image) <= 2.4
    noisy, _ = make_pair(32, 32)
    good, bad = (np.abs(image_after("jpeg", noisy, low=q, high=q) - noisy.astype(int)).mean() for q in (100.0, 10.0))
    assert good < bad


def test_low_light_halves_light_at_each_stop():
    # brightness is light to the power 1 / 2.2, so that 2.2 stops halve brightness
    assert image_after("low_light", flat(200)[0], low=2.2, high=2.2, noise=0.0)[0, 0, 0] == 100


@pytest.mark.parametrize("seed", range(8))
def test_motion_blur_smears_a_point_along_a_centred_line(seed):
    image = np.zeros((33, 33, 3), np.uint8)
    image[16, 16] = 255
    smear = image_after("motion_blur", image, seed, low=9.0, high=9.0)[..., 0].astype(float)
    rows, columns = np.nonzero(smear)
    along = np.hypot(rows - 16, columns - 16)
    # half of the 9 px either way; pixels are whole, so the ends are up to 0.71 px beside the line's
    assert 3.2 < along.max() < 4.8
    # as many pixels as the line is long, within the diagonal's root of two and a corner of a pixel at each step
    assert 5 <= len(rows) <= 18
    assert abs(smear.sum() - 255) <= 0.5 * len(rows)
    centre = np.average([rows, columns], axis=1, weights=smear[rows, columns])
    assert centre == pytest.approx([16, 16], abs=0.1)
    off_line = np.linalg.svd(np.stack([rows - 16, columns - 16]), compute_uv=False)[1] / np.sqrt(len(rows))
    assert off_line < 0.71


def test_backlight_takes_light_from_the_person_and_adds_it_behind():
    image = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((40, 40), np.uint8)
    mask[:, :20] = 255
    parameters = {"low": 2.2, "high": 2.2, "glare": 0.0}
    hard = AUGMENTATIONS["backlight"](image, mask, np.random.default_rng(0), softness=0.0, **parameters)[0]
    assert (hard[:, :20] == 50).all() and (hard[:, 20:] == 100).all()  # 2.2 stops halve brightness
    # the draw of the softness is 0.04 with this seed: a sigma of 1.6 px, so that the steepest slope is 12 levels a px
    softened = AUGMENTATIONS["backlight"](image, mask, np.random.default_rng(0), softness=1.0, **parameters)[0]
    soft = softened[20, :, 0].astype(int)
    assert (np.diff(soft) >= 0).all() and np.diff(soft).max() < 14 and (soft[0], soft[-1]) == (50, 100)
    bright = AUGMENTATIONS["backlight"](image, mask, np.random.default_rng(0), low=0.0, high=0.0)[0]
    assert (bright[:, 36:] > 100).all() and (bright[:, :4] == 100).all()


def test_quarter_turn_turns_either_way():
    image, mask = make_pair(6, 6)
    seen = {AUGMENTATIONS["quarter_turn"](image, mask, np.random.default_rng(seed))[1].tobytes() for seed in range(20)}
    assert seen == {np.rot90(mask, way).tobytes() for way in (1, -1)}


def test_quarter_turn_keeps_a_shape_that_is_not_square():
    mask = np.zeros((8, 32), np.uint8)
    mask[:4] = 255
    turned = AUGMENTATIONS["quarter_turn"](np.dstack([mask] * 3), mask, np.random.default_rng(0))[1]
    # 8 px are stretched to 32: bilinear mixes neighbours within two of the middle
    left, right = turned[:, :14], turned[:, 18:]
    assert {left.min(), left.max(), right.min(), right.max()} == {0, 255} and np.ptp(left) == np.ptp(right) == 0


def test_rotate_scale_turns_about_the_centre():
    _, mask = make_pair(9, 9)
    turned = AUGMENTATIONS["rotate_scale"](
        np.dstack([mask] * 3), mask, np.random.default_rng(0), degrees=180.0, low=1.0, high=1.0, translation=0.0
    )[1]
    assert turned[4, 4] == mask[4, 4]


# ---- the augmenter


def test_p_zero_is_the_identity_and_draws_are_few():
    image, mask = make_pair(16, 16)
    image_out, mask_out = build({name: {"p": 0.0} for name in AUGMENTATIONS})(image, mask, np.random.default_rng(0))
    assert np.array_equal(image_out, image) and np.array_equal(mask_out, mask)
    assert np.array_equal(build({})(image, mask, np.random.default_rng(0))[0], image)


def test_probability_is_the_share_of_photos_changed():
    image, mask = make_pair(2, 2)
    augment, rng = build({"vertical_flip": {"p": 0.3}}), np.random.default_rng(0)
    changed = np.mean([not np.array_equal(augment(image, mask, rng)[0], image) for _ in range(2000)])
    assert abs(changed - 0.3) < 0.05  # the share of 2,000 is known to 0.01, its deviation; five of them


def test_steps_run_in_the_configured_order():
    image, mask = flat(100, 4)
    brighten, darken = {"p": 1.0, "low": 200.0, "high": 200.0}, {"p": 1.0, "low": 2.0, "high": 2.0}
    first = build({"add": brighten, "gamma": darken})(image, mask, np.random.default_rng(0))[0]
    second = build({"gamma": darken, "add": brighten})(image, mask, np.random.default_rng(0))[0]
    assert first[0, 0, 0] == 255 and second[0, 0, 0] == 200 + round(255 * (100 / 255) ** 2)


@few
@given(height=sides, width=sides, seed=seeds)
def test_all_together_survive_pickling_and_repeat(height, width, seed):
    augment = build({name: {"p": 0.5} for name in AUGMENTATIONS})
    image, mask = make_pair(height, width, seed)
    first = augment(image, mask, np.random.default_rng(seed))
    second = pickle.loads(pickle.dumps(augment))(image, mask, np.random.default_rng(seed))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert first[0].shape == image.shape and first[1].shape == mask.shape


def test_a_strided_photo_comes_back_contiguous():
    image, mask = make_pair(16, 16)
    for augment in (build({}), build({name: {"p": 1.0} for name in AUGMENTATIONS})):
        for out in augment(image[::2, ::2], mask[::2, ::2], np.random.default_rng(0)):
            assert out.flags.c_contiguous and out.dtype == np.uint8 and out.shape[:2] == (8, 8)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        ({"flip": {"p": 1.0}}, r"augment\.flip: unknown augmentation \(known: add, .*crop_stretch\)"),
        ({"add": {}}, r"augment\.add\.p: needed"),
        ({"add": {"p": 1.5}}, r"augment\.add\.p: 1\.5 is not within 0 … 1"),
        ({"add": {"p": -0.1}}, r"augment\.add\.p: -0\.1"),
        ({"add": {"p": float("nan")}}, r"augment\.add\.p: nan"),
        ({"add": {"p": 1.0, "lo": 3.0}}, r"augment\.add\.lo: unknown parameter \(known: p, low, high\)"),
        ({"horizontal_flip": {"p": 1.0, "low": 3.0}}, r"augment\.horizontal_flip\.low: unknown parameter \(known: p\)"),
        ({"add": {"p": 1.0, "low": 5.0, "high": 4.0}}, r"augment\.add\.low: 5\.0 is above high, 4\.0"),
        ({"add": {"p": 1.0, "low": 90.0}}, r"augment\.add\.low: 90\.0 is above high, 25\.0"),
        ({"gamma": {"p": 1.0, "low": 0.0}}, r"augment\.gamma\.low: 0\.0 is not within 0\.05 … 20"),
        ({"jpeg": {"p": 1.0, "high": 101.0}}, r"augment\.jpeg\.high: 101"),
    ],
)
def test_a_fault_in_the_configuration_is_named_by_its_path(augment, message):
    with pytest.raises(InputError, match=message):
        build(augment)


def test_worker_processes_need_no_tensorflow():
    code = "import sys, train.augment; sys.exit(bool({'tensorflow', 'tf_keras', 'keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60).returncode == 0
