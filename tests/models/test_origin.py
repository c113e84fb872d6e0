"""Foreign h5 files: what corresponds is loaded and keeps its function, all else is named; nothing is executed.

No h5 of the original repository is at hand: the one here is constructed, a MattingNet of the same idea with Keras's own
names, some layers that ours has and some that it has not.
"""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import blocks, checkpoint
from portraitseg.models.keras_route import keras, tf
from train.weights import origin

layers = keras.layers


def randomise(model: Any, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(0, 0.3, weight.shape)
        weight.assign(value**2 + 0.2 if "variance" in weight.name else value)


def save(model: Any, path: Path, weights_only: bool = False) -> Path:
    if weights_only:
        model.save_weights(str(path), save_format="h5")
    else:
        checkpoint.save(model, path)
    return path


# ---- a constructed MattingNet of the origin


def separable(x: Any, filters: int, stride: int = 1, relu: bool = True) -> Any:
    x = layers.SeparableConv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if relu else x


def residual(x: Any, filters: int, stride: int = 1) -> Any:
    y = separable(separable(x, filters, stride), filters, relu=False)
    if stride > 1:
        x = layers.BatchNormalization()(layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([x, y]))


def constructed() -> Any:
    """Encoder like mattingnet_small's with one block a level less at the end; a decoder of its own."""
    keras.backend.clear_session()
    image = keras.Input((64, 64, 3))
    x = layers.ReLU()(
        layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image))
    )
    skip = x
    for filters, repeats in ((24, 1), (48, 2), (96, 2)):
        for repeat in range(repeats):
            x = residual(x, filters, 2 if repeat == 0 else 1)
    x = layers.Conv2DTranspose(48, 3, strides=2, padding="same")(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.Lambda(lambda y: tf.image.resize(y, (32, 32)))(x)
    x = layers.Add()([layers.Conv2D(8, 1)(x), skip])
    boundary = layers.Conv2D(1, 1, activation="sigmoid", name="boundary_attention")(x)
    x = layers.UpSampling2D(2)(layers.Concatenate()([x, boundary]))
    return keras.Model(image, layers.Conv2D(2, 1, activation="softmax")(x), name="MattingNet")


@pytest.fixture(scope="module")
def foreign() -> Any:
    model = constructed()
    randomise(model)
    return model


@pytest.mark.parametrize("weights_only", [False, True])
def test_what_corresponds_is_loaded_and_all_else_is_named(foreign: Any, tmp_path: Path, weights_only: bool) -> None:
    path = save(foreign, tmp_path / "origin.h5", weights_only)
    ours = models.build("mattingnet_small", (64, 64))
    fresh = {layer.name: layer.get_weights() for layer in ours.layers}
    report = origin.load(ours, path)
    loaded = dict(report.loaded)
    # the whole encoder but for its last block: stem, 5 blocks of 4 convolutions, 3 shortcuts
    assert {name for name in loaded if name.startswith(("stem", "encoder"))} == {
        layer.name
        for layer in ours.layers
        if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D)
        and layer.name.startswith(("stem", "encoder"))
        and not layer.name.startswith("encoder2_2")
    }
    assert loaded["stem_conv"] == "conv2d" and loaded["boundary_logits"] == "boundary_attention"
    stem, norm = foreign.get_layer("conv2d").get_weights(), foreign.get_layer("batch_normalization").get_weights()
    np.testing.assert_array_equal(ours.get_layer("stem_conv").get_weights()[0], stem[0])
    for mine, theirs in zip(ours.get_layer("stem_bn").get_weights(), norm, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    depthwise, pointwise = foreign.get_layer(loaded["encoder0_0a_dw"]).get_weights()
    np.testing.assert_array_equal(ours.get_layer("encoder0_0a_dw").get_weights()[0], depthwise)
    np.testing.assert_array_equal(ours.get_layer("encoder0_0a_pw_conv").get_weights()[0], pointwise)
    unused = dict(report.unused)
    assert "has no Conv2DTranspose of 3x3x48x96" in unused["conv2d_transpose"]
    assert "alpha: our networks have none" in unused["p_re_lu"]
    missing = dict(report.missing)
    assert (
        "1x1x96x48 of the file correspond" in missing["decoder0_top_conv"]
        or "the file has no" in missing["decoder0_top_conv"]
    )
    for name in missing:
        for mine, before in zip(ours.get_layer(name).get_weights(), fresh[name], strict=True):
            np.testing.assert_array_equal(mine, before)
    assert len(loaded) + len(missing) == sum(isinstance(x, layers.Conv2D | layers.DepthwiseConv2D) for x in ours.layers)
    assert 0.5 < report.loaded_weights / report.weights < 1


def test_nothing_in_the_file_runs(tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    name = str(mark)
    image = keras.Input((64, 64, 3))
    x = layers.Lambda(lambda y: (open(name, "w"), y)[1])(image)  # noqa: PTH123, SIM115 (a foreign author's)
    model = keras.Model(image, layers.Conv2D(8, 3, strides=2, use_bias=False)(x))
    mark.unlink()
    report = origin.load(models.build("mattingnet_small", (64, 64)), save(model, tmp_path / "x.h5"))
    assert [ours for ours, _ in report.loaded] == ["stem_conv"]
    assert not mark.exists()


# ---- exact: a loaded unit computes what it did


def ours_small() -> Any:
    image = keras.Input((8, 8, 3), name="image")
    x = blocks.depthwise_bn(blocks.conv_bn(image, 8, kernel=3, name="a"), name="b")
    return keras.Model(image, blocks.mask_head(layers.Conv2D(1, 1, name="logits")(x)), name="small")


def theirs_small(has_norms: bool) -> Any:
    """Biases where ours has none, a batch norm where ours has none, another epsilon, no gamma."""
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same")(image)
    x = layers.BatchNormalization(epsilon=0.1, scale=False)(x) if has_norms else x
    x = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(x))
    x = layers.BatchNormalization(center=False)(x) if has_norms else x
    x = layers.Conv2D(1, 1)(layers.ReLU(6.0)(x))
    x = layers.BatchNormalization(epsilon=0.01)(x) if has_norms else x
    return keras.Model(image, layers.Activation("sigmoid")(x))


@pytest.mark.parametrize("has_norms", [False, True])
def test_the_function_is_kept(tmp_path: Path, has_norms: bool) -> None:
    theirs, ours = theirs_small(has_norms), ours_small()
    randomise(theirs, seed=1)
    report = origin.load(ours, save(theirs, tmp_path / "x.h5"))
    assert len(report.loaded) == 3 and not report.missing and not report.unused
    inputs = np.random.default_rng(2).random((4, 8, 8, 3), np.float32)
    expected = theirs(inputs).numpy()
    # a hundred times the tolerance below: no constant
    assert expected.std() > 1e-3
    # measured 2e-7: the order of a few float32 products
    np.testing.assert_allclose(ours(inputs).numpy(), expected, atol=1e-5)
    # and the tolerance sees a bias that was left behind
    ours.get_layer("a_bn").set_weights(ours_small().get_layer("a_bn").get_weights())
    assert np.abs(ours(inputs).numpy() - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["mattingnet_small", pytest.param("fast_scnn_w050", marks=pytest.mark.full)])
def test_our_own_h5_is_loaded_whole(tmp_path: Path, name: str) -> None:
    theirs, ours = models.build(name, (64, 64)), models.build(name, (64, 64))
    randomise(theirs, seed=3)
    report = origin.load(ours, save(theirs, tmp_path / "x.h5"))
    assert not report.missing and not report.unused and report.loaded_weights == report.weights
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6)


