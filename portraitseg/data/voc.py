"""Format `voc`: the layout of PASCAL VOC: JPEGImages, SegmentationClass (indices; 255 is ignored), lists of names."""

from portraitseg.config import DataConfig
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import Layout, SetFolders
from portraitseg.errors import InputError

#: The twenty classes are in alphabetical order; person is the fifteenth.
MASKS = "person:15,ignore:255"

LISTS = "ImageSets/Segmentation"


def open_voc(config: DataConfig, seed: int) -> FolderDataset:
    """Splits `train`, `val` and `test`, as far as their lists are there and their photos have masks.

    Photos that no list names, most of VOC, are in no split. For other classes than VOC's: `data.mask`.

    Raises:
        InputError: a missing folder or list, a list that names what is not there.
    """
    assert config.root is not None
    for part in ("JPEGImages", "SegmentationClass", LISTS):
        if not (config.root / part).is_dir():
            raise InputError(
                f"DATA {config.root}: no '{part}': format voc is VOCdevkit/VOC2012 and what is laid out like it"
            )
    folder = config.root / LISTS
    lists = [folder / f"{name}.txt" for name in ("train", "val", "test") if (folder / f"{name}.txt").is_file()]
    if not lists:
        raise InputError(
            f"DATA {config.root}: {LISTS} has no train.txt: list the names of the photos in it, one a line"
        )
    return open_sets(config, seed, Layout((SetFolders("", "JPEGImages", "SegmentationClass"),)), lists, MASKS)
