"""What annotation tools draw: labelled shapes beside a photo, turned into its mask when it is read."""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from portraitseg import files
from portraitseg.config import DataConfig
from portraitseg.data import layout, reading
from portraitseg.data.base import Dataset, Sample, draw_val, set_of
from portraitseg.errors import InputError

#: What is person where `data.person_labels` says nothing; capitals do not count.
PERSON_LABELS = ("person", "person_bmp", "person_poly")

#: Greatest size of one photo's annotation: LabelMe keeps the photo itself in it, as text.
MAX_ANNOTATION_BYTES = 200_000_000

#: Fractions of a pixel that OpenCV's polygons know, in bits.
_SHIFT = 4

#: Points of a shape beyond this many pixels from the photo are a fault, and would overflow.
_FARTHEST_PX = 1_000_000

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Shape:
    """A region with a label: rings, of which an inner one is a hole, or pixels.

    Attributes:
        label: its class.
        rings: polygons (x, y) in pixels, filled by the even-odd rule.
        bitmap: pixels, where it is not drawn by rings; `origin` (x, y) is its upper left corner in the photo.
    """

    label: str
    rings: tuple[Float[np.ndarray, "_ 2"], ...] = ()
    bitmap: Bool[np.ndarray, "h w"] | None = None
    origin: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Annotation:
    """The shapes of a photo.

    Attributes:
        size: (height, width) of the photo when it was annotated.
        shapes: in the order in which they were drawn.
        left_out: kinds of shapes that have no area, such as points.
    """

    size: tuple[int, int]
    shapes: tuple[Shape, ...]
    left_out: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ShapesDataset(Dataset):
    """Photos with labelled shapes. Only names and places are kept: a photo's shapes are read when it is.

    Attributes:
        root: the folder that the user gave.
        photos: key → photo, relative to the root.
        person, ignored: labels that are person, and that nobody is to be judged by, in lower case.
    """

    root: Path
    photos: Mapping[str, str] = field(repr=False)
    person: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()

    @property
    def has_ignored(self) -> bool:
        """See `Dataset.has_ignored`."""
        return bool(self.ignored)

    @classmethod
    def of_photos(
        cls,
        root: Path,
        photos: Mapping[str, str],
        labels: Iterable[str],
        config: DataConfig,
        seed: int,
        ignored: Sequence[str] = (),
        **further: Any,
    ) -> "ShapesDataset":
        """The dataset of photos that were found: decides what its labels mean, and divides it.

        Args:
            root, photos: see the class.
            labels, ignored: as `decide_labels` takes them.
            config, seed: as `divide` takes them.
            places: what the format's own class has besides.

        Raises:
            InputError: as `decide_labels`.
        """
        person, unjudged, words = decide_labels(config, labels, f"DATA {root}", ignored)
        splits, how = divide(photos, config, seed)
        remarks = tuple(filter(None, (how, words)))
        return cls(
            str(root), splits, remarks=remarks, root=root, photos=photos, person=person, ignored=unjudged, **further
        )

    def files(self, key: str) -> tuple[Path, Path | None]:
        """A photo and the file of its shapes."""
        return self.root / self.photos[key], self.root / self.source(key)

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        photo, source = self.files(key)
        assert source is not None
        image, notes = reading.read_image(photo)
        annotation = parsed(lambda: self.annotation(key), f"annotation {source} of '{key}'")
        if annotation.size != image.shape[:2]:
            raise InputError(
                f"annotation {source} of '{key}': drawn on {annotation.size[1]}x{annotation.size[0]}, the photo is "
                f"{image.shape[1]}x{image.shape[0]}: give the photo that was annotated, upright or not as it was then"
            )
        mask, ignore = self.draw(annotation)
        odd = reading.odd_mask(mask if ignore is None else mask[~ignore])
        odd += [f"a shape without an area is left out ({kind})" for kind in sorted(annotation.left_out)]
        return Sample(key, image, mask, (*notes, *(f"mask: {note}" for note in odd)), ignore)

    def draw(self, annotation: Annotation) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None]:
        """Mask (0 or 255) and ignored pixels: the union of persons; of person and ignored, the later one counts."""
        mask = np.zeros(annotation.size, np.uint8)
        ignore = np.zeros(annotation.size, bool)
        for shape in annotation.shapes:
            label = shape.label.casefold()
            if label in self.person or label in self.ignored:
                region = fill(shape, annotation.size)
                mask[region], ignore[region] = (255, False) if label in self.person else (0, True)
        return mask, ignore if ignore.any() else None

    @abstractmethod
    def source(self, key: str) -> str:
        """The file that holds a photo's shapes, relative to the root."""

    @abstractmethod
    def annotation(self, key: str) -> Annotation:
        """The shapes of a photo.

        Raises:
            InputError: a file that cannot be read, with the remedy.
            KeyError, TypeError, ValueError, …: what malformed content runs into; `load` names the file.
        """

    def excerpt(self, keys: Sequence[str]) -> "ShapesDataset":
        """See `Dataset.excerpt`."""
        return replace(self, splits={}, photos={key: self.photos[key] for key in keys})