def test_layers_of_a_model_inside_the_model_are_found(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    inside = theirs_small(has_norms=True)
    randomise(inside, seed=4)
    outer = keras.Model(image, layers.Conv2D(2, 1)(inside(image)))
    report = origin.load(ours_small(), save(outer, tmp_path / "x.h5"))
    assert len(report.loaded) == 3
    assert [why for _, why in report.unused] == ["small has no Conv2D of 1x1x1x2"]


# ---- order


def naive_best(ours: list[origin.Key], theirs: list[origin.Key]) -> int:
    if not ours or not theirs:
        return 0
    skipped = max(naive_best(ours[1:], theirs), naive_best(ours, theirs[1:]))
    size = int(np.prod(ours[0][1]))
    return max(skipped, size + naive_best(ours[1:], theirs[1:])) if ours[0] == theirs[0] else skipped


keys = st.lists(st.sampled_from([("Conv2D", (1, 2)), ("Conv2D", (3, 3)), ("DepthwiseConv2D", (1, 2))]), max_size=6)


@given(keys, keys)
def test_alignment_is_in_order_and_the_most_that_can_be(ours: list[origin.Key], theirs: list[origin.Key]) -> None:
    pairs = origin.align(ours, theirs)
    assert all(ours[one] == theirs[other] for one, other in pairs.items())
    assert list(pairs) == sorted(pairs) and list(pairs.values()) == sorted(set(pairs.values()))
    assert sum(int(np.prod(ours[one][1])) for one in pairs) == naive_best(ours, theirs)


def test_of_equal_blocks_the_first_are_taken() -> None:
    block = ("Conv2D", (3, 3, 8, 8))
    assert origin.align([block] * 2, [block] * 3) == {0: 0, 1: 1}
    assert origin.align([block] * 3, [block] * 2) == {0: 0, 1: 1}


def test_halves_of_a_separable_convolution_stand_together() -> None:
    depthwise, pointwise = ("DepthwiseConv2D", (3, 3, 8, 1)), ("Conv2D", (1, 1, 8, 8))
    shortcut = ("Conv2D", (1, 1, 4, 8))
    assert origin.separable_order([depthwise, shortcut, pointwise]) == [1, 0, 2]
    assert origin.separable_order([shortcut, depthwise, pointwise]) == [0, 1, 2]
    assert origin.separable_order([depthwise]) == [0]


def test_layers_in_another_order_are_not_loaded(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(8, 1)(image))
    backwards = keras.Model(image, layers.Conv2D(8, 3)(layers.Conv2D(3, 1)(layers.Conv2D(1, 1)(x))))
    report = origin.load(ours_small(), save(backwards, tmp_path / "x.h5"))
    # the 216 weights of it, not the 80 of the two that stand before it
    assert [ours for ours, _ in report.loaded] == ["a_conv"]
    assert dict(report.missing)["b_dw"].endswith("or stand elsewhere in order")


# ---- bad ones


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    keras.backend.clear_session()
    return save(theirs_small(has_norms=True), tmp_path_factory.mktemp("origin") / "x.h5").read_bytes()


@pytest.fixture
def small_h5(sound: bytes, tmp_path: Path) -> Path:
    """A file of its own for each test, to be damaged."""
    path = tmp_path / "x.h5"
    path.write_bytes(sound)
    return path


def test_missing_foreign_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(InputError, match="no such file: give an h5"):
        origin.read_units(path)
    path.write_text("hello")
    with pytest.raises(InputError, match="not a Keras h5, or a damaged one"):
        origin.read_units(path)
    with h5py.File(path, "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(InputError, match=r"no layers with weights that could be read \(no layer_names\): give an h5"):
        origin.read_units(path)


def test_a_truncated_file(small_h5: Path) -> None:
    small_h5.write_bytes(small_h5.read_bytes()[:-600])
    with pytest.raises(InputError, match="damaged"):
        origin.read_units(small_h5)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("conv2d/bias:0", np.zeros(3, "f4"), r"'bias' has shape \(3,\) where 8 channels are"),
        ("conv2d/kernel:0", np.full((3, 3, 3, 8), np.nan, "f4"), "not finite"),
        ("conv2d/kernel:0", np.array([b"text"] * 3), "could not convert"),
        ("batch_normalization/moving_variance:0", np.full(8, -1, "f4"), "a negative variance"),
        ("batch_normalization/moving_mean:0", np.zeros((4, 2), "f4"), "has shape"),
    ],
)
def test_weights_that_make_no_sense(small_h5: Path, name: str, value: np.ndarray, reason: str) -> None:
    with h5py.File(small_h5, "r+") as file:
        group = file[f"model_weights/{name.split('/')[0]}"]
        assert name in group
        del group[name]
        group[name] = value
    with pytest.raises(InputError, match=reason):
        origin.read_units(small_h5)


