"""Classes and bytes of instruction words, which an assembler wrote (aarch64 binutils, read once)."""

import pytest

from portraitseg.checks.arm.decode import CLASSES, classify, moved_bytes

#: word, class, bytes loaded, bytes stored, what it is
WORDS = [
    (0x4E829420, "dot", 0, 0, "sdot v0.4s, v1.16b, v2.16b"),
    (0x4F82E020, "dot", 0, 0, "sdot v0.4s, v1.16b, v2.4b[0]"),
    (0x4E82A420, "dot", 0, 0, "smmla v0.4s, v1.16b, v2.16b"),
    (0x4E22CC20, "multiply_fp32", 0, 0, "fmla v0.4s, v1.4s, v2.4s"),
    (0x4F821020, "multiply_fp32", 0, 0, "fmla v0.4s, v1.4s, v2.s[0]"),
    (0x4E420C20, "multiply_fp16", 0, 0, "fmla v0.8h, v1.8h, v2.8h"),
    (0x4F021020, "multiply_fp16", 0, 0, "fmla v0.8h, v1.8h, v2.h[0]"),
    (0x0E228020, "multiply_int", 0, 0, "smlal v0.8h, v1.8b, v2.8b"),
    (0x4F622020, "multiply_int", 0, 0, "smlal2 v0.4s, v1.8h, v2.h[2]"),
    (0x4E229C20, "multiply_int", 0, 0, "mul v0.16b, v1.16b, v2.16b"),
    (0x4E22D420, "vector", 0, 0, "fadd v0.4s, v1.4s, v2.4s"),
    (0x3DC00020, "load_vector", 16, 0, "ldr q0, [x1]"),
    (0xFC408420, "load_vector", 8, 0, "ldr d0, [x1], #8"),
    (0xAD400820, "load_vector", 32, 0, "ldp q0, q2, [x1]"),
    (0x4CDF7820, "load_vector", 16, 0, "ld1 {v0.4s}, [x1], #16"),
    (0x4CDFA820, "load_vector", 32, 0, "ld1 {v0.4s, v1.4s}, [x1], #32"),
    (0x4D40C820, "load_vector", 4, 0, "ld1r {v0.4s}, [x1]"),
    (0x3D800020, "store_vector", 0, 16, "str q0, [x1]"),
    (0x0D008020, "store_vector", 0, 4, "st1 {v0.s}[0], [x1]"),
    (0xA9400C22, "load", 16, 0, "ldp x2, x3, [x1]"),
    (0x29400C22, "load", 8, 0, "ldp w2, w3, [x1]"),
    (0xF9400022, "load", 8, 0, "ldr x2, [x1]"),
    (0x39400022, "load", 1, 0, "ldrb w2, [x1]"),
    (0xF9800020, "load", 0, 0, "prfm pldl1keep, [x1]"),
    (0xB8626820, "load", 4, 0, "ldr w0, [x1, x2]"),
    (0xF9000022, "store", 0, 8, "str x2, [x1]"),
    (0xA9BF7BFD, "store", 0, 16, "stp x29, x30, [sp, #-16]!"),
    (0x54FFFFE1, "branch", 0, 0, "b.ne"),
    (0xD65F03C0, "branch", 0, 0, "ret"),
    (0x8B020020, "scalar", 0, 0, "add x0, x1, x2"),
    (0x91000421, "scalar", 0, 0, "add x1, x1, #1"),
    (0x04E00000, "sve", 0, 0, "an SVE word"),
]


@pytest.mark.parametrize(("word", "kind", "loaded", "stored", "text"), WORDS, ids=[row[4] for row in WORDS])
def test_words(word: int, kind: str, loaded: int, stored: int, text: str) -> None:
    assert (classify(word), *moved_bytes(word)) == (kind, loaded, stored), text


def test_every_class_is_shown() -> None:
    assert {row[1] for row in WORDS} == set(CLASSES)
