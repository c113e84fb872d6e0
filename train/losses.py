"""Loss terms on logits, and their weighted sum.

Every loss is one pure function → scalar. The names of its parameters, which are of `NEEDS`, say what it is given, all
float32 NHWC. Logits are unbounded, person where above 0; the target is the probability of person in [0, 1], soft values
allowed. Where `known` is 0 the target is not known (`data.mask`, ignore): such a pixel counts in no sum, no mean and no
count, so that a loss is what it would be on the known pixels alone.

Within a replica of several, a loss is its photos' share of the loss of the whole batch: what divides is counted over
all replicas, so that the shares, and their gradients, add up to what one replica would have computed.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float32

from portraitseg.errors import InputError
from portraitseg.models.keras_route import tf
from train.replicas import gather, over_replicas, replica

Maps = Float32[tf.Tensor, "n h w 1"]
Images = Float32[tf.Tensor, "n h w 3"]
Scalar = Float32[tf.Tensor, ""]
Given = Mapping[str, Float32[tf.Tensor, "..."]]
Loss = Callable[..., Scalar]

#: What a loss may take.
NEEDS: Mapping[str, str] = {
    "logits": "of the mask (n, h, w, 1)",
    "target": "of the mask (n, h, w, 1)",
    "images": "that the network saw (n, h, w, 3), in [0, 1]",
    "edge": "band around the outline (n, h, w, 1), in [0, 1]: `train.edges`",
    "boundary_logits": "of the network's second output (n, h / k, w / k, 1)",
    "plain_logits": "of the photos without the photometric augmentations (n, h, w, 1)",
}

#: What a loss is given on top where the data have pixels whose truth nobody knows, (n, h, w, 1), 0 or 1.
KNOWN = "known"

#: Added above and below the fraction of `dice`, px: a blank photo that is predicted blank has loss 0, not 0 / 0.
DICE_SMOOTH = 1.0

#: `edge_weighted_bce`: how far the edge reaches to either side of the outline, as a share of the shorter side (4 px of
#: 256), and how much more it weighs. Half as far, twice as far, or a gain of 10 were worse (docs/log/training.md).
EDGE_BAND_RATIO = 1 / 64
EDGE_GAIN = 4.0

#: Of `boundary`: how far the band of `train.edges` reaches from an outline at most, as a share of the shorter side.
EDGE_REACH = 1 / 32

#: Of `consistency`: what the authors' configuration has.
CONSISTENCY_TEMPERATURE = 1.0

#: Sobel's kernel over 8: the response to a ramp is its slope per px, and nothing in [0, 1] gives more than 1.
_SLOPE = ((-1 / 8, 0.0, 1 / 8), (-2 / 8, 0.0, 2 / 8), (-1 / 8, 0.0, 1 / 8))


def bce(logits: Maps, target: Maps, known: Maps | None = None) -> Scalar:
    """Binary cross-entropy (Bishop 2006, PRML, eq. 4.90), mean over pixels: -t·log p - (1 - t)·log(1 - p).

    p = sigmoid(x). Computed as max(x, 0) - x·t + log(1 + exp(-|x|)), which never overflows. Least at p = t, where it is
    the entropy of t: 0 for a hard target, above 0 for a soft one.
    """
    return _mean(_cross_entropy(logits, target), known)


def dice(logits: Maps, target: Maps, known: Maps | None = None) -> Scalar:
    """Soft Dice, per photo, then the mean: 1 - (2·Σp·t + s) / (Σp² + Σt² + s), s = `DICE_SMOOTH`.

    In [0, 1). The squares (Milletari et al. 2016, V-Net, arXiv:1606.04797) make it 0 at p = t for soft targets too;
    with plain sums it would be least at hardened values. Blank target: Σp² / (Σp² + s), 0 when nothing is predicted.
    """
    probability = tf.sigmoid(logits)
    if known is not None:
        probability, target = probability * known, target * known
    overlap = tf.reduce_sum(probability * target, axis=[1, 2, 3])
    total = tf.reduce_sum(tf.square(probability) + tf.square(target), axis=[1, 2, 3])
    return _mean(1 - (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH), None)


def edge_weighted_bce(logits: Maps, target: Maps, known: Maps | None = None) -> Scalar:
    """Binary cross-entropy whose pixels near the outline weigh more: Σ w·bce / Σ w over the batch.

    w = 1 + `EDGE_GAIN`·edge; edge = greatest minus least target within `EDGE_BAND_RATIO` of the shorter side, at least
    1 px, the morphological gradient: 1 on the band around a hard outline, 0 far from it. After the border weights of
    U-Net (Ronneberger et al. 2015, arXiv:1505.04597), without their distance transform. Without an outline it equals
    `bce`.
    """
    side = 2 * max(1, round(EDGE_BAND_RATIO * min(target.shape[1:3]))) + 1
    greatest, least = (target, target) if known is None else (target * known, target * known + (1 - known))
    weight = 1 + EDGE_GAIN * (_greatest_within(greatest, side) + _greatest_within(-least, side))
    if known is not None:
        # beside nothing but unknown pixels the greatest would be below the least
        weight = known * tf.maximum(weight, 1)
    total = over_replicas(tf.reduce_sum(weight))
    if known is not None:
        # 0 of 0 where nothing is
        total = tf.maximum(total, 1)
    return tf.reduce_sum(weight * _cross_entropy(logits, target)) / total


def boundary(boundary_logits: Float32[tf.Tensor, "n h2 w2 1"], edge: Maps, known: Maps | None = None) -> Scalar:
    """Balanced binary cross-entropy of the outline: ½·Σ e·-log b / Σ e + ½·Σ (1 - e)·-log(1 - b) / Σ (1 - e).

    b = sigmoid(x); e, the band that `train.edges` draws around the outline, reduced by its maximum to the size of the
    logits; sums over the batch, none below 1. The attention loss of BANet (Chen et al. 2019, arXiv:1901.03814). Its
    edges are a few percent of the pixels: unbalanced, b = 0 everywhere would nearly do. The balance is that of HED (Xie
    and Tu 2015, arXiv:1504.06375). Unbounded; 0 for a right and sure prediction of a hard band. Without an outline the
    first half is 0.
    """
    factor = edge.shape[1] // boundary_logits.shape[1]
    band = tf.nn.max_pool2d(edge, factor, factor, padding="VALID")
    on, off = band, 1 - band
    if known is not None:
        # what is unknown may hide the outline, or make one where it ends
        side = 2 * math.ceil(EDGE_REACH * min(edge.shape[1:3])) + 1
        is_clear = 1 - tf.nn.max_pool2d(_greatest_within(1 - known, side), factor, factor, padding="VALID")
        on, off = on * is_clear, off * is_clear
    on_count, off_count = (tf.maximum(over_replicas(tf.reduce_sum(part)), 1) for part in (on, off))
    on_band = tf.reduce_sum(on * tf.nn.softplus(-boundary_logits)) / on_count
    elsewhere = tf.reduce_sum(off * tf.nn.softplus(boundary_logits)) / off_count
    return (on_band + elsewhere) / 2


def consistency(logits: Maps, plain_logits: Maps) -> Scalar:
    """What a photo's texture should not change: T²·KL(q ‖ p), mean over pixels, T = `CONSISTENCY_TEMPERATURE`.

    p = sigmoid(x / T) of the augmented photo, q that of its plain copy, taken as given: no gradient reaches the network
    by it. PortraitNet (Zhang et al. 2019, Computers & Graphics 80); in their code the plain copy is also learnt from by
    its mask, here only the augmented one. Unbounded, 0 at p = q. Costs a forward pass more.
    """
    q, x = tf.stop_gradient(plain_logits) / CONSISTENCY_TEMPERATURE, logits / CONSISTENCY_TEMPERATURE
    person = tf.sigmoid(q) * (tf.math.log_sigmoid(q) - tf.math.log_sigmoid(x))
    background = tf.sigmoid(-q) * (tf.math.log_sigmoid(-q) - tf.math.log_sigmoid(-x))
    return CONSISTENCY_TEMPERATURE**2 * _mean(person + background, None)


def alpha_l1(logits: Maps, target: Maps, known: Maps | None = None) -> Scalar:
    """Mean absolute error of the matte: |p - t|, mean over pixels, p = sigmoid(x). In [0, 1], 0 at p = t.

    The alpha-prediction loss of Deep Image Matting (Xu et al. 2017, arXiv:1703.03872, eq. 1), over all pixels and
    without the ε = 1e-6 that makes it smooth at 0.
    """
    return _mean(tf.abs(tf.sigmoid(logits) - target), known)


def composition(logits: Maps, target: Maps, images: Images, known: Maps | None = None) -> Scalar:
    """Error seen in a composite: |p·I + (1 - p)·B - (t·I + (1 - t)·B)| = |p - t|·|I - B|, mean over pixels and colours.

    I the photo; B, the new background, the next photo of the batch (after the last the first), mirrored. In [0, 1], 0
    at p = t. The compositional loss of Deep Image Matting (Xu et al. 2017, arXiv:1703.03872, eq. 2) has the true
    foreground and background of every pixel; masks alone do not tell them, so here I stands for the foreground, and
    what shines through at hair is the photo's old background. Errors count as far as they would be seen: where photo
    and new background are alike, not at all; so use it beside another loss.
    """
    background = tf.reverse(_next_photos(images), axis=[2])
    return _mean(tf.abs(tf.sigmoid(logits) - target) * tf.abs(images - background), known)


def sobel(logits: Maps, target: Maps, known: Maps | None = None) -> Scalar:
    """Error of the matte's slopes: (|Sx∗(p - t)| + |Sy∗(p - t)|) / 2, mean over pixels, p = sigmoid(x).

    Sx and Sy are Sobel's kernels over 8, the border reflected. In [0, 1], 0 at p = t. The gradient term of Lin et al.
    2021 (Background Matting V2, arXiv:2012.07810). Blind to an error that is the same everywhere: use it beside
    another loss.
    """
    difference = tf.sigmoid(logits) - target
    if known is not None:
        difference *= known
    error = tf.pad(difference, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="SYMMETRIC")
    across = tf.constant(_SLOPE)[:, :, None, None]
    kernels = tf.concat([across, tf.transpose(across, [1, 0, 2, 3])], axis=3)
    slopes = tf.abs(tf.nn.conv2d(error, kernels, strides=1, padding="VALID"))
    if known is None:
        return _mean(slopes, None)
    # a slope beside an unknown pixel would be the step down to it
    is_clear = 1 - tf.nn.max_pool2d(1 - known, 3, strides=1, padding="SAME")
    return _mean(slopes, is_clear)


def _mean(values: Float32[tf.Tensor, "n ..."], known: Maps | None) -> Scalar:
    """Mean over all pixels of the batch, or over the known ones; 0 where none is."""
    if known is None:
        mean = tf.reduce_mean(values)
        photos = tf.cast(tf.shape(values)[0], tf.float32)
        # one replica has them all, and its mean stays what it was to the bit
        return mean if (total := over_replicas(photos)) is photos else mean * photos / total
    count = over_replicas(tf.reduce_sum(known)) * tf.cast(tf.shape(values)[3], tf.float32)
    return tf.reduce_sum(values * known) / tf.maximum(count, 1)


def _next_photos(images: Images) -> Images:
    """Of each photo the next of the whole batch, and of the last the first."""
    firsts = gather(images[0])
    following = tf.roll(firsts, shift=-1, axis=0)
    return tf.concat([images[1:], following[replica() : replica() + 1]], axis=0)


def _cross_entropy(logits: Maps, target: Maps) -> Maps:
    return tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)


LOSSES: dict[str, Loss] = {
    "bce": bce,
    "dice": dice,
    "edge_weighted_bce": edge_weighted_bce,
    "boundary": boundary,
    "consistency": consistency,
    "alpha_l1": alpha_l1,
    "composition": composition,
    "sobel": sobel,
}


def needs(weights: Mapping[str, float]) -> frozenset[str]:
    """What the losses with a weight above 0 take, of `NEEDS`.

    Args:
        weights: name → weight, 0 or above; a term with weight 0 is not computed.

    Raises:
        InputError: unknown loss, a weight that is negative or not finite, or nothing with a weight above 0.
    """
    for name, weight in weights.items():
        if name not in LOSSES:
            raise InputError(f"loss.{name}: unknown loss (known: {', '.join(LOSSES)})")
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"loss.{name}: {weight} is not a weight of 0 or above")
    used = [name for name, weight in weights.items() if weight > 0]
    if not used:
        raise InputError(f"loss: no term with a weight above 0 (known: {', '.join(LOSSES)})")
    return frozenset().union(*(needs_of(name) for name in used))


def needs_of(name: str) -> tuple[str, ...]:
    """What one loss takes: its parameters but the keyword-only ones, which are settings, and `KNOWN`."""
    parameters = inspect.signature(LOSSES[name]).parameters.values()
    needed = (item.name for item in parameters if item.kind is not inspect.Parameter.KEYWORD_ONLY)
    return tuple(name for name in needed if name != KNOWN)


def without(weights: Mapping[str, float], need: str) -> dict[str, float]:
    """The weights of the losses that do not take `need`."""
    return {name: weight for name, weight in weights.items() if need not in needs_of(name)}


def build(
    weights: Mapping[str, float],
) -> Callable[[Given], tuple[Scalar, dict[str, Scalar]]]:
    """The weighted sum of the named losses, for eager code and inside `tf.function`.

    Args:
        weights: as for `needs`.

    Returns:
        {need: its maps} → (total, {name: value without its weight}).

    Raises:
        InputError: as `needs`.
    """
    needs(weights)
    terms = {name: weight for name, weight in weights.items() if weight > 0}

    def compute(maps: Given) -> tuple[Scalar, dict[str, Scalar]]:
        values = {name: LOSSES[name](*(maps[need] for need in needs_of(name)), **_known(name, maps)) for name in terms}
        return tf.add_n([weight * values[name] for name, weight in terms.items()]), values

    return compute


def _known(name: str, maps: Given) -> dict[str, Any]:
    """`KNOWN` where the data have it and the loss takes it: one without a target has nothing that is not known."""
    return {KNOWN: maps[KNOWN]} if KNOWN in maps and KNOWN in inspect.signature(LOSSES[name]).parameters else {}


def _greatest_within(maps: Maps, side: int) -> Maps:
    """Greatest value in the square of `side` pixels around each one; (n, h, w, 1) → the same.

    One axis after the other, each with the other as the channels: TensorFlow's pooling of a single channel takes 25
    times as long, 8 % of a step of contour_medium.
    """
    _, height, width, _ = maps.shape
    for length, other in ((height, width), (width, height)):
        pooled = tf.nn.max_pool2d(tf.reshape(maps, [-1, length, 1, other]), [side, 1], strides=1, padding="SAME")
        maps = tf.transpose(tf.reshape(pooled, [-1, length, other]), [0, 2, 1])
    return maps[..., None]
