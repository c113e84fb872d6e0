"""Time per operator: what LiteRT's profiler says of a real file, and how its events become a table."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.profiling import operators, profile_child
from benchmark.profiling.operators import by_kind, match, profile, summarize
from benchmark.profiling.profile_child import _EVENT_WORDS, _UNTOUCHED, INSIDE_DELEGATE, OPERATOR, Refused, check_layout
from portraitseg.errors import InputError
from portraitseg.tflite.graph import Op, Tensor, read_graph
from tests.runners.tiny import write_tflite

CONV, POOL, RESIZE = "Convolution (NHWC, F32) IGEMM", "AVERAGE_POOL_2D", "Resize Bilinear (NHWC)"


def op(index: int, name: str, channels: int = 2) -> Op:
    image = Tensor(0, "image", "FLOAT32", (1, 4, 4, 3), (1, 4, 4, 3))
    kernel = Tensor(1, "kernel", "FLOAT32", (channels, 1, 1, 3), (channels, 1, 1, 3), is_constant=True)
    output = Tensor(2, f"net/layer{index}/{name}", "FLOAT32", (1, 4, 4, channels), (1, 4, 4, channels))
    return Op(index, name, 1, (image, kernel), (output,))


def test_a_real_file(tmp_path):
    path = write_tflite(tmp_path / "m.tflite", shape=(1, 96, 128, 3))
    done = CliRunner().invoke(app, ["operators", str(path), "--runs", "5", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.exception
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out/m-operators.csv").read_text())))
    # one 1×1 convolution, which XNNPACK runs as a matrix product
    (line,) = [line for line in lines if line["layer"]]
    assert line["operator"].startswith("Fully Connected (NC, F32)") and line["runs_on"] == "xnnpack"
    assert (line["output"], line["macs"], line["layer"]) == ("1×96×128×1", str(96 * 128 * 3), "mask")
    assert sum(float(line["share"]) for line in lines) == pytest.approx(1, abs=1e-4)
    image = np.asarray(Image.open(tmp_path / "out/m-operators.png"))
    assert image.shape[2] == 3 and (image == (0, 114, 178)).all(axis=2).sum() > 100


def test_medians_and_shares():
    def run(conv_us: int, pool_us: int):
        outside = ["LiteRT::Run[buffer registration]", 1, 147, 0]
        whole = ["TfLiteXNNPackDelegate", OPERATOR, conv_us, 9]
        return [outside, whole, [f"Delegate/{CONV}", INSIDE_DELEGATE, conv_us, 0], [POOL, OPERATOR, pool_us, 1]]

    # the time of one run that another process took half of does not count
    rows = summarize([run(30, 10), run(30, 10), run(900, 10)], [op(0, "CONV_2D"), op(1, POOL)])
    assert [(row.operator, row.runs_on, row.p50_us, row.share) for row in rows] == [
        (CONV, "xnnpack", 30, 0.75),
        (POOL, "tflite", 10, 0.25),
    ]
    assert (rows[0].layer, rows[0].macs, rows[1].layer, rows[1].macs) == ("layer0", 4 * 4 * 2 * 3, "layer1", 0)
    assert by_kind([*rows, rows[1]])[1] == (f"tflite: {POOL}", 2, 20, 0.5)
    with pytest.raises(InputError, match="other operators in each run"):
        summarize([run(1, 1), run(1, 1)[:3]], [])
    with pytest.raises(InputError, match="no operator"):
        summarize([[["LiteRT::Run", 1, 5, 0]]], [])


def test_operators_of_the_file_are_found_in_order():
    ops = [op(0, "CONV_2D"), op(1, "DEQUANTIZE"), op(2, POOL), op(3, "CONV_2D"), op(4, "RESIZE_BILINEAR")]
    clamp = "Clamp (NC)"
    events = [(CONV, INSIDE_DELEGATE, 1, 0), (clamp, INSIDE_DELEGATE, 1, 1), (POOL, OPERATOR, 1, 2)]
    events += [(CONV, INSIDE_DELEGATE, 1, 0), (RESIZE, INSIDE_DELEGATE, 1, 1)]
    assert [matched and matched.index for matched in match(events, ops)] == [0, None, 2, 3, 4]
    # a convolution too few: none of them can be told, but TFLite's own one can
    assert [matched and matched.index for matched in match(events[1:], ops)] == [None, 2, None, None]


def test_another_form_of_events_is_refused():
    def words(length: int, count: int) -> list[int]:
        return [2] * (length * count) + [_UNTOUCHED] * 100

    check_layout(words(_EVENT_WORDS, 3), 3)
    for length in (_EVENT_WORDS - 1, _EVENT_WORDS + 1):
        with pytest.raises(Refused, match="known are 13 each"):
            check_layout(words(length, 3), 3)
    with pytest.raises(Refused, match="0 events"):
        check_layout([_UNTOUCHED] * 100, 0)
    # a type is one bit
    with pytest.raises(Refused, match="another form"):
        check_layout([3] * _EVENT_WORDS + [_UNTOUCHED] * 100, 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"extra_input": True}, "2 inputs and 1 outputs"), ({"signature": (1, -1, 10, 3)}, "open size")],
)
def test_files_that_are_not_profiled(tmp_path, values, message):
    path = write_tflite(tmp_path / "m.tflite", **values)
    with pytest.raises(InputError, match=message):
        profile(path)
    with pytest.raises(InputError, match=r"missing\.tflite"):
        profile(tmp_path / "missing.tflite")


def test_a_process_that_dies_is_a_line(tmp_path, monkeypatch):
    path = write_tflite(tmp_path / "m.tflite")
    monkeypatch.setattr(operators, "WARMUP", "many")
    with pytest.raises(InputError, match=r"m\.tflite: not profiled: ValueError"):
        profile(path)
    # as it would go on with a library that has no profiler
    monkeypatch.setattr(profile_child.Profiler, "__init__", lambda self, path, threads: self._call("CreateNothing"))
    monkeypatch.setattr(profile_child.Profiler, "_library", object(), raising=False)
    assert profile_child.main([str(path), "1", "0", "1"]) == 1


def test_parameters_and_macs_of_a_graph(tmp_path):
    from portraitseg.tflite.graph import multiply_accumulates, parameters

    graph = read_graph(write_tflite(Path(tmp_path / "m.tflite"), shape=(1, 8, 10, 3), out_channels=2))
    assert parameters(graph) == 2 * 3 + 2
    assert [multiply_accumulates(op) for op in graph.ops] == [8 * 10 * 3 * 2]
