"""Descriptions of peers: each key does what it says, and what does not fit is said in a line."""

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import intervals, latency, peers
from benchmark.measuring.model_files import FOREIGN, ModelFile
from portraitseg.errors import InputError
from portraitseg.runners import tflite
from tests.runners.tiny import WEIGHTS, write_tflite

SHAPE = (1, 6, 8, 3)


def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8)


def model_file(path: Path) -> ModelFile:
    return ModelFile(path, path.stem, FOREIGN, None, 1)


def opened(tmp_path: Path, toml: str, **values):
    path = write_tflite(tmp_path / "peer.tflite", shape=SHAPE, **values)
    path.with_suffix(".toml").write_text(toml)
    return peers.open_file(model_file(path), threads=1)


def test_without_a_description_it_is_a_file_like_ours(tmp_path):
    runner = peers.open_file(model_file(write_tflite(tmp_path / "peer.tflite", shape=SHAPE)), threads=1)
    assert isinstance(runner, tflite.TfliteRunner)
    plain = runner.predict(image())
    # times 1/255 instead of divided by 255: the last bit of a float32
    np.testing.assert_allclose(plain, opened(tmp_path, "").predict(image()), rtol=2.5e-7)


@pytest.mark.parametrize(
    ("toml", "expected"),
    [
        # the tiny file ends in a ReLU
        ("scale = 0.00784313725\noffset = -1.0", lambda rgb: np.maximum((2 * rgb - 1) @ WEIGHTS[:3], 0)),
        ('channel_order = "BGR"', lambda rgb: rgb[..., ::-1] @ WEIGHTS[:3]),
        # in the file's own order: blue first
        ('channel_order = "BGR"\noffset = [1, 0, 0]', lambda rgb: rgb[..., ::-1] @ WEIGHTS[:3] + WEIGHTS[0]),
        ("scale = [0.0, 0.00392156863, 0.0]", lambda rgb: rgb[..., 1] * WEIGHTS[1]),
        ('activation = "sigmoid"', lambda rgb: 1 / (1 + np.exp(-(rgb @ WEIGHTS[:3])))),
        ("invert = true", lambda rgb: 1 - rgb @ WEIGHTS[:3]),
    ],
)
def test_each_key(tmp_path, toml, expected):
    # float32 of a sum of three products in [-2, 2]
    np.testing.assert_allclose(opened(tmp_path, toml).predict(image()), expected(image() / 255), atol=1e-6)


def test_channels_of_the_output(tmp_path, monkeypatch):
    runner = opened(tmp_path, 'output_channel = 1\nactivation = "softmax"', out_channels=2)
    # both channels of the tiny file are the same
    np.testing.assert_allclose(runner.predict(image()), 0.5)
    logits = np.random.default_rng(0).normal(0, 300, (1, 6, 8, 2)).astype(np.float32)
    monkeypatch.setattr(runner, "_interpreter", Answer(logits))
    difference = np.clip(logits[0, ..., 0] - logits[0, ..., 1], -700, 700).astype(np.float64)
    np.testing.assert_allclose(runner.predict(image()), 1 / (1 + np.exp(difference)), atol=1e-6)


class Answer:
    """An interpreter that returns what the test wants."""

    def __init__(self, output: np.ndarray) -> None:
        self.output = output

    def set_tensor(self, index, value):
        pass

    def invoke(self):
        pass

    def get_tensor(self, index):
        return self.output


def test_integer_files_use_their_own_scale(tmp_path):
    # the mean over the channels, in steps of 1/127
    runner = opened(tmp_path, "", dtype="int8", scale=1 / 127, zero_point=-100)
    expected = np.clip(image() / 255, None, 227 / 127).mean(axis=2)
    np.testing.assert_allclose(runner.predict(image()), expected, atol=1.5 / 127)


@pytest.mark.parametrize(
    ("toml", "values", "message"),
    [
        ("scal = 1", {}, "scal: .*keys are: scale, offset"),
        ("scale = [1, 2]", {}, "scale"),
        ('channel_order = "GRB"', {}, "channel_order"),
        ("output_channel = 3", {}, "no output fits .*output_channel = 3"),
        ("output_channel = -1", {}, "output_channel"),
        ('output = "nothing"', {}, "no output fits"),
        ('activation = "softmax"', {}, "softmax over a single channel"),
        ("scale = inf", {}, "scale"),
        ("scale = ", {}, "not TOML"),
        ("", {"extra_input": True}, "2 inputs"),
        ("", {"signature": (1, -1, 8, 3)}, "fixed sizes"),
    ],
)
def test_what_does_not_fit(tmp_path, toml, values, message):
    with pytest.raises(InputError, match=message):
        opened(tmp_path, toml, **values)


def test_a_damaged_file_with_a_description(tmp_path):
    path = tmp_path / "peer.tflite"
    path.write_bytes(b"no flatbuffer")
    path.with_suffix(".toml").write_text("")
    with pytest.raises(InputError, match=r"peer\.tflite"):
        peers.open_file(model_file(path), threads=1)


def test_in_the_table(workspace, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setattr(intervals, "RESAMPLES", 50)
    folder = Path("peers")
    folder.mkdir()
    for name in ("plain", "inverted", "broken"):
        write_tflite(folder / f"{name}.tflite", shape=(1, 24, 30, 3))
    (folder / "inverted.toml").write_text("invert = true")
    (folder / "broken.toml").write_text("inverted = true")
    done = CliRunner().invoke(app, ["run", "--run", "tiny", "--peers", "peers", "--splits", "test_a"])
    assert done.exit_code == 0 and "inverted: " in done.stderr
    with Path("runs/tiny/benchmark/results.csv").open() as file:
        rows = {Path(row["file"]).stem: row for row in csv.DictReader(file)}
    assert float(rows["plain"]["iou"]) > 0.9 and float(rows["inverted"]["iou"]) < 0.1
    assert rows["broken"]["reason"].startswith("not_run: ") and "broken.toml" in rows["broken"]["reason"]
