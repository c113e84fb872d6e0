"""A corrected copy of a folder of photos: upright, masks of 0 and 255, nothing that cannot be read."""

import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from portraitseg import files
from portraitseg.cli import console, say, warn
from portraitseg.config import Config
from portraitseg.data import decisions, masks, reading
from portraitseg.data.base import Sample, hash_keys, set_of
from portraitseg.data.folder import SPLITS_NAME, FolderDataset, open_folder, path_of_key, require_folder
from portraitseg.errors import InputError
from portraitseg.terms import TERMS_NAME
from portraitseg.workers import cores
from train.audit.redraw import Redrawn

FIXES_NAME = "fixes.json"

#: Photos in memory at once, for each thread.
_AHEAD = 4


@dataclass(frozen=True)
class Fix:
    """What became of a photo: notes of what was changed, or why it was left out."""

    key: str
    notes: tuple[str, ...] = ()
    left_out: str | None = None


@dataclass(frozen=True)
class Decided:
    """What a person decided (`data.decisions`), and the masks that were drawn anew since.

    Attributes:
        dropped: photos that are left out.
        to_fix: photos whose masks are to be drawn anew.
        redrawn: where those lie; None: nowhere yet.
    """

    dropped: frozenset[str] = frozenset()
    to_fix: frozenset[str] = frozenset()
    redrawn: Redrawn | None = None

    def __call__(self, sample: Sample) -> Sample:
        """The photo with the mask that was drawn anew, where one was asked for.

        Raises:
            InputError: dropped, or not drawn yet.
        """
        if sample.key in self.dropped:
            raise InputError(f"{sample.key}: dropped (data.decisions)")
        if sample.key not in self.to_fix:
            return sample
        mask = None if self.redrawn is None else self.redrawn.load(sample.key, sample.image.shape[:2])
        if mask is None:
            raise InputError(f"{sample.key}: its mask is still to be drawn anew (data.decisions, --redrawn)")
        return replace(sample, mask=mask, ignore=None, notes=(*sample.notes, "mask: drawn anew"))


def write_fixed(config: Config, out: Path, redrawn: Path | None = None) -> None:
    """Writes the copy; the original is not touched.

    A photo that needs no change is copied as it is; another becomes an upright RGB PNG. Masks become PNGs of 0 to 255;
    in a set with ignored pixels 0, 1 and 255, which is ignored. A mask that was drawn on the unturned photo is turned,
    where sizes prove it. What cannot be read is left out. `splits.json` has the splits as they are, without what was
    left out, and `fixes.json` each change.

    Args:
        config: with a folder of photos. Of `data.decisions` dropped photos are left out, those to fix get their mask
            of `redrawn`, or are left out; test splits stay as they are.
        out: a new folder.
        redrawn: folder of masks that were drawn anew, of `train redraw`.

    Raises:
        InputError: no folder of photos, masks whose meaning is not clear, `out` is not empty or lies in the folder.
    """
    root = require_folder(config.data, "--fix: copies a folder of photos").resolve()
    if out.resolve() == root or root in out.resolve().parents:
        raise InputError(f"--fix {out}: lies in the folder that is copied: name another place")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--fix {out}: is not empty: name a new folder")
    dataset = open_folder(config.data, config.seed)
    fixes = list(_fix_all(dataset, out, _decided(config, dataset, redrawn)))
    left_out = {fix.key: fix.left_out for fix in fixes if fix.left_out is not None}
    splits = {name: [key for key in keys if key not in left_out] for name, keys in dataset.splits.items()}
    splits = {name: keys for name, keys in splits.items() if keys}
    hashes = {name: hash_keys(keys) for name, keys in splits.items()}
    files.write_json(out / SPLITS_NAME, {"splits": splits, "sha256_16": hashes})
    for path in (*root.glob(TERMS_NAME), *root.glob(f"*/{TERMS_NAME}")):
        # what binds the photos binds their copies
        files.write_bytes(out / path.relative_to(root), path.read_bytes())
    changed = {fix.key: list(fix.notes) for fix in fixes if fix.notes}
    files.write_json(out / FIXES_NAME, {"changed": changed, "left_out": left_out})
    for why in left_out.values():
        warn(f"left out: {why}")
    counts = Counter(note for notes in changed.values() for note in notes)
    for note, count in counts.most_common():
        say(f"{note}: {count}")
    say(f"{out}: {len(fixes) - len(left_out)} photos, {len(changed)} of them changed, {len(left_out)} left out")


