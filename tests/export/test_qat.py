"""QAT networks: the fixed input, the first ranges, the way through an h5, refusals by name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.quantization import qat
from portraitseg.errors import InputError
from portraitseg.models import checkpoint


def _input_range(model: Any) -> list[float]:
    return [float(model.layers[1].quantizer_vars[name]) for name in ("min_var", "max_var")]


def test_input_range_is_fixed_and_does_not_move(qat_model: Any) -> None:
    assert _input_range(qat_model) == [0, 1]
    other = qat.quantize(_small_model())
    for _ in range(3):
        other(np.full((2, 8, 8, 3), 0.3, np.float32), training=True)
    assert _input_range(other) == [0, 1]


def test_input_is_rounded_to_bytes(float_model: Any) -> None:
    layer = qat.quantize(_small_model()).layers[1]
    values = np.array([-0.5, 0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1, 7], np.float32).reshape(1, 7, 1, 1)
    for training in (False, True):
        result = np.asarray(layer(values, training=training)).ravel() * 255
        np.testing.assert_allclose(result, [0, 0, 0, 1, 254, 255, 255], atol=1e-4)


def test_calibrated_network_is_near_the_float_one(float_model: Any, qat_model: Any, calibration: np.ndarray) -> None:
    ours = qat_model(calibration, training=False).numpy()
    theirs = float_model(calibration, training=False).numpy()
    # measured 0.013; with TFMOT's own first ranges 0.39
    assert np.abs(ours - theirs).mean() < 0.04


def test_h5_round_trip(qat_model: Any, tmp_path: Path, calibration: np.ndarray) -> None:
    path = tmp_path / "qat.h5"
    checkpoint.save(qat_model, path)
    header = checkpoint.read_header(path)
    assert (header.name, header.size, header.is_quantized) == ("tiny", (64, 64), True)
    loaded = qat.load_qat(path)
    assert _input_range(loaded) == [0, 1]
    inputs = calibration[:2]
    np.testing.assert_array_equal(loaded(inputs, training=False), qat_model(inputs, training=False))


def test_frozen_batch_norm_still_saves(tmp_path: Path) -> None:
    model = qat.quantize(_small_model(lambda keras, x: keras.layers.ReLU(6.0)(keras.layers.BatchNormalization()(x))))
    norms = [layer for layer in model.layers if type(getattr(layer, "layer", None)).__name__ == "BatchNormalization"]
    names = [weight.name for weight in model.weights]
    norms[0].layer.trainable = False
    assert [weight.name for weight in model.weights] == names
    checkpoint.save(model, tmp_path / "frozen.h5")


def test_float_h5_is_not_taken_for_qat(float_model: Any, tmp_path: Path) -> None:
    checkpoint.save(float_model, tmp_path / "float.h5")
    with pytest.raises(InputError, match="a float network"):
        qat.load_qat(tmp_path / "float.h5")


def _small_model(middle: Any = None) -> Any:
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(image)
    if middle is not None:
        x = middle(keras, x)
    return keras.Model(image, keras.layers.Activation("sigmoid", name="mask")(x), name="small")


REFUSED = {
    "PReLU": lambda keras, x: keras.layers.PReLU(shared_axes=[1, 2], name="bad")(x),
    "Average": lambda keras, x: keras.layers.Average(name="bad")([x, x]),
    "Rescaling": lambda keras, x: keras.layers.Rescaling(2.0, name="bad")(x),
    "Lambda": lambda keras, x: keras.layers.Lambda(lambda y: y, name="bad")(x),
    "TFOpLambda": lambda keras, x: x + 1.0,
    "Functional": lambda keras, x: keras.Sequential([keras.layers.ReLU(6.0)], name="bad")(x),
    "BatchNormalization": lambda keras, x: keras.layers.BatchNormalization(name="bad")(keras.layers.ReLU(6.0)(x)),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_layer_is_named_with_its_remedy(kind: str) -> None:
    model = _small_model(REFUSED[kind])
    name = "add" if kind == "TFOpLambda" else "bad"
    with pytest.raises(InputError, match=f"layer '[^']*{name}[^']*' \\(") as caught:
        qat.quantize(model)
    if kind in qat.REMEDIES:
        assert qat.REMEDIES[kind] in str(caught.value) and kind in str(caught.value)


@pytest.mark.parametrize("kind", ["Conv2D", "DepthwiseConv2D"])
def test_the_kernel_before_a_relu_layer_is_quantized(kind: str) -> None:
    """TFMOT leaves it float; written as the convolution's own activation the ReLU always had its kernel rounded."""

    def layer_of(keras: Any, **more: Any) -> Any:
        filters = (4,) if kind == "Conv2D" else ()
        return getattr(keras.layers, kind)(*filters, 3, padding="same", name="second", **more)

    behind = _small_model(lambda keras, x: keras.layers.ReLU(name="relu")(layer_of(keras)(x)))
    fused = _small_model(lambda keras, x: layer_of(keras, activation="relu")(x))
    fused.set_weights(behind.get_weights())
    photos = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    quantized = []
    for model in (behind, fused):
        quantized.append(qat.quantize(model))
        qat.calibrate(quantized[-1], model, photos)
    names = {weight.name for weight in quantized[0].weights}
    assert any(name.startswith("quant_second/") and name.endswith("kernel_min:0") for name in names)
    # the ranges are measured on two graphs
    np.testing.assert_allclose(*(model(photos).numpy() for model in quantized), atol=1e-5)
    assert np.abs(quantized[0](photos).numpy() - behind(photos).numpy()).max() > 1e-4


