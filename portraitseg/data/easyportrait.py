"""Format `easyportrait`: EasyPortrait (Kapitanov et al., 2023): images/<split>, annotations/<split>, nine classes."""

from portraitseg.config import DataConfig
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import find_sets
from portraitseg.errors import InputError

#: 0 is background; 1 to 8 are person, skin, brows, eyes, lips and teeth, all of them of a person.
MASKS = "person:1-8"


def open_easyportrait(config: DataConfig, seed: int) -> FolderDataset:
    """Splits `train`, `val` and `test`, as its folders are.

    Raises:
        InputError: no such folders, a photo without a mask.
    """
    assert config.root is not None
    for part in ("images", "annotations"):
        if not (config.root / part).is_dir():
            raise InputError(f"DATA {config.root}: no '{part}': format easyportrait is images/ beside annotations/")
    sets = find_sets(config.root, {*config.blank_sets, *config.unlabelled_sets}, has_list=False)
    return open_sets(config, seed, sets, [], MASKS)
