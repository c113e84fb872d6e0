"""A hand-computed case, bounds, the perfect prediction and saturated logits for every loss."""

import math

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from portraitseg.errors import InputError
from portraitseg.models.keras_route import tf
from train import losses
from train.losses import LOSSES, NEEDS, build, needs_of

#: float32 carries 7 digits; a few operations each lose less than one unit of the last.
RELATIVE = 1e-5

every_loss = pytest.mark.parametrize("name", sorted(LOSSES))
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 9)

LN2, LN3 = math.log(2), math.log(3)

#: The losses that compare an output with a map of probabilities; the test gives that map as what each of them takes.
ON_TARGET = ("bce", "dice", "edge_weighted_bce", "alpha_l1", "composition", "sobel")

#: name → rows of what it takes, the loss worked out by hand.
HAND: dict[str, tuple[dict[str, list[float]], float]] = {
    # p = 3/4 and 1/2
    "bce": ({"logits": [LN3, 0], "target": [1, 0]}, (math.log(4 / 3) + LN2) / 2),
    # 2·Σpt + 1 = 2, Σp² + Σt² + 1 = 1/2 + 1 + 1
    "dice": ({"logits": [0, 0], "target": [1, 0]}, 1 - 2 / 2.5),
    # the outline lies between the 4th and the 5th: one pixel to either side weighs 5, the others 1; only the first,
    # which is far from it, is wrong
    "edge_weighted_bce": ({"logits": [-LN3, LN3, LN3, LN3, -LN3, -LN3, -LN3, -LN3], "target": [1, 1, 1, 1, 0, 0, 0, 0]},
                          (math.log(4) + 15 * math.log(4 / 3)) / 16),
    # b = 3/4 on the band; 3/4 and 1/4 beside it
    "boundary": ({"boundary_logits": [LN3, LN3, -LN3], "edge": [1, 0, 0]},
                 (math.log(4 / 3) + (math.log(4) + math.log(4 / 3)) / 2) / 2),
    # q = 1/2 and p = 3/4: 1/2·ln(2/3) + 1/2·ln 2; the second is the same in both
    "consistency": ({"logits": [LN3, LN3], "plain_logits": [0, LN3]}, math.log(4 / 3) / 4),
    "alpha_l1": ({"logits": [LN3, 0], "target": [1, 0]}, (1 / 4 + 1 / 2) / 2),
    # the only photo's background is its mirror image: |I - B| = 3/4 at both pixels
    "composition": ({"logits": [LN3, 0], "target": [1, 0], "images": [1, 0.25]}, (1 / 4 + 1 / 2) / 2 * 3 / 4),
    # p - t = -1/4 and 1/2: half of their difference at both pixels in one direction, none in the other
    "sobel": ({"logits": [LN3, 0], "target": [1, 0]}, 3 / 8 / 2),
}  # fmt: skip


def maps(values):
    """One row of pixels, or an (n, h, w) array, as (n, h, w, 1) float32."""
    values = np.asarray(values, np.float32)
    return tf.constant(values[None, None, :, None] if values.ndim == 1 else values[..., None])


def make_maps(n, h, w, seed, is_soft=False):
    rng = np.random.default_rng(seed)
    target = rng.random((n, h, w))
    return rng.normal(0, 3, (n, h, w)), target if is_soft else np.rint(target)


def given(name, logits, target, images=None):
    """The arguments of a loss: its prediction is `logits`, what it should be the probability `target`."""
    logits, target = maps(logits), maps(target)
    # 40: a probability of 0 or 1 to float32
    as_logits = tf.clip_by_value(tf.math.log(target) - tf.math.log1p(-target), -40, 40)
    if images is None:
        # white and black photos in turn, so that an error shows in a composite in full
        white = np.arange(logits.shape[0]) % 2 == 0
        images = np.broadcast_to(white[:, None, None], logits.shape[:3])
    values = {
        "logits": logits,
        "boundary_logits": logits,
        "target": target,
        "edge": target,
        "plain_logits": as_logits,
        "images": tf.repeat(maps(images), 3, axis=3),
    }
    return [values[need] for need in needs_of(name)]


