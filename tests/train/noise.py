"""Photos that cost nothing, for tests of what is done with photos."""

from dataclasses import dataclass

import numpy as np

from portraitseg.data import Dataset, Sample


@dataclass(frozen=True)
class Noise(Dataset):
    """Photos that cost nothing; masks with an outline."""

    def load(self, key):
        rng = np.random.default_rng(int(key))
        mask = np.zeros((40, 32), np.uint8)
        mask[10 + int(key) :, 5:25] = 255
        return Sample(key, rng.integers(0, 256, (40, 32, 3), np.uint8), mask)


def noise(photos=16):
    return Noise("noise", {"train": tuple(map(str, range(photos))), "val": ("20",)})
