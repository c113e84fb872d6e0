"""The data formats by name."""

from collections.abc import Callable

from portraitseg.config import DataConfig
from portraitseg.data import aisegment, easyportrait, eg1800, folder, p3m10k, shards, synthetic_dataset, voc
from portraitseg.data.base import Dataset, Sample, hash_keys, spread

__all__ = ["DATASETS", "Dataset", "Sample", "hash_keys", "open_dataset", "spread"]

DATASETS: dict[str, Callable[[DataConfig, int], Dataset]] = {
    "folder": folder.open_folder,
    "eg1800": eg1800.open_eg1800,
    "aisegment": aisegment.open_aisegment,
    "p3m10k": p3m10k.open_p3m10k,
    "easyportrait": easyportrait.open_easyportrait,
    "voc": voc.open_voc,
    "shards": shards.open_shards,
    "synthetic": synthetic_dataset.open_synthetic,
}


def open_dataset(config: DataConfig, seed: int) -> Dataset:
    """Opens the data of a run; reads lists, no photos.

    Raises:
        InputError: a missing folder, unpaired files, a malformed list.
    """
    return DATASETS[config.format](config, seed)
