import numpy as np
import pytest

from portraitseg import models
from portraitseg.models import portraitnet

SIZE = (48, 64)


@pytest.mark.full
def test_has_the_papers_size() -> None:
    # 2.1 M as published; ours has no transposed convolutions and one class instead of two
    assert models.build("portraitnet", (224, 224)).count_params() == pytest.approx(2.1e6, rel=0.1)


@pytest.mark.full
def test_halving_the_width_quarters_the_weights() -> None:
    # as much as rounding to multiples of 8 allows
    ratio = models.build("portraitnet_w050", SIZE).count_params() / models.build("portraitnet", SIZE).count_params()
    assert 0.23 < ratio < 0.3


@pytest.mark.full
def test_the_boundary_head_is_only_there_in_training() -> None:
    deployed = models.build("portraitnet_w050", SIZE)
    training = models.build_for_training("portraitnet_w050", SIZE)
    assert training.output_names == ["mask", "boundary"]
    assert training.output_shape == [(None, *SIZE, 1), (None, SIZE[0] // 2, SIZE[1] // 2, 1)]
    extra = {layer.name for layer in training.layers} - {layer.name for layer in deployed.layers}
    assert extra == {"boundary", "boundary_logits"}


@pytest.mark.full
def test_the_mask_does_not_depend_on_the_boundary_head() -> None:
    deployed = models.build("portraitnet_w050", SIZE)
    training = models.build_for_training("portraitnet_w050", SIZE)
    for layer in deployed.layers:
        layer.set_weights(training.get_layer(layer.name).get_weights())
    inputs = np.random.default_rng(0).random((1, *SIZE, 3), np.float32)
    np.testing.assert_array_equal(deployed(inputs), training(inputs)[0])
    # damaged: of other weights
    deployed.get_layer("logits").set_weights([-w - 1 for w in deployed.get_layer("logits").get_weights()])
    assert np.abs(deployed(inputs) - training(inputs)[0]).max() > 0.1


@pytest.mark.full
def test_every_skip_fits_the_decoder() -> None:
    # an Add broadcasts a channel of one without a word
    network = models.build("portraitnet", SIZE)
    filters = [network.get_layer(f"up{step}_skip").input_shape for step in (1, 2, 3)]
    assert [[shape[-1] for shape in pair] for pair in filters] == [[c, c] for c in portraitnet.DECODER[:3]]
