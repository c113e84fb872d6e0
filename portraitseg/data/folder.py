"""Format `folder`: images/<stem>.jpg beside masks/<stem>.png, one set or several, with or without lists of splits."""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg import files
from portraitseg.config import DataConfig
from portraitseg.data import layout, masks, reading, survey
from portraitseg.data.base import Dataset, Sample, draw_val, hash_keys, is_test_split, set_of
from portraitseg.data.masks import Meaning
from portraitseg.errors import InputError

SPLITS_NAME = "splits.json"

#: Lists of photos, a line each, that other tools write.
LIST_NAMES = ("train.txt", "val.txt", "test.txt")

#: Lies in a folder whose masks were made soft, and says how: `python -m train label`, `python -m train matte`.
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
            paths: a hundred thousand photos are to cost no more than their names. A name that is not the key's has no
            dot in front.
        blank_sets, unlabelled_sets: sets without masks, and what that means.
        folders: set → its folders of photos and of masks, where they are not images/ and masks/.
        meanings: set → how its masks are read; those that are not named are binary.
    """

    root: Path
    suffixes: Mapping[str, tuple[str, str | None]] = field(repr=False)
    blank_sets: tuple[str, ...] = ()
    unlabelled_sets: tuple[str, ...] = ()
    folders: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    meanings: Mapping[str, Meaning] = field(default_factory=dict)

    @property
    def has_ignored(self) -> bool:
        """See `Dataset.has_ignored`."""
        return any(meaning.ignore for meaning in self.meanings.values())

    @property
    def has_classes(self) -> bool:
        """Whether masks are read by anything else than their brightness."""
        return any(meaning.kind != "binary" for meaning in self.meanings.values())

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        photo, mask_path = self.files(key)
        image, notes = reading.read_image(photo)
        if mask_path is None:
            is_blank = set_of(key) in self.blank_sets
            return Sample(key, image, np.zeros(image.shape[:2], np.uint8) if is_blank else None, notes)
        mask, ignore, mask_notes = masks.read_mask(mask_path, self.meanings.get(set_of(key), masks.BINARY))
        reading.check_same_size(image, mask, mask_path, photo)
        return Sample(key, image, mask, notes + mask_notes, ignore)

    def files(self, key: str) -> tuple[Path, Path | None]:
        """A photo and its mask; None where its set has no masks."""
        suffix, mask_suffix = self.suffixes[key]
        name, _, stem = key.rpartition("/")
        images, folder = self.folders.get(name, (f"{name}/images", f"{name}/masks"))
        mask = None if mask_suffix is None else layout.file_of(self.root / folder.lstrip("/"), stem, mask_suffix)
        return layout.file_of(self.root / images.lstrip("/"), stem, suffix), mask

    def excerpt(self, keys: Sequence[str]) -> "FolderDataset":
        """See `Dataset.excerpt`."""
        return replace(self, splits={}, suffixes={key: self.suffixes[key] for key in keys})


def require_folder(config: DataConfig, what: str) -> Path:
    """The folder of a command that copies or divides one.

    Raises:
        InputError: photos of another format, or several sets that are mixed.
    """
    if config.format != "folder" or config.root is None or config.sets:
        raise InputError(f"{what}: give it one folder with --data, format folder")
    return config.root


def open_folder(config: DataConfig, seed: int) -> FolderDataset:
    """Lists a folder and decides what the masks of each set mean; reads no photo.

    Raises:
        InputError: no such folder, no photos, a photo without a mask (in a set that is neither blank nor unlabelled nor
            listed in `UNLABELLED_SPLIT`), a mask without a photo, two photos of one stem, a malformed splits.json, or
            masks whose meaning is not clear.
    """
    assert config.root is not None
    root = config.root
    if not root.is_dir():
        raise InputError(f"DATA {root}: no such folder: give the folder that holds the photos now with DATA=")
    mask_free = {*config.blank_sets, *config.unlabelled_sets}
    lists = [root / name for name in (SPLITS_NAME, *LIST_NAMES) if (root / name).exists()]
    return open_sets(config, seed, layout.find_sets(root, mask_free, has_list=bool(lists)), lists)


def open_sets(
    config: DataConfig, seed: int, sets: layout.Layout, lists: Sequence[Path], setting: str = "auto"
) -> FolderDataset:
    """Opens photos and masks whose places are known: a folder's own, or a format's.

    Args:
        config: with the root.
        seed: of what is drawn.
        sets: their folders.
        lists: files that say which photo is in which split.
        setting: what masks mean where `data.mask` says nothing.

    Raises:
        InputError: as `open_folder`.
    """
    assert config.root is not None
    root, mask_free = config.root, {*config.blank_sets, *config.unlabelled_sets}
    suffixes: dict[str, tuple[str, str | None]] = {}
    unread: list[str] = []
    for folders in sets.sets:
        pairs = layout.pair(root, folders, is_mask_free=folders.name in mask_free)
        prefix = f"{folders.name}/" if folders.name else ""
        suffixes.update({prefix + stem: files for stem, files in pairs.files.items()})
        unread += [f"{folders.images}/{name}" for name in pairs.unread]
    warnings = sets.warnings
    if unread:
        remedy = reading.how_to_read(Path(unread[0]).suffix)
        warnings += (f"photos that are not read: {len(unread)} (first: {unread[0]}): {remedy}",)
    if not suffixes:
        raise InputError(
            f"DATA {root}: no images/<stem>.jpg|png|webp, nor <set>/images/…: 'A folder of photos' in docs/interface.md"
            + (f" ({warnings[-1]})" if unread else "")
        )
    splits, how = _splits_of(root, lists, suffixes, sets, config, seed)
    dataset = FolderDataset(
        name=str(root),
        splits=splits,
        root=root,
        suffixes=suffixes,
        blank_sets=config.blank_sets,
        unlabelled_sets=config.unlabelled_sets,
        folders={
            folders.name: (folders.images, folders.masks)
            for folders in sets.sets
            if (folders.images, folders.masks) != _usual_folders(folders.name)
        },
    )
    warnings += _check_unmasked(dataset, config)
    is_drawn = (root / LABELS_NAME).exists()
    if is_drawn and not config.soft_masks:
        warnings += ("soft masks (labels.json) are read as hard ones, above half or not: --set data.soft_masks=true",)
    # drawn by a program: few values that lie close are no classes
    automatic = "binary" if is_drawn else setting
    chosen = automatic if config.mask == "auto" else config.mask
    meanings, remarks = _meanings(dataset, config.model_copy(update={"mask": chosen}))
    return replace(dataset, warnings=warnings, remarks=(*([how] if how else []), *remarks), meanings=meanings)


def _usual_folders(name: str) -> tuple[str, str]:
    prefix = f"{name}/" if name else ""
    return f"{prefix}images", f"{prefix}masks"


def _splits_of(
    root: Path,
    lists: Sequence[Path],
    suffixes: dict[str, tuple[str, str | None]],
    sets: layout.Layout,
    config: DataConfig,
    seed: int,
) -> tuple[dict[str, tuple[str, ...]], str]:
    """The splits, and in words where they are from if not from splits.json or drawn.

    Raises:
        InputError: a malformed list, or one that names what is not there.
    """
    mask_free = {*config.blank_sets, *config.unlabelled_sets}
    unmasked = {name: tuple(sorted(k for k in suffixes if set_of(k) == name)) for name in sorted(mask_free)}
    unmasked = {name: keys for name, keys in unmasked.items() if keys}
    if lists and lists[0].name == SPLITS_NAME:
        return _known(read_splits(lists[0]), suffixes, root / SPLITS_NAME, root), ""
    if lists:
        splits = {path.stem: read_list(path, suffixes, mask_free) for path in lists}
        _check_disjoint(splits, str(root))
        how = f"splits by {', '.join(path.name for path in lists)}"
    elif sets.origin:
        by_set = {folders.name: folders.split for folders in sets.sets if folders.split}
        names = dict.fromkeys(("train", "val", "test", *by_set.values()))
        grouped: dict[str, list[str]] = {name: [] for name in names if name in by_set.values()}
        for key in sorted(suffixes):
            if (split := by_set.get(set_of(key))) is not None:
                grouped[split].append(key)
        splits = {name: tuple(keys) for name, keys in grouped.items()}
        how = sets.origin
    else:
        drawn = draw_val((key for key in suffixes if set_of(key) not in mask_free), config.val_ratio, seed)
        return {**drawn, **unmasked}, ""
    if "val" not in splits and "train" in splits:
        splits |= draw_val(splits["train"], config.val_ratio, seed)
        how += f"; val drawn from train (data.val_ratio={config.val_ratio:g})"
    return {**splits, **unmasked}, how


def read_list(path: Path, suffixes: Mapping[str, Any], mask_free: set[str]) -> tuple[str, ...]:
    """Reads `train.txt` and the like: a photo a line, by its key, its name or its path.

    Raises:
        InputError: unreadable, empty, or a line that names no photo, or one of several sets.
    """
    try:
        if path.stat().st_size > MAX_SPLITS_BYTES:
            raise InputError(f"{path}: over {MAX_SPLITS_BYTES // 10**6} MB, more than a list of photos can have")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = reading.explain(error) if isinstance(error, OSError) else "not UTF-8: save it as that"
        raise InputError(f"{path}: {why}") from error
    by_stem: dict[str, list[str]] = {}
    for key in suffixes:
        by_stem.setdefault(key.rpartition("/")[2], []).append(key)
    keys = []
    for line in filter(None, (line.strip() for line in lines)):
        # VOC's lists of a class and mmsegmentation's of pairs have a second word
        for name in (line, line.split()[0]):
            path_of = Path(name)
            stem = path_of.stem if path_of.suffix.lower() in reading.image_suffixes() else path_of.name
            candidates = [name] if name in suffixes else by_stem.get(stem, [])
            within = [key for key in candidates if set_of(key) in path_of.parts]
            candidates = within or candidates
            if candidates:
                break
        if len(candidates) != 1:
            what = (
                "names no photo here"
                if not candidates
                else f"could be {candidates[0]} or {candidates[1]}: write <set>/<stem>"
            )
            raise InputError(f"{path}: '{line[:80]}' {what}: correct it, or take the list away to draw the splits anew")
        keys.append(candidates[0])
    if not keys:
        raise InputError(f"{path}: is empty: list photos in it, or take it away")
    return tuple(dict.fromkeys(keys))


def _meanings(dataset: FolderDataset, config: DataConfig) -> tuple[dict[str, Meaning], list[str]]:
    """Set → how its masks are read, and that in words, sets of one kind together.

    Raises:
        InputError: not clear.
    """
    by_set: dict[str, list[Path]] = {}
    for key, (_, mask) in dataset.suffixes.items():
        if mask is not None:
            path = dataset.files(key)[1]
            assert path is not None
            by_set.setdefault(set_of(key), []).append(path)
    if isinstance(config.mask, dict) and (unknown := set(config.mask) - set(by_set)):
        raise InputError(
            f"data.mask names a set '{min(unknown)}' that has no masks here (there are: {', '.join(by_set) or 'none'})"
        )
    count = max(survey.LEAST_LOOKED_AT, survey.MOST_LOOKED_AT // max(1, len(by_set)))
    meanings: dict[str, Meaning] = {}
    words: dict[str, list[str]] = {}
    for name, paths in by_set.items():
        setting = config.mask if isinstance(config.mask, str) else config.mask.get(name, "auto")
        where = str(dataset.root / name)
        meanings[name], text = survey.survey(paths, where, setting, config.soft_masks, count)
        words.setdefault(text, []).append(name or dataset.root.name)
    looked = {name: min(count, len(paths)) for name, paths in by_set.items()}
    part = f" (by {sum(looked.values())} of {sum(map(len, by_set.values()))}, evenly taken)"
    some = part if any(looked[name] < len(paths) for name, paths in by_set.items()) else ""
    remarks = [f"masks of {_few(names)}: {text}{some}" for text, names in words.items()]
    return {name: meaning for name, meaning in meanings.items() if meaning != masks.BINARY}, remarks


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more sets" if len(names) > 3 else "")


def path_of_key(root: Path, key: str, folder: str, suffix: str) -> Path:
    """Where a photo (`folder` is images) or a mask (masks) of a key lies under a root that we write."""
    name, _, stem = key.rpartition("/")
    return root / name / folder / f"{stem}{suffix}"


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
    return len(parts) > 2 or any(part in ("", ".", "..") for part in parts) or "\\" in key or layout.has_control(key)


def _known(
    splits: Mapping[str, tuple[str, ...]], suffixes: dict[str, tuple[str, str | None]], listed: Path, root: Path
) -> dict[str, tuple[str, ...]]:
    """The splits, each key as the text that `suffixes` has; a key in another Unicode form gets an entry of its own.

    Raises:
        InputError: a key without a photo.
    """
    # the same text once
    texts = {key: key for key in suffixes}
    normal = {unicodedata.normalize("NFC", key): key for key in suffixes if not key.isascii()}
    for name, keys in splits.items():
        for key in keys:
            if key in texts:
                continue
            there = normal.get(unicodedata.normalize("NFC", key))
            if there is None:
                raise InputError(
                    f"{listed}: split '{name}' names '{key}', no such photo under {root}: "
                    "add it or take it out of the split"
                )
            stem = there.rpartition("/")[2]
            photo, mask = suffixes.pop(there)
            whole = [part if part is None or not part.startswith(".") else stem + part for part in (photo, mask)]
            assert whole[0] is not None
            suffixes[key], texts[key] = (whole[0], whole[1]), key
    return {name: tuple(texts[key] for key in keys) for name, keys in splits.items()}


def _check_unmasked(dataset: FolderDataset, config: DataConfig) -> tuple[str, ...]:
    """Refuses photos without masks; returns a warning of those that only the name of their split declares."""
    splits, suffixes = dataset.splits, dataset.suffixes
    mask_free = {*config.blank_sets, *config.unlabelled_sets}
    # a set that has masks is a labelled one, and a mask that is missing there is missed
    labelled = {set_of(key) for key, (_, mask) in suffixes.items() if mask is not None}
    by_name: list[str] = []
    for name, keys in splits.items():
        for key in keys:
            if suffixes[key][1] is not None or set_of(key) in mask_free:
                continue
            if name != UNLABELLED_SPLIT or set_of(key) in labelled:
                photo, _ = dataset.files(key)
                raise InputError(
                    f"photo {photo} (split '{name}') has no mask: {_beside(dataset, key)}"
                    f"add masks/{photo.stem}.png, or declare its set in data.blank_sets or data.unlabelled_sets"
                )
            by_name.append(key)
    if not by_name:
        return ()
    return (
        f"split '{UNLABELLED_SPLIT}': no mask, in sets that data.unlabelled_sets does not name; nothing is trained or "
        f"measured on them: {len(by_name)} of {len(splits[UNLABELLED_SPLIT])} (first: {by_name[0]})",
    )


def _beside(dataset: FolderDataset, key: str) -> str:
    """What lies where the mask is missed."""
    name, _, stem = key.rpartition("/")
    base = dataset.root / name
    for part in layout.MASK_FOLDERS:
        if (base / part).is_dir():
            for path in sorted((base / part).iterdir()):
                if path.stem == stem:
                    return f"{path} is not read as one, save it as PNG, or "
    return ""
