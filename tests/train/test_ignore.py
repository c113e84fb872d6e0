"""Pixels that annotators left open count in no loss and no score, wherever an augmentation takes them."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import contract, metrics
from portraitseg.config import Config, parse_config
from portraitseg.data import open_dataset
from portraitseg.models.keras_route import tf
from tests.data import drawn
from train import augmenter, losses
from train.augment import AUGMENTATIONS, GEOMETRIC
from train.copy_paste import paste, paste_ignored
from train.losses import KNOWN, LOSSES, needs_of
from train.stream import BatchMaker, maker_of

SIDE = 16
ON_KNOWN = sorted(name for name in LOSSES if not {"target", "edge"}.isdisjoint(needs_of(name)))
few = settings(max_examples=8, deadline=None)


def maps(rng: np.random.Generator) -> dict[str, np.ndarray]:
    made = {name: rng.normal(0, 2, (2, SIDE, SIDE, 1)).astype(np.float32) for name in ("logits", "boundary_logits")}
    made |= {name: rng.uniform(0, 1, (2, SIDE, SIDE, 1)).astype(np.float32) for name in ("target", "edge")}
    made["images"] = rng.uniform(0, 1, (2, SIDE, SIDE, 3)).astype(np.float32)
    return made


def value(name: str, given: dict[str, np.ndarray], known: np.ndarray | None) -> float:
    parts = [tf.constant(given[need]) for need in needs_of(name)]
    return float(LOSSES[name](*parts, **({} if known is None else {KNOWN: tf.constant(known)})))


@pytest.mark.parametrize("name", ON_KNOWN)
@given(seed=st.integers(0, 2**32 - 1))
@few
def test_a_loss_does_not_see_unknown_pixels(name: str, seed: int) -> None:
    """Whatever stands there: the value stays, and so does the network, which gets no gradient from them."""
    rng = np.random.default_rng(seed)
    given, other = maps(rng), maps(rng)
    for logits, truth in (("logits", "target"), ("boundary_logits", "edge")):
        # surely wrong: of two draws alike the values can be alike
        other[logits] = np.where(other[truth] > 0.5, np.float32(-6), np.float32(6))
    known = np.ones((2, SIDE, SIDE, 1), np.float32)
    known[:, 4:9, 3:12] = 0
    changed = {need: np.where(known > 0, given[need], other[need]) for need in given}
    changed["images"] = given["images"]
    # not a difference that rounding would hide: without `known` the same change shows
    assert value(name, given, known) == pytest.approx(value(name, changed, known), rel=1e-5, abs=1e-6)
    assert abs(value(name, given, None) - value(name, changed, None)) > 1e-4
    first = "boundary_logits" if name == "boundary" else "logits"
    with tf.GradientTape() as tape:
        variables = {need: tf.constant(values) for need, values in given.items()}
        tape.watch(variables[first])
        total = LOSSES[name](*[variables[need] for need in needs_of(name)], known=tf.constant(known))
    gradient = tape.gradient(total, variables[first]).numpy()
    assert not gradient[known == 0].any() and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["bce", "dice", "alpha_l1", "edge_weighted_bce"])
@given(seed=st.integers(0, 2**32 - 1))
@few
def test_a_loss_is_that_of_the_known_pixels(name: str, seed: int) -> None:
    """The rows that are known, cut out: no smaller for having company."""
    given = {need: values[:1] for need, values in maps(np.random.default_rng(seed)).items()}
    known = np.ones((1, SIDE, SIDE, 1), np.float32)
    known[:, 10:] = 0
    alone = {need: values[:, :10] for need, values in given.items()}
    # the band of `edge_weighted_bce` is 1 px of either size
    assert value(name, given, known) == pytest.approx(value(name, alone, None), rel=1e-4)


@pytest.mark.parametrize("name", ON_KNOWN)
def test_all_known_and_none_known(name: str) -> None:
    given = maps(np.random.default_rng(0))
    ones = np.ones((2, SIDE, SIDE, 1), np.float32)
    assert value(name, given, ones) == pytest.approx(value(name, given, None), rel=1e-5)
    assert value(name, given, 0 * ones) == pytest.approx(0, abs=1e-6)


def test_the_sum_hands_it_to_those_that_take_it() -> None:
    given = maps(np.random.default_rng(1))
    known = np.ones((2, SIDE, SIDE, 1), np.float32)
    known[:, :5] = 0
    given |= {"plain_logits": given["logits"] + 1, KNOWN: known}
    total, terms = losses.build({"bce": 1.0, "consistency": 1.0})({name: tf.constant(v) for name, v in given.items()})
    assert float(terms["bce"]) == pytest.approx(value("bce", given, known))
    assert float(total) == pytest.approx(float(terms["bce"]) + float(terms["consistency"]))


# ---- loading and augmentation


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Masks of 0, 15 and 255, as VOC's."""
    drawn.write(tmp_path, [drawn.ids(0, 15, 255)] * 8)
    return parse_config(
        {
            "data": {"format": "folder", "root": str(tmp_path)},
            "model": {"size": [64, 48]},
            "train": {"batch_size": 4},
            "augment": {},
        },
        "test",
    )


def maker(config: Config, **more: object) -> BatchMaker:
    return replace(maker_of(open_dataset(config.data, config.seed), config), **more)  # type: ignore[arg-type]


