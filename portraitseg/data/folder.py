"""Format `folder`: images/<stem>.jpg beside masks/<stem>.png, one set or several, with or without splits.json."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg import files
from portraitseg.config import DataConfig
from portraitseg.data import reading
from portraitseg.data.base import Dataset, Sample, draw_val, hash_keys, is_test_split, set_of
from portraitseg.errors import InputError

SPLITS_NAME = "splits.json"

#: Lies in a folder whose masks trained networks drew, and says which: `python -m train label`.
LABELS_NAME = "labels.json"

#: The split that may list sets without any mask which no setting declares, so that somebody else's list works as it is.
#: Nothing is trained or measured on them: that takes `data.unlabelled_sets`.
UNLABELLED_SPLIT = "unlabelled"

_SPLITS_FORM = 'write {"splits": {"<name>": ["<set>/<stem>", …]}, "sha256_16": {…}}'

#: A million keys of fifty characters; more is not a list of photos.
MAX_SPLITS_BYTES = 100_000_000


@dataclass(frozen=True)
class FolderDataset(Dataset):
    """Photos in folders.

    Attributes:
        root: the folder that the user gave.
        suffixes: key → those of its photo and of its mask; that of the mask is None where the set has none. No whole
            paths: a hundred thousand photos are to cost no more than their names.
        blank_sets, unlabelled_sets: sets without masks, and what that means.
    """

    root: Path
    suffixes: Mapping[str, tuple[str, str | None]] = field(repr=False)
    blank_sets: tuple[str, ...] = ()
    unlabelled_sets: tuple[str, ...] = ()

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        photo, mask_path = self.files(key)
        image, notes = reading.read_image(photo)
        if mask_path is None:
            is_blank = set_of(key) in self.blank_sets
            return Sample(key, image, np.zeros(image.shape[:2], np.uint8) if is_blank else None, notes)
        mask, mask_notes = reading.read_mask(mask_path)
        reading.check_same_size(image, mask, mask_path)
        return Sample(key, image, mask, notes + mask_notes)

    def files(self, key: str) -> tuple[Path, Path | None]:
        """A photo and its mask; None where its set has no masks."""
        suffix, mask_suffix = self.suffixes[key]
        mask = None if mask_suffix is None else place(self.root, key, "masks", mask_suffix)
        return place(self.root, key, "images", suffix), mask

    def excerpt(self, keys: Sequence[str]) -> "FolderDataset":
        """See `Dataset.excerpt`."""
        return replace(self, splits={}, suffixes={key: self.suffixes[key] for key in keys})


def open_folder(config: DataConfig, seed: int) -> FolderDataset:
    """Lists a folder; reads no photo.

    Raises:
        InputError: no such folder, no photos, a photo without a mask (in a set that is neither blank nor unlabelled nor
            listed in `UNLABELLED_SPLIT`), a mask without a photo, two photos of one stem, a malformed splits.json.
    """
    assert config.root is not None
    root = config.root
    if not root.is_dir():
        raise InputError(f"DATA {root}: no such folder: give the folder that holds the photos now with DATA=")
    mask_free = {*config.blank_sets, *config.unlabelled_sets}
    suffixes: dict[str, tuple[str, str | None]] = {}
    names, warnings = _set_names(root, mask_free)
    for name in names:
        suffixes.update(_pair_set(root, name, is_mask_free=name in mask_free))
    if not suffixes:
        raise InputError(
            f"DATA {root}: no images/<stem>.jpg|png|webp, nor <set>/images/…: see 'A folder of photos' in the README"
        )
    listed = root / SPLITS_NAME
    if listed.exists():
        splits = read_splits(listed)
        _check_known(splits, suffixes, root)
        # the same text once
        texts = {key: key for key in suffixes}
        splits = {name: tuple(texts[key] for key in keys) for name, keys in splits.items()}
    else:
        drawn = draw_val((key for key in suffixes if set_of(key) not in mask_free), config.val_ratio, seed)
        splits = {
            **drawn,
            **{name: tuple(sorted(k for k in suffixes if set_of(k) == name)) for name in sorted(mask_free)},
        }
        splits = {name: keys for name, keys in splits.items() if keys or name in drawn}
    warnings += _check_unmasked(splits, suffixes, config, root)
    if (root / LABELS_NAME).exists() and not config.soft_masks:
        warnings += (
            "soft masks of trained networks are read as hard ones, above half or not: --set data.soft_masks=true",
        )
    return FolderDataset(
        name=str(root),
        splits=splits,
        licence=config.licence,
        warnings=warnings,
        root=root,
        suffixes=suffixes,
        blank_sets=config.blank_sets,
        unlabelled_sets=config.unlabelled_sets,
    )


def read_splits(path: Path) -> dict[str, tuple[str, ...]]:
    """Reads and checks splits.json.

    Raises:
        InputError: not the documented form, a key twice, a photo to train on and to measure on, a hash that differs.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: not a file: take it out, or write the splits into it")
        with path.open("rb") as file:
            content = file.read(MAX_SPLITS_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: {reading.explain(error)}") from error
    if len(content) > MAX_SPLITS_BYTES:
        raise InputError(f"{path}: over {MAX_SPLITS_BYTES // 10**6} MB, more than a list of photos can have")
    return parse_splits(parse_splits_text(content, str(path)), str(path))


def parse_splits_text(content: bytes, origin: str) -> Any:
    """The JSON of splits.json, not yet checked.

    Raises:
        InputError: not JSON, nested too deep, a key twice in one object.
    """
    try:
        return json.loads(content, object_pairs_hook=files.unique_pairs)
    except RecursionError as error:
        raise InputError(f"{origin}: nested too deep: {_SPLITS_FORM}") from error
    except ValueError as error:
        raise InputError(f"{origin}: not JSON ({error}): {_SPLITS_FORM}") from error


def parse_splits(value: Any, origin: str) -> dict[str, tuple[str, ...]]:
    """Checks `{"splits": {"<name>": ["<set>/<stem>", …]}, "sha256_16": {…}}`; `origin` names the file in errors.

    Raises:
        InputError: as `read_splits`.
    """
    lists = value.get("splits") if isinstance(value, dict) else None
    hashes = value.get("sha256_16", {}) if isinstance(value, dict) else None
    if not isinstance(lists, dict) or not isinstance(hashes, dict) or not lists:
        raise InputError(f"{origin}: {_SPLITS_FORM}")
    if (unknown := next((key for key in value if key not in ("splits", "sha256_16")), None)) is not None:
        raise InputError(f"{origin}: unknown key '{unknown}': {_SPLITS_FORM}")
    if (unknown := next((name for name in hashes if name not in lists), None)) is not None:
        raise InputError(f"{origin}: sha256_16 names a split '{unknown}' that is not there: take it out or correct it")
    splits: dict[str, tuple[str, ...]] = {}
    for name, keys in lists.items():
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InputError(f"{origin}: split '{name}' is not a list of keys: {_SPLITS_FORM}")
        if not keys:
            raise InputError(f"{origin}: split '{name}' is empty: add photos or take the split out")
        if len(set(keys)) != len(keys):
            twice = next(key for key, count in Counter(keys).items() if count > 1)
            raise InputError(f"{origin}: split '{name}' names '{twice}' twice: take one out")
        if (bad := next((key for key in keys if _is_unsafe(key)), None)) is not None:
            raise InputError(f"{origin}: split '{name}': key {bad!r} is no name of a photo here: use <set>/<stem>")
        splits[name] = tuple(keys)
        try:
            actual = hash_keys(keys)
        except UnicodeEncodeError as error:
            raise InputError(f"{origin}: split '{name}' has a key that is not text: correct it") from error
        if name in hashes and hashes[name] != actual:
            raise InputError(
                f"{origin}: split '{name}' has hash {actual}, the file says {str(hashes[name])[:80]}: "
                "the list was changed; restore it, or write its hash anew"
            )
    _check_disjoint(splits, origin)
    return splits


def _check_disjoint(splits: Mapping[str, tuple[str, ...]], origin: str) -> None:
    """No photo may be learnt from and measured on: `train` against `val` and `test…`, `val` against `test…`."""
    measured = [name for name in splits if is_test_split(name)]
    for first, second in [("train", "val"), *((name, test) for name in ("train", "val") for test in measured)]:
        if shared := set(splits.get(first, ())) & set(splits.get(second, ())):
            raise InputError(
                f"{origin}: '{min(shared)}' is in '{first}' and in '{second}': a photo belongs to one of them"
            )


def _is_unsafe(key: str) -> bool:
    parts = key.split("/")
    return len(parts) > 2 or any(part in ("", ".", "..") for part in parts) or "\\" in key or _has_control(key)


def _has_control(name: str) -> bool:
    """Line breaks and the like: the hash of a split joins its keys by newlines, so that a key can have none."""
    return any(ord(character) < 32 or ord(character) == 127 for character in name)


def _set_names(root: Path, mask_free: set[str]) -> tuple[list[str], tuple[str, ...]]:
    """The sub-folders that hold images/, and a warning of those left out.

    `""` is the flat layout, images/ in the root: sets beside it are taken where they are declared to have no masks,
    since a folder beside images/ may be a copy of it.
    """
    parts = ("images", "masks")
    is_flat = (root / "images").is_dir()
    # without permission Path.is_dir raises: a set would be missed; beside a flat one it may be the disk's lost+found
    is_folder = os.path.isdir if is_flat else Path.is_dir
    children = (child for child in root.iterdir() if child.name not in parts and child.name[0] != ".")
    # a folder of masks alone is a set whose photos are missed
    sets = sorted(child.name for child in children if any(is_folder(child / part) for part in parts))
    if not is_flat:
        return sets, ()
    left_out = [name for name in sets if name not in mask_free]
    taken = ["", *(name for name in sets if name in mask_free)]
    if not left_out:
        return taken, ()
    return taken, (
        f"sets beside {root / 'images'} are left out, to take them give images/ and masks/ a folder of their own: "
        f"{len(left_out)} (first: {left_out[0]})",
    )


def place(root: Path, key: str, folder: str, suffix: str) -> Path:
    """Where a photo (`folder` is images) or a mask (masks) of a key lies under the root."""
    name, _, stem = key.rpartition("/")
    return root / name / folder / f"{stem}{suffix}"


def _pair_set(root: Path, name: str, is_mask_free: bool) -> dict[str, tuple[str, str | None]]:
    base = root / name
    _check_name(base, "set")
    if not (base / "images").is_dir():
        raise InputError(f"set {base}: masks/ without images/: add the photos, or take the masks out")
    images: dict[str, str] = {}
    for path in _sorted(base / "images"):
        if path.suffix.lower() not in reading.IMAGE_SUFFIXES:
            continue
        _check_name(path, "photo")
        if path.stem in images:
            first = f"{path.stem}{images[path.stem]}"
            raise InputError(f"photo {path}: a second photo named '{path.stem}' ({first}): rename one")
        images[path.stem] = sys.intern(path.suffix)
    folder = base / "masks"
    listed = _sorted(folder) if folder.is_dir() else ()
    masks = {path.stem: sys.intern(path.suffix) for path in listed if path.suffix.lower() == ".png"}
    if (orphan := next((stem for stem in masks if stem not in images), None)) is not None:
        path = folder / f"{orphan}{masks[orphan]}"
        raise InputError(f"mask {path}: no photo of this name in {base / 'images'}: add it or take the mask out")
    if masks and is_mask_free:
        raise InputError(
            f"set '{name}' is one of data.blank_sets or data.unlabelled_sets but has {folder}: take the masks out, or "
            "name other sets (--set 'data.blank_sets=[]')"
        )
    prefix = f"{name}/" if name else ""
    pairs: dict[tuple[str, str | None], tuple[str, str | None]] = {}
    return {
        prefix + stem: pairs.setdefault(pair, pair)
        for stem, pair in ((stem, (suffix, masks.get(stem))) for stem, suffix in images.items())
    }


def _sorted(folder: Path) -> Iterator[Path]:
    """What a folder has, hidden files left out; sorted as names, since paths take several times the memory."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return (folder / name for name in names)


def _check_name(path: Path, what: str) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} {path}: its name is not UTF-8: rename it") from error
    if _has_control(path.name) or "\\" in path.name:
        raise InputError(f"{what} {path}: its name has a line break, a backslash or the like: rename it")


def _check_known(splits: Mapping[str, tuple[str, ...]], suffixes: Mapping[str, Any], root: Path) -> None:
    for name, keys in splits.items():
        if (missing := next((key for key in keys if key not in suffixes), None)) is not None:
            raise InputError(
                f"{root / SPLITS_NAME}: split '{name}' names '{missing}', no such photo under {root}: "
                "add it or take it out of the split"
            )


def _check_unmasked(
    splits: Mapping[str, tuple[str, ...]],
    suffixes: Mapping[str, tuple[str, str | None]],
    config: DataConfig,
    root: Path,
) -> tuple[str, ...]:
    """Refuses photos without masks; returns a warning of those that only the name of their split declares."""
    mask_free = {*config.blank_sets, *config.unlabelled_sets}
    # a set that has masks is a labelled one, and a mask that is missing there is missed
    labelled = {set_of(key) for key, (_, mask) in suffixes.items() if mask is not None}
    by_name: list[str] = []
    for name, keys in splits.items():
        for key in keys:
            if suffixes[key][1] is not None or set_of(key) in mask_free:
                continue
            if name != UNLABELLED_SPLIT or set_of(key) in labelled:
                photo = place(root, key, "images", suffixes[key][0])
                raise InputError(
                    f"photo {photo} (split '{name}') has no mask: add masks/{photo.stem}.png, "
                    "or declare its set in data.blank_sets or data.unlabelled_sets"
                )
            by_name.append(key)
    if not by_name:
        return ()
    return (
        f"split '{UNLABELLED_SPLIT}': no mask, in sets that data.unlabelled_sets does not name; nothing is trained or "
        f"measured on them: {len(by_name)} of {len(splits[UNLABELLED_SPLIT])} (first: {by_name[0]})",
    )
