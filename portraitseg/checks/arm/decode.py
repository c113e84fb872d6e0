"""What an A64 instruction word is: its class, and the bytes that it loads and stores.

Encodings: Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1. SVE is one class, without its bytes.
"""

from functools import lru_cache

#: Classes of instructions, in the order of tables.
CLASSES = (
    "dot",  # int8 dot and matrix products: SDOT, UDOT, USDOT, SMMLA, UMMLA, USMMLA, BFDOT, BFMMLA
    "multiply_int",  # vector multiplications of integers: SMLAL, MUL, …
    "multiply_fp32",  # vector and scalar FMLA, FMADD of 32 or 64 bits
    "multiply_fp16",  # FMLA of 16 bits
    "vector",  # any other SIMD and floating-point instruction
    "load_vector",
    "store_vector",
    "load",
    "store",
    "branch",
    "scalar",
    "sve",
)

#: (mask, value) of instructions that multiply and add.
_DOT = (
    (0x9F20FC00, 0x0E009400),  # SDOT, UDOT by vector
    (0x9F00F400, 0x0F00E000),  # SDOT, UDOT by element
    (0xBFE0FC00, 0x0E809C00),  # USDOT by vector
    (0xBF00F400, 0x0F00F000),  # USDOT, SUDOT, BFDOT by element
    (0xFFE0F400, 0x4E80A400),  # SMMLA, USMMLA
    (0xFFE0F400, 0x6E80A400),  # UMMLA
    (0xFFE0FC00, 0x6E40EC00),  # BFMMLA
    (0xBFE0FC00, 0x2E40FC00),  # BFDOT by vector
)
_FP16 = (
    (0xBF60FC00, 0x0E400C00),  # FMLA, FMLS by vector
    (0xBFC0B400, 0x0F001000),  # FMLA, FMLS by element
    (0xFFC00000, 0x1FC00000),  # FMADD and its like
)
_FP32 = (
    (0xBF20FC00, 0x0E20CC00),  # FMLA, FMLS by vector
    (0xBF80B400, 0x0F801000),  # FMLA, FMLS by element
    (0xFF800000, 0x1F000000),  # FMADD and its like
)
_INT = (
    *((0x9F20FC00, 0x0E200000 | code << 12) for code in (8, 9, 10, 11, 12, 13)),  # SMLAL, SQDMLAL, SMLSL, …, SMULL
    (0x9F20FC00, 0x0E209400),  # MLA, MLS by vector
    (0xBF20FC00, 0x0E209C00),  # MUL by vector
    (0x9F20FC00, 0x0E20B400),  # SQDMULH, SQRDMULH by vector
    *((0x9F00F400, 0x0F000000 | code << 12) for code in (2, 3, 6, 7, 10, 11, 12, 13)),  # SMLAL, …, SQRDMULH by element
    (0xBF00F400, 0x0F008000),  # MUL by element
    *((0xBF00F400, 0x2F000000 | code << 12) for code in (0, 4)),  # MLA, MLS by element
)


@lru_cache(maxsize=1 << 16)
def classify(word: int) -> str:
    """The class of an instruction, one of `CLASSES`."""
    group = word >> 25 & 0xF
    if group & 0b0101 == 0b0100:
        kind = "load" if moved_bytes(word)[0] or not moved_bytes(word)[1] else "store"
        return f"{kind}_vector" if word >> 26 & 1 else kind
    if group & 0b0111 == 0b0111:
        for name, patterns in (
            ("dot", _DOT),
            ("multiply_fp16", _FP16),
            ("multiply_fp32", _FP32),
            ("multiply_int", _INT),
        ):
            if any(word & mask == value for mask, value in patterns):
                return name
        return "vector"
    if group & 0b1110 == 0b1010:
        return "branch"
    return "sve" if group == 0b0010 else "scalar"


@lru_cache(maxsize=1 << 16)
def moved_bytes(word: int) -> tuple[int, int]:
    """Bytes that an instruction loads and stores; prefetches move none, atomic ones do both."""
    if word >> 25 & 0b0101 != 0b0100:
        return 0, 0
    kind, is_vector, top = word >> 28 & 0b11, word >> 26 & 1, word >> 30
    if kind == 0b00:
        return _structures(word) if is_vector else _exclusives(word)
    if kind == 0b01:
        if word >> 24 & 1:  # LDAPUR, STLUR
            return _either(word >> 22 & 0b11, 1 << top)
        return (4 << top if is_vector else (4, 8, 4, 0)[top]), 0
    if kind == 0b10:
        size = 2 * (4 << top) if is_vector else 16 if top == 0b10 else 8
        return (size, 0) if word >> 22 & 1 else (0, size)
    return _register(word, is_vector, top)


def _register(word: int, is_vector: int, size: int) -> tuple[int, int]:
    code = word >> 22 & 0b11
    if not word >> 24 & 1 and word >> 21 & 1 and not word >> 10 & 0b11:  # atomic; LDAPR loads alone
        return 1 << size, 0 if word >> 12 & 0b1111 == 0b1100 else 1 << size
    if is_vector:
        scale = 1 << ((code & 0b10) << 1 | size)
        return (scale, 0) if code & 1 else (0, scale)
    if size == 0b11 and code == 0b10:  # PRFM
        return 0, 0
    return _either(code, 1 << size)


def _either(code: int, size: int) -> tuple[int, int]:
    return (size, 0) if code else (0, size)


def _structures(word: int) -> tuple[int, int]:
    """LD1 … LD4, ST1 … ST4 of several registers, of one element, and replicated."""
    code, is_load, whole = word >> 12 & 0b1111, word >> 22 & 1, 16 if word >> 30 & 1 else 8
    if not word >> 24 & 1:
        registers = {0: 4, 2: 4, 4: 3, 6: 3, 7: 1, 8: 2, 10: 2}.get(code, 0)
        moved = registers * whole
    else:
        elements = ((code >> 1 & 1) << 1 | word >> 21 & 1) + 1
        width, size = code >> 2, word >> 10 & 0b11
        element = 1 << size if width == 0b11 else (1, 2, 8 if size & 1 else 4)[width]
        moved = elements * element
    return (moved, 0) if is_load else (0, moved)


def _exclusives(word: int) -> tuple[int, int]:
    """LDXR, STXR, LDAR, STLR, their pairs, and compare-and-swap."""
    size, is_load, both, second = 1 << (word >> 30), word >> 22 & 1, word >> 21 & 1, word >> 23 & 1
    if both and (second or word >> 31 == 0):  # CAS and CASP
        moved = size if second else 8 << (word >> 30)
        return moved, moved
    moved = 2 * size if both else size
    return (moved, 0) if is_load else (0, moved)
