"""The measure measures itself: MediaPipe's models on the test splits score what INTERFACE.md says."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.quality import score_split
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.runners import open_runner

SHARED = Path(__file__).parents[2].parent / "shared"

pytestmark = pytest.mark.skipif(
    not (SHARED / "data" / "splits.json").exists(),
    reason=f"SELF-TEST NOT RUN: no photos in {SHARED / 'data'}; the scores of this checkout are unproven",
)

# the figures are rounded to 0.01; another processor's kernels and another libjpeg move a mean by about as much
BOUND = 0.02

EXPECTED = [
    ("mediapipe_selfie_general_256", "test_eg1800", 96.16, 72.85),
    ("mediapipe_selfie_general_256", "test_lmi", 95.50, 73.21),
    ("mediapipe_selfie_landscape_144x256", "test_eg1800", 95.83, 71.17),
    ("mediapipe_selfie_landscape_144x256", "test_lmi", 94.42, 69.60),
]


@pytest.fixture(scope="module")
def dataset():
    unlabelled = ("ccp_unlabelled", "figaro_unlabelled")
    return open_dataset(DataConfig(format="folder", root=SHARED / "data", unlabelled_sets=unlabelled), seed=7)


def scores(name: str, dataset, split: str) -> tuple[float, float]:
    runners = {name: open_runner(SHARED / "models" / f"{name}.tflite", threads=1)}
    *_, last = score_split(runners, dataset, split, {})
    return 100 * last.files[name].mean("iou"), 100 * last.files[name].mean("boundary_iou")


@pytest.mark.parametrize(("name", "split", "iou", "boundary_iou"), EXPECTED)
def test_mediapipe_scores(dataset, name, split, iou, boundary_iou):
    assert scores(name, dataset, split) == (pytest.approx(iou, abs=BOUND), pytest.approx(boundary_iou, abs=BOUND))


def test_swapped_colours_leave_the_bound(dataset, monkeypatch):
    original = type(dataset).load

    def swapped(self, key):
        sample = original(self, key)
        return type(sample)(sample.key, np.ascontiguousarray(sample.image[:, :, ::-1]), sample.mask)

    monkeypatch.setattr(type(dataset), "load", swapped)
    iou, boundary_iou = scores("mediapipe_selfie_general_256", dataset, "test_lmi")
    assert abs(iou - 95.50) > 5 * BOUND and abs(boundary_iou - 73.21) > 5 * BOUND
