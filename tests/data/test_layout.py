"""Where people keep photos, masks and splits, and what is said where a photo or mask is not found."""

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from portraitseg.config import DataConfig
from portraitseg.data import hash_keys, open_dataset
from portraitseg.data.checking import check_splits
from portraitseg.data.folder import FolderDataset
from portraitseg.data.reading import turn
from portraitseg.errors import InputError
from tests.data import drawn
from tests.data.drawn import binary

COUNTS = {"train": 6, "val": 3, "test": 2}


def opened(root: Path, **more: Any) -> FolderDataset:
    data = open_dataset(DataConfig(format="folder", root=root, **more), 0)
    assert isinstance(data, FolderDataset)
    return data


def write_splits(root: Path, path_of: Callable[[str, str], str], names: dict[str, str]) -> None:
    """Photos of each split; `place` (images or masks, name of the split) → folder."""
    for split, name in names.items():
        drawn.write(root / "made", [binary] * COUNTS[split], name=f"{split}{{}}")
        for kind in ("images", "masks"):
            (root / path_of(kind, name)).parent.mkdir(parents=True, exist_ok=True)
            (root / "made" / kind).rename(root / path_of(kind, name))
        (root / "made").rmdir()


LAYOUTS: dict[str, tuple[Callable[[str, str], str], dict[str, str]]] = {
    "train/images (trainvaltest)": (
        lambda kind, name: f"{name}/{kind}",
        {"train": "train", "val": "val", "test": "test"},
    ),
    "training/images": (
        lambda kind, name: f"{name}/{kind}",
        {"train": "training", "val": "validation", "test": "testing"},
    ),
    "Train/images": (lambda kind, name: f"{name}/{kind}", {"train": "Train", "val": "Valid", "test": "Test"}),
    "images/train": (lambda kind, name: f"{kind}/{name}", {"train": "train", "val": "val", "test": "test"}),
    "annotations/training": (
        lambda kind, name: f"{'annotations' if kind == 'masks' else kind}/{name}",
        {"train": "training", "val": "validation", "test": "test"},
    ),
    "img_dir/train": (
        lambda kind, name: f"{'ann_dir' if kind == 'masks' else 'img_dir'}/{name}",
        {"train": "train", "val": "val", "test": "test"},
    ),
    "train/labels": (
        lambda kind, name: f"{name}/{'labels' if kind == 'masks' else kind}",
        {"train": "train", "val": "valid", "test": "test"},
    ),
    "train_images": (lambda kind, name: f"{name}_{kind}", {"train": "train", "val": "val", "test": "test"}),
    "images-train": (lambda kind, name: f"{kind}-{name}", {"train": "train", "val": "val", "test": "test"}),
}


@pytest.mark.parametrize("what", LAYOUTS)
def test_folders_are_the_splits(what: str, tmp_path: Path) -> None:
    path_of, names = LAYOUTS[what]
    write_splits(tmp_path, path_of, names)
    data = opened(tmp_path)
    for split, name in names.items():
        assert data.splits[split] == tuple(f"{name}/{split}{index}" for index in range(COUNTS[split]))
    assert set(data.splits) == set(COUNTS)
    assert data.remarks[0].startswith("splits by ") and all(name in data.remarks[0] for name in names.values())
    key = data.splits["test"][1]
    np.testing.assert_array_equal(data.load(key).mask > 127, drawn.person(1))
    np.testing.assert_array_equal(data.load(key).image, drawn.photo(1))
    assert data.excerpt([key]).load(key).key == key


@pytest.mark.parametrize("what", ["train/images (trainvaltest)", "images/train", "train_images"])
def test_without_val_it_is_drawn_from_train(what: str, tmp_path: Path) -> None:
    path_of, names = LAYOUTS[what]
    write_splits(tmp_path, path_of, {name: names[name] for name in ("train", "test")})
    data = opened(tmp_path, val_ratio=0.4)
    assert sorted(data.splits["train"] + data.splits["val"]) == [f"train/train{index}" for index in range(6)]
    assert data.splits["val"] and len(data.splits["test"]) == 2
    assert "val drawn from train (data.val_ratio=0.4)" in data.remarks[0]


