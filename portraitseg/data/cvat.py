"""Format `cvat`: CVAT's export "CVAT for images 1.1": annotations.xml beside images/; polygons, masks and more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from jaxtyping import Bool

from portraitseg.config import DataConfig
from portraitseg.data import reading, shapes
from portraitseg.data.shapes import Annotation, Shape, ShapesDataset
from portraitseg.errors import InputError

NAME = "annotations.xml"

#: Read at once while the file is listed; of a photo's own part no more than a list of shapes can have.
_CHUNK_BYTES, _MAX_PART_BYTES = 1 << 20, 64_000_000

#: Kinds of shapes that have no area; a tag is of the whole photo.
_WITHOUT_AREA = ("points", "polyline", "cuboid", "skeleton")


@dataclass(frozen=True)
class CvatDataset(ShapesDataset):
    """Photos of a CVAT task or project.

    Attributes:
        spans: key → first byte and number of bytes of its part of annotations.xml.
    """

    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def source(self, key: str) -> str:
        """See `ShapesDataset.source`."""
        del key
        return NAME

    def annotation(self, key: str) -> Annotation:
        """See `ShapesDataset.annotation`."""
        start, length = self.spans[key]
        with (self.root / NAME).open("rb") as file:
            file.seek(start)
            part = file.read(length)
        try:
            image = ElementTree.fromstring(part)
        except ElementTree.ParseError as error:
            raise ValueError(str(error)) from error
        entries = sorted(image, key=lambda item: int(item.get("z_order") or 0))
        return Annotation(
            size=shapes.size_of(image.attrib["width"], image.attrib["height"]),
            shapes=tuple(_shape(item) for item in entries if item.tag not in (*_WITHOUT_AREA, "tag")),
            left_out=frozenset(item.tag for item in entries if item.tag in _WITHOUT_AREA),
        )

    def excerpt(self, keys: Sequence[str]) -> "CvatDataset":
        """See `Dataset.excerpt`."""
        mine = {key: self.spans[key] for key in keys}
        return replace(self, splits={}, photos={key: self.photos[key] for key in keys}, spans=mine)


@dataclass
class _Listing:
    """What is known of annotations.xml after one pass: each photo's part of it, and all labels."""

    images: list[tuple[dict[str, str], int, int]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)


def open_cvat(config: DataConfig, seed: int) -> shapes.ShapesDataset:
    """Splits by CVAT's subsets (or folders) that are called train, val and test, else drawn by `val_ratio`.

    The file is read once, in pieces, for where each photo's part lies; the parts are parsed when they are needed.

    Raises:
        InputError: no annotations.xml, one of a video, malformed or with a DTD; photos that are not there or outside of
            the folder; no label that is person.
    """
    assert config.root is not None
    root = config.root
    path = root / NAME
    if not path.is_file():
        raise InputError(f"DATA {root}: no '{NAME}': format cvat is CVAT's export 'CVAT for images 1.1', unpacked")
    listing = _list(path)
    base = "images" if (root / "images").is_dir() else ""
    photos: dict[str, str] = {}
    spans: dict[str, tuple[int, int]] = {}
    for attributes, start, length in listing.images:
        name, subset = attributes.get("name", ""), attributes.get("subset", "")
        folder = f"{base}/{subset}" if subset and (root / base / subset).is_dir() else base
        photo = shapes.inside(root, folder, name, str(path))
        key = shapes.key_of(photo, base)
        shapes.add_photo(photos, key, photo, str(path))
        spans[key] = start, length
    if not photos:
        raise InputError(f"{path}: names no photo: export the task again, with its images")
    shapes.check_there(root, photos, str(path))
    return CvatDataset.of_photos(root, photos, listing.labels, config, seed, spans=spans)


def _list(path: Path) -> _Listing:
    """Where the photos' parts of the file are.

    Raises:
        InputError: unreadable, malformed, of a video, in another encoding, or with a DTD, whose entities could grow.
    """
    listing = _Listing()
    parser = expat.ParserCreate()
    depth = 0
    open_image: list[tuple[dict[str, str], int]] = []

    def close(at: int) -> None:
        if open_image:
            attributes, start = open_image.pop()
            if at - start > _MAX_PART_BYTES:
                raise InputError(f"{path}: {_MAX_PART_BYTES // 10**6} MB for the photo '{attributes.get('name')}'")
            listing.images.append((attributes, start, at - start))

    def begin(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth == 2:
            close(parser.CurrentByteIndex)
            if tag == "track":
                raise InputError(f"{path}: of a video: export it from CVAT as 'CVAT for images 1.1'")
            if tag == "image":
                open_image.append((attributes, parser.CurrentByteIndex))
        elif depth == 3 and open_image and tag != "tag" and "label" in attributes:
            listing.labels[attributes["label"]] += 1

    def end(tag: str) -> None:
        nonlocal depth
        del tag
        depth -= 1
        if depth == 0:
            close(parser.CurrentByteIndex)

    def refuse(*of: Any) -> None:
        del of
        raise InputError(f"{path}: has a document type, which CVAT does not write: take it out")

    def declare(version: str, encoding: str | None, standalone: int) -> None:
        del version, standalone
        if (encoding or "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
            raise InputError(f"{path}: in {encoding}: save it as UTF-8, as CVAT does")

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler, parser.XmlDeclHandler = refuse, declare
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                parser.Parse(chunk, False)
            parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise InputError(f"{path}: malformed XML ({error}): export the task again") from error
    except OSError as error:
        raise InputError(f"{path}: {reading.explain(error)}") from error
    return listing


def _shape(item: Any) -> Shape:
    label, get = item.attrib["label"], item.attrib
    if item.tag == "polygon":
        return Shape(label, rings=(shapes.ring(_points(get["points"])),))
    if item.tag == "mask":
        return _mask(label, get)
    if item.tag == "box":
        x0, y0, x1, y1 = (float(get[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
        corners = shapes.box([(x0, y0), (x1, y1)])
        return Shape(label, rings=(_turned(corners, float(get.get("rotation") or 0)),))
    if item.tag == "ellipse":
        x, y, across, along = (float(get[name]) for name in ("cx", "cy", "rx", "ry"))
        return Shape(label, rings=(shapes.ellipse(x, y, across, along, float(get.get("rotation") or 0)),))
    raise ValueError(f"a shape of kind '{item.tag}'")


def _points(text: str) -> list[list[float]]:
    return [[float(value) for value in pair.split(",")] for pair in text.split(";")]


def _turned(ring: np.ndarray, degrees: float) -> np.ndarray:
    """About its middle, clockwise as a viewer sees it."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = ring.mean(axis=0)
    return (ring - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle


def _mask(label: str, get: Mapping[str, str]) -> Shape:
    """Runs of background and of the mask in turn, row by row within a box."""
    height, width = shapes.size_of(get["width"], get["height"])
    runs = np.array([int(run) for run in get["rle"].split(",")], np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"runs of {runs.sum()} pixels in a box of {width}x{height}")
    pixels: Bool[np.ndarray, "h w"] = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return Shape(label, bitmap=pixels, origin=(int(float(get["left"])), int(float(get["top"]))))
