"""MMNet: the paper's size and shapes, and that what was moved changes nothing."""

import numpy as np
import pytest

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import mmnet
from portraitseg.models.keras_route import keras

SIZE = (64, 96)
layers = keras.layers


@pytest.fixture(scope="module")
def network():
    return models.build("mmnet", SIZE)


@pytest.mark.full
def test_has_the_papers_size(network):
    # its blocks come to 0.20 M with the statistics of batch norm; one class for two takes 17 away
    assert network.count_params() == pytest.approx(0.199e6, rel=0.005)


@pytest.mark.full
def test_branches_see_at_their_dilations(network):
    for index, (_, _, _, dilations) in enumerate(mmnet.ENCODER):
        assert len(network.get_layer(f"encoder{index}_concat").input) == len(dilations)
        for dilation in dilations:
            assert network.get_layer(f"encoder{index}_d{dilation}_dw").dilation_rate == (dilation, dilation)


@pytest.mark.full
def test_the_encoder_ends_at_a_sixteenth(network):
    assert network.get_layer("encoder9_project_relu").output_shape[1:] == (SIZE[0] // 16, SIZE[1] // 16, 80)
    # linear bottlenecks, but for the last
    relus = [layer.name for layer in network.layers if layer.name.endswith("project_relu")]
    assert relus == ["encoder9_project_relu"]


@pytest.mark.full
def test_the_last_convolution_may_come_before_the_upsampling(network):
    """The paper has it behind: bilinear upsampling is linear, and its weights add up to 1."""
    convolution, upsampling = network.get_layer("logits"), network.get_layer("logits_up")
    inputs = np.random.default_rng(0).normal(size=(2, 8, 6, convolution.input_shape[-1])).astype("float32")
    convolution.bias.assign([0.7])
    before, behind = upsampling(convolution(inputs)).numpy(), convolution(upsampling(inputs)).numpy()
    # measured 5e-7: the order of float32 sums
    np.testing.assert_allclose(before, behind, atol=1e-5)


@pytest.mark.full
def test_width_is_in_whole_slices_of_channels():
    half = models.build("mmnet_w050", SIZE)
    for layer in half.layers:
        if isinstance(layer, layers.Conv2D) and layer.name != "logits":
            assert layer.filters % 8 == 0, layer.name
    assert half.count_params() < 0.4 * models.build("mmnet", SIZE).count_params()


def test_refuses_a_size_that_it_cannot_take():
    with pytest.raises(InputError, match="multiples of 16"):
        models.build("mmnet", (64, 100))