def loss(name, logits, target, images=None):
    value = LOSSES[name](*given(name, logits, target, images))
    assert value.shape == () and value.dtype == tf.float32
    return float(value)


# ---- every loss


def test_every_loss_has_a_case_by_hand():
    assert set(HAND) == set(LOSSES)


def test_every_parameter_says_what_it_takes():
    assert all(set(needs_of(name)) <= set(NEEDS) for name in LOSSES)
    assert {name for name in LOSSES if {"logits", "target"} <= set(needs_of(name))} == set(ON_TARGET)


@every_loss
def test_case_by_hand(name):
    rows, expected = HAND[name]

    def value(rows):
        tensors = {need: maps(row) for need, row in rows.items()}
        if "images" in tensors:
            tensors["images"] = tf.repeat(tensors["images"], 3, axis=3)
        return float(LOSSES[name](**tensors))

    assert value(rows) == pytest.approx(expected, rel=RELATIVE)
    # the tolerance notices one logit that is off by a hundredth
    predicted = next(iter(rows))
    off = [rows[predicted][0] + 0.01, *rows[predicted][1:]]
    assert value({**rows, predicted: off}) != pytest.approx(expected, rel=RELATIVE)


@every_loss
@few
@hypothesis.given(h=sides, w=sides, seed=seeds)
def test_at_least_zero_and_finite(name, h, w, seed):
    value = loss(name, *make_maps(2, h, w, seed, is_soft=True))
    assert math.isfinite(value) and value >= -1e-6  # dice subtracts two numbers near 1
    if name in ("dice", "alpha_l1", "composition", "sobel"):
        assert value <= 1


@every_loss
@few
@hypothesis.given(h=sides, w=sides, seed=seeds)
def test_zero_for_a_sure_and_right_prediction(name, h, w, seed):
    _, target = make_maps(2, h, w, seed)
    assert loss(name, 40 * (2 * target - 1), target) == pytest.approx(0, abs=1e-6)
    if name != "sobel":  # where all is person, the opposite has the same slopes
        assert loss(name, -40 * (2 * target - 1), target) > 0.3


@every_loss
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_value_and_gradient_are_finite_at_saturated_logits(name, target, is_compiled):
    logits = np.array([-1e4, 1e4, 0, -30, 30], np.float32)
    arguments = given(name, logits, [target] * 5, images=[1, 0, 0.5, 0, 1])
    compute = tf.function(LOSSES[name]) if is_compiled else LOSSES[name]
    with tf.GradientTape() as tape:
        tape.watch(arguments[0])
        value = compute(*arguments)
    gradient = tape.gradient(value, arguments[0])
    assert np.isfinite(value) and np.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("seed", range(5))
def test_a_small_step_against_the_gradient_lowers_it(name, seed):
    logits, *rest = given(name, *make_maps(2, 6, 7, seed))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = LOSSES[name](logits, *rest)
    gradient = tape.gradient(value, logits)
    step = 0.02 * gradient / tf.norm(gradient)
    # what the slope promises, less a quarter for its own change along the step
    assert float(value - LOSSES[name](logits - step, *rest)) > 0.75 * 0.02 * float(tf.norm(gradient))


