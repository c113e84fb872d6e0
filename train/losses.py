"""Loss terms on logits, and their weighted sum.

Every loss is one function `name(logits, target) -> scalar`: both float32 (n, h, w, 1), NHWC; logits unbounded, person
where above 0; target the probability of person in [0, 1], soft values allowed.
"""

import math
from collections.abc import Callable, Mapping

from jaxtyping import Float32

from portraitseg.contract import PROBABILITY_THRESHOLD
from portraitseg.errors import InputError
from portraitseg.models.keras_route import tf

Maps = Float32[tf.Tensor, "n h w 1"]
Scalar = Float32[tf.Tensor, ""]
Loss = Callable[[Maps, Maps], Scalar]

#: Added above and below the fraction of `dice`, px: a blank photo that is predicted blank has loss 0, not 0 / 0.
DICE_SMOOTH = 1.0

#: Exponent of `focal`: the paper's best.
FOCAL_GAMMA = 2.0

#: `edge_weighted_bce`: how far the edge reaches to either side of the outline, px, and how much more it weighs.
EDGE_BAND_PX = 2
EDGE_GAIN = 4.0


def bce(logits: Maps, target: Maps) -> Scalar:
    """Binary cross-entropy, mean over pixels: -t·log p - (1 - t)·log(1 - p), p = sigmoid(x).

    Computed as max(x, 0) - x·t + log(1 + exp(-|x|)), which never overflows. Least at p = t, where it is the entropy of
    t: 0 for a hard target, above 0 for a soft one.
    """
    return tf.reduce_mean(_cross_entropy(logits, target))


def dice(logits: Maps, target: Maps) -> Scalar:
    """Soft Dice, per photo, then the mean: 1 - (2·Σp·t + s) / (Σp² + Σt² + s), s = `DICE_SMOOTH`.

    In [0, 1). The squares (Milletari et al. 2016, V-Net, arXiv:1606.04797) make it 0 at p = t for soft targets too;
    with plain sums it would be least at hardened values. Blank target: Σp² / (Σp² + s), 0 when nothing is predicted.
    """
    probability = tf.sigmoid(logits)
    overlap = tf.reduce_sum(probability * target, axis=[1, 2, 3])
    total = tf.reduce_sum(tf.square(probability) + tf.square(target), axis=[1, 2, 3])
    return tf.reduce_mean(1 - (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH))


def focal(logits: Maps, target: Maps) -> Scalar:
    """Focal loss, mean over pixels: |t - p|^γ · bce(t, p), γ = `FOCAL_GAMMA`.

    For hard targets this is (1 - p_t)^γ · -log p_t of Lin et al. 2017 (arXiv:1708.02002) without their class weight α.
    For soft ones it is the form of Li et al. 2020 (arXiv:2006.04388), 0 at p = t; the first form is least elsewhere.
    """
    distance = tf.abs(target - tf.sigmoid(logits))
    return tf.reduce_mean(distance**FOCAL_GAMMA * _cross_entropy(logits, target))


def mse(logits: Maps, target: Maps) -> Scalar:
    """Mean squared error of the probability, mean over pixels: (p - t)², p = sigmoid(x). In [0, 1], 0 at p = t.

    The Brier score (Brier 1950, Monthly Weather Review 78).
    """
    return tf.reduce_mean(tf.square(tf.sigmoid(logits) - target))


def lovasz_hinge(logits: Maps, target: Maps) -> Scalar:
    """Lovász extension of the Jaccard loss over hinge errors, per photo, then the mean.

    Berman et al. 2018 (arXiv:1705.08790), Alg. 1 on the errors e = max(0, 1 - x·(2t - 1)): Σ e_i · (Δ_i - Δ_{i-1}), e
    from greatest to least, Δ_i = the Jaccard loss with the first i pixels wrong. 0 when every pixel is right by a
    margin of 1; unbounded. The target is cut at `PROBABILITY_THRESHOLD`: the loss is defined on sets. Blank target: the
    greatest error. Sorts the pixels of every photo, so it is the slowest term.
    """
    pixels = tf.reduce_prod(tf.shape(logits)[1:])
    is_person = tf.cast(tf.reshape(target, [-1, pixels]) > PROBABILITY_THRESHOLD, tf.float32)
    errors = tf.nn.relu(1 - tf.reshape(logits, [-1, pixels]) * (2 * is_person - 1))
    errors, order = tf.math.top_k(errors, k=pixels)
    is_person = tf.gather(is_person, order, batch_dims=1)
    person = tf.reduce_sum(is_person, axis=1, keepdims=True)
    intersection = person - tf.cumsum(is_person, axis=1)
    union = person + tf.cumsum(1 - is_person, axis=1)
    # union is at least 1: the first pixel is either person or adds itself
    jaccard_loss = 1 - intersection / union
    step = tf.concat([jaccard_loss[:, :1], jaccard_loss[:, 1:] - jaccard_loss[:, :-1]], axis=1)
    return tf.reduce_mean(tf.reduce_sum(errors * step, axis=1))


def edge_weighted_bce(logits: Maps, target: Maps) -> Scalar:
    """Binary cross-entropy whose pixels near the outline weigh more: Σ w·bce / Σ w over the batch.

    w = 1 + `EDGE_GAIN`·edge; edge = greatest minus least target within `EDGE_BAND_PX`, the morphological gradient: 1 on
    the band around a hard outline, 0 far from it. After the border weights of U-Net (Ronneberger et al. 2015,
    arXiv:1505.04597), without their distance transform. Without an outline it equals `bce`.
    """
    side = 2 * EDGE_BAND_PX + 1
    greatest = tf.nn.max_pool2d(target, side, strides=1, padding="SAME")
    least = -tf.nn.max_pool2d(-target, side, strides=1, padding="SAME")
    weight = 1 + EDGE_GAIN * (greatest - least)
    return tf.reduce_sum(weight * _cross_entropy(logits, target)) / tf.reduce_sum(weight)


def _cross_entropy(logits: Maps, target: Maps) -> Maps:
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)


LOSSES: dict[str, Loss] = {
    "bce": bce,
    "dice": dice,
    "focal": focal,
    "mse": mse,
    "lovasz_hinge": lovasz_hinge,
    "edge_weighted_bce": edge_weighted_bce,
}


def build(weights: Mapping[str, float]) -> Callable[[Maps, Maps], tuple[Scalar, dict[str, Scalar]]]:
    """The weighted sum of the named losses, for eager code and inside `tf.function`.

    Args:
        weights: name → weight, 0 or above; a term with weight 0 is not computed.

    Returns:
        (logits, target) → (total, {name: value without its weight}).

    Raises:
        InputError: unknown loss, a weight that is negative or not finite, or nothing with a weight above 0.
    """
    for name, weight in weights.items():
        if name not in LOSSES:
            raise InputError(f"loss.{name}: unknown loss (known: {', '.join(LOSSES)})")
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"loss.{name}: {weight} is not a weight of 0 or above")
    terms = {name: weight for name, weight in weights.items() if weight > 0}
    if not terms:
        raise InputError(f"loss: no term with a weight above 0 (known: {', '.join(LOSSES)})")

    def compute(logits: Maps, target: Maps) -> tuple[Scalar, dict[str, Scalar]]:
        values = {name: LOSSES[name](logits, target) for name in terms}
        return tf.add_n([weight * values[name] for name, weight in terms.items()]), values

    return compute
