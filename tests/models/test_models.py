"""What every network must do; a line added to MODELS is tested by these."""

from pathlib import Path

import numpy as np
import pytest

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import blocks, checkpoint
from portraitseg.models.keras_route import keras, tf
from tests.models.variants import BY_DEFAULT, variants

SIZE = (64, 96)  # not square: swapped sides would show

#: Where there is a gradient, its greatest number is 2.5e-6 and more (of five seeds); what rounding makes of 0 is 2e-7.
LEAST_GRADIENT = 1e-6


# the activation of selfie_general is no ReLU
@pytest.fixture(scope="module", params=variants(BY_DEFAULT | {"selfie_general"}))
def network(request):
    return models.build(request.param, SIZE)


def _randomise(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights(
        [
            rng.normal(0, 0.1, w.shape).astype(w.dtype) + ("variance" in v.name)
            for w, v in zip(model.get_weights(), model.weights, strict=True)
        ]
    )


def test_maps_an_image_to_a_probability_of_the_same_size(network):
    inputs = np.random.default_rng(0).random((2, *SIZE, 3), np.float32)
    probability = network(inputs).numpy()
    assert probability.shape == (2, *SIZE, 1)
    assert probability.dtype == np.float32
    assert probability.min() >= 0 and probability.max() <= 1


# the literature's too: `make compare` exports them at their size
@pytest.mark.parametrize(
    ("name", "size", "means"),
    [
        *(("selfie_swish", size, 13) for size in ((144, 256), (256, 256), (288, 288), (320, 320))),
        ("banet_w050", (256, 256), 1),
        ("sinet_w050", (256, 256), 2),
        pytest.param("sinet_w050", (320, 320), 2, marks=pytest.mark.full),
    ],
)
def test_no_mean_is_over_more_pixels_than_opengl_es_takes(name, size, means):
    pooled = [
        layer.input_shape[1:3]
        for layer in models.build(name, size).layers
        if isinstance(layer, keras.layers.GlobalAveragePooling2D)
    ]
    assert len(pooled) == means
    assert max(max(shape) for shape in pooled) <= blocks.MOST_POOLED


def test_every_network_that_pools_is_named_above():
    sources = {file.stem: file.read_text(encoding="utf-8") for file in Path(models.__file__).parent.glob("*.py")}
    assert {name for name, text in sources.items() if "GlobalAveragePooling2D" in text} == {"blocks"}
    assert {name for name, text in sources.items() if "mean_over_image(" in text} == {
        "blocks",
        "banet",
        "selfie",
        "sinet",
    }


def test_names_follow_the_convention(network):
    assert network.input.name == "image"
    assert network.layers[-1].name == "mask"
    assert network.layers[-1].activation.__name__ == "sigmoid"


def test_is_flat_and_free_of_code(network):
    kinds = {type(layer).__name__ for layer in network.layers}
    assert not kinds & {"Functional", "Sequential", "Model", *checkpoint.EXECUTABLE_LAYERS}
    # `x + y` on tensors would be a TFOpLambda; a subclass of ours would not come from Keras
    assert all(type(layer).__module__.startswith("tf_keras") for layer in network.layers)


def test_no_bias_before_a_batch_norm(network):
    # the norm takes it away again: dead weight in training, and one more constant in the file
    for layer in network.layers:
        if type(layer).__name__ == "BatchNormalization":
            assert not layer.input._keras_history.layer.use_bias, layer.name


def test_checkpoint_round_trip_is_exact(network, tmp_path):
    _randomise(network)
    path = tmp_path / "a.h5"
    checkpoint.save(network, path)
    header = checkpoint.read_header(path)
    assert (header.name, header.size, header.is_quantized) == (network.name, SIZE, False)
    again = checkpoint.load(path)
    inputs = np.random.default_rng(1).random((1, *SIZE, 3), np.float32)
    np.testing.assert_array_equal(network(inputs), again(inputs))


def _without_gradient(model):
    """Names of the trainable variables that learn nothing from four random photos."""
    inputs = tf.constant(np.random.default_rng(2).random((4, *SIZE, 3), np.float32))
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        loss = tf.add_n([tf.reduce_mean(output**2) for output in (outputs if len(model.outputs) > 1 else [outputs])])
    gradients = tape.gradient(loss, model.trainable_variables)
    pairs = zip(model.trainable_variables, gradients, strict=True)
    # written so that NaN is none either
    return {v.name for v, g in pairs if g is None or not LEAST_GRADIENT < tf.reduce_max(abs(g)) < np.inf}


def _shifts_taken_away(model):
    """Names of the `beta` of batch norms without an activation: the next batch norm may take it away again."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    return {
        norm.beta.name for norm in norms if "ReLU" not in {type(node.layer).__name__ for node in norm.outbound_nodes}
    }


@pytest.mark.parametrize("name", variants())
def test_every_weight_gets_a_gradient(name):
    # not the fixture: it has other heads, and weights of another test
    keras.utils.set_random_seed(0)
    model = models.build_for_training(name, SIZE)
    assert len(model.outputs) == (2 if name in models.WITH_BOUNDARY else 1)
    assert _without_gradient(model) <= _shifts_taken_away(model)


def test_a_dead_activation_is_seen():
    keras.utils.set_random_seed(0)
    model = models.build("fast_scnn_w050", SIZE)
    beta = model.get_layer("down0_bn").beta
    beta.assign(tf.fill(beta.shape, -100.0))
    assert _without_gradient(model) >= {"down0_conv/kernel:0", "down0_bn/gamma:0", "down0_bn/beta:0"}


def test_refuses_a_size_that_it_cannot_take():
    with pytest.raises(InputError, match="multiples of 16"):
        models.build("fast_scnn", (100, 96))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="fast_scnn"):
        models.build("slow_scnn", SIZE)


@pytest.mark.full
def test_fast_scnn_has_the_papers_size():
    # Poudel et al., 2019, Table 5: 1.11 M parameters; ours differs by pooling and one class instead of 19
    assert models.build("fast_scnn", (256, 256)).count_params() == pytest.approx(1.11e6, rel=0.05)


def test_fine_pixels_lie_where_depth_to_space_puts_them():
    # not square, and more columns than a row of the shuffle has: swapped rows and columns would show
    factor, (height, width) = 3, (4, 6)
    image = keras.Input((height, width, 5))
    network = keras.Model(image, blocks.subpixel(image, factor, "fine"))
    _randomise(network)
    inputs = np.random.default_rng(1).random((2, height, width, 5), np.float32)
    rows = [network.get_layer(f"fine_row{row}").get_weights() for row in range(factor)]
    kernel, bias = (np.concatenate(parts, axis=-1) for parts in zip(*rows, strict=True))
    expected = tf.nn.depth_to_space(inputs @ kernel[0, 0] + bias, factor)
    np.testing.assert_allclose(network(inputs), expected, atol=1e-6)
