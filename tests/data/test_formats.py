"""Public sets in their own layouts, of drawn persons."""

import json
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


def test_ppm100(tmp_path: Path) -> None:
    put(tmp_path / "image", tmp_path / "matte", drawn.smooth, range(4))
    data = opened(tmp_path, "ppm100", soft_masks=True)
    assert set(data.splits) == {"test_ppm_100"} and len(data.splits["test_ppm_100"]) == 4
    np.testing.assert_array_equal(data.load("ppm_100/00003").mask, np.asarray(drawn.smooth(3)))
    # as MODNet's code has it
    put(tmp_path / "other/train/fg", tmp_path / "other/train/alpha", drawn.smooth, range(2))
    assert opened(tmp_path / "other", "ppm100").splits["test_ppm_100"] == ("ppm_100/00000", "ppm_100/00001")
    (tmp_path / "matte/00001.png").unlink()
    with pytest.raises(InputError, match=r"photo .*00001\.jpg .* has no mask"):
        opened(tmp_path, "ppm100")
    with pytest.raises(InputError, match="format ppm100 is the folder PPM-100"):
        opened(tmp_path / "other/train/fg", "ppm100")


def pixelannotation(root: Path, ids: tuple[int, int] = (11, 24), dots: str = "") -> Path:
    """Photos, brush strokes, watershed and colour masks in one folder, as the tool leaves them."""
    root.mkdir(exist_ok=True)
    for index in range(6):
        person, edge = drawn.person(index), drawn.outline(drawn.person(index))
        Image.fromarray(drawn.photo(index)).save(root / f"p{index:05d}{dots}.jpg", quality=95)
        values = np.where(edge, 255, np.where(person, ids[1], ids[0])).astype(np.uint8)
        # the tool writes ids in three equal channels
        Image.fromarray(np.repeat(values[..., None], 3, axis=2)).save(root / f"p{index:05d}_watershed_mask.png")
        strokes = np.zeros((*person.shape, 3), np.uint8)
        strokes[40:44, 30:34] = ids[1]
        Image.fromarray(strokes).save(root / f"p{index:05d}_mask.png")
        colours = np.where(person[..., None], (220, 20, 60), (70, 70, 70)).astype(np.uint8)
        Image.fromarray(colours).save(root / f"p{index:05d}_color_mask.png")
    return root


def test_pixelannotation(tmp_path: Path) -> None:
    data = opened(pixelannotation(tmp_path), "pixelannotation")
    assert sum(map(len, data.splits.values())) == 6
    check(data, "p00001", left_open=True)
    for path in tmp_path.glob("*_watershed_mask.png"):
        path.unlink()
    data = opened(tmp_path, "pixelannotation")
    check(data, "p00002")
    assert "#dc143c" in data.remarks[-1]


def test_pixelannotation_by_its_configuration(tmp_path: Path) -> None:
    labels = {
        name: {"name": name, "id": number, "color": [9 * number, 5, 5], "id_categorie": 0, "categorie": "void"}
        for number, name in enumerate(("void", "background", "Person"))
    }
    with pytest.raises(InputError, match="nobody"):
        opened(pixelannotation(tmp_path, ids=(1, 2)), "pixelannotation")
    (tmp_path / "config.json").write_text(json.dumps({"labels": labels}))
    check(opened(tmp_path, "pixelannotation"), "p00001", left_open=True)
    # its own words win
    assert opened(tmp_path, "pixelannotation", mask="person:1,ignore:255").load("p00001").mask[0, 0] == 255  # type: ignore[index]
    del labels["Person"]
    (tmp_path / "config.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(InputError, match=r"config\.json: none of its labels"):
        opened(tmp_path, "pixelannotation")


def test_pixelannotation_takes_the_name_up_to_the_first_dot(tmp_path: Path) -> None:
    data = opened(pixelannotation(tmp_path, dots=".final"), "pixelannotation")
    assert "p00001.final" in data.splits["train"] + data.splits["val"]
    (tmp_path / "p00003_watershed_mask.png").unlink()
    with pytest.raises(InputError, match="has no mask"):
        opened(tmp_path, "pixelannotation")
