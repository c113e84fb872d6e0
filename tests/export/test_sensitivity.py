"""Sensitivity: the ratio by hand, every layer matched, and a damaged layer found by name."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.analysis import sensitivity
from portraitseg.errors import InputError
from portraitseg.tflite.flatbuffer import keras_layer
from portraitseg.tflite.graph import read_graph
from tests.export.conftest import Exported


def test_ratio_by_hand() -> None:
    sums = sensitivity._Sums()
    # signal 4·100, noise 4·1: 20 dB
    sums.add(np.array([11, 9, 11, 9], np.float32), np.full(4, 10, np.float32))
    assert sums.snr_db == pytest.approx(20)
    # twice as much of the same changes nothing
    sums.add(np.array([11, 9, 11, 9], np.float32), np.full(4, 10, np.float32))
    assert sums.snr_db == pytest.approx(20) and sums.count == 8


@pytest.mark.parametrize("recipe", ["qat_wi8_ai8", "qat_wi8_ai8_u8", "static_wi8_ai8", "static_wi8_ai16"])
def test_every_layer_is_matched(exported: Exported, recipe: str) -> None:
    _, float_path = exported.find("-rgb-fp32.tflite")
    _, path = exported.find(f"-rgb-{recipe}.tflite")
    photos = exported.references["float"].photos[:2]
    rows = sensitivity.compare(float_path, path, photos)
    layers = {keras_layer(op.outputs[0].name) for op in read_graph(float_path).ops}
    assert "fuse_up" in layers and len(layers) == len(read_graph(float_path).ops)
    assert {row.layer for row in rows} == layers and len(rows) == len(layers)
    assert [row.order for row in rows] == list(range(len(rows)))
    # measured 14 to 38 at 64 px with half the channels
    assert all(5 < row.snr_db < 80 for row in rows)
    assert rows[-1].layer == "mask"


def test_a_file_beside_itself_has_no_noise(exported: Exported) -> None:
    _, path = exported.find("-rgb-fp32.tflite")
    rows = sensitivity.compare(path, path, exported.references["float"].photos[:1])
    assert {row.snr_db for row in rows} == {120.0} and {row.added_db for row in rows} == {0.0}


def test_a_damaged_layer_is_found(exported: Exported, tmp_path: Path) -> None:
    _, float_path = exported.find("-rgb-fp32.tflite")
    _, path = exported.find("-rgb-static_wi8_ai8.tflite")
    damaged = tmp_path / path.name
    damaged.write_bytes(_scramble(path, "fuse_low_pw_bn"))
    photos = exported.references["float"].photos[:2]
    rows = sensitivity.compare(float_path, damaged, photos)
    assert max(rows, key=lambda row: row.added_db).layer == "fuse_low_pw_bn"
    assert "fuse_low_pw_bn" in sensitivity.to_markdown(rows, "x").splitlines()[4]


def test_another_network_is_refused(exported: Exported, tmp_path: Path) -> None:
    from export.quantization.recipes import fp32
    from portraitseg.models.keras_route import keras

    image = keras.Input((64, 64, 3))
    other = keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid", name="one")(image))
    path = tmp_path / "other.tflite"
    path.write_bytes(fp32(other, np.zeros((1, 64, 64, 3), np.float32)))
    _, float_path = exported.find("-rgb-fp32.tflite")
    with pytest.raises(InputError, match="two files of one network"):
        sensitivity.compare(float_path, path, exported.references["float"].photos[:1])


ROWS = [
    sensitivity.Row(0, "first", "CONV_2D", 38.0, 0.0, 1.0, 0.0, 6.0, 0.02),
    sensitivity.Row(1, "second", "ADD", 20.0, 18.0, 1.0, -1.0, 6.0, 0.03),
    sensitivity.Row(2, "third", "LOGISTIC", 120.0, -100.0, 1.0, 0.0, 1.0, 1 / 256),
]


def test_report_files(tmp_path: Path) -> None:
    paths = sensitivity.write_report(ROWS, tmp_path / "export", "net-64x64-rgb-x")
    assert [path.name for path in paths] == [f"sensitivity-net-64x64-rgb-x{end}" for end in (".csv", ".md", ".png")]
    table = list(csv.DictReader(io.StringIO(paths[0].read_text())))
    assert tuple(table[0]) == sensitivity.COLUMNS
    assert [row["layer"] for row in table] == ["first", "second", "third"] and table[1]["added_db"] == "18"
    assert paths[1].read_text().splitlines()[4].startswith("| second | ADD | 20.0 | 18.0 |")
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_plot_marks_the_loss() -> None:
    picture = np.asarray(Image.open(io.BytesIO(sensitivity.draw(ROWS, "net").to_png())))
    # in the middle of each bar, 12 units high from 30 on; two pixels a unit
    first, second, third = (picture[2 * (30 + 12 * index + 6), 2 * 235 + 2] for index in range(3))
    assert (first == third).all() and (first != second).any() and (first != 255).any()


def test_run_without_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portraitseg import files
    from portraitseg.config import Config
    from portraitseg.runs import Run

    monkeypatch.chdir(tmp_path)
    files.write_text(Run("empty").config, Config().model_dump_json())
    with pytest.raises(InputError, match="make export-android RUN=empty"):
        sensitivity.run_sensitivity(Run("empty"), Config(), "qat_wi8_ai8", 2)


def _scramble(path: Path, layer: str) -> bytes:
    """Shuffles the kernel of one layer's convolution."""
    from ai_edge_litert import schema_py_generated as schema

    op = next(op for op in read_graph(path).ops if keras_layer(op.outputs[0].name) == layer and op.name == "CONV_2D")
    kernel = op.inputs[1]
    assert kernel is not None
    changed = bytearray(path.read_bytes())
    model = schema.Model.GetRootAs(changed)
    values = model.Buffers(model.Subgraphs(0).Tensors(kernel.index).Buffer()).DataAsNumpy()
    values[:] = values[np.random.default_rng(0).permutation(len(values))]
    return bytes(changed)
