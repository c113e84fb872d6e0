"""Batches: the same for the same number, whoever makes them and however they are started."""

import json
from dataclasses import replace
from itertools import chain, pairwise

import cv2
import numpy as np
import pytest

from benchmark.studies.networks import photos_per_epoch
from portraitseg.config import DataConfig, parse_config
from portraitseg.data import open_dataset
from portraitseg.data.base import Sample
from portraitseg.errors import InputError
from train import augmenter
from train.schedule import learning_rate
from train.stream import BatchMaker, BatchStream, maker_of


def _maker(photos=12, batch_size=5, keys=None):
    dataset = open_dataset(DataConfig(synthetic_photos=photos), 0)
    return BatchMaker(
        dataset=dataset,
        keys=keys or dataset.keys("train"),
        size=(48, 64),
        batch_size=batch_size,
        seed=3,
        augment=augmenter.build({"horizontal_flip": {"p": 0.5}, "add": {"p": 1.0}}),
        is_soft=False,
    )


def test_shapes_and_types():
    batch = _maker().make(0)
    assert batch.images.shape == (5, 48, 64, 3) and batch.targets.shape == (5, 48, 64) and batch.plain is None
    assert batch.images.dtype == batch.targets.dtype == np.uint8


@pytest.mark.parametrize("start", [0, pytest.param(3, marks=pytest.mark.full)])
def test_workers_make_the_same_batches_as_the_maker(start):
    maker = _maker()
    with BatchStream(maker, start, workers=2) as stream:
        for step, batch in zip(range(start, start + 4), stream, strict=False):
            expected = maker.make(step)
            np.testing.assert_array_equal(batch.images, expected.images)
            np.testing.assert_array_equal(batch.targets, expected.targets)


def test_an_epoch_shows_each_photo_once_and_the_next_in_another_order():
    maker = _maker(photos=8, batch_size=2)
    assert maker.steps_per_epoch == 4
    shown = []

    class Spy(type(maker.dataset)):
        def load(self, key):
            shown.append(key)
            return Sample(key, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))

    spy = BatchMaker(**{**maker.__dict__, "dataset": Spy("spy", maker.dataset.splits)})
    for step in range(8):
        spy.make(step)
    assert sorted(shown[:8]) == sorted(shown[8:]) == sorted(maker.keys)
    assert shown[:8] != shown[8:]


def test_a_photo_without_a_mask_is_named():
    maker = _maker()

    class Unlabelled(type(maker.dataset)):
        def load(self, key):
            return Sample(key, np.zeros((4, 4, 3), np.uint8), None)

    bare = BatchMaker(**{**maker.__dict__, "dataset": Unlabelled("bare", maker.dataset.splits)})
    with pytest.raises(InputError, match=r"synthetic/.*no mask"):
        bare.make(0)


def test_an_error_in_a_worker_reaches_the_caller():
    maker = _maker(keys=("synthetic/none",))
    with BatchStream(maker, workers=1) as stream, pytest.raises(InputError, match="no portrait"):
        next(iter(stream))


def test_learning_rate_warms_up_and_falls_to_zero():
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-3
    assert learning_rate(99, 100, 1.0, 0, "constant") == 1.0


@pytest.mark.parametrize(
    ("kind", "rates"),
    [
        # ½·(1 + cos(π·0)), of a quarter, of a half, and of 99 / 100
        ("cosine", [1, 0.853553, 0.5, 2.4672e-4]),
    ],
)
def test_schedules_by_hand(kind, rates):
    # a hundred steps behind a warm-up of ten
    steps = (10, 35, 60, 109)
    assert [learning_rate(step, 110, 2.0, 10, kind) / 2 for step in steps] == pytest.approx(rates, rel=1e-4)
    assert learning_rate(4, 110, 2.0, 10, kind) == pytest.approx(1.0)


# ---- photos without masks

#: Set → grey levels of its photos, by which a batch shows them; of the last blank one and the last of `a` is `val`.
GREYS = {"a": range(1, 11), "blank": range(101, 104)}


def _width(grey):
    """Columns of a photo of `a` that are person."""
    return 4 + 2 * grey


@pytest.fixture
def folder(tmp_path):
    """Photos of one grey each; those of `a` have a mask, each of another width, person on the left."""
    for name, greys in GREYS.items():
        for kind in ("images", "masks") if name == "a" else ("images",):
            (tmp_path / name / kind).mkdir(parents=True)
        for grey in greys:
            cv2.imwrite(str(tmp_path / name / "images" / f"{grey}.png"), np.full((32, 32, 3), grey, np.uint8))
            if name == "a":
                mask = np.tile(np.where(np.arange(32) < _width(grey), np.uint8(255), np.uint8(0)), (32, 1))
                cv2.imwrite(str(tmp_path / name / "masks" / f"{grey}.png"), mask)
    keys = {name: [f"{name}/{grey}" for grey in greys] for name, greys in GREYS.items()}
    splits = {"train": keys["a"][:-1], "val": [keys["a"][-1], keys["blank"][-1]]}
    splits |= {"nobody": keys["blank"][:-1]}
    (tmp_path / "splits.json").write_text(json.dumps({"splits": splits}))
    return tmp_path


