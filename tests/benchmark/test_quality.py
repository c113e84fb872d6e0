"""Quality through the contract: known masks, the interval, and outputs that are no probability."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.measuring.journal import Journal
from benchmark.measuring.quality import EXTREMES, FileScores, columns, score_image, truth_of
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from portraitseg.metrics import MATTE_METRICS
from portraitseg.runners import Runner, open_runner
from tests.runners.tiny import write_tflite


def sample(mask: np.ndarray | None) -> Sample:
    image = np.zeros((24, 30, 3), np.uint8)
    image[:, 10:] = 255
    return Sample("set/photo", image, mask)


def _score(runner: Runner, photo: Sample, is_soft: bool = False) -> dict[str, float]:
    return score_image(runner, photo.image, truth_of(photo), is_soft)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return open_runner(write_tflite(tmp_path_factory.mktemp("files") / "m.tflite", shape=(1, 24, 30, 3)))


def test_scores_of_known_masks(runner):
    truth = np.zeros((24, 30), np.uint8)
    truth[:, 10:] = 255
    extremes = {"lowest": 0, "highest": pytest.approx(1), "both_empty": 0}
    scores = _score(runner, sample(truth))
    assert scores == {"iou": 1, "miou": 1, "boundary_iou": 1, "holes": 0, "islands": 0} | extremes
    assert tuple(scores) == columns(is_soft=False)
    scores = _score(runner, sample(255 - truth))
    # all person is background and the other way round: one piece of each
    assert scores == {"iou": 0, "miou": 0, "boundary_iou": 0, "holes": 1, "islands": 1} | extremes
    # 127 is background, 128 person
    scores = _score(runner, sample(np.where(truth > 0, 128, 127).astype(np.uint8)))
    assert scores["iou"] == 1


def test_refuses_a_photo_without_a_mask():
    with pytest.raises(InputError, match="set/photo"):
        truth_of(sample(None))


@pytest.mark.parametrize("value", [np.nan, 1.5, -0.5])
def test_tells_an_output_that_is_no_probability(runner, monkeypatch, tmp_path, value):
    outputs = np.full((24, 30), 0.5, np.float32)
    truth = sample(np.eye(24, 30, dtype=np.uint8) * np.uint8(255))
    monkeypatch.setattr(type(runner), "predict", lambda self, image: outputs)
    good = _score(runner, truth)
    assert scores_of(tmp_path / "good", [good, good]).fault is None
    outputs[3, 3] = value
    fault = scores_of(tmp_path / "bad", [good, _score(runner, truth)]).fault
    assert fault is not None and "no probability" in fault and fault.endswith("on set/1")


def test_mattes_are_scored_where_the_truth_is_soft(runner):
    truth = np.zeros((24, 30), np.uint8)
    truth[:, 10:] = 255
    scores = _score(runner, sample(truth), is_soft=True)
    assert {name: scores[name] for name in MATTE_METRICS} == {
        name: pytest.approx(0, abs=1e-9) for name in MATTE_METRICS
    }
    # half transparent where the file says opaque
    truth[:, 10:] = 51
    scores = _score(runner, sample(truth), is_soft=True)
    assert scores["mse"] == pytest.approx(0.8**2 * 20 / 30) and scores["sad"] == pytest.approx(0.8 * 24 * 20 / 1000)


def scores_of(path: Path, photos: list[dict[str, float]]) -> FileScores:
    journal = Journal(path, {}, tuple(photos[0]), len(photos))
    values = np.array([list(photo.values()) for photo in photos], np.float64)
    journal.append(np.arange(len(photos)), values)
    return FileScores([f"set/{index}" for index in range(len(photos))], journal)


def test_percentile_and_worst_photos(tmp_path):
    photos = [
        {"iou": value / 10, "lowest": 0.0, "highest": 1.0, "both_empty": 0.0}
        for value in (10, 9, 8, 7, 6, 5, 4, 3, 2, 0, 0)
    ]
    scores = scores_of(tmp_path / "a.scores", photos)
    assert scores.percentile("iou", 10.0) == 0 and scores.percentile("iou", 50.0) == 0.5
    assert scores.worst("iou", 3) == [("set/9", 0.0), ("set/10", 0.0), ("set/8", 0.2)]
    assert scores.measures == ("iou",) and scores.fault is None and set(EXTREMES).isdisjoint(scores.measures)


def test_background_only_photos_on_which_no_person_is_predicted(runner, monkeypatch, tmp_path):
    """They count as 1, and are counted; of nothing else there is no score."""
    nobody = sample(np.zeros((24, 30), np.uint8))
    monkeypatch.setattr(type(runner), "predict", lambda self, image: np.zeros((24, 30), np.float32))
    empty, missed = _score(runner, nobody), _score(runner, sample(np.eye(24, 30, dtype=np.uint8) * np.uint8(255)))
    assert (empty["iou"], empty["both_empty"]) == (1, 1) and (missed["iou"], missed["both_empty"]) == (0, 0)
    some = scores_of(tmp_path / "some", [empty, missed, empty])
    assert some.both_empty == 2 and some.fault is None
    fault = scores_of(tmp_path / "all", [empty, empty]).fault
    assert fault is not None and "nobody is in any of the 2 photos" in fault
    # a person whom nobody is to be judged by, and a prediction there, are neither
    ignore = np.ones((24, 30), bool)
    ignore[0] = False
    assert score_image(runner, nobody.image, nobody.mask, False, ignore)["both_empty"] == 1
