"""Networks of others: every weight comes over, the function is the file's, and what is not known or damaged is said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from portraitseg import contract, models
from portraitseg.errors import CheckFailed, InputError
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras
from tests import outside
from tests.train.foreign_file import Writer
from train.__main__ import app
from train.weights import foreign
from train.weights.widen import widen

ROOT = Path(__file__).parents[2]
SIZE = (64, 64)

#: Google's files, which are not in the repository.
GOOGLE = {
    "selfie_general": "mediapipe_selfie_general_256.tflite",
    "selfie_landscape": "mediapipe_selfie_landscape_144x256.tflite",
}


def made(name: str, size: tuple[int, int]) -> Any:
    """A network with weights that float16 holds, its logits as large as Google's."""
    keras.utils.set_random_seed(3)
    model = models.build(name, size)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        weights = layer.get_weights()
        if weights:
            weights[1] = rng.normal(0, 0.1, weights[1].shape)
            layer.set_weights([weight.astype(np.float16) for weight in weights])
    for row in range(2):
        layer = model.get_layer(f"logits_row{row}")
        # of a transposed convolution there is one bias for all fine pixels
        layer.set_weights([(40 * layer.get_weights()[0]).astype(np.float16), np.full(2, 0.25, np.float16)])
    return model


@pytest.fixture(scope="module")
def model() -> Any:
    return made("selfie_general", SIZE)


@pytest.fixture(scope="module")
def file(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Writer(model).write(tmp_path_factory.mktemp("foreign") / "selfie.tflite")


@pytest.fixture(scope="module")
def imported(file: Path) -> tuple[Any, list[foreign.Match]]:
    return foreign.rebuild(file)


def test_every_weight_comes_over(model: Any, file: Path, imported: tuple[Any, list[foreign.Match]]) -> None:
    rebuilt, matches = imported
    assert rebuilt.name == "selfie_general"
    names = [match.layer for match in matches]
    assert len(names) == len(set(names)) == 56
    assert set(names) == {layer.name for layer in model.layers if layer.weights}
    for ours, theirs in zip(rebuilt.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # the runtime's arithmetic beside Keras's
    assert foreign.greatest_difference(rebuilt, file) <= foreign.EQUAL


@pytest.mark.parametrize("name", ["stem_conv", "block0_squeeze_conv", "block3_dw", "up2_fuse_conv", "up2_dw"])
def test_two_swapped_channels_are_seen(file: Path, imported: tuple[Any, list[foreign.Match]], name: str) -> None:
    rebuilt, _ = imported
    layer = rebuilt.get_layer(name)
    kernel, bias = layer.get_weights()
    axis = 2 if name.endswith("dw") else 3
    order = [1, 0, *range(2, kernel.shape[axis])]
    layer.set_weights([np.take(kernel, order, axis), bias])
    difference = foreign.greatest_difference(rebuilt, file)
    layer.set_weights([kernel, bias])
    assert difference > 2 * foreign.EQUAL


def test_another_wiring_of_the_same_operators_is_not_imported(model: Any, tmp_path: Path) -> None:
    path = Writer(model).write(tmp_path / "other.tflite", wiring="skip")
    with pytest.raises(CheckFailed, match="connected in another way"):
        foreign.import_tflite(path, tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_the_command(file: Path, model: Any, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    result = CliRunner().invoke(app, ["import-tflite", str(file), "--out", str(out), "--divide-logits", "8"])
    assert result.exit_code == 0, result.output
    assert "Apache-2.0" in result.output and "all 56 convolutions have" in " ".join(result.output.split())
    written = checkpoint.load(out)
    assert (written.name, written.input_shape) == ("selfie_general", (None, *SIZE, 3))
    inputs = np.concatenate([contract.image_to_inputs(photo, SIZE) for photo in foreign.portraits()])
    before, after = (keras.Model(m.input, m.layers[-1].input)(inputs).numpy() for m in (model, written))
    assert np.abs(before).max() > 8
    # the outline stays, and the logits are an eighth
    np.testing.assert_allclose(after, before / 8, atol=1e-4)


@pytest.mark.full
def test_a_wider_form_begins_with_the_same_function(model: Any, file: Path, tmp_path: Path) -> None:
    report = foreign.import_tflite(file, tmp_path / "a.h5", "selfie_swish_d200", divisor=1.0)
    assert report.network == "selfie_swish_d200" and not report.is_equal_form
    narrow = models.build("selfie_swish", SIZE)
    narrow.set_weights(model.get_weights())
    inputs = np.concatenate([contract.image_to_inputs(photo, SIZE) for photo in foreign.portraits()])
    # copies of channels are summed in another order; logits reach tens
    np.testing.assert_allclose(checkpoint.load(tmp_path / "a.h5")(inputs), narrow(inputs), atol=1e-3)


@pytest.mark.full
def test_widening_keeps_the_function_and_parts_the_copies(tmp_path: Path) -> None:
    narrow = made("selfie_swish", SIZE)
    checkpoint.save(narrow, tmp_path / "narrow.h5")
    assert widen(tmp_path / "narrow.h5", "selfie_swish_d200", tmp_path / "wide.h5") < 1e-3
    kernel = checkpoint.load(tmp_path / "wide.h5").get_layer("block1_expand_conv").get_weights()[0]
    # channel 16 is a copy of channel 0: who reads both does it with other weights, output by output
    ratios = kernel[0, 0, 16] / kernel[0, 0, 0]
    assert ratios.std() > 0.1
    with pytest.raises(InputError, match="name a wider variant"):
        widen(tmp_path / "wide.h5", "selfie_swish", tmp_path / "b.h5")
    with pytest.raises(InputError, match="name a wider variant"):
        widen(tmp_path / "narrow.h5", "contour_small", tmp_path / "b.h5")


def test_what_is_not_known_is_one_line(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tflite").write_bytes(b"no flatbuffer at all")
    for path in (tmp_path / "cut.tflite", tmp_path / "text.tflite", tmp_path / "none.tflite"):
        result = CliRunner().invoke(app, ["import-tflite", str(path), "--out", str(tmp_path / "a.h5")])
        assert isinstance(result.exception, InputError) and "\n" not in str(result.exception)
        assert str(path) in str(result.exception)
    with pytest.raises(InputError, match="is there already"):
        foreign.import_tflite(file, file)
    with pytest.raises(InputError, match="weights fit selfie_"):
        foreign.import_tflite(file, tmp_path / "a.h5", "contour_small")
    with pytest.raises(InputError, match="a positive number"):
        foreign.import_tflite(file, tmp_path / "a.h5", divisor=0.0)
    assert not (tmp_path / "a.h5").exists()


def test_a_network_of_ours_is_not_taken_for_it() -> None:
    with pytest.raises(InputError, match=r"convolution 0 is .*, not Conv2D 3x3x3x16 stride 2x2"):
        foreign.rebuild(ROOT / "android_assets/contour_small/contour_small-256x256-rgb-fp16.tflite")


def test_our_order_has_every_convolution_once() -> None:
    model = models.build("selfie_general", SIZE)
    names = {layer.name for layer in model.layers if layer.weights and not layer.name.startswith("logits")}
    assert sorted(foreign.convolution_names()) == sorted(names)


@pytest.mark.parametrize("name", GOOGLE)
def test_googles_own_files(name: str) -> None:
    path = outside.peers(GOOGLE[name])
    rebuilt, _ = foreign.rebuild(path)
    assert rebuilt.name == name
    assert rebuilt.count_params() == 106_404
    # measured 6e-5 and 1.8e-4
    assert foreign.greatest_difference(rebuilt, path) <= foreign.EQUAL
