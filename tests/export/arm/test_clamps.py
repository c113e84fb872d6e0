"""Clamps for half precision: where they are put, what they leave as it is, and what they do not save."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.product.product import Unsuitable
from export.quantization import clamps, half
from export.quantization.recipes import RECIPES
from portraitseg import contract
from portraitseg.checks.arm.overflow import CLAMP, GREATEST, bound, prove
from portraitseg.checks.arm.weights import read_weights
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras
from portraitseg.runners import open_runner
from portraitseg.synthetic import portraits as synthetic
from portraitseg.tflite.graph import read_graph

CONTOUR = Path("android_assets/contour_small/contour_small-256x256-rgb-fp16.tflite")
SELFIE = Path("android_assets/selfie_photos_small/selfie_swish-176x160-rgb-fp16.tflite")


def layers_of(path: Path) -> set[str]:
    return {op.layer for op in read_graph(path).ops}


def test_none_where_none_is_needed() -> None:
    assert clamps.find(CONTOUR.read_bytes(), layers_of(CONTOUR)) == {}


@pytest.mark.full
def test_a_network_without_a_bound_gets_one() -> None:
    fault = prove(SELFIE).fault
    assert fault and "can reach" in fault
    chosen = clamps.find(SELFIE.read_bytes(), layers_of(SELFIE))
    graph = read_graph(SELFIE)
    proof = bound(graph, read_weights(SELFIE.read_bytes(), graph, SELFIE.name), chosen)
    assert proof.fault is None and proof.greatest.greatest < GREATEST
    sizes = {layer.layer: layer.size for layer in proof.layers}
    everything = sum(layer.size for layer in proof.layers)
    assert sum(sizes[name] for name in chosen) < 0.08 * everything
    # behind a ReLU there is no lower end to clamp
    assert chosen["block1_project_conv"] and not chosen["block3_squeeze_conv"]


def test_where_nothing_may_be_clamped_nothing_is() -> None:
    assert clamps.find(SELFIE.read_bytes(), ()) == {}


def test_the_network_is_the_same_below_the_clamp() -> None:
    image = keras.Input((2, 2, 3), name="image")
    x = keras.layers.Conv2D(2, 1, name="wide")(image)
    model = keras.Model(image, keras.layers.Conv2D(1, 1, use_bias=False, name="last")(x))
    model.set_weights([np.ones((1, 1, 3, 2)), np.array([0.5, -0.5]), np.ones((1, 1, 2, 1))])
    given = np.linspace(-200, 200, 12, dtype=np.float32).reshape(1, 2, 2, 3)
    plain = model(given).numpy()
    both, above = (clamps.apply(model, {"wide": is_signed})(given).numpy() for is_signed in (True, False))
    assert plain.ravel()[0] < -2 * CLAMP and plain.ravel()[-1] > 2 * CLAMP
    np.testing.assert_array_equal(both, np.clip(plain, -2 * CLAMP, 2 * CLAMP))
    np.testing.assert_array_equal(above, np.minimum(plain, 2 * CLAMP))
    np.testing.assert_array_equal(both[:, 0, 1], plain[:, 0, 1])


@pytest.mark.full
class TestSelfie:
    """The recipe of a released network with x · sigmoid(x)."""

    @pytest.fixture(name="photos")
    def _photos(self) -> np.ndarray:
        portraits = (synthetic.render(index, (176, 160), 3)[0] for index in range(2))
        return np.concatenate([contract.image_to_inputs(photo, (176, 160)) for photo in portraits])

    def convert(self, model: Any, photos: np.ndarray, folder: Path) -> Path:
        path = folder / "selfie_swish-176x160-rgb-fp16acc16.tflite"
        path.write_bytes(RECIPES["fp16acc16"].convert(model, photos))
        return path

    def test_proven_and_equal_to_the_released_file(self, photos: np.ndarray, tmp_path: Path) -> None:
        path = self.convert(checkpoint.load(Path("weights/selfie_swish-176x160.h5")), photos, tmp_path)
        half.check_half(path, photos)
        ours, theirs = open_runner(path), open_runner(SELFIE)
        for photo in photos:
            np.testing.assert_array_equal(ours.run(photo[None]), theirs.run(photo[None]))

    @pytest.mark.parametrize(
        ("layer", "factor", "reason"),
        [
            # a clamp at 256 changes what photos say: the file is proven, and refused
            ("up2_top_conv", 10, r"needs a clamp at 256 that photo \d reaches: up2_top_conv MINIMUM"),
            # behind it 256 is too much already: no clamp helps
            ("block4_project_conv", 1_000, r"may overflow: .* can reach .*, above 65504"),
        ],
    )
    def test_clamps_save_no_damaged_network(
        self, photos: np.ndarray, tmp_path: Path, layer: str, factor: float, reason: str
    ) -> None:
        """Weights times a factor: numbers of photos leave half precision, which single precision hardly notices."""
        model = checkpoint.load(Path("weights/selfie_swish-176x160.h5"))
        damaged = model.get_layer(layer)
        damaged.set_weights([values * factor for values in damaged.get_weights()])
        with pytest.raises(Unsuitable, match=reason):
            half.check_half(self.convert(model, photos, tmp_path), photos)
