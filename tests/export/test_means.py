"""Means over large maps: what is rewritten computes the same numbers, and no int8 file has an average pool for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.quantization import means, preflight, qat
from export.quantization.check_int8 import integer_faults
from export.quantization.recipes import RECIPES
from portraitseg import models
from portraitseg.checks.gpu.rules import judge
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from portraitseg.tflite.graph import Graph, parse_graph

SIZE = (16, 24)

#: A map of 16×24×6, averaged in some way: (layers, map) → (n, 1, 1, 6).
Middle = Callable[[Any, Any], Any]
#: Height and width apart, so that an axis taken for the other would be seen.
MEANS: dict[str, Middle] = {
    "square": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(k.AveragePooling2D(4, name="pool")(x)),
    "unequal": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(k.AveragePooling2D((2, 3), name="pool")(x)),
    "two_readers": lambda k, x: k.Add()(
        [k.GlobalAveragePooling2D(keepdims=True)(pool) for pool in [k.AveragePooling2D(2, name="pool")(x)] * 2]
    ),
}
#: Pools whose windows are no part of a mean over the image.
OTHERS: dict[str, Middle] = {
    "convolution_behind": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(
        k.Conv2D(6, 1)(k.AveragePooling2D(2)(x))
    ),
    "windows_overlap": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(k.AveragePooling2D(3, strides=2)(x)),
    "pixels_left_out": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(k.AveragePooling2D(5)(x)),
    "padded": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(k.AveragePooling2D(5, padding="same")(x)),
    "no_pool": lambda k, x: k.GlobalAveragePooling2D(keepdims=True)(x),
}


def network(middle: Middle) -> Any:
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(2)
    k = keras.layers
    image = keras.Input((*SIZE, 3), name="image")
    x = k.Conv2D(6, 3, padding="same", activation="relu", name="stem")(image)
    gate = k.Activation("sigmoid")(k.Conv2D(6, 1, name="gate")(middle(k, x)))
    y = k.Conv2D(1, 1, name="logits")(k.Multiply()([x, gate]))
    return keras.Model(image, k.Activation("sigmoid", name="mask")(y), name="averaged")


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Brighter to the right and below, so that each window has a mean of its own."""
    noise = np.random.default_rng(0).random((2, *SIZE, 3), np.float32)
    return (noise + np.linspace(0, 1, SIZE[1], dtype=np.float32)[:, None] + np.ones((SIZE[0], 1, 1), np.float32)) / 3


def file_of(model: Any, photos: np.ndarray, recipe: str) -> Graph:
    if recipe.startswith("qat"):
        quantized = qat.quantize(model)
        qat.calibrate(quantized, model, photos)
        model = quantized
    content = RECIPES[recipe].convert(model, photos)
    assert integer_faults(content) == []
    return parse_graph(content, model.name)


@pytest.mark.parametrize("name", MEANS)
def test_the_numbers_stay(name: str, photos: np.ndarray) -> None:
    model = network(MEANS[name])
    assert list(means.find(model)) == ["pool"]
    rewritten = means.rewrite(model)
    assert means.find(rewritten) == {}
    # the order of summation alone differs
    np.testing.assert_allclose(model(photos).numpy(), rewritten(photos).numpy(), atol=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_other_pools_stay(name: str) -> None:
    model = network(OTHERS[name])
    assert means.rewrite(model) is model


@pytest.mark.parametrize("recipe", ["qat_wi8_ai8", "static_wi8_ai8"])
def test_the_int8_file_has_no_average_pool(recipe: str, photos: np.ndarray) -> None:
    graph = file_of(network(MEANS["square"]), photos, recipe)
    assert [op.name for op in graph.ops if op.name in ("AVERAGE_POOL_2D", "MEAN")] == ["MEAN", "MEAN"]
    assert judge(graph, "classic").refusals == ()


def test_without_the_rewrite_it_has_one(photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(means, "find", lambda model: {})
    graph = file_of(network(MEANS["square"]), photos, "qat_wi8_ai8")
    assert [op.name for op in graph.ops if op.name in ("AVERAGE_POOL_2D", "MEAN")] == ["AVERAGE_POOL_2D", "MEAN"]


def test_an_h5_of_before_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(means, "find", lambda model: {})
        checkpoint.save(qat.quantize(models.build("selfie_swish", (80, 144))), tmp_path / "qat.h5")
    with pytest.raises(InputError, match="delete the run's qat/"):
        qat.load_qat(tmp_path / "qat.h5")


def test_ranges_of_the_new_means_are_measured(photos: np.ndarray) -> None:
    """Else they would be TFMOT's [-6, 6]."""
    model = network(MEANS["square"])
    quantized = qat.quantize(model)
    qat.calibrate(quantized, model, photos)
    ranges = {
        variable.name: float(variable.numpy())
        for layer in quantized.layers
        if layer.name == "quant_pool_mean"
        for variable in layer.weights
        if variable.name.endswith(("output_min:0", "output_max:0"))
    }
    assert len(ranges) == 2 and all(-1e-6 < value < 2 for value in ranges.values())


def test_pre_flight_says_so() -> None:
    findings = [one for one in preflight.check_model(network(MEANS["unequal"])) if one.layer == "pool"]
    assert [(one.kind, one.fate) for one in findings] == [("AveragePooling2D", "rewritten")]


@pytest.mark.parametrize(("name", "side"), [("selfie_swish", 160), ("banet_w050", 256)])
def test_networks_of_ours_lose_all_pools_before_means(name: str, side: int) -> None:
    model = models.build(name, (side, side))
    assert means.find(model)
    assert means.find(means.rewrite(model)) == {}
