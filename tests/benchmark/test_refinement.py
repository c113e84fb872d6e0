"""Choosing and measuring refinement and smoothing: nothing on a test split, the harm counted, the tables whole."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.measuring import clips, refinement
from benchmark.measuring.refinement import Kept, SeenClip
from benchmark.studies import refine_command
from portraitseg import manifest
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from portraitseg.manifest import Manifest
from portraitseg.refine import EdgeRefiner
from portraitseg.smooth import MaskSmoother
from tests.test_refine import scene

RUN = "contour_small"


def test_clips_are_what_they_are_called() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    mask = np.zeros((60, 80), np.uint8)
    mask[20:50, 30:60] = 255
    still, pan = clips.still(image, mask), clips.pan(image, mask)
    assert len(still.frames) == len(pan.frames) == clips.FRAMES
    assert not still.uncovered(1).any() and still.frames[0].shape == image.shape
    # what leaves on one side comes in on the other
    np.testing.assert_array_equal(pan.truths[1][:, :-4], pan.truths[0][:, 4:])
    for step in clips.MOVING_PX:
        moving = clips.moving(3, step)
        np.testing.assert_array_equal(moving.truths[1][:, step:], moving.truths[0][:, :-step])
        assert moving.uncovered(1).any() and moving.frames[0].dtype == np.uint8
    tiny = clips.pan(image[:2, :3], mask[:2, :3])
    assert min(tiny.truths[0].shape) >= 1


def test_a_lagging_smoother_is_seen() -> None:
    """A network that is always right, and an average over frames behind it: ghost and lost outline."""
    clip = clips.moving(3, 24)
    seen = SeenClip(clip, [truth.astype(np.float32) for truth in clip.truths])
    right = refinement.score_clip(seen, None)
    agreeing = refinement.score_clip(seen, MaskSmoother())
    lagging = refinement.score_clip(seen, MaskSmoother(keep=0.7, low=5.0, high=6.0, cut=10.0))
    assert right["iou"] > 0.999 and right["ghost"] < 0.01
    assert agreeing["ghost"] < 0.05 < 0.5 < lagging["ghost"]
    assert lagging["boundary_iou"] < 0.6 < 0.9 < agreeing["boundary_iou"]


def test_what_costs_an_outline_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two that flicker as little the one that lags must lose, and where all do, nothing is smoothed."""
    generator = np.random.default_rng(0)

    def noisy(clip: clips.Clip) -> SeenClip:
        shape = clip.truths[0].shape
        return SeenClip(
            clip, [np.clip(t + generator.normal(0, 0.04, shape), 0, 1).astype(np.float32) for t in clip.truths]
        )

    image, truth, _ = scene()
    still = clips.still(image, truth.astype(np.uint8) * np.uint8(255))
    blurred = replace(still, truths=[np.clip(t * 0.04 + 0.48, 0, 1) for t in still.truths])
    seen = [noisy(blurred), noisy(clips.moving(3, 3)), noisy(clips.moving(3, 24))]
    monkeypatch.setattr(refinement, "KEEPS", (0.9,))
    monkeypatch.setattr(refinement, "STEPS", ((0.1, 0.5), (5.0, 6.0)))
    chosen, tried = refinement.choose_smoother(seen)
    assert chosen.keep == 0.9 and chosen.high == 0.5 and len(tried) == 5
    monkeypatch.setattr(refinement, "STEPS", ((5.0, 6.0),))
    assert refinement.choose_smoother(seen)[0].keep == 0.0


def test_a_little_outline_may_be_lost_and_no_more() -> None:
    """Any loss forbidden left two networks flickering; the least flicker taken alone cost others their outline."""
    plain = {kind: np.full(24, 0.7) for kind in ("pan", "moving_3")}

    def after(pan: float, moving: float) -> bool:
        return refinement.is_harmless(plain, {"pan": plain["pan"] + pan, "moving_3": plain["moving_3"] + moving})

    assert after(0.0, 0.0) and after(0.02, -0.009) and after(-0.0045, -0.0045)
    assert not after(0.02, -0.011) and not after(-0.0055, -0.0055)


