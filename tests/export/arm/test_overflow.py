"""Half precision: bounds that hold for any photo, networks that overflow, the simulation beside single precision."""

from pathlib import Path

import numpy as np
import pytest

from export.product.product import Unsuitable
from export.quantization import half
from portraitseg import contract
from portraitseg.checks.arm.overflow import GREATEST, prove
from portraitseg.checks.arm.simulate import HalfNetwork, rounded
from portraitseg.checks.arm.tolerance import HALF, HALF_STORED, PRECISION_NAME, is_half_precision
from portraitseg.checks.arm.weights import read_weights
from portraitseg.runners import open_runner
from portraitseg.synthetic import portraits as synthetic
from portraitseg.tflite import flatbuffer
from portraitseg.tflite.graph import read_graph
from tests import outside
from tests.runners.tiny import write_tflite

RELEASED = Path("android_assets/contour_small/contour_small-256x256-rgb-fp16.tflite")


@pytest.fixture(name="photos", scope="module")
def _photos() -> np.ndarray:
    portraits = (synthetic.render(index, (256, 256), 3)[0] for index in range(2))
    return np.concatenate([contract.image_to_inputs(photo, (256, 256)) for photo in portraits])


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    path = tmp_path / "contour_small-256x256-rgb-fp16acc16.tflite"
    path.write_bytes(flatbuffer.replace_metadata(RELEASED.read_bytes(), PRECISION_NAME, HALF))
    return path


def scale_weights(path: Path, layer: str, factor: float) -> None:
    """Multiplies the float16 kernel of the first convolution of a layer."""
    from ai_edge_litert import schema_py_generated as schema

    graph = read_graph(path)
    op = next(op for op in graph.ops if op.name == "CONV_2D" and layer in op.layer)
    unpack = next(other for other in graph.ops if other.outputs[0].index == op.inputs[1].index)  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(content)
    stored = model.Buffers(model.Subgraphs(0).Tensors(unpack.inputs[0].index).Buffer()).DataAsNumpy()  # type: ignore[union-attr]
    values = stored.view(np.float16)
    values[:] = (values.astype(np.float32) * factor).astype(np.float16)
    path.write_bytes(bytes(content))


def test_only_the_key_differs(path: Path) -> None:
    old, new = RELEASED.read_bytes(), path.read_bytes()
    assert len(old) == len(new) and sum(a != b for a, b in zip(old, new, strict=True)) == 2
    assert flatbuffer.read_metadata(old, PRECISION_NAME) == HALF_STORED
    assert is_half_precision(new) and not is_half_precision(old)


def test_released_network_cannot_overflow(path: Path) -> None:
    proof = prove(path)
    assert proof.fault is None
    assert 100 < proof.greatest.greatest < GREATEST / 10


def test_bounds_hold_on_photos_and_extremes(path: Path, photos: np.ndarray) -> None:
    network, bounds = HalfNetwork(path), prove(path)
    most: dict[str, float] = {}
    for layer in bounds.layers:
        name = f"{layer.layer} {layer.name}"
        most[name] = max(most.get(name, 0), layer.greatest)
    for image in [*photos, *half.extremes((256, 256, 3))]:
        _, greatest = network.run(image[None])
        assert greatest.keys() == most.keys()
        assert all(value <= most[name] for name, value in greatest.items())
        assert max(greatest.values()) > 10


def test_photos_pass(path: Path, photos: np.ndarray) -> None:
    half.check_half(path, photos)


def test_rgba_is_given_an_alpha(tmp_path: Path, photos: np.ndarray) -> None:
    path = tmp_path / "a.tflite"
    released = Path(str(RELEASED).replace("-rgb-", "-rgba-"))
    path.write_bytes(flatbuffer.replace_metadata(released.read_bytes(), PRECISION_NAME, HALF))
    half.check_half(path, photos)


def test_a_network_that_may_overflow_is_refused(path: Path, photos: np.ndarray) -> None:
    """The projection of a residual block, 400 times as large: masks of single precision hardly notice."""
    scale_weights(path, "stage2_1_project", 400)
    with pytest.raises(Unsuitable, match=r"may overflow: .* can reach .*, above 65504"):
        half.check_half(path, photos)


def test_one_that_does_overflow_gives_infinity_in_the_simulation(path: Path, photos: np.ndarray) -> None:
    scale_weights(path, "logits_row0", 30_000)
    with np.errstate(over="ignore"):
        _, greatest = HalfNetwork(path).run(photos[:1])
    assert np.isinf(max(greatest.values()))
    assert prove(path).fault


def test_a_weight_that_is_not_a_number_is_refused(path: Path, photos: np.ndarray) -> None:
    scale_weights(path, "stage2_1_project", float("nan"))
    with pytest.raises(Unsuitable, match="may overflow"):
        half.check_half(path, photos)


def test_coarser_numbers_are_refused(path: Path, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights and activations of 8 bits in place of 11 (bfloat16) move masks too far."""

    def coarse(values: np.ndarray) -> np.ndarray:
        bits = rounded(values).view(np.uint32)
        return ((bits + 0x8000) & 0xFFFF0000).view(np.float32)

    monkeypatch.setattr("portraitseg.checks.arm.simulate.rounded", coarse)
    with pytest.raises(Unsuitable, match="moves probabilities"):
        half.check_half(path, photos)


def test_an_operator_with_a_rule_is_proven(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "q.tflite", dtype="uint8", scale=1 / 255)
    assert prove(path).layers  # MEAN has a rule


def test_an_unknown_operator_is_refused() -> None:
    fault = prove(outside.peers("mediapipe_selfie_general_256.tflite")).fault
    assert "Convolution2DTransposeBias" in (fault or "")


def test_simulation_is_exact_where_arithmetic_is(tmp_path: Path) -> None:
    """Sums of small whole numbers need no rounding: padding, strides and channel order must be the runtime's."""
    path = write_tflite(tmp_path / "m.tflite", shape=(1, 6, 6, 3))
    weights = read_weights(path.read_bytes(), read_graph(path), path.name)
    kernel = np.float32([0.5, 0.3, 0.2])
    assert any(np.allclose(values.ravel()[:3], kernel) for values in weights.values())
    path.write_bytes(path.read_bytes().replace(kernel.tobytes(), np.float32([2, 1, 4]).tobytes()))
    inputs = np.random.default_rng(0).integers(0, 9, (1, 6, 6, 3)).astype(np.float32)
    ours, _ = HalfNetwork(path).run(inputs)
    np.testing.assert_array_equal(ours, open_runner(path).run(inputs))


def test_rounding_is_of_16_bits() -> None:
    given = np.float32([1 + 2**-11, 1 + 2**-10, 65_504, 65_520, 2**-25])
    np.testing.assert_array_equal(rounded(given), np.float32([1, 1 + 2**-10, 65_504, np.inf, 0]))
