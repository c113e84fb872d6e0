"""Splits that do not leak, and the corrected copy of a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from portraitseg.config import Config, parse_config
from portraitseg.data import hash_keys, open_dataset
from portraitseg.data.folder import read_splits
from portraitseg.errors import CheckFailed, InputError
from portraitseg.synthetic import portraits as synthetic
from tests.data import drawn
from train import split
from train.fix import write_fixed

PEOPLE, TAKES = 8, 3


def config(root: Path, **data: Any) -> Config:
    return parse_config({"data": {"format": "folder", "root": str(root), **data}}, "test")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight people with three takes each; the last photo is a copy of the first, mirrored, of another name."""
    root = tmp_path / "DATA"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(PEOPLE * TAKES):
        image, alpha = synthetic.render(number, (64, 48), 1)
        name = f"s{number // TAKES}_{number % TAKES}.png"
        if number == PEOPLE * TAKES - 1:
            image, alpha = (values[:, ::-1] for values in synthetic.render(0, (64, 48), 1))
        Image.fromarray(np.ascontiguousarray(image)).save(root / "images" / name)
        Image.fromarray(np.ascontiguousarray(alpha)).save(root / "masks" / name)
    return root


def splits(folder: Path, **options: Any) -> dict[str, tuple[str, ...]]:
    given = {"by": None, "val": 0.3, "test": 0.3, **options}
    split.split(config(folder), folder / "splits.json", overwrite=True, **given)
    return read_splits(folder / "splits.json")


def test_groups_stay_together(folder: Path) -> None:
    by_split = splits(folder, by=r"^(s\d+)_")
    assert sorted(key for keys in by_split.values() for key in keys) == sorted(
        p.stem for p in (folder / "images").iterdir()
    )
    people = {name: {key.partition("_")[0] for key in keys} for name, keys in by_split.items()}
    assert not people["train"] & people["val"] and not people["train"] & people["test"]
    assert not people["val"] & people["test"]
    # the mirrored copy ties its person to the first
    assert sum({"s0", "s7"} <= names for names in people.values()) == 1
    split.check_leaks(config(folder), r"^(s\d+)_")


def test_the_same_everywhere(folder: Path) -> None:
    first = splits(folder, by=r"^(s\d+)_")
    assert splits(folder, by=r"^(s\d+)_") == first
    assert json.loads((folder / "splits.json").read_text())["sha256_16"]["val"] == hash_keys(first["val"])
    with pytest.raises(InputError, match="exists: name another file, or pass --overwrite"):
        split.split(config(folder), folder / "splits.json", None, 0.1, 0.1)


def test_a_split_that_leaks_is_refused_with_its_pairs(folder: Path) -> None:
    keys = sorted(path.stem for path in (folder / "images").iterdir())
    lists = {"train": keys[:-1], "val": keys[-1:]}
    (folder / "splits.json").write_text(json.dumps({"splits": lists}))
    with pytest.raises(CheckFailed, match=r"1 pairs .*s0_0 \(train\) and s7_2 \(val\): \d+ of 256 bits differ"):
        split.check_leaks(config(folder), None)
    with pytest.raises(CheckFailed, match=r"s7_0 \(train\) and s7_2 \(val\): the same group"):
        split.check_leaks(config(folder), r"^(s\d+)_")
    # among training photos, and among those of tests, copies are no leak
    (folder / "splits.json").write_text(json.dumps({"splits": {"train": [keys[0], keys[-1]], "val": keys[4:6]}}))
    split.check_leaks(config(folder), None)
    (folder / "splits.json").write_text(json.dumps({"splits": {"test_a": [keys[0]], "test_b": [keys[-1]]}}))
    split.check_leaks(config(folder), None)


@pytest.mark.parametrize(("by", "says"), [("(", "not a regular expression"), ("zzz", "matches no key, such as 's0_0'")])
def test_expressions_that_are_none(by: str, says: str, folder: Path) -> None:
    with pytest.raises(InputError, match=says):
        splits(folder, by=by)


def test_too_few_groups(folder: Path) -> None:
    with pytest.raises(InputError, match="would be empty: 1 groups are too few"):
        splits(folder, by="s")


# ---- the corrected copy


def fixed(root: Path, out: Path, **data: Any) -> dict[str, Any]:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    write_fixed(config(root, **data), out)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    return json.loads((out / "fixes.json").read_text())


def test_the_copy_is_corrected_and_the_original_untouched(tmp_path: Path) -> None:
    root = drawn.write(tmp_path / "a", [drawn.binary] * 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "images/p000.png").save(root / "images/p000.png", exif=exif)
    (root / "images/p001.png").write_bytes((root / "images/p001.png").read_bytes()[:60])
    (root / "masks/p002.png").write_bytes(b"")
    Image.fromarray(drawn.photo(3)).convert("L").save(root / "images/p003.png")
    fixes = fixed(root, tmp_path / "b")
    assert sorted(fixes["left_out"]) == ["p001", "p002"]
    assert fixes["changed"] == {
        "p000": ["photo: EXIF rotation", "mask: turned as its photo"],
        "p003": ["photo: grayscale"],
    }
    data = open_dataset(config(tmp_path / "b").data, 0)
    keys = sorted(key for keys in data.splits.values() for key in keys)
    assert keys == ["p000", "p003", "p004", "p005", "p006", "p007"]
    sample = data.load("p000")
    np.testing.assert_array_equal(sample.image, np.rot90(drawn.photo(0), -1))
    np.testing.assert_array_equal(sample.mask > 127, np.rot90(drawn.person(0), -1))
    assert sample.notes == () and not [note for key in keys for note in data.load(key).notes]
    np.testing.assert_array_equal(data.load("p004").image, drawn.photo(4))


@pytest.mark.parametrize(
    ("draw", "setting"),
    [(drawn.ids(1, 2, 255), "person:2,ignore:255"), (drawn.parts, "person:1-4"), (drawn.cutout, "auto")],
)
def test_masks_of_any_kind_become_plain_ones(draw: Any, setting: str, tmp_path: Path) -> None:
    root = drawn.write(tmp_path / "a", [draw] * 4)
    fixed(root, tmp_path / "b", mask=setting)
    old, new = (
        open_dataset(config(tmp_path / "a", mask=setting).data, 0),
        open_dataset(config(tmp_path / "b").data, 0),
    )
    for key in ("p000", "p003"):
        np.testing.assert_array_equal(old.load(key).mask, new.load(key).mask)
        np.testing.assert_array_equal(old.load(key).ignore, new.load(key).ignore)


def test_places_that_are_refused(tmp_path: Path) -> None:
    root = drawn.write(tmp_path / "a", [drawn.binary] * 4)
    for out, says in ((root, "lies in the folder"), (root / "new", "lies in the folder"), (tmp_path, "is not empty")):
        with pytest.raises(InputError, match=says):
            write_fixed(config(root), out)
