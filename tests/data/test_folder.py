import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from portraitseg.config import DataConfig
from portraitseg.data import hash_keys, open_dataset
from portraitseg.data.base import draw_val
from portraitseg.data.folder import open_folder, parse_splits, read_splits
from portraitseg.errors import InputError
from tests import outside
from tests.data.bad_cases import portrait, write_photos, write_splits

stems = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1
).filter(lambda stem: stem not in (".", ".."))


def config(root: Path, **more: Any) -> DataConfig:
    return DataConfig(format="folder", root=root, **more)


def test_photos_and_masks(photos: Path) -> None:
    data = open_dataset(config(photos), seed=0)
    assert data.splits == {"train": ("a", "b", "c"), "val": ("d",)}
    sample = data.load("b")
    image, mask = portrait(1)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.mask, mask)
    assert sample.key == "b" and sample.notes == ()


def test_several_sets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_photos(tmp_path / name, ("a", "b"))
        (tmp_path / name / "masks/b.png").replace(tmp_path / name / "masks/b.PNG")
    (tmp_path / ".hidden/images").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    data = open_folder(config(tmp_path, val_ratio=0.5), seed=0)
    assert sorted(data.splits["train"] + data.splits["val"]) == ["one/a", "one/b", "two/a", "two/b"]
    assert data.load("two/b").mask is not None


@pytest.mark.parametrize("kind", ["blank_sets", "unlabelled_sets"])
def test_sets_without_masks(tmp_path: Path, kind: str) -> None:
    write_photos(tmp_path / "people", ("a", "b", "c"))
    write_photos(tmp_path / "walls", ("w",))
    shutil.rmtree(tmp_path / "walls/masks")
    with pytest.raises(InputError, match=r"w\.png .* has no mask: add masks/w.png, or declare its set"):
        open_folder(config(tmp_path, val_ratio=0.4), seed=0)
    data = open_folder(config(tmp_path, val_ratio=0.4, **{kind: ("walls",)}), seed=0)
    assert data.splits["walls"] == ("walls/w",)
    assert not any(key.startswith("walls") for name in ("train", "val") for key in data.splits[name])
    mask = data.load("walls/w").mask
    if kind == "blank_sets":
        assert mask is not None and not mask.any()
    else:
        assert mask is None
    with pytest.raises(
        InputError, match=r"one of data\.blank_sets or data\.unlabelled_sets but has .* name other sets"
    ):
        open_folder(config(tmp_path, **{kind: ("people",)}), seed=0)


def test_sets_beside_a_flat_one(photos: Path) -> None:
    """Background-only photos count; what may be a copy does not, and is named."""
    (photos / "splits.json").unlink()
    write_photos(photos / "blank", ("w",))
    shutil.rmtree(photos / "blank/masks")
    data = open_folder(config(photos), seed=0)
    assert sorted(data.splits["train"] + data.splits["val"]) == ["a", "b", "c", "d"]
    assert data.splits["blank"] == ("blank/w",)
    assert not data.load("blank/w").mask.any() and data.load("a").mask.any()
    assert not data.warnings
    shutil.copytree(photos / "blank/images", photos / "backup/images")
    again = open_folder(config(photos), seed=0)
    assert again.splits == data.splits
    (warning,) = again.warnings
    assert "left out" in warning and warning.endswith("1 (first: backup)")


def test_a_set_of_masks_alone_is_no_set(tmp_path: Path) -> None:
    write_photos(tmp_path / "people", ("a", "b", "c"))
    write_photos(tmp_path / "others", ("d",))
    shutil.rmtree(tmp_path / "others/images")
    with pytest.raises(InputError, match=r"set .*others: masks/ without images/: add the photos"):
        open_folder(config(tmp_path), seed=0)


def test_other_files_in_the_folders_are_passed_over(photos: Path) -> None:
    (photos / "images/Thumbs.db").touch()
    (photos / "images/._a.png").touch()
    (photos / "masks/._a.png").touch()
    open_folder(config(photos), seed=0)


def test_case_of_suffixes(photos: Path) -> None:
    Image.fromarray(portrait(0)[0]).save(photos / "images/A.JPEG")
    (photos / "images/a.png").unlink()
    (photos / "masks/a.png").replace(photos / "masks/A.png")
    write_splits(photos.parent, {"train": ["A"], "val": ["d"]})
    assert open_folder(config(photos), seed=0).load("A").image.shape == portrait(0)[0].shape


# ---- splits