@pytest.mark.parametrize("name", ["bce", "dice", "consistency", "alpha_l1", "sobel"])
@few
@hypothesis.given(h=sides, w=sides, seed=seeds)
def test_a_batch_is_the_mean_of_its_photos(name, h, w, seed):
    logits, target = make_maps(3, h, w, seed, is_soft=True)
    alone = [loss(name, logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    assert loss(name, logits, target) == pytest.approx(np.mean(alone), rel=RELATIVE, abs=1e-6)


# ---- soft targets


@pytest.mark.parametrize("name", sorted({*LOSSES} - {"boundary"}))  # it balances
@few
@hypothesis.given(h=sides, w=sides, seed=seeds)
def test_soft_targets_are_fitted_best_by_themselves(name, h, w, seed):
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.05, 0.95, (1, h, w))
    best = loss(name, np.log(target / (1 - target)), target)
    for _ in range(3):
        other = np.log(target / (1 - target)) + rng.normal(0, 0.5, target.shape)
        assert loss(name, other, target) >= best - 1e-6
    if name not in ("bce", "edge_weighted_bce"):
        assert best == pytest.approx(0, abs=1e-6)


def test_bce_of_a_soft_target_is_its_entropy_at_best():
    assert loss("bce", [LN3], [0.75]) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), rel=RELATIVE)


# ---- each loss


def test_dice_of_a_blank_photo():
    blank = np.zeros((1, 8, 8))
    assert loss("dice", blank - 40, blank) == 0
    assert loss("dice", blank, blank) == pytest.approx(16 / 17, rel=RELATIVE)  # 64 pixels of p² = 1/4


def test_edge_weighted_bce_is_bce_without_an_outline_and_dearer_near_one():
    logits, _ = make_maps(1, 9, 9, 0)
    for blank in (np.zeros((1, 9, 9)), np.ones((1, 9, 9))):
        assert loss("edge_weighted_bce", logits, blank) == pytest.approx(loss("bce", logits, blank), rel=RELATIVE)
    row = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    near, far = (np.where(np.arange(8) == wrong, -2, 2) * (2 * row - 1) for wrong in (3, 0))
    assert loss("edge_weighted_bce", near, row) > 2 * loss("edge_weighted_bce", far, row)


@few
@hypothesis.given(seeds, sides, sides, st.integers(1, 3), st.sampled_from([3, 5, 9]))
def test_band_of_edge_weighted_bce_is_a_dilation(seed, height, width, n, side):
    maps = np.random.default_rng(seed).random((n, height, width), np.float32)
    dilated = losses._greatest_within(tf.constant(maps[..., None]), side).numpy()[..., 0]
    expected = [cv2.dilate(single, np.ones((side, side), np.uint8)) for single in maps]
    np.testing.assert_array_equal(dilated, expected)


