"""MattingNet: the boundary head is a part of the network, in training an output too."""

import numpy as np
import pytest

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint, mattingnet
from portraitseg.models.keras_route import keras

NAME = "mattingnet_small"
SIZE = (64, 96)


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(0).random((2, *SIZE, 3), np.float32)


@pytest.mark.full
def test_two_outputs_in_training_one_in_the_exported_file(inputs):
    training = models.build_for_training(NAME, SIZE)
    assert training.output_names == ["mask", "boundary"]
    mask, boundary = (output.numpy() for output in training(inputs))
    assert mask.shape == (2, *SIZE, 1)
    assert boundary.shape == (2, SIZE[0] // 2, SIZE[1] // 2, 1)
    assert boundary.min() >= 0 and boundary.max() <= 1
    assert training.layers[-1].name == "mask"
    assert models.build(NAME, SIZE).output_names == ["mask"]


@pytest.mark.full
def test_training_and_deployed_network_share_one_h5(inputs, tmp_path):
    training, deployed = models.build_for_training(NAME, SIZE), models.build(NAME, SIZE)
    assert [w.name for w in training.weights] == [w.name for w in deployed.weights]
    checkpoint.save(deployed, tmp_path / "a.h5")
    checkpoint.load_weights(training, tmp_path / "a.h5")
    np.testing.assert_array_equal(training(inputs)[0], deployed(inputs))


@pytest.mark.full
def test_the_mask_depends_on_the_boundary_map(inputs):
    network = models.build(NAME, SIZE)
    head, refine = network.get_layer("boundary_logits"), network.get_layer("refine_dw")
    # positive, since a random kernel may be one whose ReLU never lets the map through
    refine.set_weights([np.abs(refine.get_weights()[0])])
    before = network(inputs).numpy()
    # a head that is blind
    head.set_weights([np.zeros_like(head.get_weights()[0]), np.float32([-20])])
    assert np.abs(network(inputs).numpy() - before).max() > 1e-4


@pytest.mark.full
def test_big_is_wider_and_deeper_than_small():
    big, small = (mattingnet.VARIANTS[f"mattingnet_{size}"] for size in ("big", "small"))
    assert all(one > other for one, other in zip(big.filters, small.filters, strict=True))
    assert all(one > other for one, other in zip(big.repeats, small.repeats, strict=True))
    # four times the width in kernels, a block more at each stride
    ratio = models.build("mattingnet_big", SIZE).count_params() / models.build(NAME, SIZE).count_params()
    assert 4 < ratio < 6


@pytest.mark.full
@pytest.mark.parametrize("variant", mattingnet.VARIANTS)
def test_every_convolution_has_whole_slices_of_channels(variant):
    network = models.build(variant, SIZE)
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2D) and not layer.name.endswith("logits"):
            assert layer.filters % 8 == 0, layer.name


def test_refuses_a_size_that_it_cannot_take():
    with pytest.raises(InputError, match="multiples of 16"):
        models.build(NAME, (72, 96))
