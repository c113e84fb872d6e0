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
    offset = generator.randrange(len(data) + 1)
    end = min(len(data), offset + generator.randrange(1, 17))
    match generator.randrange(8):
        case 0 if offset < len(data):
            data[offset] ^= 1 << generator.randrange(8)
        case 1 if offset < len(data):
            data[offset] = generator.randrange(256)
        case 2:
            data[offset:end] = b""
        case 3:
            data[offset:offset] = data[offset:end] * generator.randrange(1, 9)
        case 4:
            data[offset : offset + generator.randrange(2) * 8] = generator.choice(words)
        case 5:
            other = generator.choice(corpus)
            start = generator.randrange(len(other) + 1)
            data[offset:end] = other[start : start + generator.randrange(1, 65)]
        case 6:
            number = generator.choice((0, 1, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1))
            data[offset : offset + 4] = struct.pack(generator.choice("<>") + "I", number)
        case 7 if generator.random() < 0.3:
            del data[offset:]


def repair_png(data: bytearray) -> None:
    """Makes the checksums of a PNG right again: with wrong ones, nothing behind them is ever reached."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return
    offset = 8
    while offset + 12 <= len(data):
        length = int.from_bytes(data[offset : offset + 4])
        end = offset + 8 + length
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[offset + 4 : end]))
        offset = end + 4
