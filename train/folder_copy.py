"""A copy of a folder of photos with other masks: what `train label` and `train matte` share."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from portraitseg import files
from portraitseg.config import Config
from portraitseg.data import decisions
from portraitseg.data.base import hash_keys
from portraitseg.data.folder import (
    LABELS_NAME,
    SPLITS_NAME,
    FolderDataset,
    open_folder,
    path_of_key,
    require_folder,
)
from portraitseg.data.shards import ShardsDataset, is_remote, open_shards, suffix_of
from portraitseg.errors import InputError

#: Masks of nothing but 0 and 1 are read as 0 and 255: what is that transparent becomes 0.
LEAST = 2


def open_copied(config: Config, out: Path, command: str) -> FolderDataset:
    """Opens the folder of which `command` writes a copy with other masks.

    Raises:
        InputError: no folder, `out` lies in it, or its masks are classes.
    """
    root = require_folder(config.data, f"{command}: copies a folder of photos with its masks").resolve()
    if out.resolve() == root or root in out.resolve().parents:
        raise InputError(f"--out {out}: lies in the folder that is copied: name another place")
    dataset = decisions.apply(open_folder(config.data, config.seed), config.data.decisions)
    if dataset.has_classes:
        raise InputError(
            f"{command}: masks of {dataset.root} are not 0 to 255, and would lie beside drawn ones that are: convert "
            "them first: python -m train check-data --fix OUT"
        )
    return dataset


def open_packed(config: Config, out: Path, command: str) -> ShardsDataset:
    """The same of shards.

    Raises:
        InputError: no shards, `out` lies among them, or pixels that nobody knows, which no mask of a folder can say.
    """
    root = str(config.data.root)
    if not is_remote(root) and Path(root).resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f"--out {out}: lies in the folder of the shards: name another place")
    dataset = decisions.apply(open_shards(config.data, config.seed), config.data.decisions)
    if dataset.has_ignored:
        raise InputError(f"{command}: {dataset.name} has masks with unknown pixels: give it the folder they are of")
    return dataset


def copy_packed(dataset: ShardsDataset, key: str, out: Path, with_mask: bool) -> None:
    """Writes a photo of shards, and its mask where it has one; nothing where they are there already."""
    photo, mask, _ = dataset.contents(key)
    for path, content in (
        (path_of_key(out, key, "images", suffix_of(photo)), photo),
        (path_of_key(out, key, "masks", ".png"), mask if with_mask else b""),
    ):
        if content and not path.exists():
            files.write_bytes(path, content)


def keys_in(out: Path, sets: Iterable[str], folder: str) -> set[str]:
    """The keys of the photos (`folder` is images) or masks that are there."""
    return {f"{name}/{path.stem}" if name else path.stem for name in sets for path in (out / name / folder).glob("*")}


def write_splits(out: Path, splits: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Writes `splits.json`; returns the hashes of the splits."""
    hashes = {name: hash_keys(keys) for name, keys in splits.items()}
    files.write_json(
        out / SPLITS_NAME, {"splits": {name: list(keys) for name, keys in splits.items()}, "sha256_16": hashes}
    )
    return hashes


def begin(out: Path, origin: object) -> None:
    """Writes what makes the masks; a second call with the same goes on, one with other words is refused.

    Raises:
        InputError: `out` holds something else.
    """
    path = out / LABELS_NAME
    if path.exists():
        if json.loads(path.read_text()) != origin:
            raise InputError(f"--out {out}: holds the masks of another call: name another folder, or delete it")
        return
    # another machine may be writing it
    if out.exists() and any(not item.name.startswith(files.TEMPORARY_PREFIX) for item in out.iterdir()):
        raise InputError(f"--out {out}: is not empty: name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    files.write_json(path, origin)


def copy_file(source: Path, destination: Path) -> None:
    """A hard link where the disk allows it; nothing where it is there already."""
    if destination.exists():
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        # the file itself: a link to a symbolic one would lead nowhere from there
        os.link(source.resolve(), destination)
    except OSError:
        # another disk, or one without hard links
        with files.replacing(destination) as scratch:
            shutil.copyfile(source, scratch)
