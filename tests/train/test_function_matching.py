"""Teachers that look at the augmented photos: what they say is in the masks, and of mixtures it is all there is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from portraitseg.config import Config, parse_config
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from portraitseg.identity import differences
from tests.runners.tiny import write_onnx, write_tflite
from train import function_matching
from train.stream import Batch, BatchStream, maker_of


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Brightness is person: its answer to a photo is known."""
    return write_tflite(tmp_path / "t.tflite", shape=(1, 24, 30, 3))


@pytest.fixture
def batches(teacher: Path) -> Callable[..., Batch]:
    def make(step: int = 0, **distill: object) -> Batch:
        return maker_of(*_open({"files": [str(teacher)], **distill})).make(step)

    return make


def _open(distill: dict[str, object]) -> tuple[object, Config]:
    config = parse_config(
        {
            "data": {"synthetic_photos": 24},
            "model": {"size": [48, 64]},
            "train": {"batch_size": 6},
            "augment": {"horizontal_flip": {"p": 0.5}, "add": {"p": 1.0}},
            "distill": distill,
        },
        "test",
    )
    return open_dataset(config.data, config.seed), config


def _answers(teacher: Path, images: np.ndarray) -> np.ndarray:
    opened = function_matching.open_file(teacher)
    return np.stack([255 * function_matching.ask([opened], image) for image in images])


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_the_masks_are_blended_with_what_is_said_of_the_augmented_photo(batches, teacher, blend):
    alone, taught = maker_of(*_open({})).make(2), batches(2, blend=blend)
    np.testing.assert_array_equal(taught.images, alone.images)
    expected = blend * _answers(teacher, alone.images) + (1 - blend) * alone.targets
    # half a step of rounding
    np.testing.assert_allclose(taught.targets, expected, atol=0.51)
    assert (np.abs(taught.targets.astype(int) - alone.targets).max() > 30) == (blend > 0)


def test_mixtures_have_the_teachers_masks_alone(batches, teacher):
    alone, mixed = maker_of(*_open({})).make(1), batches(1, blend=0.0, mixup=1.0)
    following = np.roll(alone.images, -1, axis=0).astype(float)
    for image, first, second in zip(mixed.images, alone.images.astype(float), following, strict=True):
        # the one share that explains all pixels, rounding apart
        share = np.sum((image - second) * (first - second)) / np.sum((first - second) ** 2)
        assert 0.25 <= share <= 0.75
        np.testing.assert_allclose(image, share * first + (1 - share) * second, atol=1.0)
    np.testing.assert_allclose(mixed.targets, _answers(teacher, mixed.images), atol=0.51)
    some = batches(1, mixup=0.5)
    changed = [not np.array_equal(*pair) for pair in zip(some.images, alone.images, strict=True)]
    assert any(changed) and not all(changed)


def test_the_mean_of_several_is_taken(batches, teacher, tmp_path):
    other = write_onnx(tmp_path / "o.onnx", size=(40, 40))
    both = batches(0, files=[str(teacher), str(other)], blend=1.0)
    mean = (_answers(teacher, both.images) + _answers(other, both.images)) / 2
    np.testing.assert_allclose(both.targets, mean, atol=0.51)
    assert np.abs(_answers(teacher, both.images) - mean).max() > 2


def test_workers_make_the_same_batches(teacher):
    maker = maker_of(*_open({"files": [str(teacher)], "mixup": 0.5}))
    with BatchStream(maker, 3, workers=1) as stream:
        made, expected = next(iter(stream)), maker.make(3)
    np.testing.assert_array_equal(made.images, expected.images)
    np.testing.assert_array_equal(made.targets, expected.targets)


def test_plain_photos_are_mixed_as_the_others_are(teacher):
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 30, 4), np.uint8)
    targets = np.zeros((3, 24, 30), np.uint8)
    matching = function_matching.FunctionMatching((teacher,), 0.5, 1.0)
    mixed, answers, plain = matching(images, targets, images, [False] * 3, matching.draw(3, np.random.default_rng(1)))
    assert answers.shape == targets.shape and answers.any() and not targets.any()
    np.testing.assert_array_equal(mixed, plain)
    assert all(not np.array_equal(mixed[i], images[i]) for i in range(3))


def test_the_masks_of_background_only_photos_stay(teacher):
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 30, 3), np.uint8)
    targets = np.zeros((3, 24, 30), np.uint8)
    matching = function_matching.FunctionMatching((teacher,), 0.5, 0.0)
    same, answers, _ = matching(images, targets, None, [False, True, False], matching.draw(3, np.random.default_rng(1)))
    assert answers[0].any() and answers[2].any() and not answers[1].any()
    np.testing.assert_array_equal(same, images)
    # mixed with another photo, it is known no longer
    matching = replace(matching, mixup=1.0)
    _, answers, _ = matching(images, targets, None, [False, True, False], matching.draw(3, np.random.default_rng(1)))
    assert answers[1].any()


def test_batches_say_which_photos_are_background_only(teacher, monkeypatch):
    dataset, config = _open({"files": [str(teacher)]})
    maker = maker_of(dataset, config)
    seen = []

    def note(self, images, targets, plain, is_certain, shares):
        seen.append(is_certain)
        return images, targets, plain

    monkeypatch.setattr(function_matching.FunctionMatching, "__call__", note)
    maker.make(0)
    replace(maker, blank_keys=maker.keys[:1], blank_per_epoch=10 * len(maker.keys)).make(0)
    # a set that comes three times has places beyond the number of its keys
    replace(maker, runs=((len(maker.keys), 3.0),)).make(0)
    assert not any(seen[0]) and any(seen[1]) and not any(seen[2])


def test_what_cannot_teach_is_refused(tmp_path):
    four = write_tflite(tmp_path / "four-rgba-fp32.tflite", shape=(1, 24, 30, 4))
    (tmp_path / "t.h5").write_bytes(b"x")
    (tmp_path / "bad.tflite").write_bytes(b"x")
    for path, message in (
        (tmp_path / "none.tflite", "no such file"),
        (tmp_path / "t.h5", "export the network first"),
        (four, "takes rgba"),
        (tmp_path / "bad.tflite", r"bad\.tflite: not a TFLite file"),
    ):
        _, config = _open({"files": [str(path)]})
        with pytest.raises(InputError, match=message):
            function_matching.check(config)


def test_a_hash_knows_the_teachers_by_their_content(teacher, tmp_path):
    """What was trained without them keeps its hash; another place is the same training, another file is not."""

    def values(**distill: object) -> object:
        return differences(_open(distill)[1])

    assert values() == values(blend=0.3, mixup=0.1) and not any("distill" in name for name in values())
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(teacher.read_bytes())
    one = values(files=[str(teacher)])
    assert one == values(files=[str(copy)]) != values(files=[str(teacher)], mixup=0.1)
    # what it is told about its pixels changes its answers
    copy.with_suffix(".toml").write_text("scale = 2.0\n")
    assert one != (described := values(files=[str(copy)]))
    copy.with_suffix(".toml").write_text("scale = 3.0\n")
    assert described != values(files=[str(copy)])
    other = write_tflite(tmp_path / "other.tflite", shape=(1, 24, 32, 3))
    assert one != values(files=[str(other)])
    other.unlink()
    with pytest.raises(InputError, match=r"distill\.files .*other\.tflite: no such file"):
        values(files=[str(other)])