def fill(shape: Shape, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels of a shape, as far as they are in a photo of this size (height, width)."""
    if shape.bitmap is None:
        canvas = np.zeros(size, np.uint8)
        rings = [np.round(ring * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2) for ring in shape.rings if len(ring)]
        if rings:
            cv2.fillPoly(canvas, rings, 1, shift=_SHIFT)
        return canvas > 0
    region = np.zeros(size, bool)
    (x, y), (height, width) = shape.origin, shape.bitmap.shape
    top, left, bottom, right = max(0, y), max(0, x), min(size[0], y + height), min(size[1], x + width)
    if top < bottom and left < right:
        region[top:bottom, left:right] = shape.bitmap[top - y : bottom - y, left - x : right - x]
    return region


def ring(points: Any) -> Float[np.ndarray, "n 2"]:
    """A polygon from a list of pairs (x, y).

    Raises:
        ValueError: fewer than three points, no numbers, or far outside of any photo.
    """
    corners = np.asarray(points, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise ValueError(f"a polygon needs three points (x, y) or more, not an array of shape {corners.shape}")
    if not np.isfinite(corners).all() or np.abs(corners).max() > _FARTHEST_PX:
        raise ValueError("a polygon with points that lie nowhere")
    return corners


def box(corners: Any) -> Float[np.ndarray, "n 2"]:
    """A rectangle from two opposite corners.

    Raises:
        ValueError: as `ring`.
    """
    (left, top), (right, bottom) = corners
    return ring([(left, top), (right, top), (right, bottom), (left, bottom)])


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Float[np.ndarray, "n 2"]:
    """An ellipse as a polygon of 72 sides.

    Raises:
        ValueError: as `ring`.
    """
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    across, along = radius_x * np.cos(turn), radius_y * np.sin(turn)
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return ring(np.stack([x + across * cos - along * sin, y + across * sin + along * cos], axis=1))


def bitmap(content: bytes) -> Bool[np.ndarray, "h w"]:
    """The pixels that a PNG inside an annotation marks: by its fourth channel, else all that are not black.

    Raises:
        ValueError, OSError, …: not a PNG, or a damaged one.
        InputError: over 50 megapixels.
    """
    import io

    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        if image.width * image.height > reading.MAX_PIXELS:
            raise InputError(f"a bitmap of {image.width}x{image.height}: over {reading.MAX_PIXELS // 10**6} megapixels")
        if image.mode in ("LA", "RGBA", "PA"):
            return np.asarray(image.getchannel("A")) > 0
        # a palette of one bit has its own order of black and white: what is marked is what is not index 0
        values = np.asarray(image)
    return np.asarray(values > 0 if values.ndim == 2 else (values > 0).any(axis=2))


def size_of(width: Any, height: Any) -> tuple[int, int]:
    """(height, width) of a photo as an annotation states it.

    Raises:
        ValueError: no numbers, or no size that a photo has.
    """
    size = int(height), int(width)
    if min(size) < 1 or size[0] * size[1] > reading.MAX_PIXELS:
        raise ValueError(f"a photo of {size[1]}x{size[0]}")
    return size


def parsed(parse: Callable[[], _Parsed], what: str) -> _Parsed:
    """What `parse` gives; whatever malformed content makes it run into is one line that names the thing.

    Raises:
        InputError: so it does.
    """
    try:
        return parse()
    except InputError as error:
        raise error if str(error).startswith(what) else InputError(f"{what}: {error}") from error
    except KeyError as error:
        raise InputError(f"{what}: no {error}: export it anew, or take the photo out") from error
    except reading.DAMAGED as error:
        detail = str(error).split("\n")[0][:200]
        raise InputError(f"{what}: malformed ({detail}): export it anew, or take the photo out") from error


def read_json(path: Path) -> Any:
    """A file of one photo's shapes.

    Raises:
        InputError: missing, too large, not JSON.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file: add it, or take its photo out")
        if path.stat().st_size > MAX_ANNOTATION_BYTES:
            raise InputError(f"{path}: over {MAX_ANNOTATION_BYTES // 10**6} MB, more than the shapes of a photo")
        return json.loads(path.read_bytes(), object_pairs_hook=files.unique_pairs)
    except OSError as error:
        raise InputError(f"{path}: {reading.explain(error)}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not JSON ({str(error)[:100]}): export it anew, or take its photo out") from error


def inside(root: Path, folder: str, name: str, origin: str) -> str:
    """A photo that an annotation names, relative to the root.

    Args:
        root: the folder that the user gave.
        folder: relative to it, from which the name goes out.
        name: as the annotation has it; Windows' backslashes are taken for slashes.
        origin: who names it, for messages.

    Raises:
        InputError: a name that leads out of the root, links followed, or none of a file.
    """
    text = name.replace("\\", "/")
    path = PurePosixPath(text)
    if not text or "\0" in text or path.is_absolute() or text[1:2] == ":":
        raise InputError(f"{origin}: names the photo '{name[:120]}', which is no path within DATA: correct it there")
    joined = root / folder / path
    try:
        relative = joined.resolve().relative_to(root.resolve())
    except (ValueError, OSError, RuntimeError) as error:
        raise InputError(
            f"{origin}: names the photo '{name[:120]}', which leads out of DATA {root}: move the photo into it"
        ) from error
    return relative.as_posix()


def key_of(photo: str, folder: str) -> str:
    """`<set>/<stem>` of a photo: its folders below `folder` are its set, joined by underscores."""
    path = PurePosixPath(photo)
    if path.is_relative_to(folder):
        path = path.relative_to(folder)
    name = "_".join(path.parts[:-1])
    return f"{name}/{path.stem}" if name else path.stem


def add_photo(photos: dict[str, str], key: str, photo: str, origin: str) -> None:
    """Enters a photo under its key.

    Raises:
        InputError: there is one of that key, or its name is no text.
    """
    layout.check_name(Path(photo), "photo")
    if key in photos:
        raise InputError(f"{origin}: '{photo}' and '{photos[key]}' would both be '{key}': rename one of the photos")
    photos[key] = photo


def check_there(root: Path, photos: Mapping[str, str], origin: str) -> None:
    """Makes sure that every photo that is named is there, a folder listed once.

    Raises:
        InputError: one that is not, with how many others.
    """
    listed: dict[str, set[str]] = {}
    missing = []
    for photo in photos.values():
        folder = photo.rpartition("/")[0]
        if folder not in listed:
            directory = root / folder
            listed[folder] = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
        if photo.rpartition("/")[2] not in listed[folder]:
            missing.append(photo)
    if missing:
        raise InputError(
            f"{origin}: {len(missing)} of {len(photos)} photos that it names are not there (first: "
            f"{root / missing[0]}): add them, or export again with the photos"
        )


def decide_labels(
    config: DataConfig, labels: Iterable[str], where: str, ignored: Sequence[str] = ()
) -> tuple[frozenset[str], frozenset[str], str]:
    """Which labels are person and which nobody is to be judged by.

    Args:
        config: with what the user says of it.
        labels: that the set has.
        where: the set, for messages.
        ignored: what the format ignores unless the user says otherwise.

    Returns:
        Both in lower case, and in words what was taken.

    Raises:
        InputError: no label is person, or `data.mask` says something of values, which shapes do not have.
    """
    if config.mask != "auto":
        raise InputError(
            f"{where}: its masks are drawn from shapes with labels, and data.mask speaks of values: take it away, and "
            "name labels: --set 'data.person_labels=[\"person\"]'"
        )
    known = {label.casefold(): label for label in sorted(labels)}
    person = {label.casefold() for label in config.person_labels or PERSON_LABELS}
    left_open = {label.casefold() for label in config.ignore_labels or ignored} & set(known)
    if unknown := {label.casefold() for label in (*config.person_labels, *config.ignore_labels)} - set(known):
        raise InputError(f"{where}: no label '{min(unknown)}' (there are: {_few(known.values())})")
    taken = person & set(known)
    if not taken:
        raise InputError(
            f"{where}: none of its labels is known to be person (there are: {_few(known.values())}): say which: "
            "--set 'data.person_labels=[\"…\"]'"
        )
    if both := taken & left_open:
        raise InputError(f"{where}: '{min(both)}' is one of data.person_labels and one of data.ignore_labels")
    text = f"labels {_few(known.values())}: {_few(sorted(known[label] for label in taken))} is person"
    if left_open:
        text += f", {_few(sorted(known[label] for label in left_open))} is ignored in loss and scores"
    return frozenset(taken), frozenset(left_open), text


def divide(keys: Iterable[str], config: DataConfig, seed: int) -> tuple[dict[str, tuple[str, ...]], str]:
    """Splits by sets that are called as one, else drawn; and in words how."""
    ordered = sorted(keys)
    names = sorted({set_of(key) for key in ordered})
    # COCO's are called train2017
    folded = {name: name.casefold().rstrip("0123456789") for name in names}
    by_name = {name: layout.SPLIT_FOLDERS[text] for name, text in folded.items() if text in layout.SPLIT_FOLDERS}
    if not names or len(by_name) != len(names):
        return draw_val(ordered, config.val_ratio, seed), ""
    splits: dict[str, tuple[str, ...]] = {
        split: tuple(key for key in ordered if by_name[set_of(key)] == split)
        for split in dict.fromkeys(by_name.values())
    }
    how = f"splits by sets: {', '.join(names)}"
    if "val" not in splits and "train" in splits:
        splits |= draw_val(splits["train"], config.val_ratio, seed)
        how += f"; val drawn from train (data.val_ratio={config.val_ratio:g})"
    return splits, how


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:12]) + (f" … ({len(listed)} labels)" if len(listed) > 12 else "") if listed else "none"


def json_files(folder: Path) -> Iterator[Path]:
    """The JSON files of a folder, hidden ones left out, by name."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".json" and path.name[0] != ".")
    return (folder / name for name in names)
