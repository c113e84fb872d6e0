"""Strangers' .tflite files: what each tells of itself, and that the description which the refusal shows is right."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from portraitseg.errors import InputError
from portraitseg.runners.describe import map_shape_of
from portraitseg.runners.peer import open_foreign
from tests.checks.gpu.builder import Builder, options

SIDE = 16
PHOTO = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)


def content(
    channels: int,
    activation: str | None = None,
    shape: tuple[int, ...] | None = None,
    is_nchw: bool = False,
    side: int = SIDE,
) -> bytes:
    """photo → one convolution → an activation → another shape; the same weights for each count of channels."""
    b = Builder(3)
    if is_nchw:
        rows = b.tensor((1, side, side, 3), "rows")
        x = b.op("TRANSPOSE", [b.input((1, 3, side, side)), b.ints(0, 2, 3, 1)], rows, options("Transpose"))
    else:
        x = b.input((1, side, side, 3))
    x = b.conv(x, channels, "logits", kernel=3)
    if activation:
        table = options("Softmax", beta=1.0) if activation == "SOFTMAX" else None
        x = b.op(activation, [x], b.like(x, "activation"), table)
    if is_nchw:
        planes = b.tensor((1, channels, side, side), "planes")
        x = b.op("TRANSPOSE", [x, b.ints(0, 3, 1, 2)], planes, options("Transpose"))
    if shape:
        x = b.op("RESHAPE", [x, b.ints(*shape)], b.tensor(shape, "mask"), options("Reshape", newShape=list(shape)))
    return b.content(x)


FLAT = SIDE * SIDE
FOREIGN: dict[str, Callable[[], bytes]] = {
    "two_softmax": lambda: content(2, "SOFTMAX"),
    "two_logits": lambda: content(2),
    "one_logits": lambda: content(1),
    "classes_of_voc": lambda: content(21),
    "flat": lambda: content(1, "LOGISTIC", (1, FLAT)),
    "flat_logits": lambda: content(1, None, (1, FLAT)),
    "flat_two": lambda: content(2, "SOFTMAX", (1, FLAT, 2)),
    "flat_two_logits": lambda: content(2, None, (1, 2 * FLAT)),
    "no_channel": lambda: content(1, "LOGISTIC", (1, SIDE, SIDE)),
    "no_batch": lambda: content(1, "LOGISTIC", (SIDE, SIDE)),
    "planes": lambda: content(1, "LOGISTIC", is_nchw=True),
    "two_planes": lambda: content(2, is_nchw=True),
}


def described(folder: Path, name: str) -> Path:
    """A file, and beside it the description that its refusal shows."""
    path = folder / f"{name}.tflite"
    path.write_bytes(FOREIGN[name]())
    with pytest.raises(InputError, match=rf"say what it is in {name}\.toml") as refused:
        open_foreign(path)
    lines = re.findall(r"`([^`]*)`", str(refused.value))
    path.with_suffix(".toml").write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", FOREIGN)
def test_the_description_that_a_refusal_shows_opens_the_file(name: str, tmp_path: Path) -> None:
    probability = open_foreign(described(tmp_path, name)).predict(PHOTO)
    assert probability.shape == (SIDE, SIDE)
    assert 0 <= probability.min() < probability.max() <= 1


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("two_logits", "two_softmax"),
        ("flat_two", "two_softmax"),
        ("flat_two_logits", "two_softmax"),
        ("two_planes", "two_softmax"),
        ("flat_logits", "one_logits"),
        ("flat", "one_logits"),
        ("no_channel", "one_logits"),
        ("no_batch", "one_logits"),
        ("planes", "one_logits"),
    ],
)
def test_the_same_network_in_another_dress_has_the_same_mask(name: str, same: str, tmp_path: Path) -> None:
    one, other = (open_foreign(described(tmp_path, which)).predict(PHOTO) for which in (name, same))
    # 1e-6: numpy's exponential and tanh beside TFLite's
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_wrong_channel_or_activation_is_another_mask(tmp_path: Path) -> None:
    path = described(tmp_path, "two_logits")
    right = open_foreign(path).predict(PHOTO)
    text = path.with_suffix(".toml").read_text()
    for wrong in (text.replace("output_channel = 1", "output_channel = 0"), text.replace("softmax", "sigmoid")):
        path.with_suffix(".toml").write_text(wrong)
        assert np.abs(open_foreign(path).predict(PHOTO) - right).max() > 0.05


def test_a_mask_of_probabilities_needs_no_description(tmp_path: Path) -> None:
    path = tmp_path / "mask.tflite"
    path.write_bytes(content(1, "LOGISTIC"))
    assert open_foreign(path).predict(PHOTO).shape == (SIDE, SIDE)


def test_a_file_that_no_description_helps(tmp_path: Path) -> None:
    b = Builder()
    inputs = [b.input((1, SIDE, SIDE, 3)), b.input((1, SIDE, SIDE, 3), "other")]
    path = tmp_path / "two.tflite"
    path.write_bytes(b.content(b.op("ADD", inputs, b.tensor((1, SIDE, SIDE, 3), "sum"), options("Add"))))
    with pytest.raises(InputError, match="no description helps"):
        open_foreign(path)


def test_a_flat_mask_of_another_size_than_the_photo(tmp_path: Path) -> None:
    b = Builder(1)
    x = b.conv(b.input((1, SIDE, SIDE, 3)), 1, "logits")
    table = options("Pool2D", strideW=2, strideH=2, filterWidth=2, filterHeight=2)
    x = b.op("AVERAGE_POOL_2D", [x], b.tensor((1, SIDE // 2, SIDE // 2, 1), "half"), table)
    x = b.op("LOGISTIC", [x], b.like(x, "mask"))
    shape = (1, FLAT // 4)
    x = b.op("RESHAPE", [x, b.ints(*shape)], b.tensor(shape, "flat"), options("Reshape", newShape=list(shape)))
    path = tmp_path / "half.tflite"
    path.write_bytes(b.content(x))
    with pytest.raises(InputError, match=r"`output_size = \[8, 8\]`"):
        open_foreign(path)
    path.with_suffix(".toml").write_text("output_size = [8, 8]\n")
    assert open_foreign(path).predict(PHOTO).shape == (8, 8)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 4, 6, 2), (4, 6, 2, "NHWC")),
        ((1, 2, 4, 6), (4, 6, 2, "NCHW")),
        ((1, 24), (4, 6, 1, "NHWC")),
        ((1, 24, 2), (4, 6, 2, "NHWC")),
        ((1, 2, 24), (4, 6, 2, "NCHW")),
        ((24,), (4, 6, 1, "NHWC")),
        ((1, 4, 6), (4, 6, 1, "NHWC")),
    ],
)
def test_shapes(shape: tuple[int, ...], expected: tuple[int, int, int, str]) -> None:
    map_shape = map_shape_of(shape, (4, 6))
    assert map_shape is not None
    assert (map_shape.height, map_shape.width, map_shape.channels, map_shape.layout) == expected


@pytest.mark.parametrize("shape", [(1, 25), (2, 4, 6, 1), (), (1, 4, -1, 2)])
def test_what_is_no_map(shape: tuple[int, ...]) -> None:
    assert map_shape_of(shape, (4, 6)) is None