def _decided(config: Config, dataset: FolderDataset, redrawn: Path | None) -> Decided:
    if config.data.decisions is None:
        if redrawn is not None:
            raise InputError("--redrawn: needs the decisions too: --set data.decisions=decisions.json")
        return Decided()
    left = decisions.left_out(dataset, config.data.decisions)
    to_fix = frozenset(key for key, decision in left.items() if decision == "fix")
    return Decided(frozenset(left) - to_fix, to_fix, None if redrawn is None else Redrawn(redrawn))


def _fix_all(dataset: FolderDataset, out: Path, decided: Decided) -> Iterator[Fix]:
    keys = sorted(dataset.suffixes)
    workers = cores()
    with ThreadPoolExecutor(workers) as pool:
        for start in track(
            range(0, len(keys), _AHEAD * workers),
            "fixing",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            yield from pool.map(lambda key: _fix(dataset, key, out, decided), keys[start : start + _AHEAD * workers])


def _fix(dataset: FolderDataset, key: str, out: Path, decided: Decided) -> Fix:
    try:
        sample, more = _load(dataset, key)
        sample = decided(sample)
    except InputError as error:
        return Fix(key, left_out=str(error))
    photo, mask = dataset.files(key)
    if any(note.startswith("photo: ") for note in sample.notes):
        _write_png(path_of_key(out, key, "images", ".png"), cv2.cvtColor(sample.image, cv2.COLOR_RGB2BGR))
    else:
        destination = path_of_key(out, key, "images", photo.suffix.lower())
        destination.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(destination) as scratch:
            shutil.copyfile(photo, scratch)
    if mask is not None:
        assert sample.mask is not None
        _write_png(path_of_key(out, key, "masks", ".png"), _values(dataset, sample))
    # what a mask shows is nothing that was changed
    kept = tuple(note for note in sample.notes if note not in ("mask: all black", "mask: all white"))
    return Fix(key, kept + more)


def _load(dataset: FolderDataset, key: str) -> tuple[Sample, tuple[str, ...]]:
    """A photo with its mask, which is turned as the photo where their sizes prove that it was not.

    Raises:
        InputError: neither helps.
    """
    try:
        return dataset.load(key), ()
    except InputError:
        photo, path = dataset.files(key)
        if path is None:
            raise
        image, notes = reading.read_image(photo)
        mask, ignore, mask_notes = masks.read_mask(path, dataset.meanings.get(set_of(key), masks.BINARY))
        how = reading.orientation(photo)
        turned = reading.turn(mask, how)
        if mask.shape == image.shape[:2] or turned.shape != image.shape[:2]:
            raise
        if ignore is not None:
            ignore = reading.turn(np.where(ignore, np.uint8(255), np.uint8(0)), how) > 0
        return Sample(key, image, turned, notes + mask_notes, ignore), ("mask: turned as its photo",)


def _values(dataset: FolderDataset, sample: Sample) -> np.ndarray:
    assert sample.mask is not None
    meaning = dataset.meanings.get(set_of(sample.key), masks.BINARY)
    if not meaning.ignore:
        return sample.mask
    values = np.where(sample.mask > 0, np.uint8(1), np.uint8(0))
    return values if sample.ignore is None else np.where(sample.ignore, np.uint8(masks.IGNORE_ID), values)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, cv2.imencode(".png", pixels)[1].tobytes())