def _maker_of(folder, needs=(), augment=None, **train):
    config = parse_config(
        {
            "data": {"format": "folder", "root": str(folder)},
            "model": {"size": [32, 32]},
            "train": {"batch_size": 4, "blank_share": 0.0, **train},
            "augment": augment or {},
        },
        "test",
    )
    return maker_of(open_dataset(config.data, 0), config, needs)


def _greys(batch):
    return batch.images[:, 0, 0, 0].tolist()


def test_a_share_of_an_epoch_is_blank(folder):
    maker = _maker_of(folder, blank_share=0.25)
    # 9 of train are three quarters
    assert maker.steps_per_epoch == 12 // 4
    all_blank = []
    for epoch in range(2):
        batches = [maker.make(3 * epoch + position) for position in range(3)]
        shown = [*chain.from_iterable(zip(_greys(batch), batch.targets, strict=True) for batch in batches)]
        blank = [grey for grey, target in shown if not target.any()]
        assert len(blank) == 3
        assert sorted(grey for grey, target in shown if target.any()) == [*range(1, 10)]
        all_blank += blank
    # in turn, over the ends of epochs; the third of them is to measure on
    assert sorted(all_blank) == [101, 101, 101, 102, 102, 102]


def test_pasting_leaves_the_background_only_share(folder):
    maker = _maker_of(folder, blank_share=0.25, paste_share=1.0)
    for epoch in range(4):
        targets = [target for position in range(3) for target in maker.make(3 * epoch + position).targets]
        assert sum(not target.any() for target in targets) == 3


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25])
def test_the_benchmark_counts_the_photos_of_an_epoch_as_training_does(folder, share):
    train = {"batch_size": 4, "blank_share": share}
    data = {"format": "folder", "root": str(folder)}
    config = parse_config({"data": data, "train": train}, "test")
    dataset, maker = open_dataset(config.data, 0), _maker_of(folder, blank_share=share)
    assert photos_per_epoch(config, dataset) == maker.steps_per_epoch * maker.batch_size


def test_without_a_background_only_photo_an_epoch_has_none(folder):
    """The configurations ask for a share that an ordinary folder cannot give."""
    splits = json.loads((folder / "splits.json").read_text())["splits"]
    only_measured = {name: keys for name, keys in splits.items() if name != "nobody"}
    (folder / "splits.json").write_text(json.dumps({"splits": only_measured}))
    maker = _maker_of(folder, blank_share=0.25)
    assert maker.blank_keys == () and maker.steps_per_epoch == 9 // 4
    assert all(target.any() for step in range(4) for target in maker.make(step).targets)


def test_edges_lie_on_the_outlines_of_the_augmented_targets(folder):
    maker = _maker_of(folder, ["edge"], {"horizontal_flip": {"p": 0.5}})
    batch = maker.make(0)
    assert batch.edges.shape == batch.targets.shape == (4, 32, 32)
    assert batch.edges.dtype == np.uint8 and set(np.unique(batch.edges)) <= {0, 85, 170, 255}
    # some are mirrored
    assert 0 < np.count_nonzero(batch.targets[:, 0, 0]) < 4
    for target, edge in zip(batch.targets, batch.edges, strict=True):
        (last,) = np.flatnonzero(np.diff(target[0]))  # column left of the outline
        # Canny takes the one to either side
        assert (edge[:, last : last + 2].max(axis=1) == 255).all()
        assert not edge[:, : last - 1].any() and not edge[:, last + 3 :].any()
    assert _maker_of(folder).make(0).edges is None


def test_plain_is_what_the_geometric_augmentations_alone_make():
    def maker(add, **changes):
        # a photometric one between two geometric ones, so that its draws lie between theirs
        augment = {
            "horizontal_flip": {"p": 0.5},
            "add": {"p": 1.0, "low": -add, "high": add},
            "rotate_scale": {"p": 0.7},
        }
        return replace(_maker(), augment=augmenter.build(augment), **changes)

    batch = maker(25.0, with_plain=True).make(0)
    # it draws as before and adds nothing
    expected = maker(0.0).make(0)
    np.testing.assert_array_equal(batch.plain, expected.images)
    np.testing.assert_array_equal(batch.targets, expected.targets)
    assert (batch.images != batch.plain).any(axis=(1, 2, 3)).all()
    # and asking for it changes no photo
    np.testing.assert_array_equal(batch.images, maker(25.0).make(0).images)


