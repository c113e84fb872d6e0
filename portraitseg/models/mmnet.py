"""MMNet: parallel dilated branches and linear bottlenecks (Seo et al., 2019, arXiv:1904.03816), for one class.

"Towards Real-Time Automatic Portrait Matting on Mobile Devices". Changed for phones: the last 1x1 convolution comes
before the upsampling, not behind it, which is the same function with a sixteenth of the pixels; one sigmoid for two
classes under a softmax; neither dropout nor the auxiliary output of the paper's distillation. The dilated depthwise
convolutions are the paper's: quantization and the GPU take them, the batch being fixed to 1.
"""

from collections.abc import Mapping
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Variant → the paper's width multiplier of every channel count.
VARIANTS: Mapping[str, float] = {"mmnet": 1.0, "mmnet_w050": 0.5}

#: Output stride of the encoder: both sides of the input are to be multiples of it.
STRIDE = 16

#: Encoder blocks: (filters of each branch, filters of the block, stride, dilations of the branches).
ENCODER = (
    (16, 16, 2, (1, 2, 4, 8)),
    (16, 24, 1, (1, 2, 4, 8)),
    (24, 24, 1, (1, 2, 4, 8)),
    (24, 24, 1, (1, 2, 4, 8)),
    (32, 40, 2, (1, 2, 4)),
    (64, 40, 1, (1, 2, 4)),
    (64, 40, 1, (1, 2, 4)),
    (64, 40, 1, (1, 2, 4)),
    (80, 80, 2, (1, 2)),
    (120, 80, 1, (1, 2)),
)

#: Refinements of the decoder: (filters of the upsampled features and of the skip, index of the skip in ENCODER).
REFINEMENTS = ((64, 4), (40, 0))

#: Filters of the decoder's two encoder blocks, of their branches too, and their dilations.
ENHANCEMENT = (40, (1, 2, 4))


def build(size: tuple[int, int], variant: str = "mmnet") -> Any:
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
    x = blocks.conv_bn(image, c(32), kernel=3, stride=2, name="stem")
    levels = []
    for index, (branch, filters, stride, dilations) in enumerate(ENCODER):
        x = multi_branch(x, c(branch), c(filters), dilations, stride, index == len(ENCODER) - 1, name=f"encoder{index}")
        levels.append(x)
    for index, (filters, skip) in enumerate(REFINEMENTS):
        x = refine(x, levels[skip], c(filters), name=f"refine{index}")
    filters, dilations = c(ENHANCEMENT[0]), ENHANCEMENT[1]
    for index in range(2):
        x = multi_branch(x, filters, filters, dilations, name=f"enhance{index}")
    x = blocks.conv_bn(x, c(16), name="head")
    x = layers.Conv2D(1, 1, name="logits")(x)
    x = blocks.upsample(x, 4, name="logits")
    return keras.Model(image, blocks.mask_head(x), name=variant)


def multi_branch(
    x: Any, branch: int, filters: int, dilations: tuple[int, ...], stride: int = 1, relu: bool = False, name: str = ""
) -> Any:
    """Encoder block: a 1x1 and a dilated depthwise convolution per branch, then a linear 1x1 over all.

    (n, h, w, c) → (n, h/stride, w/stride, filters).
    """
    branches = []
    for dilation in dilations:
        y = blocks.conv_bn(x, branch, name=f"{name}_d{dilation}_expand")
        if stride > 1:
            y = blocks.depthwise_bn(y, stride=stride, name=f"{name}_d{dilation}_down")
        branches.append(blocks.depthwise_bn(y, dilation=dilation, name=f"{name}_d{dilation}"))
    x = layers.Concatenate(name=f"{name}_concat")(branches)
    return blocks.conv_bn(x, filters, relu=relu, name=f"{name}_project")


def refine(x: Any, skip: Any, filters: int, name: str = "") -> Any:
    """Refinement block: upsampled features beside a skip. (n, h, w, c), (n, 2h, 2w, d) → (n, 2h, 2w, 2·filters)."""
    x = blocks.upsample(blocks.conv_bn(x, filters, name=f"{name}_top"), 2, name=name)
    return layers.Concatenate(name=f"{name}_concat")([x, blocks.separable(skip, filters, name=f"{name}_skip")])
