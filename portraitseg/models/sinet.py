"""SINet: squeezed branches and a decoder that blocks what is certain (Park et al., WACV 2020, arXiv:1911.09099).

"Extreme Lightweight Portrait Segmentation Networks with Spatial Squeeze Modules and Information Blocking Decoder". Two
ideas: half of a module's channels are computed on a pooled map, and the decoder lets fine features through only where
the coarse mask is in doubt.

ReLU6 stands for the paper's PReLU, which QAT refuses: 83.1 against 84.2 % IoU on `val` after 3,523 photos at 128x128,
means of three seeds each (docs/training.md). The 1x1 convolution that halves a module's channels is a full one where
the paper's has two groups: twice those weights, and no shuffle of channels, which would be a transposition in TFLite.
What that changes was not measured.
"""

from collections.abc import Mapping
from typing import Any

from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

layers = keras.layers

#: Variant → width multiplier of every channel count of the paper's Table 2.
VARIANTS: Mapping[str, float] = {"sinet": 1.0, "sinet_w050": 0.5}

#: (kernel, pooling) of a branch of a spatial squeeze module.
Squeeze = tuple[int, int]
Module = tuple[Squeeze, Squeeze]

#: Modules at stride 4 and at stride 8 (Table 2). In each the branch with the greater pooling stands first: TFMOT 0.8.1
#: would swap an upsampling that follows a convolution in a Concatenate, and the network would be another one.
FINE: tuple[Module, ...] = (((3, 1), (5, 1)), ((3, 1), (3, 1)))
COARSE: tuple[Module, ...] = (
    ((3, 1), (5, 1)),
    ((3, 1), (3, 1)),
    ((3, 2), (5, 1)),
    ((3, 4), (5, 2)),
    ((3, 1), (3, 1)),
    ((5, 1), (5, 1)),
    ((3, 4), (3, 2)),
    ((5, 2), (3, 1)),
)

#: Both sides of the input are to be multiples of it.
STRIDE = 16


def build(size: tuple[int, int], variant: str = "sinet") -> Any:
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
        # of 4, as GPUs store them: of 8 the paper's first 12 would be 16
        return blocks.scale_channels(filters, width, multiple=4)

    image = keras.Input((*size, 3), name="image")
    x = blocks.conv_bn(image, c(12), kernel=3, stride=2, name="stem")
    x = down(x, c(16), name="down0")
    fine = squeeze_modules(x, c(48), FINE, name="fine")
    x = layers.Concatenate(name="fine_concat")([x, fine])
    x = down(x, c(48), name="down1")
    coarse = squeeze_modules(x, c(96), COARSE, name="coarse")
    coarse = layers.Concatenate(name="coarse_concat")([x, coarse])
    logits = blocks.upsample(decode(coarse, fine), 4, name="logits")
    return keras.Model(image, blocks.mask_head(logits), name=variant)


def down(x: Any, filters: int, name: str) -> Any:
    """Separable convolution of stride 2, squeeze-and-excitation. (n, h, w, c) → (n, h/2, w/2, filters)."""
    x = blocks.depthwise_bn(x, stride=2, relu=False, name=name)
    x = blocks.conv_bn(x, filters, name=f"{name}_pw")
    return excite(x, name=f"{name}_se")


def excite(x: Any, name: str) -> Any:
    """Squeeze-and-excitation (Hu et al., 2018): each channel times what the whole image says of it."""
    y = blocks.mean_over_image(x, name=f"{name}_mean", halves=f"{name}_halves")
    # with batch norm: TFMOT leaves the kernel of a convolution that only a ReLU follows in float
    y = blocks.conv_bn(y, max(4, x.shape[-1] // 4), name=f"{name}_reduce")
    y = layers.Conv2D(x.shape[-1], 1, name=f"{name}_expand")(y)
    return layers.Multiply(name=f"{name}_scale")([x, layers.Activation("sigmoid", name=f"{name}_gate")(y)])


def squeeze_modules(x: Any, filters: int, modules: tuple[Module, ...], name: str) -> Any:
    """Spatial squeeze modules, one after another. (n, h, w, c) → (n, h, w, filters)."""
    for index, module in enumerate(modules):
        x = squeeze_module(x, filters, module, name=f"{name}{index}")
    return x


def squeeze_module(x: Any, filters: int, module: Module, name: str) -> Any:
    """Halves the channels, has two branches see them, puts both side by side (Fig. 3); Add where shapes allow."""
    has_shortcut = x.shape[-1] == filters
    half = blocks.conv_bn(x, filters // 2, relu=False, name=f"{name}_half")
    branches = [
        squeeze(half, filters // 2, kernel_pooling, relu=not has_shortcut, name=f"{name}_{which}")
        for which, kernel_pooling in zip("ab", module, strict=True)
    ]
    y = layers.Concatenate(name=f"{name}_concat")(branches)
    return layers.ReLU(6.0, name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y])) if has_shortcut else y


def squeeze(x: Any, filters: int, kernel_pooling: Squeeze, relu: bool, name: str) -> Any:
    """Spatial squeeze block: pooling, a separable convolution, upsampling. (n, h, w, c) → (n, h, w, filters)."""
    kernel, pooling = kernel_pooling
    y = x
    if pooling > 1:
        y = layers.AveragePooling2D(pooling, name=f"{name}_pool")(blocks.pad_to_multiple(x, pooling, name=name))
    y = blocks.depthwise_bn(y, kernel=kernel, name=name)
    y = blocks.conv_bn(y, filters, relu=relu, name=f"{name}_pw")
    return blocks.crop_to(blocks.upsample(y, pooling, name=name), x, name=name) if pooling > 1 else y


def decode(coarse: Any, fine: Any) -> Any:
    """Information blocking (Fig. 5). (n, h/8, w/8, c), (n, h/4, w/4, d) → logits (n, h/4, w/4, 1).

    The fine logits count by 1 - max(p, 1 - p), p the coarse probability of person: one sigmoid of the lesser of the
    logits for and against.
    """
    person = blocks.upsample(blocks.conv_bn(coarse, 1, relu=False, name="person"), 2, name="person")
    background = blocks.upsample(blocks.conv_bn(coarse, 1, relu=False, name="background"), 2, name="background")
    logits = layers.Subtract(name="coarse_for")([person, background])
    against = layers.Subtract(name="coarse_against")([background, person])
    doubt = layers.Activation("sigmoid", name="doubt")(layers.Minimum(name="doubt_logits")([logits, against]))
    detail = blocks.conv_bn(fine, 1, relu=False, name="detail")
    return layers.Add(name="fused")([logits, layers.Multiply(name="blocking")([detail, doubt])])