def test_batches_have_the_pixels(config: Config) -> None:
    made = maker(config, with_edges=True)
    batch = made.make(0)
    assert batch.ignore is not None and batch.ignore.shape == batch.targets.shape
    assert 0.03 < (batch.ignore > 0).mean() < 0.3
    # 255 is no person: with the outline left open no pixel of it is one
    assert not (batch.targets[batch.ignore == 0] % 255).any()


def test_data_that_know_all_have_no_such_part(config: Config, tmp_path: Path) -> None:
    """A part more would be another graph, and another training than before."""
    drawn.write(tmp_path / "plain", [drawn.binary] * 8)
    data = config.data.model_copy(update={"root": tmp_path / "plain"})
    assert maker(config.model_copy(update={"data": data})).make(0).ignore is None


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_they_move_with_the_photo(name: str) -> None:
    mask = np.where(drawn.person(1), np.uint8(255), np.uint8(0))
    band = np.where(drawn.outline(drawn.person(1)), np.uint8(255), np.uint8(0))
    change = augmenter.build({name: {"p": 1.0}})
    for seed in range(4):
        image, moved, plain, ignore = change.with_others(
            drawn.photo(1), mask, np.random.default_rng(seed), with_plain=True, ignore=band
        )
        again = change(drawn.photo(1), mask, np.random.default_rng(seed))
        # asking for more changes nothing
        np.testing.assert_array_equal(image, again[0])
        np.testing.assert_array_equal(moved, again[1])
        assert ignore is not None
        if name not in GEOMETRIC:
            np.testing.assert_array_equal(ignore, band)
            np.testing.assert_array_equal(plain, drawn.photo(1))
            continue
        # the same map: every soft pixel of the moved outline lies in the moved band
        assert not ((moved > 0) & (moved < 255) & (ignore == 0)).any()
        assert ((ignore > 0) & (moved > 0)).any()


def test_a_pasted_person_hides_what_is_unknown_behind(config: Config) -> None:
    front, back = (np.where(drawn.person(index), np.uint8(255), np.uint8(0)) for index in (0, 4))
    bands = [np.where(drawn.outline(drawn.person(index)), np.uint8(255), np.uint8(0)) for index in (0, 4)]
    front = np.where(bands[0] > 0, np.uint8(0), front)
    ignore = paste_ignored(front, bands[0], bands[1])
    assert ignore is not None
    _, both = paste(drawn.photo(0), front, drawn.photo(4), back)
    inside = cv2.erode(front, np.ones((5, 5), np.uint8)) > 0
    assert not ignore[inside].any() and (both[inside] == 255).all()
    outside = cv2.dilate(front, np.ones((9, 9), np.uint8)) == 0
    np.testing.assert_array_equal(ignore[outside], bands[1][outside])
    assert paste_ignored(front, None, None) is None
    batch = maker(config, paste_share=1.0).make(0)
    assert batch.ignore is not None and batch.ignore.any()


# ---- scores


def test_scores_are_of_known_pixels() -> None:
    truth, ignore = drawn.person(2), drawn.outline(drawn.person(2))
    left_open = truth & ~ignore
    wide = cv2.dilate(truth.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    for mask in (truth, wide, left_open):
        # all errors lie where nobody knows
        assert metrics.iou(mask, left_open, ignore) == 1
        assert metrics.miou(mask, left_open, ignore) == 1
        assert metrics.boundary_iou(mask, left_open, ignore) == 1
    assert metrics.iou(wide, left_open) < 0.8
    hole = truth.copy()
    hole[60:70, 25:35] = False
    known = ~ignore
    expected = (hole & truth & known).sum() / (truth & known).sum()
    assert metrics.iou(hole, left_open, ignore) == pytest.approx(expected)
    assert metrics.boundary_iou(hole, left_open, ignore) < 1


@given(seed=st.integers(0, 2**32 - 1))
def test_scores_do_not_see_the_truth_of_unknown_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, truth, other, ignore = (rng.random((4, 12, 9)) < 0.5).astype(bool)
    changed = np.where(ignore, other, truth)
    for measure in (metrics.iou, metrics.miou, metrics.boundary_iou):
        assert measure(mask, truth, ignore) == measure(mask, changed, ignore)
        assert 0 <= measure(mask, truth, ignore) <= 1
        assert measure(mask, truth, np.zeros_like(ignore)) == measure(mask, truth)


def test_the_benchmark_turns_them_with_the_photo(tmp_path: Path) -> None:
    from benchmark.measuring.scoring import _moved

    drawn.write(tmp_path, [drawn.ids(0, 1, 255)] * 4)
    config = parse_config({"data": {"format": "folder", "root": str(tmp_path)}}, "test")
    sample = open_dataset(config.data, 0).load("p000")
    assert sample.ignore is not None
    turned = _moved(sample, "rotate_90", (32, 32))
    np.testing.assert_array_equal(turned, np.rot90(sample.ignore, -1))
    np.testing.assert_array_equal(_moved(sample, "clean", (32, 32)), sample.ignore)


def test_a_target_is_never_of_ignored_pixels(config: Config) -> None:
    sample = open_dataset(config.data, 0).load("p003")
    assert sample.mask is not None and sample.ignore is not None
    assert not sample.mask[sample.ignore].any()
    assert contract.truth_to_mask(sample.mask).any()
