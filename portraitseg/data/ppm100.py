"""Format `ppm100`: PPM-100 (Ke et al., 2022), 100 portraits with mattes: image/ and matte/, or fg/ and alpha/."""

from portraitseg.config import DataConfig
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import Layout, SetFolders
from portraitseg.errors import InputError

#: What its folders are called, in the archive and in MODNet's code; the first that is there counts.
_PHOTOS, _MATTES = ("image", "fg", "images"), ("matte", "alpha", "mattes")

SPLIT = "test_ppm_100"


def open_ppm100(config: DataConfig, seed: int) -> FolderDataset:
    """Split `test_ppm_100`: papers report on it, so nothing is learnt from it or chosen on it.

    Raises:
        InputError: no such folders, a photo without a matte.
    """
    assert config.root is not None
    for part in ("", "val/", "train/"):
        photos = next((part + name for name in _PHOTOS if (config.root / (part + name)).is_dir()), None)
        mattes = next((part + name for name in _MATTES if (config.root / (part + name)).is_dir()), None)
        if photos and mattes:
            folders = SetFolders("ppm_100", photos, mattes, SPLIT)
            return open_sets(config, seed, Layout((folders,), origin=f"a benchmark: all of it is {SPLIT}"), [])
    raise InputError(f"DATA {config.root}: no 'image' beside 'matte': format ppm100 is the folder PPM-100 as unpacked")
