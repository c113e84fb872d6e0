"""A small seeded mutator: the same inputs on every machine, without atheris."""

import random
import struct
import zlib
from collections.abc import Iterator, Sequence


def inputs(corpus: Sequence[bytes], words: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """`count` inputs: the corpus itself, then changes of it, one to eight at a time."""
    generator = random.Random(seed)
    yield from corpus[:count]
    for _ in range(count - len(corpus)):
        data = bytearray(generator.choice(corpus))
        for _ in range(1 << generator.randrange(4)):
            _change(data, generator, corpus, words)
        if generator.random() < 0.5:
            repair_png(data)
        yield bytes(data)


def _change(data: bytearray, generator: random.Random, corpus: Sequence[bytes], words: Sequence[bytes]) -> None:
    place = generator.randrange(len(data) + 1)
    end = min(len(data), place + generator.randrange(1, 17))
    match generator.randrange(8):
        case 0 if place < len(data):
            data[place] ^= 1 << generator.randrange(8)
        case 1 if place < len(data):
            data[place] = generator.randrange(256)
        case 2:
            data[place:end] = b""
        case 3:
            data[place:place] = data[place:end] * generator.randrange(1, 9)
        case 4:
            data[place : place + generator.randrange(2) * 8] = generator.choice(words)
        case 5:
            other = generator.choice(corpus)
            start = generator.randrange(len(other) + 1)
            data[place:end] = other[start : start + generator.randrange(1, 65)]
        case 6:
            number = generator.choice((0, 1, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1))
            data[place : place + 4] = struct.pack(generator.choice("<>") + "I", number)
        case 7 if generator.random() < 0.3:
            del data[place:]


def repair_png(data: bytearray) -> None:
    """Makes the checksums of a PNG right again: with wrong ones, nothing behind them is ever reached."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4])
        end = place + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[place + 4 : end]))
        place = end + 4
