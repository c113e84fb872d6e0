"""What every data format offers: named splits of keys, and a photo with its mask for each key."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, UInt8

from portraitseg.errors import InputError
from portraitseg.terms import Terms

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Sample:
    """One photo.

    Attributes:
        key: `<set>/<stem>`.
        image: RGB, 0..255.
        mask: alpha of the person at the photo's size, 0..255; None where nobody labelled it.
        notes: what was converted or looks odd, each a short phrase that the loader counts.
        ignore: the pixels whose truth nobody knows, which count in no loss and no score; `mask` is 0 there. None: all
            are known.
    """

    key: str
    image: UInt8[np.ndarray, "h w 3"]
    mask: UInt8[np.ndarray, "h w"] | None
    notes: tuple[str, ...] = ()
    ignore: Bool[np.ndarray, "h w"] | None = None


@dataclass(frozen=True)
class Dataset(ABC):
    """Photos by key. Picklable and without open files, so that worker processes can share it.

    Attributes:
        name: the format and folder, for messages.
        splits: split name → keys, in a fixed order.
        terms: set → its licence and what that allows; "" is all others'.
        warnings: what the user should know of the data as a whole, a line each.
        remarks: how they are read, a line each: where splits are from, what masks mean.
        weights: first part of the key → how often such photos come in an epoch of training; empty: all once.
    """

    name: str
    splits: Mapping[str, tuple[str, ...]]
    terms: Mapping[str, Terms] = field(default_factory=dict, kw_only=True)
    warnings: tuple[str, ...] = field(default=(), kw_only=True)
    remarks: tuple[str, ...] = field(default=(), kw_only=True)
    weights: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    @property
    def has_ignored(self) -> bool:
        """Whether masks may have pixels that nobody is to be judged by."""
        return False

    @property
    def was_read(self) -> bool:
        """Whether every photo was read before it came here, so that a training need not read all once more."""
        return False

    @abstractmethod
    def load(self, key: str) -> Sample:
        """Reads one photo and its mask.

        Raises:
            InputError: missing, unreadable or mis-sized, naming the file and the remedy.
        """

    def keys(self, split: str) -> tuple[str, ...]:
        """The keys of a split.

        Raises:
            InputError: no such split, or an empty one.
        """
        if split not in self.splits:
            raise InputError(f"{self.name}: no split '{split}' (there are: {', '.join(self.splits) or 'none'})")
        if not self.splits[split]:
            raise InputError(f"{self.name}: split '{split}' is empty: add photos or name another split")
        return self.splits[split]

    def split_hash(self, split: str) -> str:
        """First 16 hex digits of the SHA-256 of the sorted keys joined by newlines (docs/interface.md)."""
        return hash_keys(self.keys(split))

    def excerpt(self, keys: Sequence[str]) -> "Dataset":
        """What another process needs to load these photos: no splits, and no names of others."""
        del keys
        return replace(self, splits={})

    def terms_of(self, name: str) -> Terms:
        """What binds a set."""
        return self.terms.get(name) or self.terms.get("") or Terms()

    def weighted(self, split: str) -> tuple[tuple[int, float], ...]:
        """How often an epoch has the keys of a split, one run of them after the other: their number, their weight."""
        if not self.weights:
            return ((len(self.keys(split)), 1.0),)
        counts = Counter(key.partition("/")[0] for key in self.keys(split))
        return tuple((count, self.weights[name]) for name, count in counts.items())

    def sets(self, split: str) -> dict[str, tuple[str, ...]]:
        """The keys of a split by set: the part of the key before the slash; without one, the folder's own name."""
        groups: dict[str, list[str]] = {}
        for key in self.keys(split):
            groups.setdefault(set_of(key) or Path(self.name).name or self.name, []).append(key)
        return {name: tuple(keys) for name, keys in groups.items()}


def is_of(key: str, names: Collection[str]) -> bool:
    """Whether a photo is of one of these sets, also within one of several that are mixed."""
    name = set_of(key)
    return name in names or name.rpartition("/")[2] in names


def set_of(key: str) -> str:
    """The set of `<set>/<stem>`; empty for a folder that is one set."""
    return key.rpartition("/")[0]


def is_test_split(name: str) -> bool:
    """Whether a split is for reporting only, by its name: nothing is learnt from it or chosen on it."""
    return name.startswith("test")


def is_measured(split: str, val_split: str) -> bool:
    """Whether a split is measured on, so that nothing may be learnt from it: `val_split`, and those of tests."""
    return split == val_split or is_test_split(split)


def trainable_keys(dataset: Dataset, sets: Iterable[str], val_split: str) -> tuple[str, ...]:
    """The sorted keys of some sets, of all splits but those to measure on: `val_split` and what begins with `test`."""
    measured: set[str] = set()
    others: set[str] = set()
    for split, keys in dataset.splits.items():
        (measured if is_measured(split, val_split) else others).update(keys)
    names = set(sets)
    return tuple(sorted(key for key in others - measured if is_of(key, names)))


def blank_per_epoch(photos: int, share: float) -> int:
    """How many background-only photos an epoch of `photos` others has on top, so that they are this share of all."""
    return round(photos * share / (1 - share))


def hash_keys(keys: Iterable[str]) -> str:
    """First 16 hex digits of the SHA-256 of the sorted keys joined by newlines."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:16]


#: Photos whose pixels stand for all where two machines compare theirs.
_COMPARED_PHOTOS = 8


def hash_photos(dataset: Dataset, keys: Sequence[str]) -> str:
    """First 16 hex digits of the SHA-256 of all keys, and of some photos and masks: whether machines have the same."""
    digest = hashlib.sha256("\n".join(keys).encode())
    for key in spread(keys, _COMPARED_PHOTOS):
        sample = dataset.load(key)
        for pixels in (sample.image, sample.mask):
            digest.update(b"" if pixels is None else pixels.tobytes())
    return digest.hexdigest()[:16]


class Shard(NamedTuple):
    """What one of `parts` machines does, by its number from 0."""

    number: int = 0
    parts: int = 1

    @property
    def part(self) -> slice:
        """Of a list."""
        return slice(self.number, None, self.parts)

    def __str__(self) -> str:
        return f"{self.number + 1}/{self.parts}"


def parse_shard(text: str) -> Shard:
    """`i/n` of `--shard`, with i from 1.

    Raises:
        InputError: another form, or a place that is none of them.
    """
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"--shard {text[:40]}: write i/n, such as 1/4, with i from 1 to n")
    return Shard(int(number) - 1, int(count))


def draw_val(keys: Iterable[str], val_ratio: float, seed: int) -> dict[str, tuple[str, ...]]:
    """Divides keys into `train` and `val` by a seeded hash of the stem: a photo stays where it is when others come."""

    def is_val(key: str) -> bool:
        digest = hashlib.sha256(f"{seed}:{key.rpartition('/')[2]}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64 < val_ratio

    ordered = sorted(keys)
    return {
        "train": tuple(key for key in ordered if not is_val(key)),
        "val": tuple(key for key in ordered if is_val(key)),
    }


def spread(keys: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` keys, evenly over the whole list: neighbours are often frames of one video."""
    count = min(count, len(keys))
    return [keys[index * len(keys) // count] for index in range(count)]
