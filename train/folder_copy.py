"""A copy of a folder of photos with other masks: what `train label` and `train matte` share."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from portraitseg import files
from portraitseg.config import Config
from portraitseg.data import decisions
from portraitseg.data.base import hash_keys
from portraitseg.data.folder import LABELS_NAME, SPLITS_NAME, FolderDataset, open_folder, require_folder
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
