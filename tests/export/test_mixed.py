"""Mixed files: the layers that are spared compute in float, all others in int8, and what that costs is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import mixed, mixed_command
from export.flatbuffer import keras_layer
from export.mixed import Cost
from export.recipes import RECIPES
from export.sensitivity import Row
from portraitseg.errors import InputError
from portraitseg.manifest import Parity
from portraitseg.runners import open_runner
from portraitseg.tflite_graph import read_graph
from tests.export import tiny

#: Two layers in different places of the network, one of them a convolution that batch norm is folded into.
SPARED = ("fuse_low_pw_bn", "logits")


@pytest.fixture(scope="module")
def files(float_model: Any, calibration: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mixed")
    contents = {
        "none": mixed.convert(float_model, calibration, ()),
        "mixed": mixed.convert(float_model, calibration, SPARED),
        "fp32": RECIPES["fp32"].convert(float_model, calibration),
        "static_wi8_ai8": RECIPES["static_wi8_ai8"].convert(float_model, calibration),
    }
    paths = {name: folder / f"m-64x64-rgb-{name}.tflite" for name in contents}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths


def _float_layers(path: Path) -> set[str]:
    casts = ("QUANTIZE", "DEQUANTIZE")
    ops = [op for op in read_graph(path).ops if op.name not in casts and op.outputs[0].dtype == "FLOAT32"]
    return {keras_layer(op.outputs[0].name) for op in ops}


def test_the_spared_layers_are_float_and_no_other(files: dict[str, Path]) -> None:
    assert _float_layers(files["mixed"]) == set(SPARED)
    assert _float_layers(files["none"]) == set()
    # one step of the quantized input is a byte, as in the whole file
    inside = read_graph(files["mixed"]).ops[0].outputs[0]
    assert inside.scales[0] == pytest.approx(1 / 255, rel=1e-6) and inside.zero_points == (-128,)


def test_nothing_spared_is_the_whole_int8_file(files: dict[str, Path]) -> None:
    whole, none = (open_runner(files[name]) for name in ("static_wi8_ai8", "none"))
    for photo in tiny.samples(2, first=300)[0]:
        np.testing.assert_array_equal(whole.predict(photo), none.predict(photo))


def test_cost(files: dict[str, Path]) -> None:
    whole, cost, floats = (mixed.cost_of(files[name]) for name in ("static_wi8_ai8", "mixed", "fp32"))
    assert (whole.float_ops, whole.casts, whole.float_macs) == (0, 2, 0)
    assert cost.float_ops == 2 and cost.casts >= 4 and 0 < cost.float_macs < 0.5
    assert (floats.float_macs, floats.casts) == (1, 0)
    assert set(cost.gpu) == {"classic", "mldrift"} and min(*cost.gpu.values(), cost.cpu_parts) > 0


def test_an_unknown_layer_is_refused(float_model: Any, calibration: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"layer 'nobody': no operator of 'fast_scnn_w050'"):
        mixed.convert(float_model, calibration[:1], ["nobody"])


def _row(layer: str, added_db: float) -> Row:
    return Row(0, layer, "CONV_2D", 20.0, added_db, 1.0, 0.0, 6.0, 0.02)


def test_the_worst_layers_come_first_and_harmless_ones_stay() -> None:
    rows = [_row("a", 2.9), _row("b", 3.0), _row("c", 9.0), _row("d", 5.0)]
    assert mixed.worst_layers(rows, 2) == ("c", "d")
    assert mixed.worst_layers(rows, 9) == ("c", "d", "b")
    assert mixed.worst_layers(rows[:1], 3) == ()


@pytest.mark.parametrize(("gain", "verdict"), [(0.0011, "it pays"), (0.0009, "it does not pay"), (-0.01, "not pay")])
def test_report(tmp_path: Path, gain: float, verdict: str) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(bytes(1_500_000))
    cost = Cost(50, 6, 3, 0.25, 2, {"classic": 1.0, "mldrift": 0.5})
    line = mixed_command.Line(
        path, 0.95, 0.7, Parity(reference="keras", mean_abs=0.004, mask_iou=0.99, passed=True), cost
    )
    text = mixed_command.to_markdown([line], ("x", "y"), gain, "val", None)
    assert "Spared: x, y." in text and verdict in text
    cells = "| a.tflite | 1.50 | 95.00 | 70.00 | 0.004 | 0.9900 | 50 | 6 | 3 | 25 % | 2 | 100 % | 50 % |"
    assert cells in text
