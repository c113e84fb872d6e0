"""Format `supervisely`: Supervisely's projects: meta.json, <dataset>/img/<photo>, <dataset>/ann/<photo>.json.

Its person data set has persons as bitmaps and as polygons, and regions called neutral, which nobody is to be judged by.
"""

import base64
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitseg.config import DataConfig
from portraitseg.data import reading, shapes
from portraitseg.data.base import set_of
from portraitseg.data.shapes import Annotation, Shape, ShapesDataset
from portraitseg.errors import InputError

#: What its person data set leaves open.
NEUTRAL = ("neutral",)

#: A bitmap of 50 megapixels of noise in one bit has 6 MB; more is a file made to fill the memory.
_MAX_BITMAP_BYTES = 64_000_000

#: Kinds of figures that have no area.
_WITHOUT_AREA = ("point", "line", "polyline", "graph", "cuboid")


@dataclass(frozen=True)
class SuperviselyDataset(ShapesDataset):
    """A project of Supervisely; keys are `<dataset>/<stem>`.

    Attributes:
        short: datasets whose files of shapes are called `<stem>.json`, as early exports have them.
    """

    short: frozenset[str] = frozenset()

    def source(self, key: str) -> str:
        """See `ShapesDataset.source`."""
        photo = Path(self.photos[key])
        name = photo.stem if set_of(key) in self.short else photo.name
        return (photo.parent.parent / "ann" / f"{name}.json").as_posix()

    def annotation(self, key: str) -> Annotation:
        """See `ShapesDataset.annotation`."""
        value = shapes.read_json(self.root / self.source(key))
        entries = [(str(item["classTitle"]), _kind(item), item) for item in value["objects"]]
        return Annotation(
            size=shapes.size_of(value["size"]["width"], value["size"]["height"]),
            shapes=tuple(_shape(label, kind, item) for label, kind, item in entries if kind not in _WITHOUT_AREA),
            left_out=frozenset(kind for _, kind, _ in entries if kind in _WITHOUT_AREA),
        )


def open_supervisely(config: DataConfig, seed: int) -> shapes.ShapesDataset:
    """Splits by datasets that are called train, val and test, else drawn by `val_ratio`.

    Raises:
        InputError: no meta.json, no dataset, a photo without its shapes, or no label that is person.
    """
    assert config.root is not None
    root = config.root
    where = f"DATA {root}"
    if not (root / "meta.json").is_file():
        raise InputError(f"{where}: no 'meta.json': format supervisely is a project as exported, with meta.json")
    labels = shapes.parsed(
        lambda: [str(item["title"]) for item in shapes.read_json(root / "meta.json")["classes"]],
        f"{root / 'meta.json'}",
    )
    photos: dict[str, str] = {}
    short = set()
    for folder in sorted(path for path in root.iterdir() if (path / "img").is_dir() and path.name[0] != "."):
        there = {path.name for path in (folder / "ann").iterdir()} if (folder / "ann").is_dir() else set()
        for name in sorted(path.name for path in (folder / "img").iterdir() if path.name[0] != "."):
            photo = Path(name)
            if photo.suffix.lower() not in reading.image_suffixes():
                continue
            if f"{name}.json" not in there and f"{photo.stem}.json" in there:
                short.add(folder.name)
            elif f"{name}.json" not in there:
                raise InputError(f"photo {folder / 'img' / name}: no shapes in {folder / 'ann'}: add {name}.json there")
            shapes.add_photo(photos, f"{folder.name}/{photo.stem}", f"{folder.name}/img/{name}", where)
    if not photos:
        raise InputError(
            f"{where}: no photos in <dataset>/img: format supervisely is a project as exported, with photos"
        )
    return SuperviselyDataset.of_photos(root, photos, labels, config, seed, ignored=NEUTRAL, short=frozenset(short))


def _kind(item: Any) -> str:
    if "geometryType" in item:
        return str(item["geometryType"])
    # exports of 2018 have all keys, and null in those that are not meant
    return "bitmap" if item.get("bitmap") else "polygon"


def _shape(label: str, kind: str, item: Any) -> Shape:
    if kind == "bitmap":
        x, y = item["bitmap"]["origin"]
        packed = base64.b64decode(item["bitmap"]["data"], validate=True)
        # what is unpacked is a PNG, which is packed itself: it hardly grows
        content = zlib.decompressobj().decompress(packed, _MAX_BITMAP_BYTES)
        return Shape(label, bitmap=shapes.bitmap(content), origin=(int(x), int(y)))
    outer, inner = item["points"]["exterior"], item["points"]["interior"]
    if kind == "rectangle":
        return Shape(label, rings=(shapes.box(outer),))
    if kind != "polygon":
        raise ValueError(f"a figure of kind '{kind}'")
    return Shape(label, rings=(shapes.ring(outer), *map(shapes.ring, inner)))
