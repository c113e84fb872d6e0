"""Quality through the contract: known masks, the interval, and outputs that are no probability."""

import numpy as np
import pytest

from benchmark.quality import bootstrap_interval, score_photo
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from portraitseg.runners import open_runner
from tests.runners.tiny import write_tflite


def sample(mask: np.ndarray | None) -> Sample:
    image = np.zeros((24, 30, 3), np.uint8)
    image[:, 10:] = 255
    return Sample("set/photo", image, mask)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return open_runner(write_tflite(tmp_path_factory.mktemp("files") / "m.tflite", shape=(1, 24, 30, 3)))


def test_scores_of_known_masks(runner):
    truth = np.zeros((24, 30), np.uint8)
    truth[:, 10:] = 255
    scores, fault = score_photo(runner, sample(truth))
    assert fault is None and scores == {"iou": 1, "miou": 1, "boundary_iou": 1}
    scores, _ = score_photo(runner, sample(255 - truth))
    assert scores == {"iou": 0, "miou": 0, "boundary_iou": 0}
    # 127 is background, 128 person
    scores, _ = score_photo(runner, sample(np.where(truth > 0, 128, 127).astype(np.uint8)))
    assert scores["iou"] == 1


def test_refuses_a_photo_without_a_mask(runner):
    with pytest.raises(InputError, match="set/photo"):
        score_photo(runner, sample(None))


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.5])
def test_tells_an_output_that_is_no_probability(runner, monkeypatch, value):
    outputs = np.full((24, 30), 0.5, np.float32)
    outputs[3, 3] = value
    monkeypatch.setattr(type(runner), "predict", lambda self, image: outputs)
    _, fault = score_photo(runner, sample(np.zeros((24, 30), np.uint8)))
    assert fault is not None and "no probability" in fault


def test_bootstrap_interval():
    values = np.random.default_rng(0).normal(0.9, 0.05, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    # the normal approximation, mean ± 1.96 standard errors; a tenth of the width for the resampling
    width = 2 * 1.96 * values.std() / 20
    assert high - low == pytest.approx(width, rel=0.1)
    assert bootstrap_interval(np.array([0.7])) == (pytest.approx(0.7), pytest.approx(0.7))
