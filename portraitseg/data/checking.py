"""Looks at every photo of some splits before an hour is spent on them: faults stop, conversions are counted."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from portraitseg import contract
from portraitseg.data import reading
from portraitseg.data.base import Dataset, Sample, spread
from portraitseg.data.folder import FolderDataset
from portraitseg.data.reading import ROTATED

#: How much steeper a photo is along a mask's outline once that is turned too, so that it is asked whether it was drawn
#: on the unturned photo: drawn persons have 2.2 to 2.5, and 1 where they look alike both ways.
_CLEARLY_BETTER = 1.2
_TURNED = "mask: fits the photo better before its EXIF rotation: was it drawn on the unturned photo?"

#: Photos between two signs of progress; as many are in memory at once as there are threads.
_CHUNK = 64


@dataclass
class DataCheck:
    """What was seen.

    Attributes:
        photos: how many were read.
        looked: the same by split.
        notes: conversions and oddities, with their counts.
        examples: note → the first key that had it.
        unmasked: the first key without a mask; None where each has one.
        peopled: split → how many of its photos have a person in the mask.
    """

    photos: int = 0
    looked: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unmasked: str | None = None
    peopled: Counter[str] = field(default_factory=Counter)

    def warnings(self) -> list[str]:
        """One line a note: what, how often, where first."""
        return [
            f"{note}: {count} of {self.photos} (first: {self.examples[note]})"
            for note, count in self.notes.most_common()
        ]


def check_splits(dataset: Dataset, splits: Iterable[str], most: int | None = None) -> Iterator[DataCheck]:
    """Reads the photos and masks of the splits on all cores: every one, or `most` of each split, evenly taken.

    Yields:
        The same record after each chunk, for progress; complete after the last.

    Raises:
        InputError: the first file that cannot be used.
    """
    result = DataCheck()
    seen: dict[bytes, str] = {}
    # threads: decoding leaves Python's lock, and nothing has to be copied between processes
    with ThreadPoolExecutor() as pool:
        for split in splits:
            keys = dataset.keys(split) if most is None else spread(dataset.keys(split), most)
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                for key, (notes, digest, has_mask, has_person) in zip(
                    chunk, pool.map(lambda key: _look(dataset, key), chunk), strict=True
                ):
                    first = seen.setdefault(digest, split)
                    twins = (f"the same photo in {first} and {split}",) if first != split else ()
                    _count(result, key, (*notes, *twins))
                    result.looked[split] += 1
                    result.peopled[split] += has_person
                    if not has_mask and result.unmasked is None:
                        result.unmasked = key
                yield result


def _look(dataset: Dataset, key: str) -> tuple[tuple[str, ...], bytes, bool, bool]:
    """Notes, hash of the pixels, whether there is a mask, and a person in it.

    The photo is let go: a chunk of phone photos is gigabytes.
    """
    sample = dataset.load(key)
    digest = hashlib.blake2b(repr(sample.image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(sample.image).data)
    notes = (*sample.notes, *_turned_note(dataset, sample))
    has_person = sample.mask is not None and bool(contract.truth_to_mask(sample.mask).any())
    return notes, digest.digest(), sample.mask is not None, has_person


def _turned_note(dataset: Dataset, sample: Sample) -> tuple[str, ...]:
    """A note where a mask fits the photo as it was before its EXIF rotation: one that leaves the size as it is."""
    if ROTATED not in sample.notes or sample.mask is None or not isinstance(dataset, FolderDataset):
        return ()
    turned = reading.turn(sample.mask, reading.orientation(dataset.files(sample.key)[0]))
    if turned.shape != sample.mask.shape:
        return ()
    grey = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
    slope = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32)
    as_given, other = (_contrast(slope, mask) for mask in (sample.mask, turned))
    return (_TURNED,) if other > _CLEARLY_BETTER * as_given else ()


def _contrast(slope: Float32[np.ndarray, "h w"], mask: UInt8[np.ndarray, "h w"]) -> float:
    """How steep the photo is where the mask has its outline, against all of the photo."""
    person = contract.truth_to_mask(mask).astype(np.uint8)
    outline = cv2.morphologyEx(person, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    # the photo's own edge is no outline
    outline[[0, 1, -2, -1], :] = outline[:, [0, 1, -2, -1]] = False
    return float(slope[outline].mean() / (slope.mean() + 1)) if outline.any() else 0.0


def _count(result: DataCheck, key: str, notes: Sequence[str]) -> None:
    result.photos += 1
    for note in notes:
        result.notes[note] += 1
        result.examples.setdefault(note, key)
