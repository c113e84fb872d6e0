"""Photos that are nearly the same: frames of one burst, copies in another size, mirror images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8, UInt64

#: Differences of neighbours on a side of the reduced photo; a hash has as many bits as their square, 256.
_SIDE = 16

#: Bits of 256 up to which two photos are taken for the same: copies in JPEG or in half the size differ in 10 at most,
#: unlike portraits in 41 at least (nearest of 6,468 to those of other splits; tests/data/test_twins.py).
MOST_BITS = 20

#: Set bits below which a photo has hardly an edge: all plain walls have one hash.
_LEAST_BITS = 8

#: Hashes that are compared with all others at once: 512 x 100,000 of them are 400 MB at most.
_CHUNK = 512

Hash = UInt64[np.ndarray, "4"]


def difference_hash(image: UInt8[np.ndarray, "h w 3"]) -> Hash:
    """Whether each of 16 x 16 spots is brighter than its left neighbour (dHash, Krawetz 2013): 256 bits."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).view(np.uint64)


def hashes(image: UInt8[np.ndarray, "h w 3"]) -> UInt64[np.ndarray, "2 4"]:
    """Of a photo and of its mirror image."""
    return np.stack([difference_hash(image), difference_hash(np.ascontiguousarray(image[:, ::-1]))])


def near_pairs(found: UInt64[np.ndarray, "n 2 4"], most_bits: int = MOST_BITS) -> Iterator[tuple[int, int, int]]:
    """All pairs of photos that are nearly the same, mirrored ones too: (first, second, bits that differ).

    Args:
        found: of n photos what `hashes` gives.
        most_bits: that may differ.
    """
    own = np.ascontiguousarray(found[:, 0])
    is_plain = np.bitwise_count(own).sum(axis=1) < _LEAST_BITS
    for start in range(0, len(own), _CHUNK):
        part = found[start : start + _CHUNK]
        least = np.full((len(part), len(own)), 256, np.uint16)
        for side in range(2):
            bits = np.zeros_like(least)
            for word in range(4):
                bits += np.bitwise_count(part[:, side, word, None] ^ own[None, :, word])
            np.minimum(least, bits, out=least)
        least[is_plain[start : start + _CHUNK]] = 256
        least[:, is_plain] = 256
        for row, column in zip(*np.nonzero(least <= most_bits), strict=True):
            if start + row < column:
                yield int(start + row), int(column), int(least[row, column])


def group(keys: Sequence[str], pairs: Iterable[tuple[str, str]], labels: Mapping[str, str]) -> dict[str, str]:
    """Groups that no split may part: key → the first key of its group.

    Args:
        keys: all.
        pairs: of keys that belong together.
        labels: key → what it shares with others (a sitter, a session); a key without one stands alone.
    """
    parent = {key: key for key in keys}

    def root(key: str) -> str:
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    def join(one: str, other: str) -> None:
        first, second = sorted((root(one), root(other)))
        parent[second] = first

    first_of: dict[str, str] = {}
    for key, label in labels.items():
        join(key, first_of.setdefault(label, key))
    for one, other in pairs:
        join(one, other)
    return {key: root(key) for key in keys}
