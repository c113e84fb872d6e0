"""BANet: Boundary-Aware Network for Fast and High-Accuracy Portrait Segmentation (Chen et al., 2019, arXiv:1901.03814).

A semantic branch of at most 64 filters, as context needs a large receptive field and few details; a map of the outline
from it, by which a boundary feature mining branch looks at the photo for details; a fusion of both that weighs channels
by what the whole photo says of them (the feature fusion module of BiSeNet, Yu et al., 2018).

The paper itself could not be read here, only its abstract, summaries of it and a stranger's rebuilding: they give this
structure, at most 64 filters, and 0.62 MB (155 thousand float32 weights). How many residual blocks a level has, and the
filters of the other two parts, they do not: here they are chosen so that the size fits.

Changed for phones: mining and fusion work at half the photo's side, not at the whole, and mining sees the features of
the first convolution in place of the photo, as a file for RGBA has one convolution that reads pixels. The map of the
outline learns by the loss `boundary`. The paper's refine loss, by the gradients of the photo, is not there; `sobel`, by
those of the mask, is the nearest to it. What these change was not measured.
"""

from collections.abc import Callable, Mapping
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Variant → width multiplier of every channel count.
VARIANTS: Mapping[str, float] = {"banet": 1.0, "banet_w050": 0.5}

#: Of the first convolution, of the mined details and of the fusion; half the photo's side.
FINE_FILTERS = 16

#: Of the semantic branch.
FILTERS = 64

#: Residual blocks at strides 4, 8 and 16; a pooling follows each.
REPEATS = (2, 4, 4)

#: Both sides of the input are to be multiples of it; the semantic branch pads for its stride of 32.
STRIDE = 16


def build(size: tuple[int, int], variant: str = "banet", with_boundary: bool = False) -> Any:
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
    width = VARIANTS[variant]

    def c(filters: int) -> int:
        return blocks.scale_channels(filters, width)

    image = keras.Input((*size, 3), name="image")
    fine = blocks.conv_bn(image, c(FINE_FILTERS), kernel=3, stride=2, name="stem")
    semantic = understand(fine, c)
    boundary = blocks.conv_bn(semantic, 1, relu=False, name="boundary_quarter")
    boundary = blocks.upsample(boundary, 2, name="boundary_logits")
    boundary = layers.Activation("sigmoid", name="boundary")(boundary)
    x = layers.Concatenate(name="attention")([fine, boundary])
    details = blocks.conv_bn(x, c(FINE_FILTERS), kernel=3, name="mining")
    x = fuse(semantic, details, c(FINE_FILTERS))
    mask = blocks.mask_head(blocks.subpixel(x, 2, name="logits"))
    return keras.Model(image, [mask, boundary] if with_boundary else mask, name=variant)


def understand(fine: Any, c: Callable[[int], int]) -> Any:
    """The semantic branch: down to stride 32, and back by additions. (n, h/2, w/2, c) → (n, h/4, w/4, d)."""
    filters = c(FILTERS)
    x = blocks.conv_bn(fine, filters, kernel=3, stride=2, name="semantic")
    skips = []
    for level, repeats in enumerate(REPEATS):
        for repeat in range(repeats):
            x = bottleneck(x, filters // 2, name=f"stage{level}_{repeat}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"stage{level}_pool")(blocks.pad_to_multiple(x, 2, name=f"stage{level}"))
    for step, skip in enumerate(reversed(skips)):
        x = blocks.crop_to(blocks.upsample(x, 2, name=f"up{step}"), skip, name=f"up{step}")
        x = layers.Add(name=f"up{step}_add")([x, skip])
    return x


def bottleneck(x: Any, filters: int, name: str) -> Any:
    """Residual bottleneck (He et al., 2016): 1x1, 3x3, 1x1 and a shortcut. (n, h, w, c) → (n, h, w, c)."""
    y = blocks.conv_bn(x, filters, name=f"{name}_reduce")
    y = blocks.conv_bn(y, filters, kernel=3, name=f"{name}_spread")
    y = blocks.conv_bn(y, x.shape[-1], relu=False, name=f"{name}_expand")
    return layers.ReLU(6.0, name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))


def fuse(semantic: Any, details: Any, filters: int) -> Any:
    """Feature fusion. (n, h/4, w/4, c), (n, h/2, w/2, d) → (n, h/2, w/2, filters)."""
    # 1x1 before the upsampling: a quarter of the pixels
    context = blocks.upsample(blocks.conv_bn(semantic, filters, name="context"), 2, name="context")
    # the upsampled one first: TFMOT 0.8.1 would swap an upsampling that follows a convolution in a Concatenate
    x = layers.Concatenate(name="fusion_concat")([context, details])
    x = blocks.conv_bn(x, filters, kernel=3, name="fusion")
    weight = blocks.mean_over_image(x, name="fusion_mean", halves="fusion_halves")
    weight = blocks.conv_bn(weight, filters, name="fusion_reduce")
    weight = layers.Activation("sigmoid", name="fusion_gate")(layers.Conv2D(filters, 1, name="fusion_expand")(weight))
    return layers.Add(name="fusion_add")([x, layers.Multiply(name="fusion_scale")([x, weight])])
