"""Contour: our own family, an ImageNet encoder on a quarter of the pixels and a decoder that finds the outline again.

The encoder is EfficientNet-Lite0 (Tan & Le, 2019, Table 1; the Lite form has ReLU6 and no squeeze-excite) up to its 112
channels, as it would see the photo at half its side: the stem's stride is 4, not 2, since at half size a feature map
costs four times as much and an int8 network spends most of its time there. Its expansions and repeats may be fewer, so
that `train.weights.pretrained` can fill what is left with the most used channels of the ImageNet weights. The decoder
is a top-down pathway (Lin et al., 2017, FPN): 1x1 convolutions before the upsampling, Add, one separable convolution
a step; its head predicts the fine pixels of a coarse one at once (`blocks.subpixel`).

`contour_teacher` is the same with nothing saved: the encoder on all pixels. It is what the others may learn from, and
several times too slow for a phone.

What each operator costs as int8 on one thread decided the rest (docs/decisions/0006-contour.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Levels of EfficientNet-Lite0, of which the last is kept by the teacher alone: (kernel, stride, filters).
LEVELS = ((3, 1, 16), (3, 2, 24), (5, 2, 40), (3, 2, 80), (5, 1, 112), (5, 2, 192))

#: Filters of its stem.
STEM_FILTERS = 32

#: Both sides of the input are to be multiples of it.
STRIDE = 16


@dataclass(frozen=True)
class Variant:
    """The numbers of one size.

    Attributes:
        detail: filters at half size, in front of the encoder and once more in the decoder; 0: the stem is one 4x4
            convolution of stride 4, and nothing is computed at half size.
        expansion: of the inverted residuals of each level; EfficientNet-Lite0 has 1, 6, 6, 6, 6, 6.
        repeats: blocks per level; EfficientNet-Lite0 has 1, 2, 2, 3, 3, 4.
        decoder: filters at strides 16, 8, 4 and, where something is computed at half size, 2.
        is_whole: True: the encoder sees the photo at its own side, as EfficientNet-Lite0 does: the stem's stride is 2.
    """

    detail: int
    expansion: tuple[int, ...]
    repeats: tuple[int, ...]
    decoder: tuple[int, ...]
    is_whole: bool = False

    @property
    def finest(self) -> int:
        """Stride of the decoder's last features."""
        return 2 if self.detail or self.is_whole else 4


VARIANTS: Mapping[str, Variant] = {
    "contour_teacher": Variant(0, (1, 6, 6, 6, 6, 6), (1, 2, 2, 3, 3, 4), (128, 96, 64, 32), is_whole=True),
    "contour_large": Variant(24, (1, 6, 6, 6, 6), (1, 2, 2, 3, 3), (96, 64, 40, 24)),
    "contour_medium": Variant(0, (1, 6, 6, 6, 6), (1, 2, 2, 3, 3), (64, 40, 24)),
    "contour_small": Variant(0, (1, 3, 3, 3, 3), (1, 1, 2, 2, 1), (48, 24, 16)),
}


def build(size: tuple[int, int], variant: str = "contour_medium") -> Any:
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
    image = keras.Input((*size, 3), name="image")
    x = decode(encode(image, numbers), numbers.decoder)
    x = blocks.subpixel(x, numbers.finest, name="logits")
    return keras.Model(image, blocks.mask_head(x), name=variant)


def encode(image: Any, numbers: Variant) -> list[Any]:
    """(n, h, w, c) → features from fine to coarse, at strides `numbers.finest` … 32."""
    x, skips = image, []
    if numbers.detail:
        x = blocks.conv_bn(x, numbers.detail, kernel=3, stride=2, name="detail")
        skips.append(x)
    kernel, stride = (3, 2) if numbers.finest == 2 else (4, 4)
    x = blocks.conv_bn(x, STEM_FILTERS, kernel=kernel, stride=stride, name="stem")
    levels = zip(LEVELS[: len(numbers.repeats)], numbers.repeats, numbers.expansion, strict=True)
    for level, ((kernel, stride, filters), repeats, expansion) in enumerate(levels):
        if stride == 2:
            skips.append(x)
            x = blocks.pad_to_multiple(x, 2, name=f"stage{level}")
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            x = blocks.inverted_residual(x, filters, step, expansion, kernel, name=f"stage{level}_{repeat}")
    return [*skips, x]


def decode(skips: list[Any], filters: tuple[int, ...]) -> Any:
    """Features from fine to coarse → (n, h/k, w/k, filters[-1]) at the stride k of the finest."""
    x = skips[-1]
    for step, (skip, count) in enumerate(zip(reversed(skips[:-1]), filters, strict=True)):
        top = blocks.conv_bn(x, count, relu=False, name=f"up{step}_top")
        top = blocks.crop_to(blocks.upsample(top, 2, name=f"up{step}"), skip, name=f"up{step}")
        side = blocks.conv_bn(skip, count, relu=False, name=f"up{step}_side")
        x = layers.Add(name=f"up{step}_add")([top, side])
        x = blocks.separable(x, count, name=f"up{step}")
    return x