def test_a_list_comes_before_folders(tmp_path: Path) -> None:
    path_of, names = LAYOUTS["train/images (trainvaltest)"]
    write_splits(tmp_path, path_of, names)
    keys = [f"{split}/{split}0" for split in COUNTS]
    (tmp_path / "splits.json").write_text('{"splits": {"train": ["val/val0", "test/test0"], "val": ["train/train0"]}}')
    assert opened(tmp_path).splits == {"train": ("val/val0", "test/test0"), "val": ("train/train0",)}
    del keys


def test_a_set_beside_splits_is_of_none_of_them(tmp_path: Path) -> None:
    path_of, names = LAYOUTS["train/images (trainvaltest)"]
    write_splits(tmp_path, path_of, names)
    drawn.write(tmp_path / "more", [binary])
    with pytest.raises(InputError, match="'more' lies beside the splits test, train, val"):
        opened(tmp_path)
    shutil.rmtree(tmp_path / "more/masks")
    assert opened(tmp_path, blank_sets=("more",)).splits["more"] == ("more/p000",)


def test_loose_photos_beside_folders_of_splits(tmp_path: Path) -> None:
    path_of, names = LAYOUTS["images/train"]
    write_splits(tmp_path, path_of, names)
    Image.fromarray(drawn.photo(0)).save(tmp_path / "images/loose.png")
    with pytest.raises(InputError, match=r"loose\.png: lies beside the folders of splits \(test, train, val\)"):
        opened(tmp_path)


def test_lists_of_names(tmp_path: Path) -> None:
    """As VOC and mmsegmentation have them: names, paths, a second word."""
    drawn.write(tmp_path, [binary] * 6)
    (tmp_path / "train.txt").write_text("p000\nimages/p001.png\n\np002.png masks/p002.png\r\n")
    (tmp_path / "test.txt").write_text("p004\np005")
    (tmp_path / "val.txt").write_text("p003\n")
    data = opened(tmp_path)
    assert data.splits == {"train": ("p000", "p001", "p002"), "val": ("p003",), "test": ("p004", "p005")}
    assert data.remarks[0] == "splits by train.txt, val.txt, test.txt"
    (tmp_path / "val.txt").write_text("p004\n")
    with pytest.raises(InputError, match="'p004' is in 'val' and in 'test'"):
        opened(tmp_path)
    (tmp_path / "val.txt").write_text("p009\n")
    with pytest.raises(InputError, match=r"val\.txt: 'p009' names no photo here"):
        opened(tmp_path)
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"val\.txt: not UTF-8"):
        opened(tmp_path)


# ---- names


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_pair_whatever_their_unicode_form(forms: tuple[str, str], tmp_path: Path) -> None:
    drawn.write(tmp_path, [binary] * 2, name="Zoë {}")
    for folder, form in zip(("images", "masks"), forms, strict=True):
        for path in list((tmp_path / folder).iterdir()):
            path.rename(path.with_name(unicodedata.normalize(form, path.name)))
    (tmp_path / "splits.json").write_text('{"splits": {"train": ["Zo\\u00eb 0"], "val": ["Zoe\\u0308 1"]}}')
    data = opened(tmp_path)
    assert hash_keys(data.splits["train"]) == hash_keys(["Zo\u00eb 0"])
    for split, index in (("train", 0), ("val", 1)):
        np.testing.assert_array_equal(data.load(data.splits[split][0]).mask > 127, drawn.person(index))