def _with_rows(gain: float) -> Any:
    """Logits by sub-pixel convolution, multiplied."""
    from portraitseg.models import blocks

    return qat.sharpened(_small_model(lambda keras, x: blocks.subpixel(x, 2, name="logits")), gain)


def test_ranges_of_logits_end_where_a_sigmoid_has_no_step_left() -> None:
    photos = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    for gain in (1.0, 40.0):
        model = _with_rows(gain)
        quantized = qat.quantize(model)
        qat.calibrate(quantized, model, photos, percentile=99.99)
        low, high = sorted(float(v) for v in quantized.weights if v.name.startswith("quant_logits_rows/output_m"))
        if gain > 1:
            assert (-low, high) == pytest.approx((np.log(511), np.log(511)))
            # what is cut is at most half a step of the sigmoid's 8 bits, as the mask has them
            ends = 1 / (1 + np.exp(-np.float64([low, high])))
            assert 256 * ends[0] == pytest.approx(0.5, abs=1e-3) and 256 * (1 - ends[1]) == pytest.approx(0.5, abs=1e-3)
        else:
            assert -4 < low < high < 4


def test_sharpened_is_the_same_mask_and_a_steeper_outline() -> None:
    photos = np.random.default_rng(0).random((4, 8, 8, 3), np.float32)
    plain, sharp = (_with_rows(gain)(photos).numpy() for gain in (1.0, 4.0))
    np.testing.assert_array_equal(plain > 0.5, sharp > 0.5)
    np.testing.assert_allclose(np.log(sharp / (1 - sharp)), 4 * np.log(plain / (1 - plain)), rtol=1e-3, atol=1e-4)
    upsampled = _small_model(lambda keras, x: keras.layers.UpSampling2D(2, interpolation="bilinear")(x))
    twice = qat.sharpened(upsampled, 2.0)
    np.testing.assert_allclose(
        twice.get_layer("first").get_weights()[0], 2 * upsampled.get_layer("first").get_weights()[0], rtol=1e-6
    )
    with pytest.raises(InputError, match=r"qat\.sharpen: 'small' has no convolution"):
        qat.sharpened(_small_model(lambda keras, x: keras.layers.ReLU()(x)), 2.0)


def test_ranges_by_percentile_leave_out_outliers_alone() -> None:
    # the ranges of logits have ends of their own
    model = _small_model(lambda keras, x: keras.layers.Conv2D(1, 1, name="second")(x))
    photos = np.random.default_rng(0).random((32, 8, 8, 3), np.float32)
    whole, inner = qat.quantize(model), qat.quantize(model)
    qat.calibrate(whole, model, photos)
    photos[::16, 4, 4] = 60.0
    qat.calibrate(inner, model, photos, percentile=95.0)
    stretched = qat.quantize(model)
    qat.calibrate(stretched, model, photos)
    before, cut, all_of_them = (_width_of_range(one) for one in (whole, inner, stretched))
    # of a batch's 1,024 windows 9 see such a pixel: less than the 5 % that are left out at either end
    assert all_of_them > 10 * before
    # from the 5th to the 95th percentile of a bell is half of its range
    assert 0.3 * before < cut < 5 * before


def _width_of_range(model: Any) -> float:
    ends = {
        w.name.rpartition("_")[2]: float(w) for w in model.get_layer("quant_first").weights if "activation" in w.name
    }
    return ends["max:0"] - ends["min:0"]
