"""Format `pixelannotation`: PixelAnnotationTool's masks: <photo>_watershed_mask.png, _color_mask.png.

Those of the watershed hold class ids, 255 on borders; the coloured ones the colours of the classes. What these are
called says its configuration, a .json beside the photos; without one, that which the tool has by default (Cityscapes').
"""

from pathlib import Path
from typing import Any

from portraitseg import mask_setting
from portraitseg.config import DataConfig
from portraitseg.data import shapes
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import SPLIT_FOLDERS, Layout, SetFolders
from portraitseg.errors import InputError

#: What a mask's name ends with, the better one first, and what the brush strokes are saved as, which are no mask.
WATERSHED, COLOUR, STROKES = "_watershed_mask.png", "_color_mask.png", "_mask.png"

#: Persons and riders of the tool's own configuration.
_DEFAULTS = {WATERSHED: "person:24+25", COLOUR: "person:#dc143c+#ff0000"}
_PERSONS = ("person", "rider")

#: What the watershed leaves on borders.
_BORDER = 255


def open_pixelannotation(config: DataConfig, seed: int) -> FolderDataset:
    """Splits by folders that are called train, val and test, else drawn by `val_ratio`.

    Raises:
        InputError: no such masks, a photo without one, no person among the classes.
    """
    assert config.root is not None
    root = config.root
    if not root.is_dir():
        raise InputError(f"DATA {root}: no such folder: give the folder that holds the photos now with DATA=")
    folders = [("", ""), *((path.name, path.name) for path in sorted(root.iterdir()) if path.is_dir())]
    of_ending = {
        ending: [name for name, folder in folders if any((root / folder).glob(f"*{ending}"))]
        for ending in (WATERSHED, COLOUR)
    }
    ending = WATERSHED if of_ending[WATERSHED] else COLOUR
    names = of_ending[ending]
    if not names:
        raise InputError(
            f"DATA {root}: no '<photo>{WATERSHED}': format pixelannotation is the folder that the tool was used on, "
            "photos and masks together"
        )
    by_name = all(name.casefold() in SPLIT_FOLDERS for name in names)
    sets = tuple(
        SetFolders(name, name, name, SPLIT_FOLDERS[name.casefold()] if by_name else None, ending) for name in names
    )
    origin = f"splits by folders: {', '.join(names)}" if by_name else ""
    return open_sets(config, seed, Layout(sets, origin=origin), [], _setting(config, root, ending))


def _setting(config: DataConfig, root: Path, ending: str) -> str:
    """What masks mean, by the configuration of the tool where it lies there."""
    for path in shapes.json_files(root):
        labels = shapes.read_json(path)
        labels = labels.get("labels") if isinstance(labels, dict) else None
        if labels:
            break
    else:
        return _DEFAULTS[ending] + (f",ignore:{_BORDER}" if ending == WATERSHED else "")
    wanted = {name.casefold() for name in config.person_labels or (*shapes.PERSON_LABELS, *_PERSONS)}

    def parse() -> str:
        items: list[Any] = list(labels.values()) if isinstance(labels, dict) else labels
        persons = [item for item in items if str(item["name"]).casefold() in wanted]
        if not persons:
            there = ", ".join(str(item["name"]) for item in items[:12])
            raise InputError(
                f"none of its labels is known to be person (there are: {there}): name it in data.person_labels"
            )
        if ending == WATERSHED:
            return f"person:{'+'.join(str(int(item['id'])) for item in persons)},ignore:{_BORDER}"
        return "person:" + "+".join("#{:02x}{:02x}{:02x}".format(*map(int, item["color"])) for item in persons)

    setting = shapes.parsed(parse, str(path))
    mask_setting.parse_setting(setting)
    return setting
