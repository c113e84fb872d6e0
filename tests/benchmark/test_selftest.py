"""The measure measures itself: MediaPipe's models on the test splits score what docs/interface.md says."""

from collections import deque
from pathlib import Path

import numpy as np
import pytest

from benchmark.measuring.model_files import FOREIGN, ModelFile
from benchmark.measuring.peers import open_file
from benchmark.measuring.robustness import CLEAN
from benchmark.measuring.scoring import Scoring
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from tests import outside

# the figures are rounded to 0.01; another processor's kernels and another libjpeg move a mean by about as much
BOUND = 0.02

EXPECTED = [
    pytest.param("mediapipe_selfie_general_256", "test_eg1800", 96.16, 72.85, marks=pytest.mark.full),
    ("mediapipe_selfie_general_256", "test_lmi", 95.50, 73.21),
    pytest.param("mediapipe_selfie_landscape_144x256", "test_eg1800", 95.83, 71.17, marks=pytest.mark.full),
    pytest.param("mediapipe_selfie_landscape_144x256", "test_lmi", 94.42, 69.60, marks=pytest.mark.full),
]


@pytest.fixture(scope="module")
def dataset():
    unlabelled = ("ccp_unlabelled", "figaro_unlabelled")
    return open_dataset(DataConfig(format="folder", root=outside.photos().parent, unlabelled_sets=unlabelled), seed=7)


def scores(name: str, dataset, split: str, folder: Path) -> tuple[float, float]:
    model_file = ModelFile(outside.peers(f"{name}.tflite"), name, FOREIGN, None, 1)
    runners = {model_file.name: open_file(model_file, threads=1)}
    scoring = Scoring([model_file], dataset, split, [CLEAN], folder, runners=runners)
    deque(scoring.run(), maxlen=0)
    quality = scoring.result(CLEAN)[model_file.name]
    return 100 * quality.mean("iou"), 100 * quality.mean("boundary_iou")


@pytest.mark.parametrize(("name", "split", "iou", "boundary_iou"), EXPECTED)
def test_mediapipe_scores(dataset, tmp_path, name, split, iou, boundary_iou):
    assert scores(name, dataset, split, tmp_path) == (
        pytest.approx(iou, abs=BOUND),
        pytest.approx(boundary_iou, abs=BOUND),
    )


def test_swapped_colours_leave_the_bound(dataset, tmp_path, monkeypatch):
    original = type(dataset).load

    def swapped(self, key):
        sample = original(self, key)
        return type(sample)(sample.key, np.ascontiguousarray(sample.image[:, :, ::-1]), sample.mask)

    monkeypatch.setattr(type(dataset), "load", swapped)
    iou, boundary_iou = scores("mediapipe_selfie_general_256", dataset, "test_lmi", tmp_path)
    assert abs(iou - 95.50) > 5 * BOUND and abs(boundary_iou - 73.21) > 5 * BOUND
