"""Format `p3m10k`: P3M-10k (Li et al., 2021), portraits with blurred faces and their mattes.

train/blurred_image with train/mask; validation/P3M-500-P (blurred faces) and P3M-500-NP (celebrities, original_image).
"""

from portraitseg.config import DataConfig
from portraitseg.data.folder import FolderDataset, open_sets
from portraitseg.data.layout import Layout, SetFolders
from portraitseg.errors import InputError

#: What papers report on: its two validation sets, which are tests here, since nothing may be chosen on them.
_PLACES = (
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
    if not (config.root / _PLACES[0].images).is_dir():
        raise InputError(
            f"DATA {config.root}: no '{_PLACES[0].images}': format p3m10k is the folder P3M-10k as unpacked"
        )
    places = tuple(place for place in _PLACES if (config.root / place.images).is_dir())
    found = Layout(places, origin=f"splits by sets: {', '.join(f'{place.name} as {place.split}' for place in places)}")
    return open_sets(config, seed, found, [])
