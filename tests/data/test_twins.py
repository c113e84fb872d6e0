"""Photos that are nearly the same are found, whatever was done to them; others are not."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from portraitseg.data import twins
from portraitseg.synthetic import portraits as synthetic

PHOTOS = 40


def portrait(index: int) -> np.ndarray:
    return synthetic.render(index, (160, 128), 3)[0]


def jpeg(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer).convert("RGB"))


CHANGES = {
    "jpeg": jpeg,
    "half the size": lambda i: cv2.resize(i, (64, 80), interpolation=cv2.INTER_AREA),
    "mirrored": lambda i: np.ascontiguousarray(i[:, ::-1]),
    "brighter": lambda i: cv2.convertScaleAbs(i, alpha=1.15, beta=5),
    "grey": lambda i: cv2.cvtColor(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
}


def pairs(images: list[np.ndarray]) -> list[tuple[int, int]]:
    hashes = np.stack([twins.hashes(image) for image in images])
    return [(one, other) for one, other, _ in twins.near_pairs(hashes)]


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_nothing_else(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_CHUNK", 7)  # chunks end within the list
    images = [portrait(index) for index in range(PHOTOS)]
    assert pairs(images) == []
    assert pairs([*images, CHANGES[change](images[3])]) == [(3, PHOTOS)]


def test_plain_photos_are_no_twins() -> None:
    walls = [np.full((50, 40, 3), value, np.uint8) for value in (10, 90, 200)]
    assert pairs(walls) == []


def test_groups_are_joined_through_others() -> None:
    groups = twins.group(["a", "b", "c", "d", "e"], [("c", "b"), ("b", "d")], {"a": "x", "d": "x"})
    assert groups == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "e"}


def test_the_index_finds_what_comparing_all_finds() -> None:
    """Random hashes with near ones among them, plain ones, and many that share half of their bits."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (400, 2, 4), dtype=np.uint64)
    hashes[300:, :, :2] = 0
    hashes[:20] = 0
    for index in range(120):
        first, second = rng.integers(0, 400, 2)
        hashes[second, index % 2] = hashes[first, 0]
        for bit in rng.integers(0, 256, rng.integers(0, 26)):
            hashes[second, index % 2, bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    plain = hashes[:, 0]
    is_plain = np.bitwise_count(plain).sum(axis=1) < twins._LEAST_BITS
    expected = []
    for first in np.flatnonzero(~is_plain):
        bits = np.bitwise_count(plain[first] ^ hashes).sum(axis=2).min(axis=1)
        near = np.flatnonzero((bits <= twins.MOST_BITS) & ~is_plain)
        expected += [(int(first), int(second), int(bits[second])) for second in near if second > first]
    assert expected and sorted(twins.near_pairs(hashes)) == expected
    # photos that are all alike: no index helps, all are compared
    hashes[:] = hashes[200]
    assert len(list(twins.near_pairs(hashes[:50]))) == 50 * 49 // 2
