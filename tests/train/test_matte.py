"""Soft masks of hard ones: where they are soft, nearer to the truth than the mask, and what stays as it is."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg.config import Config, parse_config
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from portraitseg.synthetic import portraits as synthetic
from train import matte as mattes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five portraits; one of training shows nobody."""
    folder = tmp_path / "DATA"
    for kind in ("images", "masks"):
        (folder / "a" / kind).mkdir(parents=True)
    for index in range(5):
        image, alpha = synthetic.render(index, (96, 72), 2)
        Image.fromarray(image).save(folder / f"a/images/{index}.png")
        mask = np.where(alpha > 127, 255, 0) if index else np.zeros_like(alpha)
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"a/masks/{index}.png")
    (folder / "splits.json").write_text(
        json.dumps({"splits": {"train": ["a/0", "a/1", "a/2"], "val": ["a/3"], "test": ["a/4"]}})
    )
    return folder


def config_of(root: Path, **data: object) -> Config:
    return parse_config({"data": {"format": "folder", "root": str(root), **data}, "train": {"workers": 1}}, "test")


def test_the_band_grows_with_the_person_and_leaves_the_photos_edge() -> None:
    for radius in (40, 80):
        mask = np.zeros((400, 400), np.uint8)
        cv2.circle(mask, (200, 400), radius, 1, -1)
        known = mattes.trimap(mask > 0, 0.05)
        column = known[:, 200]
        size = np.count_nonzero(mask) ** 0.5
        assert abs(np.count_nonzero(column == 0.5) - 2 * 0.05 * size) <= 2
        # the photo ends there, the person does not
        assert column[-1] == 1


def test_the_guided_filter_is_nearer_to_the_truth_than_the_mask() -> None:
    rows = {}
    for index in range(2):
        image, truth = synthetic.render(index, (320, 320))
        mask = mattes.simplified(truth > 127)
        for name, alpha in (("mask", mask.astype(np.float32)), ("guided", mattes.matte(image, mask, "guided")[0])):
            rows[name] = rows.get(name, 0) + np.abs(alpha - truth / 255).mean()
        sure = mattes.trimap(mask, mattes.BAND)
        np.testing.assert_array_equal(alpha[sure != 0.5], sure[sure != 0.5])
    # measured: 0.0046 and 0.0068
    assert rows["guided"] < 0.85 * rows["mask"]


@pytest.mark.full
def test_every_method_is_nearer_to_the_truth_than_a_drawn_mask() -> None:
    errors = mattes.measure(3, mattes.BAND)
    for method in ("guided", "knn", "closed_form"):
        row = errors[f"drawn, {method}"]
        assert (
            row["mad"] < 0.8 * errors["drawn, mask"]["mad"]
            and row["gradient"] < 0.6 * errors["drawn, mask"]["gradient"]
        )


def test_photos_larger_than_the_equations_keep_their_size_and_their_outline() -> None:
    image, truth = synthetic.render(1, (600, 500))
    mask = truth > 127
    alpha, note = mattes.matte(image, mask, "guided")
    assert alpha.shape == mask.shape and not note and ((alpha > 0.5) != mask).mean() < 0.01


def test_nobody_and_everybody_stay() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    for mask in (np.zeros((20, 20), bool), np.ones((20, 20), bool)):
        alpha, note = mattes.matte(image, mask, "guided")
        np.testing.assert_array_equal(alpha, mask)
        assert not note
    dot = np.zeros((20, 20), bool)
    dot[10, 10] = True
    alpha, note = mattes.matte(image, dot, "guided")
    assert "too small" in note and alpha.sum() == 1


def test_equations_without_solution_are_told_and_made_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> np.ndarray:
        raise ValueError("did not converge")

    monkeypatch.setitem(mattes._SOLVERS, "knn", lambda: refuses)
    image, truth = synthetic.render(1, (96, 72), 2)
    alpha, note = mattes.matte(image, truth > 127, "knn")
    assert "guided" in note
    np.testing.assert_array_equal(alpha, mattes.matte(image, truth > 127, "guided")[0])


def test_training_masks_become_soft_and_the_others_stay(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mattes.write_mattes(config_of(root), out, "guided", mattes.BAND)
    soft = open_dataset(config_of(out, soft_masks=True).data, 7)
    assert not soft.warnings and soft.splits == open_dataset(config_of(root).data, 7).splits
    assert "soft_masks=true" in open_dataset(config_of(out).data, 7).warnings[0]
    grades = {key: len(np.unique(soft.load(key).mask)) for key in ("a/0", "a/1", "a/2", "a/3", "a/4")}
    assert grades["a/1"] > 20 and grades["a/2"] > 20 and grades["a/0"] == 1 and grades["a/3"] == grades["a/4"] == 2
    assert (out / "a/given/1.png").read_bytes() == (root / "a/masks/1.png").read_bytes()
    # a stopped call goes on, and touches nothing that is there
    kept = (out / "a/masks/1.png").stat().st_mtime_ns
    whole = (out / "a/masks/2.png").read_bytes()
    (out / "a/masks/2.png").unlink()
    mattes.write_mattes(config_of(root), out, "guided", mattes.BAND)
    assert (out / "a/masks/1.png").stat().st_mtime_ns == kept and (out / "a/masks/2.png").read_bytes() == whole
    with pytest.raises(InputError, match="another call"):
        mattes.write_mattes(config_of(root), out, "guided", 0.1)


def test_classes_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="matte: masks of"):
        mattes.write_mattes(config_of(root, mask="person:255"), tmp_path / "out", "guided", mattes.BAND)
