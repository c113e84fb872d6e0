"""Where a folder of photos keeps its sets, their masks and its splits: the layouts that people have."""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from portraitseg.data import reading
from portraitseg.errors import InputError

#: Folders that are splits by their name, in lower case.
SPLIT_FOLDERS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

#: What folders of photos and of masks are called; the first that is there counts.
PHOTO_FOLDERS = ("images", "img_dir", "imgs")
MASK_FOLDERS = ("masks", "labels", "annotations", "ann_dir")

#: Masks are best kept without loss; a JPEG's outline is not exact, but a mask it is.
MASK_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

#: What else people call a picture of; it is named, since to pass it over would lose a photo without a word.
_OTHER_PICTURES = (".heic", ".heif", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".dng", ".psd", ".npy", ".mat")

_SPLIT_FOLDER = re.compile(
    rf"(?:(?P<before>{'|'.join(SPLIT_FOLDERS)})[_-])?(?P<what>{'|'.join((*PHOTO_FOLDERS, *MASK_FOLDERS))})"
    rf"(?:[_-](?P<after>{'|'.join(SPLIT_FOLDERS)}))?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SetFolders:
    """A set of photos.

    Attributes:
        name: the part of its keys before the slash; empty for a folder that is one set.
        images, masks: its folders, relative to the root; `masks` need not be there.
        split: what its name or that of its folder says it is for; None: nothing.
        mask_ending: what follows a photo's stem, up to its first dot, in the name of its mask, where both lie in one
            folder; such files are no photos.
    """

    name: str
    images: str
    masks: str
    split: str | None = None
    mask_ending: str = ""


@dataclass(frozen=True)
class Layout:
    """The sets of a folder, a warning of what was left out, and how its splits came about, in words."""

    sets: tuple[SetFolders, ...]
    warnings: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Pairs:
    """The photos of a set.

    Attributes:
        files: stem → suffix of the photo, and suffix of the mask; a whole name, which begins with no dot, where it is
            not the stem with a suffix; None where there is no mask.
        unread: photos in formats that are not read, by their names.
    """

    files: Mapping[str, tuple[str, str | None]] = field(repr=False)
    unread: tuple[str, ...] = ()


def find_sets(root: Path, mask_free: set[str], has_list: bool) -> Layout:
    """Looks for `images/`, `<set>/images`, `<split>/images`, `images/<split>` and `<split>_images`, with their masks.

    Args:
        root: the folder that the user gave.
        mask_free: sets that are declared to have no masks.
        has_list: whether a list says which photo is in which split; names of folders say nothing then.

    Raises:
        InputError: photos both beside and in folders of splits, or labelled sets beside those.
    """
    photos = next((name for name in PHOTO_FOLDERS if (root / name).is_dir()), None)
    if photos and (parts := _split_parts(root / photos)):
        return _within(root, photos, parts)
    if photos:
        return _flat(root, photos, mask_free)
    children = sorted(child.name for child in root.iterdir() if child.name[0] != ".")
    if affixed := _affixed(children):
        return Layout(affixed, origin=_in_words(affixed, "images"))
    sets = []
    for name in children:
        # without permission Path.is_dir raises: a set would be missed
        if any((root / name / part).is_dir() for part in (*PHOTO_FOLDERS, "masks")):
            split = None if has_list or name in mask_free else SPLIT_FOLDERS.get(name.lower())
            sets.append(_folders_of(root, name, split))
    of_splits = [folders for folders in sets if folders.split]
    others = [folders.name for folders in sets if not folders.split and folders.name not in mask_free]
    if of_splits and others:
        raise InputError(
            f"DATA {root}: '{others[0]}' lies beside the splits {', '.join(p.name for p in of_splits)}, and its photos "
            "are of none of them: move them into one, or list all splits in splits.json"
        )
    return Layout(tuple(sets), origin=_in_words(tuple(of_splits), "folders") if of_splits else "")


def pair(root: Path, folders: SetFolders, is_mask_free: bool) -> Pairs:
    """Pairs the photos of a set with their masks, by their names without suffix, whatever Unicode form they are in.

    Raises:
        InputError: two photos or masks of one name, a mask without a photo, a name that is no text; or masks in a set
            that is declared to have none.
    """
    base = root / folders.images
    if not base.is_dir():
        raise InputError(f"set {root / folders.name}: masks/ without images/: add the photos, or take the masks out")
    images, unread = _list_photos(base, is_mixed=bool(folders.mask_ending))
    folder = root / folders.masks
    masks = _list_masks(folder, folders.mask_ending, images) if folder.is_dir() else {}
    keys = {_normal(stem): stem for stem in images}
    if len(keys) < len(images):
        twin = next(stem for stem in images if keys[_normal(stem)] != stem)
        raise InputError(f"photo {base / twin}: a second photo of this name, in another Unicode form: rename one")
    masks = _matched(masks, keys, folder, base, unread)
    if masks and is_mask_free:
        raise InputError(
            f"set '{folders.name}' is one of data.blank_sets or data.unlabelled_sets but has {folder}: take the masks "
            "out, or name other sets (--set 'data.blank_sets=[]')"
        )
    same: dict[tuple[str, str | None], tuple[str, str | None]] = {}
    files = {}
    for stem, suffix in images.items():
        mask = masks.get(_normal(stem))
        # the same text once: a hundred thousand photos are to cost no more than their names
        kept = None if mask is None else sys.intern(Path(mask).suffix) if Path(mask).stem == stem else mask
        entry = (suffix, kept)
        files[stem] = same.setdefault(entry, entry)
    return Pairs(files, tuple(unread.values()))


def _flat(root: Path, photos: str, mask_free: set[str]) -> Layout:
    """`images/` in the root: sets beside it count where they are declared to have no masks; others may be copies."""
    skipped = {*PHOTO_FOLDERS, *MASK_FOLDERS}
    children = (child for child in root.iterdir() if child.name not in skipped and child.name[0] != ".")
    # not Path.is_dir, which raises without permission: it may be the disk's lost+found
    is_folder = os.path.isdir
    names = sorted(c.name for c in children if any(is_folder(c / part) for part in (*PHOTO_FOLDERS, "masks")))
    left_out = [name for name in names if name not in mask_free]
    sets = (_folders_of(root, "", None), *(_folders_of(root, name, None) for name in names if name in mask_free))
    if not left_out:
        return Layout(sets)
    warning = (
        f"sets beside {root / photos} are left out, to take them give images/ and masks/ a folder of their own: "
        f"{len(left_out)} (first: {left_out[0]})"
    )
    return Layout(sets, (warning,))


def _within(root: Path, photos: str, parts: list[str]) -> Layout:
    """`images/train` with `masks/train`; the masks may lie in one folder for all."""
    if loose := next((path for path in _sorted(root / photos) if path.suffix.lower() in reading.IMAGE_SUFFIXES), None):
        raise InputError(
            f"photo {loose}: lies beside the folders of splits ({', '.join(parts)}): move it into one of them"
        )
    masks = _mask_folder(root, parts)
    sets = []
    for part in parts:
        inner = f"{masks}/{part}"
        mask_folder = inner if (root / inner).is_dir() else masks
        sets.append(SetFolders(part, f"{photos}/{part}", mask_folder, SPLIT_FOLDERS[part.lower()]))
    return Layout(tuple(sets), origin=_in_words(tuple(sets), f"folders of {photos}/"))


def _split_parts(folder: Path) -> list[str]:
    if not os.access(folder, os.R_OK):
        return []
    return sorted(child.name for child in folder.iterdir() if child.name.lower() in SPLIT_FOLDERS and child.is_dir())


def _affixed(children: list[str]) -> tuple[SetFolders, ...]:
    """`train_images` with `train_masks`, or `images_train` with `masks_train`."""
    by_split: dict[str, dict[str, str]] = {}
    for name in children:
        match = _SPLIT_FOLDER.fullmatch(name)
        if match and (split := match["before"] or match["after"]):
            kind = "images" if match["what"].lower() in PHOTO_FOLDERS else "masks"
            by_split.setdefault(split, {}).setdefault(kind, name)
    return tuple(
        SetFolders(split, parts["images"], parts.get("masks", f"{split}_masks"), SPLIT_FOLDERS[split.lower()])
        for split, parts in by_split.items()
        if "images" in parts
    )


def _folders_of(root: Path, name: str, split: str | None) -> SetFolders:
    base = root / name
    check_name(base, "set")
    photos = next((part for part in PHOTO_FOLDERS if (base / part).is_dir()), "images")
    prefix = f"{name}/" if name else ""
    return SetFolders(name, prefix + photos, prefix + _mask_folder(base), split)


def _mask_folder(base: Path, parts: list[str] | None = None) -> str:
    """`masks`, or another usual name of a folder that holds pictures."""
    for name in MASK_FOLDERS:
        folders = [base / name / part for part in parts or []] + [base / name]
        if name == "masks" and (base / name).is_dir():
            return name
        for folder in folders:
            if folder.is_dir() and any(path.suffix.lower() in MASK_SUFFIXES for path in folder.iterdir()):
                return name
    return "masks"


def _in_words(sets: tuple[SetFolders, ...], what: str) -> str:
    return f"splits by {what}: " + ", ".join(
        folders.name if folders.name == folders.split else f"{folders.name} as {folders.split}" for folders in sets
    )


def _list_photos(base: Path, is_mixed: bool = False) -> tuple[dict[str, str], dict[str, str]]:
    """Stem → suffix of the photos, and stem → name of pictures that are not read; `is_mixed`: masks lie among them."""
    images: dict[str, str] = {}
    unread: dict[str, str] = {}
    readable = reading.image_suffixes()
    for path in _sorted(base):
        suffix = path.suffix.lower()
        if is_mixed and path.stem.endswith("_mask"):
            continue
        if suffix not in readable:
            if suffix in _OTHER_PICTURES:
                unread[_normal(path.stem)] = path.name
            continue
        check_name(path, "photo")
        if path.stem in images:
            first = f"{path.stem}{images[path.stem]}"
            raise InputError(f"photo {path}: a second photo named '{path.stem}' ({first}): rename one")
        images[path.stem] = sys.intern(path.suffix)
    return images, unread


def _list_masks(folder: Path, ending: str = "", photos: Mapping[str, str] | None = None) -> dict[str, str]:
    """Stem → file name; with an ending, those that end so, by the stem of their photo."""
    masks: dict[str, str] = {}
    of_base = {stem.partition(".")[0]: stem for stem in photos or ()}
    for path in _sorted(folder):
        if ending:
            base = path.name.removesuffix(ending)
            if base != path.name:
                masks[of_base.get(base, base)] = path.name
            continue
        if path.suffix.lower() not in MASK_SUFFIXES:
            continue
        if path.stem in masks:
            raise InputError(f"mask {path}: a second mask named '{path.stem}' ({masks[path.stem]}): take one out")
        masks[path.stem] = path.name
    return masks


def _matched(
    masks: dict[str, str], keys: Mapping[str, str], folder: Path, base: Path, unread: Mapping[str, str]
) -> dict[str, str]:
    """Normal form of a photo's stem → file name of its mask.

    Raises:
        InputError: a mask without a photo, saying what lies there in its place.
    """
    matched: dict[str, str] = {}
    for stem, name in masks.items():
        # labelme and others write photo.jpg.png
        for candidate in (_normal(stem), _normal(Path(stem).stem) if Path(stem).suffix else ""):
            if candidate in keys:
                break
        else:
            raise InputError(f"mask {folder / name}: {_explain_orphan(stem, keys, base, unread)}")
        if candidate in matched:
            raise InputError(
                f"mask {folder / name}: a second mask of '{candidate}' ({matched[candidate]}): take one out"
            )
        matched[candidate] = name
    return matched


def _explain_orphan(stem: str, keys: Mapping[str, str], base: Path, unread: Mapping[str, str]) -> str:
    if (name := unread.get(_normal(stem))) is not None:
        return f"its photo is {base / name}: {reading.how_to_read(Path(name).suffix)}"
    folded = {key.casefold(): text for key, text in keys.items()}
    if (other := folded.get(_normal(stem).casefold())) is not None:
        return f"no photo of this name in {base}, but '{other}': give both the same capitals"
    near = next((text for key, text in keys.items() if _normal(stem).startswith(f"{key}_")), None)
    if near is not None:
        return f"no photo of this name in {base}: is it the mask of '{near}'? Give both the same name"
    return f"no photo of this name in {base}: add it or take the mask out"


def _normal(stem: str) -> str:
    """MacOS writes é as two characters, all others as one."""
    return stem if stem.isascii() else unicodedata.normalize("NFC", stem)


def file_of(folder: Path, stem: str, suffix: str) -> Path:
    """The file of a stem; `suffix` may be its whole name, which begins with no dot."""
    return folder / (f"{stem}{suffix}" if suffix.startswith(".") or not suffix else suffix)


def _sorted(folder: Path) -> Iterator[Path]:
    """What a folder has, hidden files left out; sorted as names, since paths take several times the memory."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return (folder / name for name in names)


def has_control(name: str) -> bool:
    """Line breaks and the like: the hash of a split joins its keys by newlines, so that a key can have none."""
    return any(ord(character) < 32 or ord(character) == 127 for character in name)


def check_name(path: Path, what: str) -> None:
    """Refuses a name that is not text.

    Raises:
        InputError: so it is.
    """
    try:
        path.name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} {path}: its name is not UTF-8: rename it") from error
    if has_control(path.name) or "\\" in path.name:
        raise InputError(f"{what} {path}: its name has a line break, a backslash or the like: rename it")
