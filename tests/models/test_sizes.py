"""Sizes whose halves are odd: what is padded on the way down is cropped on the way up."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import blocks
from portraitseg.models.keras_route import keras

ROOT = Path(__file__).parents[2]
#: The wider ones, of the same layers.
FULL = [pytest.param(name, marks=pytest.mark.full) for name in ("contour_large", "fast_scnn")]
#: Of the literature.
PEERS = [pytest.param(name, marks=pytest.mark.full) for name in ("portraitnet_w050", "sinet_w050")]
PADS = frozenset({"ZeroPadding2D", "Cropping2D"})


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 8))
def test_padding_reaches_the_next_multiple_and_cropping_undoes_it(size: tuple[int, int], multiple: int) -> None:
    x = keras.Input((*size, 2))
    padded = blocks.pad_to_multiple(x, multiple, name="there")
    assert [side % multiple for side in padded.shape[1:3]] == [0, 0]
    assert max(wide - side for wide, side in zip(padded.shape[1:3], size, strict=True)) < multiple
    network = keras.Model(x, blocks.crop_to(padded, x, name="back"))
    values = np.random.default_rng(0).random((1, *size, 2), np.float32)
    np.testing.assert_array_equal(network(values), values)


def test_what_needs_neither_gets_no_layer() -> None:
    x = keras.Input((8, 12, 2))
    assert blocks.pad_to_multiple(x, 4, name="a") is x
    assert blocks.crop_to(x, keras.Input((8, 12, 5)), name="a") is x


def _strided(side: int, is_padded: bool) -> keras.Model:
    x = keras.Input((side, 8, 3))
    y = blocks.pad_to_multiple(x, 2, name="a") if is_padded else x
    return keras.Model(x, blocks.conv_bn(y, 4, kernel=3, stride=2, name="a"))


def _distance_to_the_taller_one(is_padded: bool) -> float:
    """Between the windows of an odd side and the same ones of an even side, with the same weights."""
    odd, even = _strided(9, is_padded), _strided(10, is_padded)
    odd.set_weights(even.get_weights())
    photo = np.random.default_rng(0).random((1, 9, 8, 3), np.float32)
    taller = np.concatenate([photo, np.zeros((1, 1, 8, 3), np.float32)], axis=1)
    return float(np.abs(odd(photo) - even(taller)).max())


def test_windows_start_where_those_of_even_sides_do() -> None:
    # the same sums of the same numbers
    assert _distance_to_the_taller_one(is_padded=True) < 1e-6
    # what "same" padding alone would do: every window one pixel off
    assert _distance_to_the_taller_one(is_padded=False) > 0.05


def _layers(config: dict) -> list[tuple[str, str, str]]:
    return [(layer["class_name"], layer["config"]["name"], str(layer["inbound_nodes"])) for layer in config["layers"]]


@pytest.mark.parametrize("name", ["contour_small", *FULL])
def test_at_multiples_of_32_it_is_the_network_of_its_weights(name: str) -> None:
    with h5py.File(ROOT / "weights" / f"{name}-256x256.h5") as file:
        stored = json.loads(file.attrs["model_config"])["config"]
    mine = json.loads(models.build(name, (256, 256)).to_json())["config"]
    assert _layers(mine) == _layers(stored)
    assert not {kind for kind, *_ in _layers(mine)} & PADS
    landscape = json.loads(models.build(name, (144, 256)).to_json())["config"]
    assert {kind for kind, *_ in _layers(landscape)} >= PADS


@pytest.mark.parametrize("name", ["contour_small", PEERS[1]])
def test_what_strides_pads_first(name: str) -> None:
    network = models.build(name, (144, 256))
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            sides = layer.input_shape[1:3]
            assert all(side % stride == 0 for side, stride in zip(sides, layer.strides, strict=True)), layer.name


@pytest.mark.parametrize("name", ["contour_small", *FULL, *PEERS])
@pytest.mark.parametrize("size", [(144, 256), (256, 192), (48, 80)])
def test_sizes_of_phones(name: str, size: tuple[int, int]) -> None:
    assert models.build(name, size).output_shape == (None, *size, 1)


@pytest.mark.parametrize("name", ["fast_scnn", "portraitnet", "sinet"])
@pytest.mark.parametrize("size", [(152, 256), (256, 200)])
def test_sizes_that_no_padding_helps(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=rf"{name}: input {size[0]}x{size[1]}: both sides must be multiples of 16"):
        models.build(name, size)
