"""The plugin's file → instructions by kernel and operator; a count that broke off, and operators that do not fit."""

from pathlib import Path

import pytest

from portraitseg.checks.arm.counts import read_sections, short_name, summarize
from portraitseg.checks.arm.symbols import Symbols, read_symbols
from portraitseg.tflite.graph import read_graph
from tests.runners.tiny import write_tflite

GEMM = "xnn_f32_gemm_minmax_ukernel_6x8__neon"
SYMBOLS = Symbols([(0x100, 0x40, GEMM), (0x200, 0x10, "xnn_f32_dwconv_minmax_ukernel_9p8c__neon")])

#: Two FMLA and a load in the kernel, run 10 times; before the border one addition, outside the library, 5 times.
LINES = ["S 0", "B 7 999000 8b020020", "7 5", "S 1", "B 3 1100 4e22cc20 4e22cc20 3dc00020", "3 10", "E"]


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "count.0"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_instructions_and_bytes(tmp_path: Path) -> None:
    before, kernel = read_sections(write(tmp_path, LINES), SYMBOLS, 0x1000, 0x2000)
    assert dict(before.kernels) == {"(outside)": 5}
    assert dict(kernel.kernels) == {GEMM: 30}
    assert dict(kernel.classes) == {"multiply_fp32": 20, "load_vector": 10}
    assert (kernel.loaded, kernel.stored) == (160, 0)


def test_operators_of_the_file(tmp_path: Path) -> None:
    graph = read_graph(write_tflite(tmp_path / "m.tflite"))
    count = summarize(read_sections(write(tmp_path, LINES), SYMBOLS, 0x1000, 0x2000), graph)
    assert count.is_matched
    assert [(cost.name, cost.macs, cost.instructions) for cost in count.operators] == [
        ("around", 0, 5),
        ("CONV_2D", 8 * 10 * 3, 30),
    ]
    assert count.instructions == 35
    assert list(count.kernels) == [GEMM, "(outside)"]


def test_a_kernel_that_fits_no_operator_is_not_matched(tmp_path: Path) -> None:
    graph = read_graph(write_tflite(tmp_path / "m.tflite"))
    lines = [line.replace("1100", "1200") for line in LINES]
    count = summarize(read_sections(write(tmp_path, lines), SYMBOLS, 0x1000, 0x2000), graph)
    assert not count.is_matched
    assert [cost.name for cost in count.operators] == ["around", "DEPTHWISE_CONV_2D"]


def test_a_count_that_broke_off(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="broke off"):
        read_sections(write(tmp_path, LINES[:-1]), SYMBOLS, 0x1000, 0x2000)


def test_offsets_outside_a_function_have_no_name() -> None:
    assert SYMBOLS.name(0x13F) == GEMM
    assert SYMBOLS.name(0x140) is None and SYMBOLS.name(0) is None
    assert SYMBOLS.offset(GEMM) == 0x100 and SYMBOLS.offset("nothing") is None


def test_only_libraries_have_symbols(tmp_path: Path) -> None:
    (tmp_path / "a.so").write_bytes(b"no library")
    with pytest.raises(ValueError, match="ELF"):
        read_symbols(tmp_path / "a.so")


def test_short_names() -> None:
    assert short_name(GEMM) == "f32_gemm_minmax 6x8__neon"
