"""Masks that a trained network draws: whose they are, what stays, and that a stopped call goes on."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from portraitseg import models
from portraitseg.config import TrainConfig, parse_config
from portraitseg.data import open_dataset
from portraitseg.data.base import Shard, parse_shard
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras, tf
from tests import small_network
from train.label import label, of_those_that_agree, open_teacher, teach
from train.pack import pack

registered = small_network.registered

SPLITS = {"train": ["a/0", "a/1"], "val": ["a/2"], "again": ["a/1"], "loose": ["u/0", "u/1"], "blank": ["blank/0"]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos, and a teacher that has learnt nothing, t.h5."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for key in {key for keys in SPLITS.values() for key in keys}:
        name, stem = key.split("/")
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            folder = tmp_path / "photos" / name / kind
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "images":
                cv2.imwrite(str(folder / f"{stem}.{suffix}"), rng.integers(0, 256, (40, 50, 3)).astype(np.uint8))
            elif name == "a":
                mask = np.zeros((40, 50), np.uint8)
                mask[:, 10:30] = 255
                cv2.imwrite(str(folder / f"{stem}.{suffix}"), mask)
    (tmp_path / "photos/splits.json").write_text(json.dumps({"splits": SPLITS}))
    keras.utils.set_random_seed(1)
    checkpoint.save(models.build(small_network.NAME, (32, 32)), Path("t.h5"))
    return tmp_path


def config(**data):
    given = {"format": "folder", "root": "photos", "unlabelled_sets": ["u"], **data}
    return parse_config({"data": given, "model": {"name": small_network.NAME}}, "test")


def mask_of(key: str) -> np.ndarray:
    name, stem = key.split("/")
    return cv2.imread(f"out/{name}/masks/{stem}.png", cv2.IMREAD_GRAYSCALE)


def test_masks_are_the_teachers_blended_and_the_others_stay(place):
    label(config(), [Path("t.h5")], Path("out"), 0.25)
    made = open_dataset(config(root="out", unlabelled_sets=[], soft_masks=True).data, 7)
    assert made.splits["train"] == ("a/0", "a/1", "u/0", "u/1") and "loose" not in made.splits
    teacher, source = open_teacher(Path("t.h5")), open_dataset(config().data, 7)
    for key in made.splits["train"]:
        drawn, sample = 255 * teach([teacher], made.load(key).image), source.load(key)
        expected = drawn if sample.mask is None else 0.25 * drawn + 0.75 * sample.mask
        # half a step of rounding
        np.testing.assert_allclose(mask_of(key), expected, atol=0.51)
    # of a split that shares a photo with training, the blended mask is the one
    np.testing.assert_array_equal(mask_of("a/2"), source.load("a/2").mask)
    assert made.splits["again"] == ("a/1",) and made.load("blank/0").mask.max() == 0
    # the photos themselves are the same bytes, and the originals untouched
    assert Path("out/u/images/0.jpg").read_bytes() == Path("photos/u/images/0.jpg").read_bytes()
    assert set(np.unique(source.load("a/0").mask)) == {0, 255}


def test_shards_are_labelled_as_the_folder_they_are_of(place):
    pack(config().model_copy(update={"train": TrainConfig(workers=1)}), "packed", 2)
    shards = config(root="packed", format="shards")
    label(config(), [Path("t.h5")], Path("of_folder"), 0.25)
    for part in ("1/2", "2/2"):
        label(shards, [Path("t.h5")], Path("of_shards"), 0.25, parse_shard(part))
    made, other = (
        {path.relative_to(root): path.read_bytes() for path in Path(root).rglob("*.*g")}
        for root in ("of_folder", "of_shards")
    )
    assert made == other and len(made) == 11
    splits = [json.loads(Path(root, "splits.json").read_text()) for root in ("of_folder", "of_shards")]
    assert splits[0] == splits[1]
    with pytest.raises(InputError, match="lies in the folder of the shards"):
        label(shards, [Path("t.h5")], Path("packed/out"), 0.25)


def test_who_disagrees_with_all_others_is_left_out():
    left, right = np.zeros((8, 8)), np.zeros((8, 8))
    left[:, :4], right[:, 4:] = 250, 250
    soft = left * 0.8
    np.testing.assert_allclose(of_those_that_agree([left, soft, right], None, 0.9), 0.9 * left)
    # what the photo has counts among the others
    own = left.astype(np.uint8)
    np.testing.assert_array_equal(of_those_that_agree([right, soft], own, 0.9), soft)
    np.testing.assert_array_equal(of_those_that_agree([right], own, 0.9), left)
    np.testing.assert_array_equal(of_those_that_agree([left, right], None, 0.9), (left + right) / 2)
    # with nobody beside it a mask has nothing to agree with
    np.testing.assert_array_equal(of_those_that_agree([right], None, 0.9), right)
    np.testing.assert_array_equal(of_those_that_agree([right, soft], own, 0.0), (right + soft) / 2)


def test_agreement_is_asked_of_each_photo(place):
    label(config(), [Path("t.h5")], Path("out"), 0.5, agreement=1.0)
    source = open_dataset(config().data, 7)
    # a teacher that knows nothing agrees with no annotator, and stands alone where there is none
    np.testing.assert_array_equal(mask_of("a/0"), source.load("a/0").mask)
    expected = 255 * teach([open_teacher(Path("t.h5"))], source.load("u/0").image)
    np.testing.assert_allclose(mask_of("u/0"), expected, atol=0.51)
    with pytest.raises(InputError, match="holds"):
        label(config(), [Path("t.h5")], Path("out"), 0.5)


def test_soft_masks_that_are_read_as_hard_ones_are_told_of(place):
    label(config(), [Path("t.h5")], Path("out"), 0.25)
    assert not open_dataset(config(root="out", unlabelled_sets=[], soft_masks=True).data, 7).warnings
    (warning,) = open_dataset(config(root="out", unlabelled_sets=[]).data, 7).warnings
    assert "data.soft_masks=true" in warning


def test_links_and_blank_photos_among_those_of_training(place):
    splits = {**SPLITS, "train": [*SPLITS["train"], "blank/0"]}
    Path("photos/splits.json").write_text(json.dumps({"splits": splits}))
    photo = Path("photos/a/images/0.jpg")
    photo.rename("0.jpg")
    photo.symlink_to("../../../0.jpg")
    label(config(), [Path("t.h5")], Path("out"), 0.5)
    made = open_dataset(config(root="out", unlabelled_sets=[], soft_masks=True).data, 7)
    assert made.load("a/0").image.shape == (40, 50, 3)
    # it is known that they show nobody
    assert "blank/0" in made.splits["train"] and not Path("out/blank/masks").exists()


def test_the_teacher_sees_the_mirror_image_too(place):
    image = open_dataset(config().data, 7).load("a/0").image
    teacher = open_teacher(Path("t.h5"))
    np.testing.assert_allclose(teach([teacher], image), teach([teacher], image[:, ::-1])[:, ::-1], atol=1e-6)


def test_several_teachers_are_one_of_their_mean(place):
    keras.utils.set_random_seed(2)
    network = models.build(small_network.NAME, (32, 32))
    # two that have learnt nothing may agree to a thousandth: this one has an opinion
    network.trainable_variables[-1].assign_add([1.0] * network.trainable_variables[-1].shape[0])
    checkpoint.save(network, Path("other.h5"))
    one_photo = tf.function(network).get_concrete_function(tf.TensorSpec((1, 32, 32, 3)))
    Path("other.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([one_photo], network).convert())
    image = open_dataset(config().data, 7).load("a/0").image
    one, other, exported = (open_teacher(Path(name)) for name in ("t.h5", "other.h5", "other.tflite"))
    mean = (teach([one], image) + teach([other], image)) / 2
    assert np.abs(teach([one], image) - mean).max() > 0.05
    # of two runtimes
    np.testing.assert_allclose(teach([one, exported], image), mean, atol=1e-4)
    label(config(), [Path("t.h5"), Path("other.tflite")], Path("out"), 1.0)
    np.testing.assert_allclose(mask_of("a/0"), 255 * mean, atol=0.6)
    assert len(json.loads(Path("out/labels.json").read_text())["weights_sha256"]) == 2


def test_a_description_beside_a_stranger_is_followed(place):
    network = checkpoint.load(Path("t.h5"))
    taken = keras.Input((32, 32, 3), batch_size=1)
    # takes blue, green, red in (-1, 1) and says background
    stranger = keras.Model(taken, 1 - network((taken[..., ::-1] + 1) / 2))
    Path("s.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(stranger).convert())
    image = open_dataset(config().data, 7).load("a/0").image
    own = teach([open_teacher(Path("t.h5"))], image)
    assert np.abs(teach([open_teacher(Path("s.tflite"))], image) - own).max() > 1e-3
    Path("s.toml").write_text('scale = 0.00784313725\noffset = -1.0\nchannel_order = "BGR"\ninvert = true\n')
    np.testing.assert_allclose(teach([open_teacher(Path("s.tflite"))], image), own, atol=1e-4)


def test_a_stopped_call_goes_on(place):
    label(config(), [Path("t.h5")], Path("out"), 0.5)
    before = mask_of("u/0")
    Path("out/u/masks/0.png").unlink()
    Path("out/a/masks/0.png").write_bytes(b"whole, of the first call")
    Path("out/splits.json").unlink()
    label(config(), [Path("t.h5")], Path("out"), 0.5)
    np.testing.assert_array_equal(mask_of("u/0"), before)
    assert Path("out/a/masks/0.png").read_bytes() == b"whole, of the first call" and Path("out/splits.json").exists()


def test_without_doubt_nobody_is_not_read_as_somebody(place, monkeypatch):
    # a mask of zeros and ones is taken for one of zeros and 255
    monkeypatch.setattr("train.label.teach", lambda teachers, image: np.eye(*image.shape[:2]) / 255)
    label(config(), [Path("t.h5")], Path("out"), 1.0)
    assert mask_of("u/0").max() == 0


@pytest.mark.parametrize(
    ("data", "out", "blend", "message"),
    [
        ({"format": "synthetic", "root": None}, "out", 0.5, "format folder"),
        ({}, "photos", 0.5, "lies in the folder"),
        ({}, "photos/new", 0.5, "lies in the folder"),
        ({"unlabelled_sets": ["u", "v"]}, "out", 0.5, "no set 'v'"),
        ({"val_split": "loose"}, "out", 0.5, "'u/0' of split 'loose' has no mask"),
        ({}, "begun", 0.5, "another call"),
        ({}, "foreign", 0.5, "is not empty"),
    ],
)
def test_bad_use(place, data, out, blend, message):
    Path("begun").mkdir()
    Path("begun/labels.json").write_text("{}")
    Path("foreign").mkdir()
    Path("foreign/a").write_text("")
    with pytest.raises(InputError, match=message):
        label(config(**data), [Path("t.h5")], Path(out), blend)
    assert Path("foreign/a").exists() and not Path("photos/labels.json").exists()


def test_a_teacher_of_another_input_is_refused(place):
    four = keras.Sequential([keras.Input((32, 32, 4)), keras.layers.Conv2D(1, 1)])
    four.save("four.h5")
    Path("broken.tflite").write_bytes(b"no flatbuffer")
    for name, message in (
        ("four.h5", "an input of 32x32x4, not of RGB"),
        ("broken.tflite", "not a TFLite file"),
        ("no.tflite", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            label(config(), [Path(name)], Path("out"), 0.5)
        assert not Path("out").exists()


def test_shards_are_drawn_apart_and_the_last_one_ends_the_work(place, capsys):
    label(config(), [Path("t.h5")], Path("whole"), 0.25)
    for part in (2, 0, 1):
        assert not Path("out/splits.json").exists()
        label(config(), [Path("t.h5")], Path("out"), 0.25, Shard(part, 3))
    assert "shard 3/3 is drawn; " in capsys.readouterr().err
    made = {path.relative_to("whole") for path in Path("whole").rglob("*") if path.is_file()}
    assert made == {path.relative_to("out") for path in Path("out").rglob("*") if path.is_file()}
    for path in made:
        assert Path("whole", path).read_bytes() == Path("out", path).read_bytes()


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "/"])
def test_a_shard_of_another_form_is_refused(text):
    with pytest.raises(InputError, match="write i/n"):
        parse_shard(text)


def test_shards_are_counted_from_one():
    assert parse_shard("1/1") == (0, 1) and parse_shard("2/3") == (1, 3)
