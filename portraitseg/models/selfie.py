"""MediaPipe's selfie segmentation (Google, 2021) as a plain Keras network that can be trained and quantized.

The graph is that of the two published .tflite files, general (256x256) and landscape (144x256), which differ in input
size and weights alone: a MobileNetV3-like encoder (Howard et al., 2019: h-swish, squeeze-and-excitation) down to stride
16, its LR-ASPP head, and three decoder steps in which each skip is gated by the mean of skip and upsampled features.
`train.weights.foreign` reads the weights out of such a file. Three rewrites keep the function:

- the files' custom operator, a 2x2 transposed convolution of stride 2, has windows that do not overlap: it is the
  sub-pixel convolution of `blocks.subpixel`, which every delegate takes;
- a 1x1 convolution and bilinear upsampling commute; in the files the upsampling comes first, here the cheaper order;
- a decoder step's gate sees the mean of a sum. It is the sum of the means, and upsampling by two keeps a mean: here
  the smaller maps are averaged, and no sum of large ones is made.

Batch norm is folded into the convolutions, as in the files. A ReLU is the convolution's own activation.

`selfie_swish` has x · sigmoid(x) (Ramachandran et al., 2017) where Google's have h-swish, which imitates it: the
released networks that photos taught were trained so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers


@dataclass(frozen=True)
class Variant:
    """What differs.

    Attributes:
        is_hard: True: h-swish, as in Google's files; False: x · sigmoid(x).
        deep_width: multiplier of the channel counts at stride 16, where a channel costs little time.
    """

    is_hard: bool = False
    deep_width: float = 1.0


VARIANTS: Mapping[str, Variant] = {
    "selfie_swish_d200": Variant(deep_width=2.0),
    "selfie_general": Variant(is_hard=True),
    "selfie_landscape": Variant(is_hard=True),
    "selfie_swish": Variant(),
}

STEM_FILTERS = 16

#: Of the encoder's blocks: kernel, stride, filters inside, filters out, filters of squeeze-and-excitation (0: none),
#: and whether the activation is h-swish; else it is ReLU.
ENCODER = (
    (3, 2, 16, 16, 8, False),
    (3, 2, 72, 24, 0, False),
    (3, 1, 88, 24, 0, False),
    (5, 2, 96, 32, 24, True),
    (5, 1, 128, 32, 32, True),
    (5, 1, 128, 32, 32, True),
    (5, 1, 96, 32, 24, True),
    (5, 1, 96, 32, 24, True),
)

#: Blocks behind which the decoder takes features, beside those of the stem.
SKIPS = (0, 2)

ASPP_FILTERS = 128

#: Variance of fresh weights times the inputs that a sum has (He et al., 2015): without batch norm nothing else keeps
#: signals alive.
INITIAL_GAIN = 2.0

#: Both sides of the input are to be multiples of it.
STRIDE = 16

#: (x, name of the activation) → x · g(x).
Swish = Callable[[Any, str], Any]


def build(size: tuple[int, int], variant: str = "selfie_general") -> Any:
    """Builds the network.

    Args:
        size: (height, width) of the input, multiples of 16.
        variant: a key of `VARIANTS`.

    Returns:
        Keras model: inputs (n, h, w, 3) float32 in [0, 1] → probability (n, h, w, 1).

    Raises:
        InputError: a side that is not a multiple of 16.
    """
    blocks.check_size(variant, size, STRIDE)
    numbers = VARIANTS[variant]
    act = hard_swish if numbers.is_hard else swish

    def deep(filters: int) -> int:
        # of 4, as GPUs store them
        return blocks.scale_channels(filters, numbers.deep_width, multiple=4)

    image = keras.Input((*size, 3), name="image")
    x = act(convolve(image, STEM_FILTERS, kernel=3, stride=2, name="stem"), "stem")
    skips = [x]
    for index, (kernel, stride, wide, out, squeeze, is_swish) in enumerate(ENCODER):
        if index > SKIPS[-1]:
            # all of these have squeeze-and-excitation
            wide, out, squeeze = deep(wide), deep(out), deep(squeeze)
        x = encoder_block(x, kernel, stride, wide, out, squeeze, act if is_swish else None, name=f"block{index}")
        if index in SKIPS:
            skips.append(x)
    y = convolve(x, deep(ASPP_FILTERS), relu=True, name="aspp")
    x = layers.Multiply(name="aspp_scale")([y, gate(mean(x, "aspp"), 0, deep(ASPP_FILTERS), name="aspp")])
    for step, skip in enumerate(reversed(skips)):
        x = decoder_step(x, skip, name=f"up{step}")
    return keras.Model(image, blocks.mask_head(blocks.subpixel(x, 2, name="logits")), name=variant)


def encoder_block(
    x: Any, kernel: int, stride: int, wide: int, out: int, squeeze: int, act: Swish | None, name: str
) -> Any:
    """MobileNetV3's inverted residual. (n, h, w, c) → (n, h/stride, w/stride, out); with an Add where stride is 1."""
    relu = act is None
    y = convolve(x, wide, relu=relu, name=f"{name}_expand")
    y = act(y, f"{name}_expand") if act else y
    y = depthwise(y, kernel, stride, relu=relu, name=name)
    y = act(y, f"{name}_dw") if act else y
    if squeeze:
        y = layers.Multiply(name=f"{name}_scale")([y, gate(mean(y, name), squeeze, wide, name)])
    y = convolve(y, out, name=f"{name}_project")
    return layers.Add(name=f"{name}_add")([y, x]) if stride == 1 else y


