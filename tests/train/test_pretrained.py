"""The ImageNet encoder: what is loaded is what the file's own statistics were taken from."""

import pickle

import numpy as np
import pytest
from typer.testing import CliRunner

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint, contour
from portraitseg.models.keras_route import keras, tf
from portraitseg.synthetic.portraits import render
from train.__main__ import app
from train.weights import pretrained

SIZE = (256, 256)
NORMS = ("stem_bn", "stage1_0_expand_bn", "stage2_0_dw_bn", "stage3_0_project_bn")


@pytest.fixture(scope="module")
def photos():
    return np.stack([render(seed, SIZE)[0] for seed in range(16)]).astype(np.float32) / 255


def _agreements(model, norms, inputs):
    """Batch norm → correlation over channels of the variance that it sees with the one that it has stored."""
    layers = [model.get_layer(name) for name in norms]
    agreements = {}
    for layer, seen in zip(layers, keras.Model(model.input, [x.input for x in layers])(inputs), strict=True):
        variance = seen.numpy().reshape(-1, seen.shape[-1]).var(axis=0)
        agreements[layer.name] = np.corrcoef(np.log(variance + 1e-9), np.log(layer.moving_variance.numpy() + 1e-9))[
            0, 1
        ]
    return agreements


# one whose stem sees the photo at half its side, and one that sees it as EfficientNet-Lite0 does
@pytest.mark.parametrize("name", ["contour_large", pytest.param("contour_teacher", marks=pytest.mark.full)])
def test_the_encoder_sees_what_its_statistics_say(name, photos):
    model = models.build(name, SIZE)
    pretrained.load_imagenet(model)
    # the large encoder is EfficientNet's own, so only the photos differ from ImageNet's: 0.85 to 0.99 was seen; a
    # kernel whose axes are swapped or a wrong normalisation breaks it (below)
    for norm, agreement in _agreements(model, NORMS, photos).items():
        assert agreement > 0.8, norm


def test_a_scrambled_stem_is_noticed(photos):
    model = models.build("contour_large", SIZE)
    pretrained.load_imagenet(model)
    layer = model.get_layer("stem_conv")
    (kernel,) = layer.get_weights()
    layer.set_weights([np.random.default_rng(0).permutation(kernel.ravel()).reshape(kernel.shape)])
    assert _agreements(model, NORMS[:2], photos)["stem_bn"] < 0.8


def _or_full(name):
    return name if name == "contour_large" else pytest.param(name, marks=pytest.mark.full)


@pytest.mark.parametrize("name", [_or_full(name) for name in contour.VARIANTS])
def test_every_size_takes_them(name):
    model = models.build(name, (64, 96))
    before = [w.copy() for w in model.get_weights()]
    pretrained.load_imagenet(model)
    changed = [v.name for v, a, b in zip(model.weights, before, model.get_weights(), strict=True) if (a != b).any()]
    encoder = [v.name for v in model.weights if v.name.startswith(("stem", "stage"))]
    assert set(encoder) <= set(changed)
    assert not [name for name in changed if name.startswith(("up", "logits"))]


def test_the_stem_of_four_keeps_the_response_to_a_plain_colour():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8)).astype(np.float32)
    np.testing.assert_allclose(pretrained._in_four(kernel).sum((0, 1)), kernel.sum((0, 1)), rtol=1e-5, atol=1e-6)


def test_the_stem_of_four_is_the_one_of_three_on_half_the_side():
    """To the last bit of what fits: the third row and column of a kernel reach beyond the four pixels."""
    generator = np.random.default_rng(1)
    kernel, photo = generator.normal(size=(3, 3, 3, 8)), generator.uniform(size=(1, 32, 48, 3))
    kernel[2], kernel[:, 2] = 0, 0
    kernel, photo = kernel.astype(np.float32), photo.astype(np.float32)
    halved = photo.reshape(1, 16, 2, 24, 2, 3).mean((2, 4))
    # zeros below and to the right, as TensorFlow pads an even side for a stride of 2
    expected = tf.nn.conv2d(halved, kernel, 2, "SAME")
    np.testing.assert_allclose(tf.nn.conv2d(photo, pretrained._in_four(kernel), 4, "SAME"), expected, atol=1e-5)


@pytest.mark.full
def test_a_smaller_size_begins_with_what_a_larger_one_learnt_and_imagenet_elsewhere(tmp_path):
    keras.utils.set_random_seed(1)
    large = models.build("contour_large", (64, 64))
    checkpoint.save(large, tmp_path / "large.h5")
    arguments = ["import-origin", "--from", str(tmp_path / "large.h5"), "--model", "contour_medium", "--imagenet"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "medium.h5")])
    assert result.exit_code == 0, result.output
    medium, imagenet = checkpoint.load(tmp_path / "medium.h5"), models.build("contour_medium", (64, 64))
    pretrained.load_imagenet(imagenet)
    for name, source in (("stage4_2_expand_conv", large), ("stem_conv", imagenet)):
        np.testing.assert_array_equal(medium.get_layer(name).get_weights()[0], source.get_layer(name).get_weights()[0])


def test_another_network_is_refused():
    with pytest.raises(InputError, match="contour"):
        pretrained.load_imagenet(models.build("fast_scnn", (64, 64)))


def test_another_file_is_refused_unread(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(InputError, match="not the checkpoint that is known"):
        pretrained.read_checkpoint(path)
