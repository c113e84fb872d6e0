"""How much masks flicker: clips that a shaking, noisy camera would make of a photo, whose truth moves along exactly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.data.base import Dataset, spread
from portraitseg.errors import InputError
from portraitseg.metrics import dtssd, flipped_share
from portraitseg.runners import Runner

#: Frames of a clip, and greatest number of clips of a split: each costs as much as six photos.
FRAMES, CLIPS = 6, 64

#: Greatest distance in pixels from the middle, and the standard deviation of the noise of each frame in 0..255.
SHAKE_PX, NOISE = 8, 3.0

Clip = tuple[list[UInt8[np.ndarray, "h2 w2 3"]], list[UInt8[np.ndarray, "h2 w2"]]]


def shaken_clip(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"]) -> Clip:
    """Frames cut from a photo along a walk of whole pixels, each with fresh noise, and their truths.

    Nothing is made up at the edges: the frames are smaller than the photo by twice the greatest shift. The walk and the
    noise are the same for every photo and every time.

    Returns:
        Frames and truths, FRAMES of each.
    """
    generator = np.random.default_rng(7)
    height, width = mask.shape
    reach = min(SHAKE_PX, (height - 1) // 2, (width - 1) // 2)
    steps = generator.integers(-3, 4, (FRAMES, 2)).cumsum(axis=0)
    frames, truths = [], []
    for y, x in np.clip(steps, -reach, reach) + reach:
        window = (slice(int(y), int(y) + height - 2 * reach), slice(int(x), int(x) + width - 2 * reach))
        noise = generator.normal(0, NOISE, image[window].shape)
        frames.append(np.clip(np.rint(image[window] + noise), 0, 255).astype(np.uint8))
        truths.append(np.ascontiguousarray(mask[window]))
    return frames, truths


@dataclass
class Flicker:
    """What was measured so far: (split, file name) → one value a clip for each measure; complete splits only."""

    done: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)

    def measure(self, runners: Mapping[str, Runner], dataset: Dataset, split: str) -> Iterator[str]:
        """Runs all files on the clips of a split; one clip is in memory at a time.

        Yields:
            The key of each photo that is done; after the last one the split is in `done`.

        Raises:
            InputError: an unreadable photo, or one without a truth mask.
        """
        scores: dict[str, dict[str, list[float]]] = {name: {"dtssd": [], "flipped_share": []} for name in runners}
        for key in spread(dataset.keys(split), CLIPS):
            sample = dataset.load(key)
            if sample.mask is None:
                raise InputError(f"photo {key}: no mask to compare with: measure on a split whose sets are labelled")
            frames, truths = shaken_clip(sample.image, sample.mask)
            for name, runner in runners.items():
                for measure, value in _score(runner, frames, truths).items():
                    scores[name][measure].append(value)
            yield key
        self.done |= {(split, name): values for name, values in scores.items()}


def _score(runner: Runner, frames: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    probabilities = [runner.predict(frame) for frame in frames]
    size = (truths[0].shape[0], truths[0].shape[1])
    alphas = [contract.probability_to_alpha(probability, size) for probability in probabilities]
    masks = [contract.probability_to_mask(probability, size) for probability in probabilities]
    true_masks = [contract.truth_to_mask(truth) for truth in truths]
    return {
        "dtssd": dtssd(alphas, [truth.astype(np.float32) for truth in true_masks]),
        "flipped_share": flipped_share(masks, true_masks),
    }
