"""Photos that are nearly the same: frames of one burst, copies in another size, mirror images."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Int, UInt8, UInt64

#: Differences of neighbours on a side of the reduced photo; a hash has as many bits as their square, 256.
_SIDE = 16

#: Bits of 256 up to which two photos are taken for the same: copies in JPEG or in half the size differ in 10 at most,
#: unlike portraits in 41 at least (nearest of 6,468 to those of other splits; tests/data/test_twins.py).
MOST_BITS = 20

#: Set bits below which a photo has hardly an edge: all plain walls have one hash.
_LEAST_BITS = 8

#: Pairs that are compared at once: 25 MB.
_CHUNK = 1 << 18

Hash = UInt64[np.ndarray, "4"]


def difference_hash(image: UInt8[np.ndarray, "h w 3"]) -> Hash:
    """Whether each of 16 x 16 spots is brighter than its left neighbour (dHash, Krawetz 2013): 256 bits."""
    return _hash_grey(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def _hash_grey(grey: UInt8[np.ndarray, "h w"]) -> Hash:
    small = cv2.resize(grey, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).view(np.uint64)


def hashes(image: UInt8[np.ndarray, "h w 3"]) -> UInt64[np.ndarray, "2 4"]:
    """Of a photo and of its mirror image."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.stack([_hash_grey(grey), _hash_grey(cv2.flip(grey, 1))])


def near_pairs(codes: UInt64[np.ndarray, "n 2 4"], most_bits: int = MOST_BITS) -> Iterator[tuple[int, int, int]]:
    """All pairs of photos that are nearly the same, mirrored ones too: (first, second, bits that differ).

    Hashes that differ in `most_bits` agree in one of `most_bits` + 1 parts at least, so that only those which have a
    part in common are compared (Norouzi et al., 2012, arXiv:1307.2982).

    Args:
        codes: of n photos what `hashes` gives.
        most_bits: that may differ.
    """
    hashes, parts = np.ascontiguousarray(codes[:, 0]), most_bits + 1
    kept = np.flatnonzero(np.bitwise_count(hashes).sum(axis=1) >= _LEAST_BITS)
    for side in range(2):
        other = np.ascontiguousarray(codes[:, side])
        for part, first, second in _candidates(hashes, other, kept, parts):
            differing = hashes[first] ^ other[second]
            bits = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
            is_new = bits <= most_bits
            # a pair that agrees in an earlier part too was seen there: nothing has to be kept of millions of them
            for earlier in range(part):
                is_new[is_new] = (differing[is_new] & _mask(earlier, parts)).any(axis=1)
            first, second, bits = first[is_new], second[is_new], bits[is_new]
            unturned, mirrored = (
                np.bitwise_count(hashes[first] ^ codes[second, which]).sum(axis=1, dtype=np.int64) for which in range(2)
            )
            seen = (unturned <= most_bits) if side else np.zeros(len(first), bool)
            for pair in zip(first[~seen], second[~seen], np.minimum(unturned, mirrored)[~seen], strict=True):
                yield int(pair[0]), int(pair[1]), int(pair[2])


def _candidates(
    first: UInt64[np.ndarray, "n 4"], other: UInt64[np.ndarray, "n 4"], kept: Int[np.ndarray, " m"], parts: int
) -> Iterator[tuple[int, Int[np.ndarray, " k"], Int[np.ndarray, " k"]]]:
    """Pairs of which a part agrees, with its number, `_CHUNK` at a time; or all, of part 0, where that is fewer."""
    tables = []
    for part in range(parts):
        keys, values = (_part(hashes_[kept], part, parts) for hashes_ in (first, other))
        order = np.argsort(values, kind="stable").astype(np.int32)
        low, high = (np.searchsorted(values[order], keys, side).astype(np.int32) for side in ("left", "right"))
        tables.append((order, low, high - low))
    count = len(kept)
    # many photos with a plain background have whole parts in common
    if sum(int(lengths.sum(dtype=np.int64)) for _, _, lengths in tables) > count * count:
        tables = [(np.arange(count, dtype=np.int32), np.zeros(count, np.int32), np.full(count, count, np.int32))]
    for part, (order, low, lengths) in enumerate(tables):
        ends = np.cumsum(lengths, dtype=np.int64)
        for start in range(0, int(ends[-1]) if count else 0, _CHUNK):
            positions = np.arange(start, min(start + _CHUNK, int(ends[-1])))
            rows = np.searchsorted(ends, positions, "right")
            columns = order[low[rows] + positions - (ends[rows] - lengths[rows])]
            is_pair = rows < columns
            yield part, kept[rows[is_pair]], kept[columns[is_pair]]


def _mask(part: int, parts: int) -> UInt64[np.ndarray, "4"]:
    """The bits of a part."""
    bits = np.zeros(256, np.uint8)
    bits[part::parts] = 1
    return np.packbits(bits).view(np.uint64)


def _part(hashes_: UInt64[np.ndarray, "n 4"], part: int, parts: int) -> Int[np.ndarray, " n"]:
    """Every `parts`-th bit from number `part` on, as a number: neighbouring bits are of neighbours, and alike."""
    bits = np.unpackbits(hashes_.view(np.uint8), axis=1)[:, part::parts]
    return bits.astype(np.int64) @ (1 << np.arange(bits.shape[1]))


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
