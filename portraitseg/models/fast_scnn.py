"""Fast-SCNN: Fast Semantic Segmentation Network (Poudel, Liwicki, Cipolla; BMVC 2019), for one class.

Changed for phones: the pyramid pooling is static, with bins that divide the feature map (the paper's 1, 2, 3 and 6 are
adaptive, which no exporter keeps); ReLU6 for ReLU; no dropout; logits at 1/8, upsampled before the sigmoid.
What these change was not measured: the paper's pooling cannot be exported to compare.
"""

from collections.abc import Mapping
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Variant → width multiplier of every channel count of the paper's Table 1.
VARIANTS: Mapping[str, float] = {"fast_scnn": 1.0, "fast_scnn_w050": 0.5}

#: Both sides of the input are to be multiples of it: half of the encoder's output stride, whose last step pads.
STRIDE = 16


def build(size: tuple[int, int], variant: str = "fast_scnn") -> Any:
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
    width = VARIANTS[variant]

    def c(filters: int) -> int:
        return blocks.scale_channels(filters, width)

    image = keras.Input((*size, 3), name="image")
    detail = learning_to_downsample(image, (c(32), c(48), c(64)))
    context = global_features(detail, (c(64), c(96), c(128)))
    x = fuse(detail, context, c(128))
    for index in range(2):
        x = blocks.separable(x, c(128), name=f"classifier{index}")
    x = layers.Conv2D(1, 1, name="logits")(x)
    x = blocks.upsample(x, 8, name="logits")
    return keras.Model(image, blocks.mask_head(x), name=variant)


def learning_to_downsample(x: Any, filters: tuple[int, int, int]) -> Any:
    """Three strided convolutions, the first one full (Table 1, rows 1-3). (n, h, w, 3) → (n, h/8, w/8, filters[2])."""
    x = blocks.conv_bn(x, filters[0], kernel=3, stride=2, name="down0")
    x = blocks.separable(x, filters[1], stride=2, name="down1")
    return blocks.separable(x, filters[2], stride=2, name="down2")


def global_features(x: Any, filters: tuple[int, int, int]) -> Any:
    """Nine inverted residuals and pyramid pooling (rows 4-7). (n, h/8, w/8, c) → (n, h/32, w/32, filters[2])."""
    for level, (count, stride) in enumerate(((filters[0], 2), (filters[1], 2), (filters[2], 1))):
        x = blocks.pad_to_multiple(x, stride, name=f"global{level}")
        for repeat in range(3):
            x = blocks.inverted_residual(x, count, stride if repeat == 0 else 1, name=f"global{level}_{repeat}")
    return pyramid_pooling(x, filters[2])


def pyramid_pooling(x: Any, filters: int) -> Any:
    """Pyramid pooling (PSPNet; Zhao et al., 2017) with static windows. (n, h, w, c) → (n, h, w, filters)."""
    height, width = x.shape[1:3]
    levels = [x]
    for bins in (1, 2, 4):
        window = (_divide(height, bins), _divide(width, bins))
        y = layers.AveragePooling2D(window, name=f"pool{bins}")(x)
        y = blocks.conv_bn(y, filters // 4, name=f"pool{bins}")
        levels.append(blocks.upsample(y, window, name=f"pool{bins}"))
    x = layers.Concatenate(name="pool_concat")(levels)
    return blocks.conv_bn(x, filters, name="pool_fuse")


def _divide(length: int, bins: int) -> int:
    """The window that cuts a side into `bins` parts, or into the next fewer number that divides it."""
    while length % bins:
        bins -= 1
    return length // bins


def fuse(detail: Any, context: Any, filters: int) -> Any:
    """Feature fusion module (Table 2). (n, h/8, w/8, c), (n, h/32, w/32, d) → (n, h/8, w/8, filters)."""
    context = blocks.crop_to(blocks.upsample(context, 4, name="fuse"), detail, name="fuse")
    context = blocks.depthwise_bn(context, dilation=4, name="fuse_low")
    context = blocks.conv_bn(context, filters, relu=False, name="fuse_low_pw")
    detail = blocks.conv_bn(detail, filters, relu=False, name="fuse_high")
    x = layers.Add(name="fuse_add")([detail, context])
    return layers.ReLU(6.0, name="fuse_relu")(x)
