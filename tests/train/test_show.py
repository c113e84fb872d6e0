"""The sheets: what training sees, and what a network makes of photos, the worst first."""

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
from train import show

SIDE = 48


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "DATA"
    for kind in ("images", "masks"):
        (folder / "a" / kind).mkdir(parents=True)
    for index in range(6):
        image, alpha = synthetic.render(index, (80, 60), 2)
        Image.fromarray(image).save(folder / f"a/images/{index}.png")
        Image.fromarray(np.where(alpha > 127, 255, 0).astype(np.uint8)).save(folder / f"a/masks/{index}.png")
    lists = {"train": ["a/0", "a/1", "a/2"], "val": ["a/3", "a/4", "a/5"]}
    (folder / "splits.json").write_text(json.dumps({"splits": lists}))
    return folder


def config_of(root: Path, **train: object) -> Config:
    values = {"data": {"format": "folder", "root": str(root)}, "model": {"size": [SIDE, SIDE]}, "train": train}
    return parse_config(values, "test")


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None
    return image[..., ::-1]


def test_samples_are_the_photos_their_masks_and_bands(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    dataset = open_dataset(config.data, 7)
    show.write_samples(tmp_path / "a.png", dataset, config, "val", 3, False)
    sheet = read(tmp_path / "a.png")
    assert sheet.shape == (3 * SIDE, 3 * SIDE, 3)
    photo, tinted, banded = (sheet[at * SIDE : (at + 1) * SIDE, :SIDE] for at in range(3))
    truth = cv2.resize(np.asarray(Image.open(root / "a/masks/3.png")), (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 127
    np.testing.assert_array_equal(tinted[truth], photo[truth])
    assert (tinted[~truth] != photo[~truth]).any(axis=1).all()
    # the band lies along the outline and nowhere else
    pink = (banded == (255, 0, 160)).all(axis=2)
    outline = cv2.morphologyEx(truth.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((9, 9), np.uint8)) > 0
    assert pink.any() and not pink[~outline].any()


def test_augmented_samples_are_a_batch_of_training(root: Path, tmp_path: Path) -> None:
    from train.stream import maker_of

    config = config_of(root, cutout_share=1.0)
    dataset = open_dataset(config.data, 7)
    show.write_samples(tmp_path / "a.png", dataset, config, "train", 10, True)
    sheet = read(tmp_path / "a.png")
    # eight beside each other, the rest below
    assert sheet.shape == (6 * SIDE, 8 * SIDE, 3)
    batch = maker_of(dataset, config_of(root, cutout_share=1.0, batch_size=10)).make(0)
    np.testing.assert_array_equal(sheet[3 * SIDE : 4 * SIDE, :SIDE], batch.images[8])


def test_the_worst_output_is_first(root: Path, tmp_path: Path) -> None:
    dataset = open_dataset(config_of(root).data, 7)
    truths = {dataset.load(key).image.tobytes(): dataset.load(key).mask for key in dataset.keys("val")}
    spoilt = dataset.load("a/4").image.tobytes()

    def network(image: np.ndarray) -> np.ndarray:
        truth = truths[image.tobytes()]
        assert truth is not None
        return (truth > 127).astype(np.float32) * (image.tobytes() != spoilt)

    shown = show.write_outputs(tmp_path / "a.png", dataset, "val", network, 2)
    assert shown[0] == ("a/4", 0.0) and shown[1][1] == 1.0
    sheet = read(tmp_path / "a.png")
    # all of a/4 is missing, nothing of the other
    blue = (sheet == show.MISSING).all(axis=2)
    assert blue[: len(sheet) // 2].any() and not blue[len(sheet) // 2 :].any()
    assert not (sheet == show.EXTRA).all(axis=2).any()


def test_photos_without_masks_are_told(root: Path, tmp_path: Path) -> None:
    (root / "u/images").mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(root / "u/images/0.png")
    lists = json.loads((root / "splits.json").read_text())["splits"]
    (root / "splits.json").write_text(json.dumps({"splits": {**lists, "unlabelled": ["u/0"]}}))
    config = config_of(root)
    dataset = open_dataset(config.data, 7)
    with pytest.raises(InputError, match="no mask"):
        show.write_samples(tmp_path / "a.png", dataset, config, "unlabelled", 1, False)
    with pytest.raises(InputError, match="no mask"):
        show.write_outputs(tmp_path / "a.png", dataset, "unlabelled", lambda image: image[..., 0] / 255, 1)


def test_a_sheet_never_takes_the_place_of_a_photo(root: Path, tmp_path: Path) -> None:
    config = parse_config({"data": {"format": "folder", "root": str(root)}}, "test")
    photo = next(path for path in sorted(root.rglob("*.png")))
    with pytest.raises(InputError, match="among the photos"):
        show.check_out(photo, config)
    with pytest.raises(InputError, match=r"name a \.png"):
        show.check_out(tmp_path / "sheet.jpg", config)
    show.check_out(tmp_path / "sheet.png", config)