# ---- copy-paste


def test_a_person_is_put_before_a_background_only_photo_or_one_of_others(folder):
    maker = _maker_of(folder, blank_share=0.1, paste_share=1.0)
    alone = _maker_of(folder, blank_share=0.1)
    behind = set()
    for step in range(12):
        batch, before = maker.make(step), alone.make(step)
        for image, target, front, front_target in zip(
            batch.images, batch.targets, before.images, before.targets, strict=True
        ):
            width = int(front_target[0].astype(bool).sum())
            # the person as before, up to the outline; the last column is what lies behind, or its person
            assert (image[:, : max(0, width - 3)] == front[:, : max(0, width - 3)]).all()
            behind.add(int(image[0, -1, 0]))
            # the mask has both persons, the wider of which hides the other's outline
            assert (target >= front_target).all()
            grey = int(image[0, -1, 0])
            # before a background-only photo stands nobody: the share of those stays what was asked for
            other = _width(grey) if grey in GREYS["a"] and width else 0
            assert int(target[0].astype(bool).sum()) == (max(width, other) if width else 0)
    # those to measure on are never behind
    assert behind <= {*range(1, 10), 101, 102} and behind & {101, 102} and behind & {*range(1, 10)}


def test_where_no_background_only_photo_is_asked_for_others_stand_behind(folder):
    maker = _maker_of(folder, paste_share=1.0)
    assert {int(image[0, -1, 0]) for step in range(6) for image in maker.make(step).images} <= {*range(1, 10)}


def test_a_share_of_the_photos_is_pasted_and_the_others_stay(folder):
    batches = [(_maker_of(folder, paste_share=0.5).make(step), _maker_of(folder).make(step)) for step in range(20)]
    changed = [
        bool((image != before).any())
        for pasted, alone in batches
        for image, before in zip(pasted.images, alone.images, strict=True)
    ]
    # 80 draws, some before themselves: within four deviations of a half
    assert 20 < sum(changed) < 58


def test_the_plain_copy_has_the_same_person_before_the_same_photo(folder):
    augment = {"horizontal_flip": {"p": 0.5}, "add": {"p": 1.0, "low": 100.0, "high": 100.0}}
    batch = _maker_of(folder, ["plain_logits"], augment, paste_share=1.0).make(0)
    # both photos of each are a hundred levels brighter
    np.testing.assert_array_equal(batch.images, batch.plain + 100)


def test_a_share_of_the_pasted_is_small(folder):
    """Persons are whole photos' halves here; made small, they cover less, and up to three do."""
    large, small = _maker_of(folder, paste_share=1.0), _maker_of(folder, paste_share=1.0, shrink_share=1.0)
    covered = [[(t > 127).mean() for step in range(12) for t in maker.make(step).targets] for maker in (large, small)]
    assert np.mean(covered[1]) < np.mean(covered[0])
    mixed = _maker_of(folder, paste_share=1.0, shrink_share=0.5)
    pairs = [(mixed.make(step), large.make(step)) for step in range(20)]
    # the other half is what it is without; 80 draws, within four deviations
    same = sum(bool((a == b).all()) for one, two in pairs for a, b in zip(one.images, two.images, strict=True))
    assert 22 < same < 58
    np.testing.assert_array_equal(mixed.make(3).images, mixed.make(3).images)


def test_the_plain_copy_has_the_same_small_persons(folder):
    augment = {"add": {"p": 1.0, "low": 100.0, "high": 100.0}}
    maker = _maker_of(folder, ["plain_logits"], augment, paste_share=1.0, shrink_share=1.0)
    for step in range(3):
        batch = maker.make(step)
        # a level of rounding where a photo is made small
        assert np.abs(batch.images.astype(int) - batch.plain - 100).max() <= 1


def test_cutouts_and_matched_light_change_what_they_should_and_nothing_else(folder):
    plain, cut = _maker_of(folder), _maker_of(folder, cutout_share=1.0)
    one, other = plain.make(0), cut.make(0)
    assert (one.images != other.images).any(axis=(1, 2, 3)).mean() > 0.8
    pasted, matched = _maker_of(folder, paste_share=1.0), _maker_of(folder, paste_share=1.0, match_light=1.0)
    one, other = pasted.make(0), matched.make(0)
    assert (one.images != other.images).any()
    # who stands where is as before
    np.testing.assert_array_equal(one.targets, other.targets)
