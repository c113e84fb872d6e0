"""Looks at every photo of some splits before an hour is spent on them: faults stop, conversions are counted."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from portraitseg.data.base import Dataset, Sample

#: Photos in flight; bounds memory however many there are.
_CHUNK = 64


@dataclass
class DataCheck:
    """What was seen.

    Attributes:
        photos: how many were read.
        notes: conversions and oddities, with their counts.
        examples: note → the first key that had it.
    """

    photos: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """One line a note: what, how often, where first."""
        return [
            f"{note}: {count} of {self.photos} (first: {self.examples[note]})"
            for note, count in self.notes.most_common()
        ]


def check_splits(dataset: Dataset, splits: Iterable[str]) -> Iterator[DataCheck]:
    """Reads every photo and mask of the splits on all cores.

    Yields:
        The same record after each chunk, for progress; complete after the last.

    Raises:
        InputError: the first file that cannot be used.
    """
    result = DataCheck()
    seen: dict[bytes, tuple[str, str]] = {}
    # threads: decoding leaves Python's lock, and nothing has to be copied between processes
    with ThreadPoolExecutor() as pool:
        for split in splits:
            keys = dataset.keys(split)
            for start in range(0, len(keys), _CHUNK):
                for sample, digest in pool.map(lambda key: _load(dataset, key), keys[start : start + _CHUNK]):
                    twin = seen.setdefault(digest, (split, sample.key))
                    twins = (f"the same photo in {twin[0]} and {split}",) if twin[0] != split else ()
                    _count(result, sample.key, (*sample.notes, *twins))
                yield result


def _load(dataset: Dataset, key: str) -> tuple[Sample, bytes]:
    sample = dataset.load(key)
    return sample, hashlib.blake2b(sample.image.tobytes(), digest_size=16).digest()


def _count(result: DataCheck, key: str, notes: Sequence[str]) -> None:
    result.photos += 1
    for note in notes:
        result.notes[note] += 1
        result.examples.setdefault(note, key)
