"""Public sets in their own layouts, of drawn persons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.data.folder import FolderDataset
from portraitseg.errors import InputError
from tests.data import drawn

Draw = Callable[[int], Image.Image]


def opened(root: Path, name: str, **more: Any) -> FolderDataset:
    data = open_dataset(DataConfig.model_validate({"format": name, "root": root, **more}), 0)
    assert isinstance(data, FolderDataset)
    return data


def put(images: Path, masks: Path, draw: Draw, indices: range) -> None:
    images.mkdir(parents=True)
    masks.mkdir(parents=True, exist_ok=True)
    for index in indices:
        Image.fromarray(drawn.photo(index)).save(images / f"{index:05d}.jpg", quality=95)
        draw(index).save(masks / f"{index:05d}.png")


def check(data: FolderDataset, key: str, left_open: bool = False) -> None:
    sample, person = data.load(key), drawn.person(int(key[-5:]))
    known = ~drawn.outline(person) if left_open else np.ones(person.shape, bool)
    assert sample.mask is not None
    np.testing.assert_array_equal((sample.mask > 127)[known], person[known])
    assert (sample.ignore is not None) == left_open
    assert np.abs(sample.image.astype(int) - drawn.photo(int(key[-5:]))).mean() < 12


def test_voc(tmp_path: Path) -> None:
    """Other classes are background, and most photos are in no list."""

    def draw(index: int) -> Image.Image:
        values = np.array(drawn.ids(0, 15, 255)(index))
        values[:4, :4] = 7  # a car
        image = Image.frombytes("P", (values.shape[1], values.shape[0]), values.tobytes())
        # all 256: a file of fewer colours has fewer bits
        image.putpalette([(value // 3 * 7 + 50 * (value % 3)) % 256 if value > 2 else 0 for value in range(768)])
        return image

    put(tmp_path / "JPEGImages", tmp_path / "SegmentationClass", draw, range(8))
    Image.fromarray(drawn.photo(9)).save(tmp_path / "JPEGImages/00009.jpg")
    folder = tmp_path / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("00000\n00001\n00002\n00003\n")
    (folder / "val.txt").write_text("00004\n00005\n")
    data = opened(tmp_path, "voc")
    assert data.splits == {"train": ("00000", "00001", "00002", "00003"), "val": ("00004", "00005")}
    check(data, "00004", left_open=True)
    assert "15 is person, 255 is ignored" in data.remarks[1]
    # cars, for once
    assert opened(tmp_path, "voc", mask="person:7,ignore:255").load("00001").mask[:4, :4].all()
    with pytest.raises(InputError, match="format voc is VOCdevkit/VOC2012"):
        opened(folder, "voc")


def test_p3m10k(tmp_path: Path) -> None:
    put(tmp_path / "train/blurred_image", tmp_path / "train/mask", drawn.smooth, range(8))
    for name, photos in (("P3M-500-P", "blurred_image"), ("P3M-500-NP", "original_image")):
        base = tmp_path / "validation" / name
        put(base / photos, base / "mask", drawn.smooth, range(4))
    data = opened(tmp_path, "p3m10k", val_ratio=0.4, soft_masks=True)
    assert len(data.splits["train"]) + len(data.splits["val"]) == 8 and data.splits["val"]
    assert data.splits["test_p3m_500_np"] == tuple(f"p3m_500_np/{index:05d}" for index in range(4))
    np.testing.assert_array_equal(data.load("p3m_500_p/00003").mask, np.asarray(drawn.smooth(3)))
    with pytest.raises(InputError, match="format p3m10k is the folder P3M-10k as unpacked"):
        opened(tmp_path / "train", "p3m10k")


def test_aisegment(tmp_path: Path) -> None:
    for group in ("1803151818", "1803201916"):
        for number in range(4):
            put(
                tmp_path / f"clip_img/{group}/clip_{number:08d}",
                tmp_path / f"matting/{group}/matting_{number:08d}",
                drawn.cutout,
                range(3),
            )
    data = opened(tmp_path, "aisegment", val_ratio=0.3)
    sets = {name: {key.rpartition("/")[0] for key in keys} for name, keys in data.splits.items()}
    assert sets["train"] and sets["val"] and not sets["train"] & sets["val"]
    assert sum(map(len, data.splits.values())) == 24
    for key in (data.splits["train"][0], data.splits["val"][-1]):
        check(data, key)
    with pytest.raises(InputError, match="no 'clip_img': format aisegment"):
        opened(tmp_path / "matting", "aisegment")


def test_easyportrait(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        put(tmp_path / "images" / split, tmp_path / "annotations" / split, drawn.parts, range(4))
    data = opened(tmp_path, "easyportrait")
    assert {name: len(keys) for name, keys in data.splits.items()} == {"train": 4, "val": 4, "test": 4}
    check(data, "test/00002")
    (tmp_path / "annotations").rename(tmp_path / "labels")
    with pytest.raises(InputError, match="no 'annotations': format easyportrait"):
        opened(tmp_path, "easyportrait")