@pytest.mark.parametrize(("height", "width", "reach"), [(256, 256, 4), (192, 256, 3), (128, 128, 2), (32, 32, 1)])
def test_the_band_of_edge_weighted_bce_is_a_share_of_the_shorter_side(height, width, reach):
    target = np.tile(np.arange(width) < width // 2, (1, height, 1))
    right = np.where(target, 20.0, -20.0)
    wrong = {}
    for distance in (reach - 1, reach):
        logits = right.copy()
        column = width // 2 + distance
        logits[..., column] = -logits[..., column]
        wrong[distance] = loss("edge_weighted_bce", logits, target)
    # the same mistake just inside of the band and just outside
    assert wrong[reach - 1] == pytest.approx((1 + losses.EDGE_GAIN) * wrong[reach], rel=1e-3)


def test_boundary_halves_are_the_band_and_the_rest_however_small_the_band():
    edge = np.zeros((2, 16, 16))
    edge[:, 8] = 1
    missed, spread = loss("boundary", np.full(edge.shape, -5), edge), loss("boundary", np.full(edge.shape, 5), edge)
    assert missed == pytest.approx(spread, rel=RELATIVE)
    blank = loss("boundary", np.full(edge.shape, -5), 0 * edge)
    assert blank == pytest.approx(math.log1p(math.exp(-5)) / 2, rel=RELATIVE)


def test_boundary_logits_of_a_lower_size_see_the_greatest_edge():
    edge = np.zeros((1, 4, 4))
    edge[0, 1, 3] = 1
    small = np.array([[[-40, 40], [-40, -40]]])
    assert float(LOSSES["boundary"](maps(small), maps(edge))) == pytest.approx(0, abs=1e-6)
    assert float(LOSSES["boundary"](-maps(small), maps(edge))) > 10


def test_no_gradient_reaches_what_is_learnt_from():
    logits, reference = maps([1, -2]), maps([0.5, 3])
    with tf.GradientTape() as tape:
        tape.watch([logits, reference])
        value = LOSSES["consistency"](logits, reference)
    mine, others = tape.gradient(value, [logits, reference])
    assert others is None
    # p - q over the number of pixels, at a temperature of 1
    np.testing.assert_allclose(mine, (tf.sigmoid(logits) - tf.sigmoid(reference)) / 2, rtol=RELATIVE)


def test_composition_shows_errors_where_the_backgrounds_differ():
    error = {"logits": np.zeros((2, 1, 2)), "target": np.ones((2, 1, 2))}
    # the second photo is the first one's mirror image, and the other way round
    assert loss("composition", **error, images=np.array([[[0.2, 0.7]], [[0.7, 0.2]]])) == 0
    assert loss("composition", **error, images=np.array([[[0.2, 0.7]], [[0.2, 0.7]]])) == pytest.approx(0.25)


def test_sobel_is_the_slope():
    ramp = np.linspace(0.1, 0.9, 9)[None, None] * np.ones((1, 9, 1))
    soft = lambda probability: np.log(probability / (1 - probability))  # noqa: E731
    # 0.1 a pixel in one direction, half of it at the two reflected ends, nothing in the other
    expected = 0.1 * (7 + 2 * 0.5) / 9 / 2
    for turned in (ramp, ramp.transpose(0, 2, 1)):
        assert loss("sobel", soft(turned), 0 * turned) == pytest.approx(expected, rel=RELATIVE)
    assert loss("sobel", soft(ramp), ramp - 0.05) == pytest.approx(0, abs=1e-6)


# ---- the sum


@pytest.mark.parametrize("is_compiled", [False, True])
def test_sum_is_weighted_and_its_terms_are_not(is_compiled):
    compute = build({"bce": 2.0, "dice": 0.5, "alpha_l1": 0.0})
    logits, target = make_maps(2, 5, 4, 0)
    tensors = {"logits": maps(logits), "target": maps(target)}
    total, values = (tf.function(compute) if is_compiled else compute)(tensors)
    assert list(values) == ["bce", "dice"]
    assert float(values["bce"]) == pytest.approx(loss("bce", logits, target), rel=RELATIVE)
    assert float(total) == pytest.approx(2 * float(values["bce"]) + 0.5 * float(values["dice"]), rel=RELATIVE)


def test_losses_without_a_need_are_the_others():
    assert losses.without({"bce": 1.0, "boundary": 1.0}, "boundary_logits") == {"bce": 1.0}


def test_every_loss_compiles_with_any_number_of_photos():
    compute = tf.function(build(dict.fromkeys(LOSSES, 1.0)))
    for n, h, w in ((1, 3, 5), (2, 8, 4)):
        logits, target = make_maps(n, h, w, 0)
        tensors = {
            need: values
            for name in LOSSES
            for need, values in zip(needs_of(name), given(name, logits, target), strict=True)
        }
        total, values = compute(tensors)
        assert float(total) == pytest.approx(sum(loss(name, logits, target) for name in LOSSES), rel=RELATIVE)
        assert list(values) == list(LOSSES)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"bec": 1.0}, r"loss\.bec: unknown loss \(known: bce, dice, "),
        ({"bce": -1.0}, r"loss\.bce: -1\.0 is not a weight"),
        ({"bce": float("nan")}, r"loss\.bce: nan is not a weight"),
        ({}, r"loss: no term with a weight above 0 \(known: bce"),
        ({"bce": 0.0, "dice": 0.0}, r"loss: no term with a weight above 0"),
    ],
)
def test_a_fault_in_the_configuration_is_named_by_its_path(weights, message):
    with pytest.raises(InputError, match=message):
        build(weights)
