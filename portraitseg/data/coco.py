"""Format `coco`: COCO's instances: the union of a photo's persons; crowds are ignored; background-only photos left out.

annotations/instances_<name>.json beside <name>/ or images/<name>/ (as distributed), beside images/ (CVAT's export), or
<name>/_annotations.coco.json among its photos (Roboflow's). COCO train2017 is 450 MB of JSON: it is read in pieces, and
of each person only where it lies in the file is kept.
"""

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from portraitseg.config import DataConfig
from portraitseg.data import reading, shapes
from portraitseg.data.shapes import Annotation, Shape, ShapesDataset
from portraitseg.errors import InputError

#: Label of regions with many persons, drawn as one.
CROWD = "crowd"

#: Read at once; no image, category or instance is longer than the second.
_CHUNK_BYTES, _MAX_OBJECT_BYTES = 1 << 20, 32_000_000

#: Lists at the top of the file that are read; all else is passed over.
_LISTS = ("images", "categories", "annotations")


@dataclass(frozen=True)
class CocoDataset(ShapesDataset):
    """Photos with instances.

    Attributes:
        sources: set → its JSON, relative to the root.
        sizes: key → (height, width) as the JSON states it.
        spans: key → first byte and number of bytes of each of its instances, one after the other.
        labels: set → category id → name.
    """

    sources: Mapping[str, str] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    spans: Mapping[str, array] = field(default_factory=dict, repr=False)
    labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)

    def source(self, key: str) -> str:
        """See `ShapesDataset.source`."""
        return self.sources[key.rpartition("/")[0]]

    def annotation(self, key: str) -> Annotation:
        """See `ShapesDataset.annotation`."""
        size, labels, spans = self.sizes[key], self.labels[key.rpartition("/")[0]], self.spans[key]
        entries = []
        with (self.root / self.source(key)).open("rb") as file:
            for start, length in zip(spans[::2], spans[1::2], strict=True):
                file.seek(start)
                entries.append(json.loads(file.read(length)))
        # where one person stands out of a crowd, it is known
        entries.sort(key=lambda item: not item.get("iscrowd"))
        return Annotation(
            size,
            tuple(
                Shape(
                    CROWD if item.get("iscrowd") else labels[item["category_id"]],
                    bitmap=decode(item["segmentation"], size),
                )
                for item in entries
            ),
        )

    def excerpt(self, keys: Sequence[str]) -> "CocoDataset":
        """See `Dataset.excerpt`."""
        return replace(
            self,
            splits={},
            photos={key: self.photos[key] for key in keys},
            sizes={key: self.sizes[key] for key in keys},
            spans={key: self.spans[key] for key in keys},
        )


def open_coco(config: DataConfig, seed: int) -> CocoDataset:
    """Splits by the names of the files (train2017 is `train`), else drawn by `val_ratio`.

    Raises:
        InputError: no instances, a malformed file, photos that are not there or outside of the folder, no label that is
            person.
    """
    assert config.root is not None
    root = config.root
    listings = [(name, path, folder, _list(path)) for name, path, folder in _find(root)]
    names = {label for *_, listing in listings for label in listing.categories.values()}
    person, ignored, words = shapes.decide_labels(config, names, f"DATA {root}")
    if any(listing.iscrowd.count(1) for *_, listing in listings):
        ignored |= {CROWD}
        words += "; crowds are ignored in loss and scores"
    data = CocoDataset(name=str(root), splits={}, root=root, photos={}, person=person, ignored=ignored)
    photos: dict[str, str] = {}
    sizes: dict[str, tuple[int, int]] = {}
    spans: dict[str, array] = {}
    without_person = 0
    for name, path, folder, listing in listings:
        of_image = listing.instances(person, ignored)
        for number, (photo, size) in listing.images.items():
            if number not in of_image:
                without_person += 1
                continue
            relative = shapes.inside(root, folder, photo, str(path))
            key = f"{name}/{Path(relative).stem}" if name else Path(relative).stem
            shapes.add_photo(photos, key, relative, str(path))
            sizes[key], spans[key] = size, of_image[number]
    if not photos:
        raise InputError(
            f"DATA {root}: no photo of its instances has a {' or '.join(sorted(person))}: name other labels"
        )
    shapes.check_there(root, photos, f"DATA {root}")
    splits, how = shapes.divide(photos, config, seed)
    without = (
        f"{without_person} of {without_person + len(photos)} photos have nobody, and are left out"
        if without_person
        else ""
    )
    return replace(
        data,
        splits=splits,
        remarks=tuple(filter(None, (how, words, without))),
        photos=photos,
        sizes=sizes,
        spans=spans,
        sources={name: path.relative_to(root).as_posix() for name, path, _, _ in listings},
        labels={name: listing.categories for name, _, _, listing in listings},
    )