def test_the_smallest_radius_that_is_as_good_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = []
    for shift in range(-6, 7, 2):
        image, truth, probability = scene(shift=float(shift))
        photos.append(Kept(image, truth, probability))
    # a large step and a wrong place of the outline: only a wide window reaches the edge
    chosen, tried = refinement.choose_refiner(photos, 32)
    assert len(tried) == len(refinement.RADII) * len(refinement.EPSILONS) and chosen.side == 32
    best = max(tried, key=lambda row: row["boundary_iou"])
    assert chosen.radius <= best["radius"]
    monkeypatch.setattr(refinement, "score_photos", lambda photos, refiner: {"boundary_iou": np.ones(5)})
    assert refinement.choose_refiner(photos, 32)[0].radius == 1


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path) -> Path:
    """A folder with a released run's CPU file, and photos beside it."""
    shutil.copytree(Path("android_assets") / RUN, tmp_path / "android_assets" / RUN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(refinement, "RADII", (1, 2))
    monkeypatch.setattr(refinement, "EPSILONS", (1e-3,))
    monkeypatch.setattr(refinement, "KEEPS", (0.9,))
    monkeypatch.setattr(refinement, "STEPS", ((0.1, 0.5),))
    monkeypatch.setattr(refinement, "PERSONS", 1)
    monkeypatch.setattr(refinement, "COST_RUNS", 5)
    monkeypatch.setattr(clips, "FRAMES", 5)
    monkeypatch.setattr(clips, "MOVING_PX", (8,))
    return photos


def test_chosen_parameters_stand_in_the_manifest(data: Path) -> None:
    dataset = open_dataset(DataConfig(root=data, format="folder"), 7)
    split = next(name for name in dataset.splits if not name.startswith("test"))
    refine_command.choose([RUN], dataset, split)
    listed = manifest.read(Manifest, Path("android_assets") / RUN / "manifest.json")
    assert listed.source.refine is not None and listed.source.smooth is not None
    assert listed.source.refine.chosen_on is not None and listed.source.refine.chosen_on.split == split
    assert listed.source.refine.side == 128
    # a new export of the same weights keeps them, one of others does not
    path = Path("android_assets") / RUN / "manifest.json"
    bare = listed.source.model_copy(update={"refine": None, "smooth": None})
    kept = manifest.extended(path, bare, [])
    assert kept.source.refine == listed.source.refine and kept.source.smooth == listed.source.smooth
    other = bare.model_copy(update={"weights_sha256": "0" * 64})
    assert manifest.extended(path, other, []).source.refine is None


def test_nothing_is_chosen_on_a_test_split(data: Path) -> None:
    dataset = open_dataset(DataConfig(root=data, format="folder"), 7)
    before = (Path("android_assets") / RUN / "manifest.json").read_bytes()
    with pytest.raises(InputError, match="nothing is chosen on a test split"):
        refine_command.choose([RUN], dataset, "test")
    assert (Path("android_assets") / RUN / "manifest.json").read_bytes() == before


def test_the_tables(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(DataConfig(root=data, format="folder"), 7)
    split = next(iter(dataset.splits))
    refine_command.measure([RUN], None, dataset, [split], tmp_path / "out/refine")
    rows = list(csv.DictReader((tmp_path / "out/refine-photos.csv").open()))
    assert len(rows) == 1 and rows[0]["split"] == split and 0 <= float(rows[0]["boundary_iou_refined"]) <= 1
    # a frame of 720p costs more to refine than its mask of 256x256 to smooth
    assert 0 < float(rows[0]["smooth_ms"]) < float(rows[0]["refine_ms"]) and float(rows[0]["network_ms"]) > 0
    lines = list(csv.DictReader((tmp_path / "out/refine-clips.csv").open()))
    kinds = {"still", "pan", *(f"moving_{step}" for step in clips.MOVING_PX)}
    assert {row["clip"] for row in lines} == kinds and len(lines) == 4 * len(kinds)
    text = (tmp_path / "out/refine.md").read_text()
    assert text.count("\n|") > len(lines) and "Ghost" in text


def test_parameters_are_those_of_the_classes() -> None:
    """A field that is added to one and not to the other would be lost on the way into an app."""
    for kind, chosen in ((manifest.Refine, EdgeRefiner()), (manifest.Smooth, MaskSmoother())):
        assert set(kind.model_fields) - {"chosen_on"} == set(refinement.parameters(chosen))
