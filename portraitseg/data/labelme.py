"""Format `labelme`: LabelMe's files: <name>.json, which names its photo; in one folder, or in one for each set."""

import base64
import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portraitseg.config import DataConfig
from portraitseg.data import shapes
from portraitseg.data.base import set_of
from portraitseg.data.shapes import Annotation, Shape, ShapesDataset
from portraitseg.errors import InputError
from portraitseg.workers import cores

#: Kinds of shapes that have no area.
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


@dataclass(frozen=True)
class LabelMeDataset(ShapesDataset):
    """Photos that LabelMe's files name; keys are `<folder>/<stem of the file>`.

    Attributes:
        folders: set → the folder of its files, relative to the root.
    """

    folders: Mapping[str, str] = field(default_factory=dict)

    def source(self, key: str) -> str:
        """See `ShapesDataset.source`."""
        return f"{self.folders[set_of(key)]}/{key.rpartition('/')[2]}.json".lstrip("/")

    def annotation(self, key: str) -> Annotation:
        """See `ShapesDataset.annotation`."""
        value = shapes.read_json(self.root / self.source(key))
        entries = [(str(item["label"]), str(item.get("shape_type") or "polygon"), item) for item in value["shapes"]]
        return Annotation(
            size=shapes.size_of(value["imageWidth"], value["imageHeight"]),
            shapes=tuple(_shape(label, kind, item) for label, kind, item in entries if kind not in _WITHOUT_AREA),
            left_out=frozenset(kind for _, kind, _ in entries if kind in _WITHOUT_AREA),
        )


def open_labelme(config: DataConfig, seed: int) -> shapes.ShapesDataset:
    """Splits by folders that are called train, val and test, else drawn by `val_ratio`.

    Each file is read once, for the photo that it names: LabelMe writes `../images/a.jpg`, on Windows with backslashes.

    Raises:
        InputError: no files, a malformed one, one that names a photo that is not there or outside of the folder, no
            label that is person.
    """
    assert config.root is not None
    root = config.root
    if not root.is_dir():
        raise InputError(f"DATA {root}: no such folder: give the folder that holds the photos now with DATA=")
    folders = {"": ""} if any(shapes.json_files(root)) else {}
    folders |= {
        path.name: path.name
        for path in sorted(root.iterdir())
        if path.is_dir() and path.name[0] != "." and any(shapes.json_files(path))
    }
    listed = [(name, path) for name, folder in folders.items() for path in shapes.json_files(root / folder)]
    if not listed:
        raise InputError(f"DATA {root}: no .json: format labelme is the folder that LabelMe wrote its files into")
    photos: dict[str, str] = {}
    labels: Counter[str] = Counter()
    # LabelMe keeps the photo in its file: reading is what takes the time
    with ThreadPoolExecutor(cores()) as pool:
        for (name, path), (photo, photo_labels) in zip(
            listed, pool.map(lambda item: _look(root, *item), listed), strict=True
        ):
            shapes.add_photo(photos, f"{name}/{path.stem}" if name else path.stem, photo, str(path))
            labels.update(photo_labels)
    shapes.check_there(root, photos, f"DATA {root}")
    return LabelMeDataset.of_photos(root, photos, labels, config, seed, folders=folders)


def _look(root: Path, name: str, path: Path) -> tuple[str, set[str]]:
    """The photo of a file, relative to the root, and the labels in it."""

    def parse() -> tuple[str, set[str]]:
        value = shapes.read_json(path)
        photo = shapes.inside(root, name, str(value["imagePath"]), str(path))
        return photo, {str(item["label"]) for item in value["shapes"]}

    return shapes.parsed(parse, str(path))


def _shape(label: str, kind: str, item: Any) -> Shape:
    points = item["points"]
    if kind == "mask":
        (left, top), _ = points
        content = base64.b64decode(item["mask"], validate=True)
        return Shape(label, bitmap=shapes.bitmap(content), origin=(round(left), round(top)))
    if kind == "rectangle":
        return Shape(label, rings=(shapes.box(points),))
    if kind == "circle":
        (x, y), (x_edge, y_edge) = points
        radius = math.hypot(x_edge - x, y_edge - y)
        return Shape(label, rings=(shapes.ellipse(x, y, radius, radius),))
    if kind != "polygon":
        raise ValueError(f"a shape of kind '{kind}'")
    return Shape(label, rings=(shapes.ring(points),))
