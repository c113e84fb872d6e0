import gc
from pathlib import Path

import numpy as np
import pytest

from portraitseg.config import DataConfig
from portraitseg.data import Dataset, Sample, open_dataset
from portraitseg.data.checking import DataCheck, check_splits
from portraitseg.errors import InputError
from tests.data.bad_cases import write_photos, write_splits


def checked(root: Path, *splits: str) -> DataCheck:
    dataset = open_dataset(DataConfig(format="folder", root=root), 0)
    *_, last = check_splits(dataset, splits)
    return last


def test_good_photos_give_no_warning(photos: Path) -> None:
    result = checked(photos, "train", "val")
    assert result.photos == 4 and result.warnings() == []


def test_oddities_are_counted_once_a_kind(photos: Path) -> None:
    from PIL import Image

    for name in ("b", "c"):
        Image.open(photos / f"images/{name}.png").convert("L").save(photos / f"images/{name}.png")
    (photos / "images/d.png").write_bytes((photos / "images/a.png").read_bytes())
    assert checked(photos, "train", "val").warnings() == [
        "photo: grayscale: 2 of 4 (first: b)",
        "the same photo in train and val: 1 of 4 (first: d)",
    ]


def test_twins_are_of_one_size(photos: Path) -> None:
    """The same bytes in another shape are another photo."""
    from PIL import Image

    for name, size in (("a", (4, 8)), ("d", (8, 4))):
        Image.new("RGB", size).save(photos / f"images/{name}.png")
        Image.new("L", size, 255).save(photos / f"masks/{name}.png")
    assert not any("same photo" in line for line in checked(photos, "train", "val").warnings())


def test_more_photos_than_a_chunk(tmp_path: Path) -> None:
    names = tuple(f"{i:03d}" for i in range(150))
    write_photos(tmp_path / "DATA", names)
    write_splits(tmp_path, {"train": list(names)})
    dataset = open_dataset(DataConfig(format="folder", root=tmp_path / "DATA"), 0)
    assert [seen.photos for seen in [*check_splits(dataset, ["train"])]][-1] == 150


def test_the_first_fault_stops(photos: Path) -> None:
    (photos / "images/c.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"c\.png: the file is empty"):
        checked(photos, "train", "val")


def test_photos_are_let_go() -> None:
    """A chunk of 64 phone photos at once would be three gigabytes."""

    class Large(Dataset):
        alive = 0
        most = 0

        def load(self, key: str) -> Sample:
            image = np.zeros((100, 100, 3), np.uint8)
            Large.alive += 1
            Large.most = max(Large.most, Large.alive)
            import weakref

            weakref.finalize(image, lambda: setattr(Large, "alive", Large.alive - 1))
            return Sample(key, image, np.zeros((100, 100), np.uint8))

    dataset = Large("large", {"train": tuple(map(str, range(64)))})
    for _ in check_splits(dataset, ["train"]):
        pass
    gc.collect()
    import os

    assert Large.most <= 2 * min(32, (os.cpu_count() or 1) + 4)