def test_two_photos_of_one_name_in_two_unicode_forms(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        drawn.write(tmp_path, [binary], name=unicodedata.normalize(form, "é{}"))
    with pytest.raises(InputError, match="in another Unicode form: rename one"):
        opened(tmp_path)


def test_masks_named_after_the_whole_photo(tmp_path: Path) -> None:
    """labelme's exports: photo.png.png."""
    drawn.write(tmp_path, [binary] * 3)
    for path in list((tmp_path / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}.png.png"))
    np.testing.assert_array_equal(opened(tmp_path).load("p002").mask > 127, drawn.person(2))


def test_what_lies_in_place_of_a_photo_or_mask(tmp_path: Path) -> None:
    def after(change: Callable[[Path], object]) -> str:
        shutil.rmtree(tmp_path / "d", ignore_errors=True)
        root = drawn.write(tmp_path / "d", [binary] * 3)
        change(root)
        with pytest.raises(InputError) as raised:
            opened(root)
        return str(raised.value)

    assert "but 'P000': give both the same capitals" in after(
        lambda r: (r / "images/p000.png").rename(r / "images/P000.png")
    )
    assert "is it the mask of 'p000'?" in after(lambda r: (r / "masks/p000.png").rename(r / "masks/p000_mask.png"))
    assert "p000.bmp is not read as one, save it as PNG" in after(
        lambda r: (r / "masks/p000.png").rename(r / "masks/p000.bmp")
    )
    assert "second mask named 'p000'" in after(lambda r: shutil.copy(r / "masks/p000.png", r / "masks/p000.jpg"))
    heic = after(lambda r: (r / "images/p000.png").rename(r / "images/p000.tiff"))
    assert "its photo is" in heic and "p000.tiff: save it as JPEG or PNG" in heic


def heic(path: Path) -> None:
    path.write_bytes(bytes.fromhex("00000018667479706865696300000000") + bytes(60))


def test_heic_without_its_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`heic_some`: not "no photo of this name"."""
    monkeypatch.setattr("portraitseg.data.reading._plugins", dict)
    root = drawn.write(tmp_path / "a", [binary] * 3)
    (root / "images/p002.png").unlink()
    heic(root / "images/p002.HEIC")
    with pytest.raises(InputError, match=r"its photo is .*p002\.HEIC: save it as JPEG .*pip install pillow-heif"):
        opened(root)
    (root / "masks/p002.png").unlink()
    assert any("photos that are not read: 1 (first: images/p002.HEIC)" in line for line in opened(root).warnings)
    # an iPhone's photo that was only renamed
    heic(root / "images/p001.png")
    with pytest.raises(InputError, match=r"p001\.png: HEIC that cannot be read, by its content: save it as JPEG"):
        opened(root).load("p001")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read_where_pillow_can(tmp_path: Path) -> None:
    root = drawn.write(tmp_path, [binary] * 3)
    Image.open(root / "images/p001.png").save(root / "images/p001.avif", quality=95)
    (root / "images/p001.png").unlink()
    # colour has half the resolution there, and the room is noise: 10 was measured, another photo is 40 away
    assert np.abs(opened(root).load("p001").image.astype(int) - drawn.photo(1)).mean() < 20


# ---- EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_of_the_unturned_photo(orientation: int, tmp_path: Path) -> None:
    """`exif_swap`: the sizes differ, and that the rotation explains it is said."""
    root = drawn.write(tmp_path, [binary] * 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(root / "images/p000.png").save(root / "images/p000.png", exif=exif)
    data = opened(root)
    if orientation < 5:
        assert data.load("p000").image.shape[:2] == drawn.SIZE
        return
    with pytest.raises(
        InputError, match=rf"orientation {orientation}\), and as large as the mask before: it was drawn"
    ):
        data.load("p000")


def test_another_size_that_no_rotation_explains(tmp_path: Path) -> None:
    root = drawn.write(tmp_path, [binary] * 2)
    Image.new("L", drawn.SIZE, 255).save(root / "masks/p000.png")
    with pytest.raises(InputError, match=r"96x72, its photo is 72x96: give both the same size"):
        opened(root).load("p000")


@pytest.mark.parametrize("orientation", range(1, 5))
@pytest.mark.parametrize("is_of_raw", [False, True])
def test_a_mask_of_the_unturned_photo_of_one_size(orientation: int, is_of_raw: bool, tmp_path: Path) -> None:
    """`exif_raw_same_size`: no size tells; the photo's own edges do, and the check asks."""
    root = drawn.write(tmp_path, [binary] * 4)
    for index in range(4):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = root / f"images/p{index:03d}.png"
        Image.open(path).save(path, exif=exif)
        if not is_of_raw:
            mask = Image.fromarray(turn(np.asarray(binary(index)), orientation))
            mask.save(root / f"masks/p{index:03d}.png")
    *_, seen = check_splits(opened(root, mask="binary"), ["train"])
    asked = [line for line in seen.warnings() if "was it drawn on the unturned photo" in line]
    # mirrored, two of the five drawn persons look nearly alike
    assert bool(asked) == (is_of_raw and orientation > 1)