@given(keys=st.lists(stems, unique=True, min_size=1))
def test_the_hash_is_as_documented(keys: list[str]) -> None:
    expected = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]
    assert hash_keys(keys) == hash_keys(reversed(keys)) == expected
    value = {"splits": {"train": keys}, "sha256_16": {"train": expected}}
    assert parse_splits(value, "s") == {"train": tuple(keys)}
    value["sha256_16"]["train"] = hash_keys([*keys, "another"])  # type: ignore[index]
    with pytest.raises(InputError, match="the list was changed"):
        parse_splits(value, "s")


def test_the_hash_of_known_keys() -> None:
    """By `printf 'a/1\\na/2' | sha256sum`."""
    assert hash_keys(["a/2", "a/1"]) == hashlib.sha256(b"a/1\na/2").hexdigest()[:16]
    assert hash_keys(["a"]) == "ca978112ca1bbdca"


def test_the_shared_splits() -> None:
    """The real list, where it is there."""
    path = outside.photos("splits.json")
    splits = read_splits(path)
    hashes = json.loads(path.read_text())["sha256_16"]
    assert hashes and {name: hash_keys(splits[name]) for name in hashes} == hashes
    assert (
        hashes["train"] == "eda2bfdd75888e41" and hashes["test_eg1800"] == "23fef48aca6ad7d6"
    )  # as in docs/interface.md


@pytest.mark.parametrize(
    "key", ["../a", "a/../b", "/a", "a/", "a//b", "a/b/c", ".", "..", "", "a\\b", "a\0", "a\nb", "a\x7f", "set/.."]
)
def test_keys_that_are_no_names(key: str) -> None:
    with pytest.raises(InputError, match="no name of a photo here"):
        parse_splits({"splits": {"train": [key]}}, "s")


def test_keys_that_are_not_text() -> None:
    with pytest.raises(InputError, match="not text: correct it"):
        parse_splits({"splits": {"train": ["\ud800"]}}, "s")


NO_SPLITS: list[Any] = [
    None,
    [],
    {},
    {"splits": None},
    {"splits": []},
    {"splits": {}},
    {"splits": {"a": ["b"]}, "sha256_16": []},
    {"splits": {"a": None}},
    {"splits": {"a": "b"}},
    {"splits": {"a": [None]}},
    {"splits": {"a": {"b": 1}}},
    {"splits": {"a": ["b"]}, "": 1},
]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["../a", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(lists=anything | st.dictionaries(st.text(max_size=5), st.lists(anything, max_size=3)), hashes=anything)
def test_any_json_is_read_or_refused(lists: Any, hashes: Any) -> None:
    """The fuzzer sees nothing inside the JSON parser, which is C: here the form is right and the values are not."""
    with contextlib.suppress(InputError):
        for keys in parse_splits({"splits": lists, "sha256_16": hashes}, "s").values():
            assert keys and all(key.encode() and ".." not in key.split("/") for key in keys)


@pytest.mark.parametrize("value", NO_SPLITS)
def test_values_that_are_no_splits(value: Any) -> None:
    with pytest.raises(InputError, match=r'write \{"splits"'):
        parse_splits(value, "s")


@pytest.mark.parametrize(
    ("first", "second", "is_refused"),
    [
        ("train", "val", True),
        ("train", "test", True),
        ("train", "test_lmi", True),
        ("val", "test_lmi", True),
        ("test_a", "test_b", False),
        ("train", "train_small", False),
        ("eg1800_official_train", "val", False),
    ],
)
def test_which_splits_may_share_photos(first: str, second: str, is_refused: bool) -> None:
    value = {"splits": {first: ["a", "b"], second: ["b"]}}
    if is_refused:
        with pytest.raises(InputError, match=f"'b' is in '{first}' and in '{second}'"):
            parse_splits(value, "s")
    else:
        parse_splits(value, "s")


@given(keys=st.sets(stems, max_size=40), more=st.sets(stems, max_size=10), seed=st.integers(0, 2**32 - 1))
def test_a_photo_stays_in_its_split_when_others_come(keys: set[str], more: set[str], seed: int) -> None:
    before, after = draw_val(keys, 0.3, seed), draw_val(keys | more, 0.3, seed)
    assert set(before["train"]) <= set(after["train"]) and set(before["val"]) <= set(after["val"])
    assert sorted(before["train"] + before["val"]) == sorted(keys)
    assert draw_val(list(keys)[::-1], 0.3, seed) == before


def test_a_missing_split_is_named(photos: Path) -> None:
    data = open_folder(config(photos), seed=0)
    with pytest.raises(InputError, match=r"no split 'test' \(there are: train, val\)"):
        data.keys("test")


@pytest.mark.parametrize("name", ["splits.json"])
def test_a_folder_in_place_of_the_list(photos: Path, name: str) -> None:
    (photos / name).unlink()
    (photos / name).mkdir()
    with pytest.raises(InputError, match="not a file"):
        open_folder(config(photos), seed=0)
