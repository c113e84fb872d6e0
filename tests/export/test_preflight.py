"""Pre-flight on small networks: what is refused, what stays float, what is rewritten, and that nothing is missed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from export.quantization import preflight, qat
from export.quantization.check_int8 import check_int8, integer_faults
from export.quantization.recipes import RECIPES
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import merges

Middle = Callable[[Any, Any], Any]


def _model(middle: Middle) -> Any:
    from portraitseg.models.keras_route import keras

    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    x = middle(keras.layers, x)
    x = keras.layers.Conv2D(1, 1, name="logits")(x)
    return keras.Model(image, keras.layers.Activation("sigmoid", name="mask")(x), name="small")


def _twice(name: str) -> Middle:
    return lambda layers, x: getattr(layers, name)(name="bad")([x, layers.ReLU(6.0)(x)])


def _full(kind: str) -> Any:
    return pytest.param(kind, marks=pytest.mark.full)


REFUSED: dict[str, Middle] = {
    "PReLU": lambda layers, x: layers.PReLU(shared_axes=[1, 2], name="bad")(x),
    "Rescaling": lambda layers, x: layers.Rescaling(2.0, name="bad")(x),
    "BatchNormalization": lambda layers, x: layers.BatchNormalization(name="bad")(layers.ReLU(6.0)(x)),
    "TFOpLambda": lambda layers, x: x + 1.0,
    "Lambda": lambda layers, x: layers.Lambda(lambda y: y, name="bad")(x),
    "Functional": lambda layers, x: _nested(x),
    "Resizing": lambda layers, x: layers.Resizing(8, 8, crop_to_aspect_ratio=True, name="bad")(x),
    "ELU": lambda layers, x: layers.ELU(name="bad")(x),
}


def _nested(x: Any) -> Any:
    from portraitseg.models.keras_route import keras

    inside = keras.Input(x.shape[1:])
    return keras.Model(inside, keras.layers.ReLU(6.0)(inside), name="bad")(x)


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    model = _model(REFUSED[kind])
    (finding,) = preflight.check_model(model)
    assert (finding.kind, finding.fate) == (kind, "refused")
    assert finding.layer == "bad" or kind == "TFOpLambda"
    assert finding.why and finding.remedy
    # what pre-flight says is what happens
    with pytest.raises(InputError, match="cannot be quantized"):
        qat.quantize(model)


def test_all_refusals_are_listed_not_the_first() -> None:
    def middle(layers: Any, x: Any) -> Any:
        x = layers.PReLU(shared_axes=[1, 2], name="one")(x)
        x = layers.BatchNormalization(name="two")(x)
        return layers.Rescaling(2.0, name="three")(x)

    model = _model(middle)
    assert [finding.layer for finding in preflight.check_model(model)] == ["one", "two", "three"]
    with pytest.raises(CheckFailed, match="3 of 7 layers"):
        preflight.report(model)


FLOAT: dict[str, Middle] = {
    "Conv2DTranspose": lambda layers, x: layers.ReLU(6.0)(
        layers.BatchNormalization()(layers.Conv2DTranspose(4, 2, strides=2, use_bias=False, name="bad")(x))
    ),
}


@pytest.mark.parametrize("kind", FLOAT)
def test_left_float(kind: str) -> None:
    model = _model(FLOAT[kind])
    (finding, *more) = preflight.check_model(model)
    assert (finding.layer, finding.kind, finding.fate) == ("bad", kind, "float")
    assert all(other.fate == "float" for other in more)
    # the check of the file names the layer too
    with pytest.raises(CheckFailed, match=r"not whole int8: .* of layer '\S+' (reads|writes) FLOAT32"):
        check_int8(RECIPES["qat_wi8_ai8"].convert(qat.quantize(model), np.zeros((1, 16, 16, 3), np.float32)), "m")


def test_conversion_finds_what_the_look_does_not() -> None:
    model = _model(_twice("Average"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qat, "OUTPUT_ONLY", qat.OUTPUT_ONLY | {"Average"})
        left_float = [finding for finding in preflight.check_model(model) if finding.fate == "float"]
    assert [(finding.layer, finding.kind) for finding in left_float] == [("bad", "Average")]
    assert "float32" in left_float[0].why


# Subtract and Minimum take the roads of Multiply and Maximum
@pytest.mark.parametrize("kind", ["Multiply", _full("Subtract"), "Maximum", _full("Minimum"), "Resizing"])
def test_rewritten_layers_are_whole_int8_and_keep_the_function(kind: str) -> None:
    middle: Middle = _twice(kind)
    if kind == "Resizing":
        middle = lambda layers, x: layers.Resizing(32, 32, name="bad")(x)  # noqa: E731
    model = _model(middle)
    quantized = qat.quantize(model)
    photos = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
    qat.calibrate(quantized, model, photos)
    # measured 0.002 to 0.011: 8 bits of weights and of four activations
    assert np.abs(model(photos) - quantized(photos, training=False)).max() < 0.03
    assert integer_faults(RECIPES["qat_wi8_ai8"].convert(quantized, photos)) == []
    (finding,) = preflight.check_model(model)
    assert (finding.layer, finding.kind, finding.fate) == ("bad", kind, "rewritten")
    preflight.report(model)


MERGED: dict[str, Middle] = {
    "Add": lambda layers, x: layers.ReLU(6.0)(x + layers.ReLU(6.0)(x)),
    "Subtract": lambda layers, x: x - layers.ReLU(6.0)(x),
    "Multiply": lambda layers, x: x * layers.Activation("sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x)),
}


@pytest.mark.parametrize("kind", [_full(kind) if kind == "Subtract" else kind for kind in MERGED])
def test_operators_on_tensors_become_layers(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = _model(MERGED[kind])
    photos = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
    with_layers = merges.with_layers(model)
    np.testing.assert_array_equal(with_layers(photos), model(photos))
    assert not any(type(layer).__name__ == "TFOpLambda" for layer in with_layers.layers)
    quantized = qat.quantize(model)
    qat.calibrate(quantized, model, photos)
    # as the other rewritten layers
    assert np.abs(model(photos) - quantized(photos, training=False)).max() < 0.03
    assert integer_faults(RECIPES["qat_wi8_ai8"].convert(quantized, photos)) == []
    (finding,) = preflight.check_model(model)
    assert (finding.kind, finding.fate) == ("TFOpLambda", "rewritten") and f"layers.{kind}" in finding.remedy
    assert [finding] == preflight.rewritten(model)
    preflight.report(model)
    assert "1 by a rewrite that keeps the function" in "".join(capsys.readouterr())


def test_networks_without_such_operators_stay_themselves() -> None:
    model = _model(ACCEPTED["swish"])
    assert merges.with_layers(model) is model and preflight.rewritten(model) == []


ACCEPTED: dict[str, Middle] = {
    "swish": lambda layers, x: layers.Activation("swish")(x),
    "Conv2DTranspose": lambda layers, x: layers.Conv2DTranspose(4, 2, strides=2)(x),
    "SeparableConv2D": lambda layers, x: layers.ReLU(6.0)(
        layers.BatchNormalization()(layers.SeparableConv2D(4, 3, use_bias=False)(x))
    ),
    "UpSampling2D": lambda layers, x: layers.UpSampling2D(2, interpolation="bilinear")(x),
    "SpatialDropout2D": lambda layers, x: layers.SpatialDropout2D(0.1)(x),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_accepted(kind: str) -> None:
    assert preflight.check_model(_model(ACCEPTED[kind])) == []
