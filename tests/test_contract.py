"""The contract as docs/interface.md words it, against OpenCV called directly and against hand-made figures."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import contract

sides = st.integers(1, 40)
sizes = st.tuples(sides, sides)
seeds = st.integers(0, 2**32 - 1)

quick = settings(max_examples=60, deadline=None)


def photo(size: tuple[int, int], seed: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)


@quick
@given(here=sizes, there=sizes, seed=seeds, channels=st.sampled_from([1, 3, 4]))
def test_resize_is_opencv_by_the_rule(here: tuple[int, int], there: tuple[int, int], seed: int, channels: int) -> None:
    image = photo(here, seed, channels)
    resized = contract.resize_image(image, there)
    assert resized.shape == (*there, channels) and resized.dtype == np.uint8
    method = cv2.INTER_AREA if there[0] < here[0] and there[1] < here[1] else cv2.INTER_LINEAR
    expected = cv2.resize(image, there[::-1], interpolation=method).reshape(*there, channels)
    np.testing.assert_array_equal(resized, expected if here != there else image)


@quick
@given(size=sizes, seed=seeds)
def test_same_size_changes_nothing(size: tuple[int, int], seed: int) -> None:
    image = photo(size, seed)
    np.testing.assert_array_equal(contract.image_to_inputs(image, size, dtype="uint8")[0], image)


@quick
@given(value=st.integers(0, 255), here=sizes, there=sizes)
def test_one_colour_stays_it(value: int, here: tuple[int, int], there: tuple[int, int]) -> None:
    image = np.full((*here, 3), value, np.uint8)
    assert (contract.image_to_inputs(image, there, dtype="uint8") == value).all()


@quick
@given(here=sizes, there=sizes, seed=seeds, channels=st.sampled_from(["rgb", "rgba"]))
def test_float_inputs_are_the_bytes_over_255(
    here: tuple[int, int], there: tuple[int, int], seed: int, channels: contract.Channels
) -> None:
    image = photo(here, seed)
    as_bytes = contract.image_to_inputs(image, there, channels, "uint8")
    as_float = contract.image_to_inputs(image, there, channels)
    assert as_bytes.shape == as_float.shape == (1, *there, contract.CHANNEL_COUNT[channels])
    assert as_bytes.dtype == np.uint8 and as_float.dtype == np.float32
    assert as_bytes.flags.c_contiguous and as_float.flags.c_contiguous
    assert as_float.min() >= 0 and as_float.max() <= 1
    np.testing.assert_array_equal(as_float, as_bytes.astype(np.float32) / np.float32(255))
    # and back: no byte is lost on the way
    np.testing.assert_array_equal(np.round(as_float * 255).astype(np.uint8), as_bytes)


@quick
@given(here=sizes, there=sizes, seed=seeds)
def test_the_fourth_channel_leaves_the_others_alone(here: tuple[int, int], there: tuple[int, int], seed: int) -> None:
    image = photo(here, seed)
    rgba = contract.image_to_inputs(image, there, "rgba")
    np.testing.assert_array_equal(rgba[..., :3], contract.image_to_inputs(image, there))
    assert (rgba[..., 3] == 1).all()


def test_bytes_and_the_input_scale_agree() -> None:
    """Scale 1/255 and zero point 0 say the same of a byte as dividing it by 255 does."""
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(every * contract.INPUT_SCALE, contract.bytes_to_float(every), rtol=1e-7)


@quick
@given(
    size=sizes,
    seed=seeds,
    kind=st.sampled_from([np.uint8, np.int8]),
    scale=st.floats(1e-4, 1.0),
)
def test_quantization_errs_by_half_a_step(size: tuple[int, int], seed: int, kind: type, scale: float) -> None:
    limits = np.iinfo(kind)
    zero_point = int(limits.min)
    probability = np.random.default_rng(seed).uniform(0, min(1.0, scale * 255), size).astype(np.float32)
    stored = np.clip(np.round(probability / scale) + zero_point, limits.min, limits.max).astype(kind)
    back = contract.outputs_to_probability(stored[None, ..., None], scale, zero_point)
    assert back.dtype == np.float32 and back.shape == size
    # half a step, and what float32 cannot hold
    assert np.abs(back - probability).max() <= scale / 2 + 1e-6


@quick
@given(size=sizes, seed=seeds)
def test_float_outputs_pass_through(size: tuple[int, int], seed: int) -> None:
    probability = np.random.default_rng(seed).random(size, np.float32)
    np.testing.assert_array_equal(contract.outputs_to_probability(probability[None, ..., None]), probability)


@pytest.mark.parametrize("scale", [None, 0.0])
def test_integers_without_a_scale_are_refused(scale: float | None) -> None:
    with pytest.raises(ValueError, match="without a quantization scale"):
        contract.outputs_to_probability(np.zeros((1, 2, 2, 1), np.uint8), scale)


@quick
@given(here=sizes, there=sizes, seed=seeds)
def test_masks_are_resized_linearly_then_cut(here: tuple[int, int], there: tuple[int, int], seed: int) -> None:
    probability = np.random.default_rng(seed).random(here, np.float32)
    mask = contract.probability_to_mask(probability, there)
    assert mask.dtype == bool and mask.shape == there
    np.testing.assert_array_equal(mask, cv2.resize(probability, there[::-1], interpolation=cv2.INTER_LINEAR) > 0.5)


def test_the_thresholds() -> None:
    np.testing.assert_array_equal(contract.probability_to_mask(np.array([[0.5, 0.50001]]), (1, 2)), [[False, True]])
    np.testing.assert_array_equal(contract.truth_to_mask(np.array([[127, 128]], np.uint8)), [[False, True]])


@quick
@given(size=sizes, there=sizes, seed=seeds)
def test_a_mask_survives_the_way_there_and_back(size: tuple[int, int], there: tuple[int, int], seed: int) -> None:
    """At the same size exactly; a mask of one value at every size."""
    truth = photo(size, seed, 1)[..., 0]
    target = contract.mask_to_target(truth, size)
    back = contract.probability_to_mask(contract.bytes_to_float(target), size)
    np.testing.assert_array_equal(back, contract.truth_to_mask(truth))
    for value in (0, 255):
        flat = contract.bytes_to_float(contract.mask_to_target(np.full(size, value, np.uint8), there))
        assert (contract.probability_to_mask(flat, size) == (value > 127)).all()


@quick
@given(size=sizes, seed=seeds)
def test_targets_are_hard_unless_soft(size: tuple[int, int], seed: int) -> None:
    alpha = photo(size, seed, 1)[..., 0]
    assert set(np.unique(contract.mask_to_target(alpha, size))) <= {0, 255}
    np.testing.assert_array_equal(contract.mask_to_target(alpha, size, is_soft=True), alpha)


def test_views_are_taken_as_they_look() -> None:
    """A flipped or transposed view has odd strides."""
    image = photo((6, 9), 0)
    for view in (image[::-1], image[:, ::-1], image[..., ::-1], image.transpose(1, 0, 2)):
        copy = np.ascontiguousarray(view)
        np.testing.assert_array_equal(contract.image_to_inputs(view, (4, 5)), contract.image_to_inputs(copy, (4, 5)))


def test_a_tie_is_background_everywhere() -> None:
    """One half is no person: as a probability, as a byte of a mask, as a byte of a uint8 file."""
    half = np.float32(0.5)
    near = np.array([[np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(1))]], np.float32)
    expected = [[False, False, True]]
    np.testing.assert_array_equal(contract.probability_to_mask(near, (1, 3)), expected)
    np.testing.assert_array_equal(contract.truth_to_mask(contract.probability_to_bytes(near)), expected)
    # a uint8 file of ours: scale 1/256, zero point 0
    stored = np.array([127, 128, 129], np.uint8).reshape(1, 1, 3, 1)
    probability = contract.outputs_to_probability(stored, 1 / 256, 0)
    np.testing.assert_array_equal(contract.probability_to_mask(probability, (1, 3)), expected)
    np.testing.assert_array_equal(contract.truth_to_mask(contract.probability_to_bytes(probability)), expected)
    # what the golden masks were written with before: to the nearest even, which is person
    assert np.rint(half * 255) == 128


@quick
@given(seed=seeds, kind=st.sampled_from([np.float32, np.float64]))
def test_a_byte_is_person_where_its_probability_is(seed: int, kind: type) -> None:
    generator = np.random.default_rng(seed)
    probability = np.concatenate([generator.random(500), np.arange(257) / 256, np.arange(511) / 510]).astype(kind)
    stored = contract.probability_to_bytes(probability)
    np.testing.assert_array_equal(contract.truth_to_mask(stored[None])[0], probability > 0.5)
    # the nearest, but for what float32 cannot hold
    assert np.abs(stored / 255 - probability).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(contract.probability_to_bytes(contract.bytes_to_float(stored)), stored)