@pytest.mark.parametrize("limit", ["MAX_WEIGHTS", "MAX_LAYERS"])
def test_files_that_are_too_large(small_h5: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(origin, limit, 2)
    with pytest.raises(InputError, match="no portrait network"):
        origin.read_units(small_h5)


def test_nothing_corresponds(tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    other = keras.Model(image, layers.Conv2D(7, 7)(image))
    with pytest.raises(InputError, match="none of its 1 convolutions corresponds to one of 'small'"):
        origin.load(ours_small(), save(other, tmp_path / "x.h5"))


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[1]", '{"config": {"layers": [{"class_name": 3}]}}'])
def test_a_configuration_that_is_none_is_done_without(small_h5: Path, text: str) -> None:
    before, _ = origin.read_units(small_h5)
    with h5py.File(small_h5, "r+") as file:
        file.attrs["model_config"] = text if len(text) < 60_000 else np.bytes_(text[:60_000])
    units, _ = origin.read_units(small_h5)
    assert [unit.name for unit in units] == [unit.name for unit in before]


def test_the_graph_tells_whose_a_batch_norm_is(tmp_path: Path) -> None:
    """Two branches of equal width: in the order of the file both convolutions stand before both batch norms."""
    image = keras.Input((8, 8, 3))
    one, other = layers.Conv2D(4, 1, name="one"), layers.Conv2D(4, 1, name="other")
    x, y = one(image), other(image)
    x, y = layers.BatchNormalization(name="of_one")(x), layers.BatchNormalization(name="of_other")(y)
    model = keras.Model(image, layers.Add()([x, y]))
    randomise(model)
    path = save(model, tmp_path / "x.h5")
    with h5py.File(path, "r") as file:
        config = json.loads(file.attrs["model_config"])
    assert [layer["config"]["name"] for layer in config["config"]["layers"]][1:3] == ["one", "other"]
    units, _ = origin.read_units(path)
    for unit in units:
        assert unit.norm is not None
        np.testing.assert_array_equal(unit.norm.mean, model.get_layer(f"of_{unit.name}").moving_mean.numpy())


# ---- the command


def test_command_writes_an_h5_to_go_on_from(foreign: Any, tmp_path: Path) -> None:
    from train.__main__ import app

    path, out = save(foreign, tmp_path / "origin.h5"), tmp_path / "my.h5"
    arguments = ["import-origin", "--from", str(path), "--model", "mattingnet_small", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "boundary_attention" in result.output and "conv2d_transpose" in result.output
    header = checkpoint.read_header(out)
    assert (header.name, header.size) == ("mattingnet_small", origin.SIZE)
    # as make train INIT=my.h5 does, at another size
    model = models.build_for_training("mattingnet_small", (64, 96))
    checkpoint.load_weights(model, out)
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").get_weights()[0], foreign.get_layer("conv2d").get_weights()[0]
    )
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, InputError) and "is there already" in str(again.exception)
