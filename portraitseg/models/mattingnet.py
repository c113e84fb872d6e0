"""MattingNet: an encoder-decoder with a boundary attention head, the accurate network of the project's origin.

After BANet (Chen et al., 2019, "Boundary-Aware Network for Fast and High-Accuracy Portrait Segmentation",
arXiv:1901.03814): a map of the outline, learnt from the mask's edge, is concatenated to the features, so that a small
refinement spends itself on the outline. In place of BANet's semantic branch stands a plain encoder-decoder of residual
separable blocks with skip additions; the fusion by channel attention (Multiply) is left out; what that costs was
not measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Output stride of the encoder: both sides of the input are to be multiples of it.
STRIDE = 16


@dataclass(frozen=True)
class Variant:
    """The numbers of one size.

    Attributes:
        filters: at strides 2, 4, 8 and 16.
        repeats: residual blocks of the encoder at strides 4, 8 and 16, the one that halves the sides included.
    """

    filters: tuple[int, int, int, int]
    repeats: tuple[int, int, int]


VARIANTS: Mapping[str, Variant] = {
    "mattingnet_big": Variant((16, 48, 96, 192), (2, 3, 4)),
    "mattingnet_small": Variant((8, 24, 48, 96), (1, 2, 3)),
}


def build(size: tuple[int, int], variant: str = "mattingnet_big", with_boundary: bool = False) -> Any:
    """Builds the network.

    Args:
        size: (height, width) of the input, multiples of 16.
        variant: a key of `VARIANTS`.
        with_boundary: the map of the outline, which is part of the network either way, is an output too.

    Returns:
        Keras model: inputs (n, h, w, 3) float32 in [0, 1] → probability (n, h, w, 1); with the boundary:
        [probability, probability of the outline (n, h/2, w/2, 1)].

    Raises:
        InputError: a side that is not a multiple of 16.
    """
    blocks.check_size(variant, size, STRIDE)
    image = keras.Input((*size, 3), name="image")
    features = decode(encode(image, VARIANTS[variant]))
    boundary = layers.Conv2D(1, 1, name="boundary_logits")(features)
    boundary = layers.Activation("sigmoid", name="boundary")(boundary)
    x = layers.Concatenate(name="attention")([features, boundary])
    x = blocks.separable(x, features.shape[-1], name="refine")
    x = layers.Conv2D(1, 1, name="logits")(x)
    mask = blocks.mask_head(blocks.upsample(x, 2, name="logits"))
    return keras.Model(image, [mask, boundary] if with_boundary else mask, name=variant)


def encode(image: Any, numbers: Variant) -> list[Any]:
    """(n, h, w, c) → features at strides 2, 4, 8 and 16."""
    x = blocks.conv_bn(image, numbers.filters[0], kernel=3, stride=2, name="stem")
    skips = [x]
    for level, (filters, repeats) in enumerate(zip(numbers.filters[1:], numbers.repeats, strict=True)):
        for repeat in range(repeats):
            x = residual(x, filters, stride=2 if repeat == 0 else 1, name=f"encoder{level}_{repeat}")
        skips.append(x)
    return skips


def residual(x: Any, filters: int, stride: int = 1, name: str = "") -> Any:
    """Two separable convolutions and a shortcut (He et al., 2016), averaged and 1x1 where shapes differ.

    (n, h, w, c) → (n, h/stride, w/stride, filters). A 1x1 convolution that strides would drop three pixels of four (He
    et al., 2019, arXiv:1812.01187, "ResNet-D"), and on 8 channels at 128x128 TensorFlow 2.21's gradient of it writes
    past its memory (oneDNN, AVX-512).
    """
    y = blocks.separable(x, filters, stride=stride, name=f"{name}a")
    y = blocks.depthwise_bn(y, name=f"{name}b")
    y = blocks.conv_bn(y, filters, relu=False, name=f"{name}b_pw")
    if stride != 1 or x.shape[-1] != filters:
        if stride != 1:
            x = layers.AveragePooling2D(stride, padding="same", name=f"{name}_shortcut_pool")(x)
        x = blocks.conv_bn(x, filters, relu=False, name=f"{name}_shortcut")
    return add(x, y, name)


def decode(skips: list[Any]) -> Any:
    """Features from fine to coarse → features at the stride of the finest, each skip added on the way."""
    x = skips[-1]
    for step, skip in enumerate(reversed(skips[:-1])):
        # 1x1 before the upsampling: a quarter of the pixels
        x = blocks.conv_bn(x, skip.shape[-1], relu=False, name=f"decoder{step}_top")
        x = add(blocks.upsample(x, 2, name=f"decoder{step}"), skip, name=f"decoder{step}_skip")
        if skip is not skips[0]:
            x = residual(x, skip.shape[-1], name=f"decoder{step}")
    return x


def add(x: Any, y: Any, name: str) -> Any:
    """ReLU6 of the sum, one operator in a file."""
    return layers.ReLU(6.0, name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))
