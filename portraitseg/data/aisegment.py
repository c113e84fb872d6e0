"""Format `aisegment`: AISegment's mattes: clip_img/<group>/clip_<n>/*.jpg, matting/<group>/matting_<n>/*.png (RGBA).

Its mattes are cut-outs: the fourth channel is the alpha. A folder is a set, so that what was cropped from one source
stays in one split.
"""

from portraitseg.config import DataConfig
from portraitseg.data.base import draw_val
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import Layout, SetFolders
from portraitseg.errors import InputError


def open_aisegment(config: DataConfig, seed: int) -> FolderDataset:
    """Splits `train` and `val`: whole folders, drawn by `val_ratio`.

    Raises:
        InputError: a missing folder, a photo without a matte.
    """
    assert config.root is not None
    root = config.root
    for part in ("clip_img", "matting"):
        if not (root / part).is_dir():
            raise InputError(
                f"DATA {root}: no '{part}': format aisegment is the data as unpacked, clip_img beside matting"
            )
    clips = sorted(
        path for path in (root / "clip_img").glob("*/clip_*") if path.is_dir() and path.parent.name[0] != "."
    )
    names = {f"{path.parent.name}_{path.name.removeprefix('clip_')}": path for path in clips}
    is_val = set(draw_val(names, config.val_ratio, seed)["val"])
    sets = tuple(
        SetFolders(
            name,
            f"clip_img/{path.parent.name}/{path.name}",
            f"matting/{path.parent.name}/{path.name.replace('clip_', 'matting_', 1)}",
            "val" if name in is_val else "train",
        )
        for name, path in names.items()
    )
    counts = f"{len(sets) - len(is_val)} folders to train on, {len(is_val)} to validate"
    return open_sets(config, seed, Layout(sets, origin=f"splits by folders of the set: {counts}"), [], "alpha")
