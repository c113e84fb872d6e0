"""A network of three convolutions, for tests of what is done with networks: tracing one of ours takes many seconds."""

from collections.abc import Iterator
from typing import Any

import pytest

from portraitseg import models
from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

NAME = "small_network"


def build(size: tuple[int, int], channels: int = 8) -> Any:
    """As those of `MODELS`: a stem with batch norm at stride 4, a block, the mask; sides are multiples of 4."""
    blocks.check_size(NAME, size, 4)
    image = keras.Input((*size, 3), name="image")
    x = blocks.conv_bn(image, channels, kernel=4, stride=4, name="stem")
    x = blocks.separable(x, 8, name="block")
    return keras.Model(image, blocks.mask_head(blocks.subpixel(x, 4, name="logits")), name=NAME)


@pytest.fixture(autouse=True, scope="module")
def registered() -> Iterator[None]:
    """For a module of tests that has this among its names: puts the network among `MODELS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.MODELS, NAME, build)
        yield