def _find(root: Path) -> list[tuple[str, Path, str]]:
    """Name, JSON and folder of photos (relative to the root) of each set."""
    listings = []
    if (root / "annotations").is_dir():
        for path in shapes.json_files(root / "annotations"):
            if path.name.startswith("instances_"):
                name = path.stem.removeprefix("instances_")
                folders = (name, f"images/{name}", "images")
                folder = next((part for part in folders if (root / part).is_dir()), name)
                listings.append((name, path, folder))
    for path in sorted(root.glob("*/_annotations.coco.json")):
        listings.append((path.parent.name, path, path.parent.name))
    if (listing := root / "_annotations.coco.json").is_file():
        listings.append(("", listing, ""))
    if not listings:
        raise InputError(
            f"DATA {root}: no annotations/instances_<name>.json: format coco is COCO as unpacked, or CVAT's or "
            "Roboflow's export"
        )
    return listings


@dataclass
class _Listing:
    """What is kept of a file: of each instance 33 bytes."""

    images: dict[int, tuple[str, tuple[int, int]]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    image: array = field(default_factory=lambda: array("q"))
    category: array = field(default_factory=lambda: array("q"))
    start: array = field(default_factory=lambda: array("q"))
    length: array = field(default_factory=lambda: array("q"))
    iscrowd: array = field(default_factory=lambda: array("b"))

    def add(self, kind: str, value: Any, start: int, length: int) -> None:
        """Enters one object of the lists."""
        if kind == "images":
            size = shapes.size_of(value["width"], value["height"])
            self.images[int(value["id"])] = (str(value["file_name"]), size)
        elif kind == "categories":
            self.categories[int(value["id"])] = str(value["name"])
        elif kind == "annotations" and value.get("segmentation"):
            entry = (int(value["image_id"]), int(value["category_id"]), start, length, bool(value.get("iscrowd")))
            columns = (self.image, self.category, self.start, self.length, self.iscrowd)
            for column, item in zip(columns, entry, strict=True):
                column.append(item)

    def instances(self, person: frozenset[str], ignored: frozenset[str]) -> dict[int, array]:
        """Image → places of what is person or ignored on it; images without one (a crowd is none) are not there."""
        of_label = {number: label.casefold() for number, label in self.categories.items()}
        is_person = np.isin(self.category, [number for number, label in of_label.items() if label in person])
        is_ignored = np.isin(self.category, [number for number, label in of_label.items() if label in ignored])
        peopled = set(np.asarray(self.image)[is_person & (np.asarray(self.iscrowd) == 0)].tolist())
        spans: dict[int, array] = {number: array("q") for number in peopled}
        for row in np.flatnonzero(is_person | is_ignored):
            if self.image[row] in spans:
                spans[self.image[row]].extend((self.start[row], self.length[row]))
        return spans


def _list(path: Path) -> _Listing:
    listing = _Listing()

    def read() -> _Listing:
        for kind, value, start, length in objects(path):
            listing.add(kind, value, start, length)
        return listing

    return shapes.parsed(read, str(path))


def objects(path: Path) -> Iterator[tuple[str, Any, int, int]]:
    """The objects in the lists of a JSON object, one at a time: list, object, its first byte, its number of bytes.

    Raises:
        InputError: unreadable.
        ValueError: not JSON, or an object over 32 MB.
    """
    try:
        with path.open("rb") as file:
            yield from _Scanner(file).objects()
    except OSError as error:
        raise InputError(f"{path}: {reading.explain(error)}") from error


class _Scanner:
    """Reads JSON in pieces. The text is that of its bytes, one character each, so that places are bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._text = ""
        self._offset = 0
        self._before = 0
        self._decode = json.JSONDecoder().raw_decode

    def objects(self) -> Iterator[tuple[str, Any, int, int]]:
        """See the function."""
        if self._peek() == "\xef":
            for byte in "\xef\xbb\xbf":
                self._take(byte)
        self._take("{")
        while self._peek() != "}":
            name = self._value()[0]
            self._take(":")
            if self._peek() == "[":
                yield from self._list(str(name))
            else:
                self._value()
            if self._peek() != "}":
                self._take(",")

    def _list(self, name: str) -> Iterator[tuple[str, Any, int, int]]:
        self._take("[")
        while self._peek() != "]":
            value, start, length = self._value()
            if name in _LISTS:
                yield name, value, start, length
            if self._peek() != "]":
                self._take(",")
        self._take("]")

    def _value(self) -> tuple[Any, int, int]:
        """The next value, its first byte and its number of bytes."""
        self._peek()
        while True:
            start = self._offset
            try:
                value, end = self._decode(self._text, start)
                # a number at the end of what is read may go on
                if end < len(self._text) or not self._more():
                    break
            except json.JSONDecodeError:
                if not self._more():
                    raise
        text = self._text[start:end]
        if not text.isascii():
            value = json.loads(text.encode("latin-1"))
        self._offset = end
        return value, self._before + start, end - start

    def _peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self._offset < len(self._text) and self._text[self._offset] in " \t\r\n":
                self._offset += 1
            if self._offset < len(self._text):
                return self._text[self._offset]
            if not self._more():
                raise ValueError("ends too early")

    def _take(self, expected: str) -> None:
        if (character := self._peek()) != expected:
            raise ValueError(f"'{character}' where '{expected}' is due")
        self._offset += 1

    def _more(self) -> bool:
        """Reads on, and forgets what was read before the current place."""
        if len(self._text) - self._offset > _MAX_OBJECT_BYTES:
            raise ValueError(f"an object over {_MAX_OBJECT_BYTES // 10**6} MB")
        chunk = self._file.read(_CHUNK_BYTES)
        self._before += self._offset
        self._text = self._text[self._offset :] + chunk.decode("latin-1")
        self._offset = 0
        return bool(chunk)


def decode(segmentation: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Polygons, or runs, compressed or not, as pixels; by COCO's own code.

    Raises:
        ValueError, TypeError, …: malformed.
    """
    from pycocotools import mask as coco

    height, width = size
    if isinstance(segmentation, list):
        polygons = [shapes.ring(np.reshape(np.asarray(item, np.float64), (-1, 2))).ravel() for item in segmentation]
        if not polygons:
            return np.zeros(size, bool)
        runs = coco.merge(coco.frPyObjects([item.tolist() for item in polygons], height, width))
    else:
        # the C code trusts the size that it is told, and reads runs beyond it
        if tuple(segmentation["size"]) != size:
            raise ValueError(f"runs of a photo of {segmentation['size']}, its photo is {list(size)}")
        runs = segmentation
        if isinstance(runs["counts"], list):
            runs = coco.frPyObjects(runs, height, width)
        if _pixels(runs["counts"]) != height * width:
            raise ValueError("runs that do not fill the photo")
    return coco.decode(runs) > 0


def _pixels(counts: bytes | str) -> int:
    """Sum of COCO's compressed runs: differences to the run before the last, five bits of them a character."""
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode("ascii") if isinstance(counts, str) else counts:
        bits = code - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            # the fifth bit is the sign
            value -= 1 << shift if bits & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if any(run < 0 for run in runs):
        raise ValueError("runs of a negative length")
    return sum(runs)
