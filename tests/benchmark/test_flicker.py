"""Shaken clips: the truth moves with the photo, and only what flickers is counted."""

import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import flicker, intervals, latency
from benchmark.measuring.flicker import CLIPS, FRAMES, Flicker, shaken_clip
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset, spread
from portraitseg.runners import open_runner


def test_frames_move_with_their_truth(monkeypatch):
    monkeypatch.setattr(flicker, "NOISE", 0.0)
    mask = np.random.default_rng(0).integers(0, 256, (60, 50), np.uint8)
    image = np.repeat(mask[..., None], 3, axis=2)
    frames, truths = shaken_clip(image, mask)
    assert len(frames) == len(truths) == FRAMES
    for frame, truth in zip(frames, truths, strict=True):
        np.testing.assert_array_equal(frame[..., 0], truth)
        assert truth.shape == (44, 34)
    assert any((one != other).any() for one, other in pairwise(truths))


@pytest.mark.parametrize("shape", [(1, 1), (2, 40), (17, 16)])
def test_small_photos(shape):
    frames, truths = shaken_clip(np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8))
    assert len(frames) == FRAMES and min(truths[0].shape) >= 1


def test_the_same_every_time_with_fresh_noise_in_each_frame():
    image, mask = np.full((60, 50, 3), 100, np.uint8), np.zeros((60, 50), np.uint8)
    once, again = shaken_clip(image, mask)[0], shaken_clip(image, mask)[0]
    for one, other in zip(once, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (once[0] != once[1]).mean() > 0.5 and np.std(once[0]) == pytest.approx(flicker.NOISE, rel=0.1)


def test_clips_of_a_long_split():
    keys = [f"k{index}" for index in range(1000)]
    chosen = spread(keys, CLIPS)
    assert len(chosen) == CLIPS == len(set(chosen)) and chosen[0] == "k0" and int(chosen[-1][1:]) > 900
    assert spread(keys[:3], CLIPS) == keys[:3]


def test_a_file_that_blinks_is_told(workspace, monkeypatch):
    name = "android_assets/tiny/tiny-24x30-rgb-fp32.tflite"
    runner = open_runner(Path(name))
    dataset = open_dataset(DataConfig(format="folder", root=Path("photos")), seed=7)
    calm = Flicker()
    assert list(calm.measure({name: runner}, dataset, "test_a")) == list(dataset.keys("test_a"))
    original, calls = type(runner).predict, []

    def blinking(self, image):
        calls.append(1)
        return original(self, image) * (len(calls) % 2)

    monkeypatch.setattr(type(runner), "predict", blinking)
    blinks = Flicker()
    list(blinks.measure({name: runner}, dataset, "test_a"))
    steady, wild = (np.mean(scores.done["test_a", name]["flipped_share"]) for scores in (calm, blinks))
    # the whole person comes and goes; at the outline a little changes anyway, since each frame is stretched anew
    assert steady < 0.02 < 0.1 < wild


def test_table(workspace, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setattr(intervals, "RESAMPLES", 50)
    arguments = ["run", "--run", "tiny", "--splits", "test_a", "--robustness"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    with Path("runs/tiny/benchmark/flicker.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["clips"], row["frames"]) for row in rows] == [("test_a", "4", str(FRAMES))] * 2
    assert all(0 <= float(row["dtssd_low"]) <= float(row["dtssd"]) <= float(row["dtssd_high"]) for row in rows)
