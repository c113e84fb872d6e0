"""Format `synthetic`: the procedural portraits as a data set, so that a fresh clone runs with no download."""

from dataclasses import dataclass

from portraitseg.config import DataConfig
from portraitseg.data.base import Dataset, Sample
from portraitseg.errors import InputError
from portraitseg.synthetic import portraits as synthetic

#: Larger than the networks' input, so that the photo → input → photo way is exercised as with real photos.
PHOTO_SIZE = (320, 320)


@dataclass(frozen=True)
class SyntheticDataset(Dataset):
    """Portraits drawn on demand; keys are `synthetic/<index>`."""

    seed: int = 0

    def load(self, key: str) -> Sample:
        """See `Dataset.load`."""
        try:
            index = int(key.rpartition("/")[2])
        except ValueError as error:
            raise InputError(f"synthetic: no portrait '{key}'") from error
        image, alpha = synthetic.render(index, PHOTO_SIZE, self.seed)
        return Sample(key, image, alpha)


def open_synthetic(config: DataConfig, seed: int) -> SyntheticDataset:
    """Splits `train`, `val` and `test` of different indices. The run's seed changes no portrait: scores compare.

    Raises:
        InputError: a folder is given, whose photos would not be read.
    """
    del seed
    if config.root is not None:
        raise InputError(
            f"DATA {config.root}: the run's portraits are drawn, not read: leave DATA out, or FORMAT=folder"
        )
    train = config.synthetic_photos
    held_out = min(128, train // 8)
    keys = [f"synthetic/{index:06d}" for index in range(train + 2 * held_out)]
    return SyntheticDataset(
        name="synthetic",
        # val and test first, so that they stay the same when the training split grows beyond 1024
        splits={
            "train": tuple(keys[2 * held_out :]),
            "val": tuple(keys[:held_out]),
            "test": tuple(keys[held_out : 2 * held_out]),
        },
    )
