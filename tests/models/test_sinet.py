from typing import Any

import numpy as np
import pytest

from portraitseg import models
from portraitseg.models import sinet
from portraitseg.models.keras_route import keras

SIZE = (48, 64)


@pytest.mark.full
def test_has_the_papers_size() -> None:
    network = models.build("sinet", (224, 224))
    # the paper's first 1x1 convolution of a module has two groups: half the weights
    halves = [layer.count_params() for layer in network.layers if layer.name.endswith("_half_conv")]
    assert len(halves) == len(sinet.FINE + sinet.COARSE)
    # 86.9 thousand (Table 4), some of them PReLU's slopes
    assert network.count_params() - sum(halves) / 2 == pytest.approx(86.9e3, rel=0.05)


@pytest.mark.full
def test_half_of_the_width_is_smaller_everywhere() -> None:
    wide, narrow = models.build("sinet", SIZE), models.build("sinet_w050", SIZE)
    for layer in narrow.layers:
        assert layer.count_params() <= wide.get_layer(layer.name).count_params(), layer.name
    assert narrow.count_params() < 0.35 * wide.count_params()


@pytest.mark.full
def test_pooled_branches_see_a_smaller_map() -> None:
    network = models.build("sinet_w050", (64, 96))
    assert network.get_layer("coarse3_a_dw").output_shape[1:3] == (2, 3)
    assert network.get_layer("coarse3_b_dw").output_shape[1:3] == (4, 6)
    assert network.get_layer("coarse3_add").output_shape[1:3] == (8, 12)


@pytest.mark.full
def test_fine_features_are_blocked_where_the_coarse_mask_is_sure() -> None:
    network = models.build("sinet_w050", SIZE)
    names = ("person_conv", "coarse_for", "doubt")
    probe = keras.Model(network.input, [network.get_layer(name).output for name in names])
    inputs = np.random.default_rng(0).random((2, *SIZE, 3), np.float32)
    # whatever the random weights: from sure background to sure person
    person = np.asarray(probe(inputs)[0])
    network.get_layer("person_bn").set_weights(
        [np.full(1, 20 * np.sqrt((person.var() + 1e-3) / person.var())), np.zeros(1)]
        + [np.full(1, np.median(person)), np.full(1, person.var())]
    )
    _, logits, doubt = probe(inputs)
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    assert p.min() < 0.1 and p.max() > 0.9
    # float32 against float64
    np.testing.assert_allclose(doubt, 1 - np.maximum(p, 1 - p), atol=1e-6)
    assert np.abs(doubt - p).max() > 0.5


@pytest.mark.full
def test_quantization_keeps_the_order_of_inputs() -> None:
    """TFMOT 0.8.1 hands a Concatenate its inputs in the order of its own list of layers, which its rewrites change."""
    from export.quantization import qat

    network = models.build("sinet_w050", SIZE)
    quantized = qat.quantize(network)
    several = [layer for layer in network.layers if isinstance(layer.input, list)]
    assert len(several) > 20
    for layer in several:
        assert _inputs(quantized.get_layer(f"quant_{layer.name}")) == _inputs(layer), layer.name


def _inputs(layer: Any) -> list[str]:
    return [tensor._keras_history.layer.name.removeprefix("quant_") for tensor in layer.input]