def decoder_step(x: Any, skip: Any, name: str) -> Any:
    """(n, h/2, w/2, c), (n, h, w, d) → (n, h, w, d)."""
    filters = skip.shape[-1]
    top = convolve(x, filters, name=f"{name}_top")
    x = blocks.upsample(top, 2, name=name)
    both = layers.Add(name=f"{name}_both")([mean(skip, name), mean(top, f"{name}_top")])
    gated = layers.Multiply(name=f"{name}_scale")([skip, gate(both, filters, filters, name)])
    x = layers.Add(name=f"{name}_add")([gated, x])
    x = convolve(x, filters, relu=True, name=f"{name}_fuse")
    return layers.Add(name=f"{name}_out")([x, depthwise(x, 3, 1, relu=True, name=name)])


def mean(x: Any, name: str) -> Any:
    """Of each channel, (n, h, w, c) → (n, 1, 1, c)."""
    return blocks.mean_over_image(x, name=f"{name}_pool", halves=f"{name}_halves")


def gate(y: Any, squeeze: int, out: int, name: str) -> Any:
    """Weights in [0, 1] of channels from what the whole image says of them: means (n, 1, 1, c) → (n, 1, 1, out)."""
    if squeeze:
        # the bias keeps fresh ones alive: there are as few as eight
        y = layers.Conv2D(squeeze, 1, activation="relu", bias_initializer="ones", name=f"{name}_squeeze_conv")(y)
    y = layers.Conv2D(out, 1, name=f"{name}_excite_conv")(y)
    return layers.Activation("sigmoid", name=f"{name}_gate")(y)


def convolve(x: Any, filters: int, kernel: int = 1, stride: int = 1, relu: bool = False, name: str = "") -> Any:
    """Convolution with a bias (→ ReLU). (n, h, w, c) → (n, h/stride, w/stride, filters)."""
    activation = "relu" if relu else None
    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        activation=activation,
        kernel_initializer=keras.initializers.VarianceScaling(INITIAL_GAIN),
        name=f"{name}_conv",
    )(x)


def depthwise(x: Any, kernel: int, stride: int, relu: bool, name: str) -> Any:
    """Depthwise convolution with a bias (→ ReLU). (n, h, w, c) → (n, h/stride, w/stride, c)."""
    activation = "relu" if relu else None
    return layers.DepthwiseConv2D(
        kernel,
        strides=stride,
        padding="same",
        activation=activation,
        # Keras would divide by the number of channels too, of which a depthwise sum has one
        depthwise_initializer=keras.initializers.RandomNormal(stddev=INITIAL_GAIN**0.5 / kernel),
        name=f"{name}_dw",
    )(x)


def hard_swish(x: Any, name: str) -> Any:
    """H-swish, x · ReLU6(x + 3) / 6 (Howard et al., 2019); the converter makes one HARD_SWISH of these layers."""
    y = layers.Rescaling(1.0, offset=3.0, name=f"{name}_shift")(x)
    y = layers.Rescaling(1 / 6, name=f"{name}_sixth")(layers.ReLU(6.0, name=f"{name}_relu6")(y))
    return layers.Multiply(name=f"{name}_hswish")([x, y])


def swish(x: Any, name: str) -> Any:
    """Swish, x · sigmoid(x)."""
    return layers.Multiply(name=f"{name}_swish")([x, layers.Activation("sigmoid", name=f"{name}_sigmoid")(x)])
