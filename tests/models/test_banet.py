import numpy as np
import pytest

from portraitseg import models
from portraitseg.models.keras_route import keras

SIZE = (48, 64)


@pytest.mark.full
def test_has_the_papers_size() -> None:
    # 0.62 MB of float32
    assert models.build("banet", (256, 256)).count_params() == pytest.approx(0.62e6 / 4, rel=0.05)


@pytest.mark.full
def test_details_are_mined_where_the_outline_is() -> None:
    network = models.build("banet_w050", SIZE)
    probe = keras.Model(network.input, network.get_layer("attention").output)
    seen = probe(np.random.default_rng(0).random((1, *SIZE, 3), np.float32)).numpy()
    # features of the first convolution, and the outline's probability beside them
    assert seen.shape[1:3] == (24, 32)
    boundary = models.build_for_training("banet_w050", SIZE).output_shape[1]
    assert boundary == (None, 24, 32, 1)
    assert seen[..., -1].min() >= 0 and seen[..., -1].max() <= 1


@pytest.mark.full
def test_quantization_keeps_the_order_of_inputs() -> None:
    from export.quantization import qat
    from tests.models.test_sinet import _inputs

    network = models.build("banet_w050", SIZE)
    quantized = qat.quantize(network)
    for layer in network.layers:
        if isinstance(layer.input, list):
            assert _inputs(quantized.get_layer(f"quant_{layer.name}")) == _inputs(layer), layer.name
