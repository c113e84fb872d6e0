"""Tiny networks that know something: fresh weights are near constant, random ones chaotic."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from portraitseg import contract, models
from portraitseg.synthetic import portraits as synthetic

PHOTO_SIZE = (96, 80)


def samples(count: int, first: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Synthetic portraits, RGB, and their masks."""
    pairs = [synthetic.render(index, PHOTO_SIZE, 0) for index in range(first, first + count)]
    return [image for image, _ in pairs], [mask for _, mask in pairs]


def stack_inputs(images: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(n, h, w, 3) in [0, 1], by the contract."""
    return np.concatenate([contract.image_to_inputs(image, size) for image in images])


def trained_model(name: str, size: tuple[int, int], steps: int = 240, seed: int = 0) -> Any:
    """A float network after some seconds of training on 64 portraits."""
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(seed)
    images, masks = samples(64)
    inputs = stack_inputs(images, size)
    targets = np.stack([contract.mask_to_target(mask, size) for mask in masks])[..., None] / np.float32(255)
    model = models.build(name, size)
    # statistics that follow within these few steps
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    model.compile(keras.optimizers.Adam(3e-3), "binary_crossentropy")
    model.fit(inputs, targets, batch_size=16, epochs=steps // 4, verbose=0)
    return model


#: The network of the shared fixtures: `float_model`, `qat_model`, `exported`.
NAME = "tiny"
#: The one of whole chains and stages.
SMALL = "small"


def build_tiny(size: tuple[int, int]) -> Any:
    """Fast-SCNN with three residual blocks of nine and half of its channels or less: every kind of operator it has.

    26 convolutions where fast_scnn_w050 has 44: training and converting are the dear part of the tests that share it.
    """
    from portraitseg.models import blocks, fast_scnn
    from portraitseg.models.keras_route import keras

    image = keras.Input((*size, 3), name="image")
    detail = fast_scnn.learning_to_downsample(image, (16, 24, 32))
    x = blocks.inverted_residual(detail, 32, 2, expansion=4, name="global0_0")
    x = blocks.inverted_residual(x, 32, 1, expansion=4, name="global0_1")
    # its kernels are as large as Core ML asks of what it compresses: depthwise 3·3·256
    x = blocks.inverted_residual(x, 48, 2, expansion=8, name="global1_0")
    x = fast_scnn.fuse(detail, fast_scnn.pyramid_pooling(x, 48), 48)
    for index in range(2):
        x = blocks.separable(x, 48, name=f"classifier{index}")
    x = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, blocks.mask_head(blocks.upsample(x, 8, name="logits")), name=NAME)


@contextmanager
def registered() -> Iterator[None]:
    """Puts the tiny networks among `MODELS` for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, NAME, build_tiny)
        patch.setitem(models.MODELS, SMALL, build_small)
        yield


def build_small(size: tuple[int, int]) -> Any:
    """Five convolutions, where what is tested is not the network: each conversion takes a fraction of a second."""
    from portraitseg.models import blocks
    from portraitseg.models.keras_route import keras

    image = keras.Input((*size, 3), name="image")
    x = blocks.conv_bn(image, 24, kernel=3, stride=2, name="down0")
    x = blocks.conv_bn(x, 96, kernel=3, stride=2, name="down1")
    x = blocks.separable(x, 64, stride=2, name="down2")
    x = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, blocks.mask_head(blocks.upsample(x, 8, name="logits")), name=SMALL)
