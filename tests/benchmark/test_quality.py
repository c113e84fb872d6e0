"""Quality through the contract: known masks, the interval, and outputs that are no probability."""

import numpy as np
import pytest

from benchmark.quality import FileScores, score_photo
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from portraitseg.metrics import MATTE_METRICS
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
    assert fault is None and scores == {"iou": 1, "miou": 1, "boundary_iou": 1, "holes": 0, "islands": 0}
    scores, _ = score_photo(runner, sample(255 - truth))
    # all person is background and the other way round: one piece of each
    assert scores == {"iou": 0, "miou": 0, "boundary_iou": 0, "holes": 1, "islands": 1}
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


def test_mattes_are_scored_where_the_truth_is_soft(runner):
    truth = np.zeros((24, 30), np.uint8)
    truth[:, 10:] = 255
    scores, _ = score_photo(runner, sample(truth), is_soft=True)
    assert {name: scores[name] for name in MATTE_METRICS} == {
        name: pytest.approx(0, abs=1e-9) for name in MATTE_METRICS
    }
    # half transparent where the file says opaque
    truth[:, 10:] = 51
    scores, _ = score_photo(runner, sample(truth), is_soft=True)
    assert scores["mse"] == pytest.approx(0.8**2 * 20 / 30) and scores["sad"] == pytest.approx(0.8 * 24 * 20 / 1000)


def test_percentile_and_worst_photos():
    scores = FileScores()
    for index in range(11):
        scores.add(f"set/{index}", {"iou": (10 - index) / 10})
    assert scores.percentile("iou", 10.0) == pytest.approx(0.1)
    assert scores.worst("iou", 2) == [("set/10", 0.0), ("set/9", 0.1)]
