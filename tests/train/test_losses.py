"""A hand-computed case, bounds, the perfect prediction and saturated logits for every loss."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg.errors import InputError
from portraitseg.models.keras_route import tf
from train.losses import LOSSES, build

#: float32 carries 7 digits; a few operations each lose less than one unit of the last.
RELATIVE = 1e-5

every_loss = pytest.mark.parametrize("name", sorted(LOSSES))
few = settings(max_examples=15, deadline=None)
seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 9)

LN2, LN3 = math.log(2), math.log(3)

#: name → rows of logits, rows of target, the loss worked out by hand.
HAND: dict[str, tuple[list[float], list[float], float]] = {
    # p = 3/4 and 1/2
    "bce": ([LN3, 0], [1, 0], (math.log(4 / 3) + LN2) / 2),
    # 2·Σpt + 1 = 2, Σp² + Σt² + 1 = 1/2 + 1 + 1
    "dice": ([0, 0], [1, 0], 1 - 2 / 2.5),
    # (1/4)²·ln(4/3) and (1/2)²·ln 2
    "focal": ([LN3, 0], [1, 0], (math.log(4 / 3) / 16 + LN2 / 4) / 2),
    "mse": ([LN3, 0], [1, 0], (1 / 16 + 1 / 4) / 2),
    # errors 2 (background), 1/2 and 0 (person): Δ = 1/3 with the background wrong, 2/3 with one person too, then 1
    "lovasz_hinge": ([1, 0.5, 3], [0, 1, 1], 2 * (1 / 3) + 0.5 * (1 / 3)),
    # the outline lies between the 4th and the 5th: two pixels to either side weigh 5, the others 1; only the first,
    # which is far from it, is wrong
    "edge_weighted_bce": ([-LN3, LN3, LN3, LN3, -LN3, -LN3, -LN3, -LN3], [1, 1, 1, 1, 0, 0, 0, 0],
                          (math.log(4) + 23 * math.log(4 / 3)) / 24),
}  # fmt: skip


def maps(values):
    """One row of pixels, or an (n, h, w) array, as (n, h, w, 1) float32."""
    values = np.asarray(values, np.float32)
    return tf.constant(values[None, None, :, None] if values.ndim == 1 else values[..., None])


def make_maps(n, h, w, seed, is_soft=False):
    rng = np.random.default_rng(seed)
    target = rng.random((n, h, w))
    return rng.normal(0, 3, (n, h, w)), target if is_soft else np.rint(target)


def loss(name, logits, target):
    value = LOSSES[name](maps(logits), maps(target))
    assert value.shape == () and value.dtype == tf.float32
    return float(value)


# ---- every loss


def test_every_loss_has_a_case_by_hand():
    assert set(HAND) == set(LOSSES)


@every_loss
def test_case_by_hand(name):
    logits, target, expected = HAND[name]
    assert loss(name, logits, target) == pytest.approx(expected, rel=RELATIVE)
    # the tolerance notices one logit that is off by a hundredth
    assert loss(name, [logits[0] + 0.01, *logits[1:]], target) != pytest.approx(expected, rel=RELATIVE)


@every_loss
@few
@given(h=sides, w=sides, seed=seeds)
def test_at_least_zero_and_finite(name, h, w, seed):
    value = loss(name, *make_maps(2, h, w, seed, is_soft=True))
    assert math.isfinite(value) and value >= -1e-6  # dice subtracts two numbers near 1
    if name in ("dice", "mse"):
        assert value <= 1


@every_loss
@few
@given(h=sides, w=sides, seed=seeds)
def test_zero_for_a_sure_and_right_prediction(name, h, w, seed):
    _, target = make_maps(2, h, w, seed)
    assert loss(name, 40 * (2 * target - 1), target) == pytest.approx(0, abs=1e-6)
    assert loss(name, -40 * (2 * target - 1), target) > 0.3


@every_loss
@pytest.mark.parametrize("target", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_value_and_gradient_are_finite_at_saturated_logits(name, target, is_compiled):
    logits = maps([-1e4, 1e4, 0, -30, 30])
    compute = tf.function(LOSSES[name]) if is_compiled else LOSSES[name]
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = compute(logits, maps([target] * 5))
    gradient = tape.gradient(value, logits)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@every_loss
@pytest.mark.parametrize("seed", range(5))
def test_a_small_step_against_the_gradient_lowers_it(name, seed):
    logits_values, target_values = make_maps(2, 6, 7, seed)
    logits, target = maps(logits_values), maps(target_values)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = LOSSES[name](logits, target)
    gradient = tape.gradient(value, logits)
    step = 0.02 * gradient / tf.norm(gradient)
    # what the slope promises, less a quarter for its own change along the step
    assert float(value - LOSSES[name](logits - step, target)) > 0.75 * 0.02 * float(tf.norm(gradient))


@pytest.mark.parametrize("name", ["bce", "dice", "focal", "mse", "lovasz_hinge"])
@few
@given(h=sides, w=sides, seed=seeds)
def test_a_batch_is_the_mean_of_its_photos(name, h, w, seed):
    logits, target = make_maps(3, h, w, seed, is_soft=True)
    alone = [loss(name, logits[i : i + 1], target[i : i + 1]) for i in range(3)]
    assert loss(name, logits, target) == pytest.approx(np.mean(alone), rel=RELATIVE, abs=1e-6)


# ---- soft targets


@pytest.mark.parametrize("name", ["bce", "dice", "focal", "mse", "edge_weighted_bce"])
@few
@given(h=sides, w=sides, seed=seeds)
def test_soft_targets_are_fitted_best_by_themselves(name, h, w, seed):
    rng = np.random.default_rng(seed)
    target = rng.uniform(0.05, 0.95, (1, h, w))
    best = loss(name, np.log(target / (1 - target)), target)
    for _ in range(3):
        other = np.log(target / (1 - target)) + rng.normal(0, 0.5, target.shape)
        assert loss(name, other, target) >= best - 1e-6
    if name in ("dice", "focal", "mse"):
        assert best == pytest.approx(0, abs=1e-6)


def test_bce_of_a_soft_target_is_its_entropy_at_best():
    assert loss("bce", [LN3], [0.75]) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), rel=RELATIVE)


def test_lovasz_cuts_soft_targets_where_the_masks_are_cut():
    assert loss("lovasz_hinge", [2, -2], [128 / 255, 127 / 255]) == 0


# ---- each loss


def test_focal_is_lin_et_al_for_hard_targets():
    logits, target = make_maps(2, 6, 7, 0)
    right = 1 / (1 + np.exp(-logits * (2 * target - 1)))
    assert loss("focal", logits, target) == pytest.approx(np.mean(-((1 - right) ** 2) * np.log(right)), rel=RELATIVE)


def test_dice_of_a_blank_photo():
    blank = np.zeros((1, 8, 8))
    assert loss("dice", blank - 40, blank) == 0
    assert loss("dice", blank, blank) == pytest.approx(16 / 17, rel=RELATIVE)  # 64 pixels of p² = 1/4


def choquet_integral(errors, is_person):
    """∫ Jaccard loss of {error ≥ θ} dθ: the Lovász extension, defined without sorting."""
    levels, total = np.unique(np.append(errors, 0)), 0.0
    for low, high in pairwise(levels):
        wrong = errors >= high
        total += (high - low) * wrong.sum() / (wrong | is_person).sum()
    return total


@few
@given(n=st.integers(1, 3), h=st.integers(1, 4), w=st.integers(1, 4), seed=seeds)
def test_lovasz_is_the_choquet_integral_of_the_jaccard_loss(n, h, w, seed):
    logits, target = make_maps(n, h, w, seed)
    errors = np.maximum(0, 1 - logits * (2 * target - 1))
    expected = np.mean([choquet_integral(errors[i].ravel(), target[i].ravel() > 0.5) for i in range(n)])
    assert loss("lovasz_hinge", logits, target) == pytest.approx(expected, rel=RELATIVE, abs=1e-6)


@few
@given(h=sides, w=sides, seed=seeds)
def test_lovasz_is_one_minus_iou_where_errors_are_zero_or_one(h, w, seed):
    wrong = np.random.default_rng(seed).random((1, h, w)) < 0.4
    _, target = make_maps(1, h, w, seed)
    is_person, is_predicted = target > 0.5, (target > 0.5) ^ wrong
    union = (is_person | is_predicted).sum()
    expected = 1 - (is_person & is_predicted).sum() / union if union else 0
    assert loss("lovasz_hinge", (2 * target - 1) * ~wrong, target) == pytest.approx(expected, abs=1e-6)


def test_edge_weighted_bce_is_bce_without_an_outline_and_dearer_near_one():
    logits, _ = make_maps(1, 9, 9, 0)
    for blank in (np.zeros((1, 9, 9)), np.ones((1, 9, 9))):
        assert loss("edge_weighted_bce", logits, blank) == pytest.approx(loss("bce", logits, blank), rel=RELATIVE)
    row = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    near, far = (np.where(np.arange(8) == wrong, -2, 2) * (2 * row - 1) for wrong in (3, 0))
    assert loss("edge_weighted_bce", near, row) > 2 * loss("edge_weighted_bce", far, row)


# ---- the sum


@pytest.mark.parametrize("is_compiled", [False, True])
def test_sum_is_weighted_and_its_terms_are_not(is_compiled):
    compute = build({"bce": 2.0, "dice": 0.5, "mse": 0.0})
    # sizes left open, as a training step may
    signature = [tf.TensorSpec([None, None, None, 1], tf.float32)] * 2
    logits, target = make_maps(2, 5, 4, 0)
    total, values = (tf.function(compute, input_signature=signature) if is_compiled else compute)(
        maps(logits), maps(target)
    )
    assert list(values) == ["bce", "dice"]
    assert float(values["bce"]) == pytest.approx(loss("bce", logits, target), rel=RELATIVE)
    assert float(total) == pytest.approx(2 * float(values["bce"]) + 0.5 * float(values["dice"]), rel=RELATIVE)


def test_every_loss_compiles_with_open_sizes():
    compute = tf.function(build(dict.fromkeys(LOSSES, 1.0)), input_signature=[tf.TensorSpec([None, None, None, 1])] * 2)
    for n, h, w in ((1, 3, 5), (2, 8, 4)):
        logits, target = make_maps(n, h, w, 0)
        total, values = compute(maps(logits), maps(target))
        assert float(total) == pytest.approx(sum(loss(name, logits, target) for name in LOSSES), rel=RELATIVE)
        assert list(values) == list(LOSSES)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"bec": 1.0}, r"loss\.bec: unknown loss \(known: bce, dice, .*edge_weighted_bce\)"),
        ({"bce": -1.0}, r"loss\.bce: -1\.0 is not a weight"),
        ({"bce": float("nan")}, r"loss\.bce: nan is not a weight"),
        ({}, r"loss: no term with a weight above 0 \(known: bce"),
        ({"bce": 0.0, "dice": 0.0}, r"loss: no term with a weight above 0"),
    ],
)
def test_a_fault_in_the_configuration_is_named_by_its_path(weights, message):
    with pytest.raises(InputError, match=message):
        build(weights)
