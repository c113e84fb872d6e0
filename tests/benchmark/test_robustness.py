"""What the conditions do to a photo, that they do it the same each time, and the table that comes of them."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency
from benchmark.measuring.robustness import (
    ALL_CONDITIONS,
    CLEAN,
    CONDITIONS,
    dim_light,
    distant,
    grayscale,
    jpeg_50,
    motion_blur,
    rotate_90,
)


def portrait(height: int = 96, width: int = 72) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (30, 60), 25, 255, -1)
    image = np.where(mask[..., None] > 0, (200, 150, 120), (30, 60, 90)) + generator.normal(0, 5, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8), mask


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize("shape", [(96, 72), (65, 61)])
def test_each_is_the_same_every_time_and_leaves_the_photo_alone(condition, shape):
    image, mask = portrait(*shape)
    before = image.copy(), mask.copy()
    first, second = (condition(image, mask, (32, 48)) for _ in range(2))
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])
    for once, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(once, again)
        assert once.dtype == np.uint8
    assert first[0].shape[2] == 3 and not (first[0].shape == image.shape and (first[0] == image).all())


def test_only_turning_and_distance_move_the_truth():
    image, mask = portrait()
    for name, condition in CONDITIONS.items():
        if name not in ("rotate_90", "distant"):
            np.testing.assert_array_equal(condition(image, mask, (32, 48))[1], mask)
    turned, turned_mask = rotate_90(image, mask, (32, 48))
    # clockwise: what was at the left is at the top, what was at the bottom at the left
    np.testing.assert_array_equal(turned[0, :], image[::-1, 0])
    np.testing.assert_array_equal(turned_mask, np.rot90(mask, 3))


def test_colours_and_light_are_what_they_say():
    image, mask = portrait()
    packed, _ = jpeg_50(image, mask, (1, 1))
    # red stays red: swapped channels would be off by 80
    assert np.abs(packed[60, 30].astype(int) - image[60, 30]).max() < 30
    dark, _ = dim_light(image, mask, (1, 1))
    light = ((dark / 255) ** 2.2).mean() / ((image / 255) ** 2.2).mean()
    assert light == pytest.approx(0.2, rel=0.05)
    blurred, _ = motion_blur(image, mask, (1, 1))
    assert blurred.mean() == pytest.approx(image.mean(), abs=0.5)


def test_a_distant_person_stands_small_on_the_ground_with_the_truth():
    image, mask = portrait()
    scene, truth = distant(image, mask, (1, 1))
    rows, columns = np.nonzero(truth > 127)
    # three tenths of 96 rows, to the last one; as wide as it is high, as before
    assert (rows.min(), rows.max()) == (96 - 29, 95) and np.ptp(columns) == pytest.approx(28, abs=1)
    # the person's colour is where the truth says, and hers alone
    is_person = np.abs(scene.astype(int) - (200, 150, 120)).max(axis=2) < 25
    assert is_person[truth > 250].all()
    assert image.shape == scene.shape and not is_person[:60].all()
    # another photo stands before another background
    other = distant(image[:, ::-1], mask[:, ::-1], (1, 1))[0]
    assert (other[:60] != scene[:60]).any()
    nobody, empty = distant(image, np.zeros_like(mask), (1, 1))
    assert not empty.any() and nobody.shape == image.shape


def test_black_and_white_keeps_the_brightness():
    image, mask = portrait()
    gray, _ = grayscale(image, mask, (1, 1))
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 1] == gray[..., 2]).all()
    # red counts more than blue: swapped channels would be off by 15
    assert gray[60, 30, 0] == pytest.approx(image[60, 30] @ [0.299, 0.587, 0.114], abs=1)


def test_the_smear_is_centred():
    # a kernel off the middle would move the person and charge the file for it
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255
    smeared = motion_blur(point, point[..., 0], (1, 1))[0][..., 0].astype(float)
    y, x = np.indices(smeared.shape)
    assert ((y * smeared).sum() / smeared.sum(), (x * smeared).sum() / smeared.sum()) == (
        pytest.approx(30, abs=0.1),
        pytest.approx(30, abs=0.1),
    )
    # along a line that rises to the right
    assert smeared[31, 28:30].sum() > 0 and smeared[29, 31:33].sum() > 0 and smeared[29, 28:30].sum() == 0


def test_table(core_ml, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    arguments = ["run", "--run", "tiny", "--splits", "test_a", "--robustness"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0 and "motion_blur" in result.stdout
    with Path("runs/tiny/benchmark/robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    # two files; the third cannot be run here
    assert [row["condition"] for row in rows] == [CLEAN, *CONDITIONS] * 2
    clean = rows[0]
    assert (clean["change"], clean["valid"], clean["photos"]) == ("0.00000", "true", "4")
    for row in rows:
        assert float(row["change"]) == pytest.approx(float(row["iou"]) - float(clean["iou"]), abs=2e-5)
    # bright on dark at a fifth of the light: nothing is above one half any more
    assert next(row for row in rows if row["condition"] == "dim_light")["iou"] == "0.00000"
    assert float(next(row for row in rows if row["condition"] == "rotate_90")["iou"]) > 0.9


def test_interrupted_robustness_keeps_the_table_of_the_clean_photos(workspace, monkeypatch):
    def interrupted(image, mask, size):
        raise KeyboardInterrupt

    monkeypatch.setitem(ALL_CONDITIONS, "rotate_90", interrupted)
    arguments = ["run", "--run", "tiny", "--splits", "test_a", "--robustness"]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 130
    assert "test_a" in Path("runs/tiny/benchmark/results.csv").read_text()
    assert not Path("runs/tiny/benchmark/robustness.csv").exists()
