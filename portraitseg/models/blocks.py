"""Blocks that several networks use: plain functions, tensor in, tensor out, each layer one that QAT accepts."""

from typing import Any

from portraitseg.errors import InputError
from portraitseg.models.keras_route import keras

layers = keras.layers

#: The fewest channels that a width multiplier leaves.
_FEWEST = 8

#: Of the moving statistics. Keras's 0.99 lags hundreds of steps behind, which a short training does not have; the
#: average over the weights (`train.ema`) smooths what 0.9 leaves noisy.
_BN_MOMENTUM = 0.9

#: Pixels of a side that the classic GPU delegate takes a mean over on OpenGL ES; of more it leaves some out.
MOST_POOLED = 64


def check_size(network: str, size: tuple[int, int], stride: int) -> None:
    """Makes sure that a network can take inputs of a size.

    Raises:
        InputError: a side that is not a multiple of `stride`.
    """
    if size[0] % stride or size[1] % stride:
        raise InputError(f"{network}: input {size[0]}x{size[1]}: both sides must be multiples of {stride}")


def scale_channels(filters: int, width: float, multiple: int = 8) -> int:
    """A channel count times a width multiplier: the nearest multiple, and no fewer than 8 (MobileNetV2's rule)."""
    return max(_FEWEST, int(filters * width + multiple / 2) // multiple * multiple)


def conv_bn(x: Any, filters: int, kernel: int = 1, stride: int = 1, relu: bool = True, name: str = "") -> Any:
    """Convolution → batch norm (→ ReLU6): one int8 operator. (n, h, w, c) → (n, h/stride, w/stride, filters)."""
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(momentum=_BN_MOMENTUM, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


def depthwise_bn(x: Any, kernel: int = 3, stride: int = 1, dilation: int = 1, relu: bool = True, name: str = "") -> Any:
    """Depthwise convolution → batch norm (→ ReLU6). (n, h, w, c) → (n, h/stride, w/stride, c)."""
    x = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", dilation_rate=dilation, use_bias=False, name=f"{name}_dw"
    )(x)
    x = layers.BatchNormalization(momentum=_BN_MOMENTUM, name=f"{name}_dw_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_dw_relu")(x) if relu else x


def separable(x: Any, filters: int, stride: int = 1, name: str = "") -> Any:
    """Depthwise separable convolution, ReLU6 after each half. (n, h, w, c) → (n, h/stride, w/stride, filters)."""
    return conv_bn(depthwise_bn(x, stride=stride, name=name), filters, name=f"{name}_pw")


def inverted_residual(
    x: Any, filters: int, stride: int = 1, expansion: int = 6, kernel: int = 3, name: str = ""
) -> Any:
    """MobileNetV2's block (Sandler et al., 2018): expand (an `expansion` of 1: not), depthwise, linear projection.

    (n, h, w, c) → (n, h/stride, w/stride, filters); with an Add where shapes allow.
    """
    y = conv_bn(x, expansion * x.shape[-1], name=f"{name}_expand") if expansion > 1 else x
    y = depthwise_bn(y, kernel=kernel, stride=stride, name=name)
    y = conv_bn(y, filters, relu=False, name=f"{name}_project")
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and x.shape[-1] == filters else y


def upsample(x: Any, factor: int | tuple[int, int], name: str = "") -> Any:
    """Bilinear upsampling by a whole factor, half-pixel centres: RESIZE_BILINEAR, which every delegate takes."""
    return layers.UpSampling2D(factor, interpolation="bilinear", name=f"{name}_up")(x)


def mean_over_image(x: Any, name: str, halves: str) -> Any:
    """The mean of each channel, (n, h, w, c) → (n, 1, 1, c): of larger maps in two steps, the first called `halves`.

    Sides that two does not divide stay as they are, and the GPU check refuses the file.
    """
    pool = 1
    while max(x.shape[1:3]) > MOST_POOLED * pool and not any(side % (2 * pool) for side in x.shape[1:3]):
        pool *= 2
    if pool > 1:
        x = layers.AveragePooling2D(pool, name=halves)(x)
    return layers.GlobalAveragePooling2D(keepdims=True, name=name)(x)


def subpixel(x: Any, factor: int, name: str = "") -> Any:
    """Sub-pixel convolution to one channel (Shi et al., CVPR 2016). (n, h, w, c) → (n, factor·h, factor·w, 1).

    A 1x1 convolution for each row of the fine pixels within a coarse one; side by side their outputs lie in memory as
    the fine image does, so that the shuffle is a concatenation and a reshape: layers that QAT and every converter know,
    where DEPTH_TO_SPACE would need one of our own. Bilinear upsampling of a single channel is slow in XNNPACK: it took
    a fifth of `contour_small`'s time, for 0.16 points of IoU and 0.80 of boundary IoU (docs/decisions/0006-contour.md).
    """
    height, width = x.shape[1:3]
    rows = [layers.Conv2D(factor, 1, name=f"{name}_row{row}")(x) for row in range(factor)]
    x = layers.Concatenate(axis=2, name=f"{name}_rows")(rows)
    return layers.Reshape((factor * height, factor * width, 1), name=name)(x)


def pad_to_multiple(x: Any, multiple: int, name: str = "") -> Any:
    """Zeros below and to the right up to the next multiple; nothing where both sides are one already.

    In front of a strided layer: each of its windows then starts at a multiple of the stride, whatever the side, so that
    weights of one input size fit another. "same" padding alone would begin one pixel earlier on odd sides.
    """
    rest = tuple(-side % multiple for side in x.shape[1:3])
    return layers.ZeroPadding2D(((0, rest[0]), (0, rest[1])), name=f"{name}_pad")(x) if any(rest) else x


def crop_to(x: Any, like: Any, name: str = "") -> Any:
    """Cuts off below and to the right what `like` has less of: the way back from `pad_to_multiple`."""
    rest = tuple(int(side - wanted) for side, wanted in zip(x.shape[1:3], like.shape[1:3], strict=True))
    return layers.Cropping2D(((0, rest[0]), (0, rest[1])), name=f"{name}_crop")(x) if any(rest) else x


def mask_head(logits: Any) -> Any:
    """Logits → probability of person, under the names by which training and export find them."""
    return layers.Activation("sigmoid", name="mask")(logits)
