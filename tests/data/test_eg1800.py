import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from scipy.io import savemat

from portraitseg.config import DataConfig
from portraitseg.data import eg1800, open_dataset
from portraitseg.errors import InputError
from tests import outside
from tests.data.bad_cases import portrait

KINDS = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three photos as EG1800 is distributed, and a fourth that has vanished."""
    (tmp_path / eg1800.IMAGES).mkdir()
    (tmp_path / eg1800.MASKS).mkdir()
    for number in (1, 2, 3):
        image, mask = portrait(number)
        Image.fromarray(image).save(tmp_path / eg1800.IMAGES / f"{number:05d}.jpg")
        savemat(tmp_path / eg1800.MASKS / f"{number:05d}_mask.mat", {"mask": mask // 255}, do_compression=True)
    savemat(tmp_path / "trainlist.mat", {"trainlist": np.array([[1.0, 2.0, 4.0]])})
    savemat(tmp_path / "testlist.mat", {"testlist": np.array([[3.0]])})
    return tmp_path


def opened(root: Path) -> Any:
    return open_dataset(DataConfig(format="eg1800", root=root, val_ratio=0.5), seed=1)


def test_as_distributed(data: Path) -> None:
    dataset = opened(data)
    assert dataset.splits["test"] == ("00003",)
    assert sorted(dataset.splits["train"] + dataset.splits["val"]) == ["00001", "00002"]
    assert any("1 of 4" in line for line in dataset.warnings)
    sample = dataset.load("00003")
    np.testing.assert_array_equal(sample.mask, portrait(3)[1])
    assert sample.image.shape == portrait(3)[0].shape


def test_a_list_may_be_missing(data: Path) -> None:
    (data / "testlist.mat").unlink()
    with pytest.raises(InputError, match=r"no 'testlist.mat': .* FORMAT=folder"):
        opened(data)


def test_a_photo_in_both_lists(data: Path) -> None:
    savemat(data / "testlist.mat", {"testlist": np.array([[2.0]])})
    with pytest.raises(InputError, match=r"00002 is in trainlist\.mat and in testlist\.mat"):
        opened(data)


def test_a_mask_of_another_size(data: Path) -> None:
    savemat(data / eg1800.MASKS / "00001_mask.mat", {"mask": np.ones((3, 4), np.uint8)})
    with pytest.raises(InputError, match=r"00001_mask.mat: 4x3, its photo is 16x24: give both the same size"):
        opened(data).load("00001")


@pytest.mark.parametrize("values", [[1.5], [-1.0], [100_000.0], [np.nan], [np.inf], []])
def test_lists_that_are_none(tmp_path: Path, values: list[float]) -> None:
    savemat(tmp_path / "list.mat", {"list": np.array([values])})
    with pytest.raises(InputError, match="photo numbers"):
        eg1800.read_mat_list(tmp_path / "list.mat")


@settings(max_examples=150)
@given(
    values=st.sampled_from(KINDS).flatmap(
        lambda kind: npst.arrays(kind, npst.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=6))
    ),
    name=st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True),
    is_compressed=st.booleans(),
)
def test_arrays_that_scipy_writes(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, name: str, is_compressed: bool
) -> None:
    path = tmp_path_factory.mktemp("x") / "x.mat"
    savemat(
        path, {name: values, "text": "passed over", "cells": np.array([1, "a"], object)}, do_compression=is_compressed
    )
    arrays = eg1800.parse_mat(path.read_bytes(), "x")
    assert set(arrays) == {name}
    assert arrays[name].dtype == values.dtype and arrays[name].shape == values.shape
    np.testing.assert_array_equal(arrays[name], values)


def test_other_kinds_are_passed_over(tmp_path: Path) -> None:
    from scipy.sparse import csc_array

    savemat(
        tmp_path / "x.mat",
        {"a": np.array([[1 + 2j]]), "b": {"mask": np.ones((2, 2))}, "c": csc_array(np.eye(3)), "d": "mask"},
    )
    assert eg1800.parse_mat((tmp_path / "x.mat").read_bytes(), "x") == {}
    with pytest.raises(InputError, match="no two-dimensional numeric array 'mask'"):
        eg1800.read_mat_mask(tmp_path / "x.mat")


def test_logical_masks(tmp_path: Path) -> None:
    savemat(tmp_path / "x.mat", {"mask": portrait(0)[1] > 0})
    np.testing.assert_array_equal(eg1800.read_mat_mask(tmp_path / "x.mat"), portrait(0)[1])


def header(order: str = "<") -> bytes:
    return b"MATLAB 5.0".ljust(124) + struct.pack(order + "HH", 0x0100, 0x4D49)


def matrix(order: str, shape: tuple[int, ...], values: bytes, name: bytes = b"mask") -> bytes:
    def element(kind: int, body: bytes) -> bytes:
        return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)

    body = element(6, struct.pack(order + "II", 9, 0)) + element(5, struct.pack(f"{order}{len(shape)}i", *shape))
    return element(14, body + element(1, name) + element(2, values))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders(order: str) -> None:
    [values] = eg1800.parse_mat(header(order) + matrix(order, (2, 3), bytes(range(6))), "x").values()
    np.testing.assert_array_equal(values, [[0, 2, 4], [1, 3, 5]])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "not a MATLAB 5 file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "not a MATLAB 5 file"),
        (header() + matrix("<", (2, 3), bytes(5)), "damaged"),
        (header() + matrix("<", (-1, 3), bytes(3)), "damaged"),
        (header() + matrix("<", (2**31 - 1, 2**31 - 1), bytes(6)), "damaged"),
        (header() + matrix("<", (1,) * 30, bytes(1)), "damaged"),
        (header() + matrix("<", (2, 3), bytes(6))[:-10], "damaged"),
        (header() + struct.pack("<II", 15, 5) + b"hello", "damaged"),
        (header() + struct.pack("<II", 14, 0), "damaged"),
    ],
)
def test_damaged_files(content: bytes, part: str) -> None:
    with pytest.raises(InputError, match=part):
        eg1800.parse_mat(content, "x")


def test_a_file_that_unpacks_to_a_gigabyte_is_refused() -> None:
    packer = zlib.compressobj(9)
    inner = struct.pack("<II", 14, 10**9)
    body = packer.compress(inner) + b"".join(packer.compress(bytes(10**6)) for _ in range(100)) + packer.flush()
    content = header() + struct.pack("<II", 15, len(body)) + body
    assert len(content) < 10**6
    with pytest.raises(InputError, match=r"damaged|over 64 MB"):
        eg1800.parse_mat(content, "x")


def test_nested_cells_do_not_reach_the_end_of_the_stack() -> None:
    """scipy reads a cell in a cell in a cell … by recursion in C, until the process dies."""
    body = b""
    for _ in range(2000):
        flags = struct.pack("<II", 6, 8) + struct.pack("<II", 1, 0)
        body = flags + struct.pack("<II", 5, 8) + struct.pack("<ii", 1, 1) + struct.pack("<II", 1, 0) + body
        body = struct.pack("<II", 14, len(body)) + body
    assert eg1800.parse_mat(header() + body, "x") == {}


def test_the_real_files_read_as_with_scipy() -> None:
    from scipy.io import loadmat

    root = outside.photos("eg1800_as_distributed")
    for path in [root / "trainlist.mat", root / "testlist.mat", *sorted((root / eg1800.MASKS).glob("*.mat"))]:
        expected = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
        parsed = eg1800.parse_mat(path.read_bytes(), str(path))
        assert set(parsed) == set(expected)
        for name in parsed:
            np.testing.assert_array_equal(parsed[name], expected[name])
