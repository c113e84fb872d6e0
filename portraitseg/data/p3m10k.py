"""Format `p3m10k`: P3M-10k (Li et al., 2021), portraits with blurred faces and their mattes.

train/blurred_image with train/mask; validation/P3M-500-P (blurred faces) and P3M-500-NP (celebrities, original_image).
"""

from portraitseg.config import DataConfig
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import Layout, SetFolders
from portraitseg.errors import InputError

#: What papers report on: its two validation sets, which are tests here, since nothing may be chosen on them.
_SETS = (
    SetFolders("p3m_train", "train/blurred_image", "train/mask", "train"),
    SetFolders("p3m_500_p", "validation/P3M-500-P/blurred_image", "validation/P3M-500-P/mask", "test_p3m_500_p"),
    SetFolders("p3m_500_np", "validation/P3M-500-NP/original_image", "validation/P3M-500-NP/mask", "test_p3m_500_np"),
)


def open_p3m10k(config: DataConfig, seed: int) -> FolderDataset:
    """Splits `train` and `val` (drawn from its train by `val_ratio`), `test_p3m_500_p` and `test_p3m_500_np`.

    Masks are mattes: with `data.soft_masks` they are learnt as such.

    Raises:
        InputError: no training photos, a photo without a matte.
    """
    assert config.root is not None
    if not (config.root / _SETS[0].images).is_dir():
        raise InputError(f"DATA {config.root}: no '{_SETS[0].images}': format p3m10k is the folder P3M-10k as unpacked")
    sets = tuple(folders for folders in _SETS if (config.root / folders.images).is_dir())
    layout = Layout(
        sets, origin=f"splits by sets: {', '.join(f'{folders.name} as {folders.split}' for folders in sets)}"
    )
    return open_sets(config, seed, layout, [])
