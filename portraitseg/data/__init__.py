"""The data formats by name."""

from collections.abc import Callable

from portraitseg.config import DataConfig
from portraitseg.data import eg1800, folder, synthetic_dataset
from portraitseg.data.base import Dataset, Sample, hash_keys, spread

__all__ = ["DATASETS", "Dataset", "Sample", "hash_keys", "open_dataset", "spread"]

DATASETS: dict[str, Callable[[DataConfig, int], Dataset]] = {
    "folder": folder.open_folder,
    "eg1800": eg1800.open_eg1800,
    "synthetic": synthetic_dataset.open_synthetic,
}


def open_dataset(config: DataConfig, seed: int) -> Dataset:
    """Opens the data of a run; reads lists, no photos.

    Raises:
        InputError: a missing folder, unpaired files, a malformed list.
    """
    return DATASETS[config.format](config, seed)
