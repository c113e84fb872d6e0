"""PortraitNet: Real-time Portrait Segmentation Network for Mobile Device (Zhang et al.; Computers & Graphics 2019).

MobileNetV2 and a decoder of D-blocks with skip additions; a boundary head in training only. The consistency constraint
is the loss `consistency`. The encoder begins with random weights (the authors' with ImageNet's) and the boundary head
learns by binary cross-entropy (theirs by focal loss); what these change was not measured.

Bilinear upsampling stands for the authors' transposed convolutions: 81.5 against 80.8 % IoU on `val` at width 0.5 after
3,523 photos at 128x128, means of two seeds that lie up to 2 points apart: no cost that shows (docs/training.md).
"""

from collections.abc import Callable, Mapping
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Variant → width multiplier of every channel count.
VARIANTS: Mapping[str, float] = {"portraitnet": 1.0, "portraitnet_w050": 0.5}

#: MobileNetV2's levels (Sandler et al., 2018, Table 2): (expansion, filters, repeats, stride).
LEVELS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM_FILTERS = 32

#: Filters of the D-blocks at strides 32, 16, 8, 4 and 2; the first four are those of the encoder one stride finer.
DECODER = (96, 32, 24, 16, 8)

#: Both sides of the input are to be multiples of it.
STRIDE = 16


def build(size: tuple[int, int], variant: str = "portraitnet", with_boundary: bool = False) -> Any:
    """Builds the network.

    Args:
        size: (height, width) of the input, multiples of 16.
        variant: a key of `VARIANTS`.
        with_boundary: adds the boundary head, for training.

    Returns:
        Keras model: inputs (n, h, w, 3) float32 in [0, 1] → probability (n, h, w, 1); with the boundary head,
        [that, probability of the outline (n, h/2, w/2, 1)].

    Raises:
        InputError: a side that is not a multiple of 16.
    """
    blocks.check_size(variant, size, STRIDE)
    width = VARIANTS[variant]

    def c(filters: int) -> int:
        return blocks.scale_channels(filters, width)

    image = keras.Input((*size, 3), name="image")
    skips = encode(image, c)
    x = decode(skips, tuple(c(filters) for filters in DECODER))
    logits = layers.Conv2D(1, 3, padding="same", name="logits")(x)
    mask = blocks.mask_head(blocks.upsample(logits, 2, name="logits"))
    if not with_boundary:
        return keras.Model(image, mask, name=variant)
    boundary = layers.Conv2D(1, 3, padding="same", name="boundary_logits")(x)
    return keras.Model(image, [mask, layers.Activation("sigmoid", name="boundary")(boundary)], name=variant)


def encode(image: Any, c: Callable[[int], int]) -> list[Any]:
    """MobileNetV2 without its last layer. (n, h, w, c) → features at strides 4, 8, 16 and 32."""
    x = blocks.conv_bn(image, c(STEM_FILTERS), kernel=3, stride=2, name="stem")
    finer = []
    for level, (expansion, filters, repeats, stride) in enumerate(LEVELS):
        if stride == 2:
            finer.append(x)
            x = blocks.pad_to_multiple(x, 2, name=f"stage{level}")
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            x = blocks.inverted_residual(x, c(filters), step, expansion, name=f"stage{level}_{repeat}")
    # the paper has no skip at half size
    return [*finer[1:], x]


def decode(features: list[Any], filters: tuple[int, ...]) -> Any:
    """Features at strides 4 to 32 → (n, h/2, w/2, filters[-1])."""
    *skips, x = features
    x = d_block(x, filters[0], name="up0")
    for step, skip in enumerate(reversed(skips), 1):
        x = blocks.crop_to(blocks.upsample(x, 2, name=f"up{step}"), skip, name=f"up{step}")
        x = d_block(layers.Add(name=f"up{step}_skip")([x, skip]), filters[step], name=f"up{step}")
    return d_block(blocks.upsample(x, 2, name="up4"), filters[-1], name="up4")


def d_block(x: Any, filters: int, name: str) -> Any:
    """Two separable convolutions beside one 1x1 convolution (Fig. 3). (n, h, w, c) → (n, h, w, filters)."""
    y = blocks.separable(x, filters, name=f"{name}_a")
    y = blocks.depthwise_bn(y, name=f"{name}_b")
    y = blocks.conv_bn(y, filters, relu=False, name=f"{name}_b_pw")
    if x.shape[-1] != filters:
        x = blocks.conv_bn(x, filters, relu=False, name=f"{name}_side")
    return layers.ReLU(6.0, name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))
