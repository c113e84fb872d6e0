"""Two-operand operators × shapes × orders: one small file each, for the rules and for every route.

`python -m tests.checks.gpu.grid RESULTS.jsonl ROUTE…` runs the files of the grid that RESULTS lacks; without a route it
prints the tables of docs/gpu-check.md. Routes: rules, litert, classic, web.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.checks.gpu.builder import Builder, options
from tests.checks.gpu.standin import reference_masks

#: All three differ, so that a swapped axis is another number.
HEIGHT, WIDTH, CHANNELS = 8, 12, 8

#: Images of one file.
IMAGES = 3

#: An operand by its letter: whole map, gate, attention map, row, column and single numbers of each.
SHAPES = {
    "map": (1, 1, 1),
    "gate": (0, 0, 1),
    "attention": (1, 1, 0),
    "rows": (1, 0, 1),
    "columns": (0, 1, 1),
    "one": (0, 0, 0),
    "row": (1, 0, 0),
    "column": (0, 1, 0),
}

#: What a file may hold as a constant, by its shape (of h, w, c).
CONSTANTS = {
    "number()": "",
    "number(1)": "1",
    "channels(c)": "c",
    "channels(1,1,1,c)": "111c",
    "channels(1,c)": "1c",
    "channels(1,1,c)": "11c",
    "map(h,w,c)": "hwc",
    "map(1,h,w,c)": "1hwc",
    "attention(1,h,w,1)": "1hw1",
    "rows(1,h,1,c)": "1h1c",
    "columns(1,1,w,c)": "11wc",
}

TABLES = {
    "ADD": "Add",
    "SUB": "Sub",
    "MUL": "Mul",
    "DIV": "Div",
    "MAXIMUM": "MaximumMinimum",
    "MINIMUM": "MaximumMinimum",
    "POW": "Pow",
    "SQUARED_DIFFERENCE": "SquaredDifference",
    "FLOOR_DIV": "FloorDiv",
    "FLOOR_MOD": "FloorMod",
}
#: One of each family of kernels; the others share theirs with one of these.
FAMILIES = ("ADD", "SUB", "MUL", "MAXIMUM")
COMMON = ("map", "gate", "attention", "rows", "one")


@dataclass(frozen=True)
class Cell:
    """One file: an operator, its two operands (a shape, or a constant), and how many channels a map has."""

    op: str
    first: str
    second: str
    channels: int = CHANNELS

    @property
    def name(self) -> str:
        parts = (self.op.lower(), self.first, self.second, str(self.channels))
        return "-".join(parts).replace("(", "_").replace(")", "").replace(",", "")


def cells() -> Iterator[Cell]:
    """All of the grid."""
    for op in TABLES:
        kinds = tuple(SHAPES) if op in FAMILIES else COMMON
        yield from (Cell(op, one, other) for one in kinds for other in kinds)
    for op in (*FAMILIES, "DIV"):
        for constant in CONSTANTS:
            yield from (Cell(op, "map", constant), Cell(op, constant, "map"))
        for one in ("gate", "attention"):
            for constant in ("number()", "channels(c)", "map(1,h,w,c)", "attention(1,h,w,1)"):
                yield from (Cell(op, one, constant), Cell(op, constant, one))
    # channels that do not fill the slices of four
    for op in FAMILIES:
        for one, other in (("map", "gate"), ("map", "attention"), ("gate", "map"), ("attention", "map")):
            yield Cell(op, one, other, 6)


def core() -> Iterator[Cell]:
    """The part that a slow route runs: the families of kernels, the common shapes, constants beside a map."""
    for cell in cells():
        kinds = {cell.first, cell.second}
        is_common = kinds <= {*COMMON, *CONSTANTS} and ("map" in kinds or kinds.isdisjoint(CONSTANTS))
        if cell.op in FAMILIES and is_common:
            yield cell


def build(cell: Cell) -> bytes:
    """image → two operands in (0, 1) that vary with it → the operator → a mask of the image's size."""
    b = Builder(7)
    image = b.input((1, HEIGHT, WIDTH, 3))
    operands = [
        _operand(b, image, kind, cell.channels, number) for number, kind in enumerate((cell.first, cell.second))
    ]
    sides = [(1, 1, 1, 1, *b.tensors[one].shape)[-4:] for one in operands]
    shape = tuple(max(pair) for pair in zip(*sides, strict=True))
    y = b.op(cell.op, operands, b.tensor(shape, "zoo/odd/Binary"), options(TABLES[cell.op]))
    if shape[1:3] != (HEIGHT, WIDTH):
        out = b.tensor((1, HEIGHT, WIDTH, shape[3]), "zoo/up/Resize")
        y = b.op("RESIZE_NEAREST_NEIGHBOR", [y, b.ints(HEIGHT, WIDTH)], out, options("ResizeNearestNeighbor"))
    weights, bias = _head(b.content(y), shape[3], b.random)
    out = b.tensor((1, HEIGHT, WIDTH, 1), "zoo/logits/Conv2D")
    logits = b.op("CONV_2D", [y, b.constant(weights), b.constant(bias)], out, _pointwise())
    return b.content(b.op("LOGISTIC", [logits], b.like(logits, "mask")))


def _head(content: bytes, channels: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Weights that spread the results of the operator over the whole of a sigmoid: what is wrong with them is seen."""
    results = np.stack(reference_masks(content, inputs())).reshape(-1, channels)
    weights = random.normal(0, 1, channels)
    logits = results @ weights
    # a result that is the same everywhere stays so
    weights *= 1.5 / max(logits.std(), 1e-3)
    return weights.reshape(1, 1, 1, channels).astype(np.float32), np.float32([-(results @ weights).mean()])


def _operand(b: Builder, image: int, kind: str, channels: int, number: int) -> int:
    if kind in CONSTANTS:
        sides = {"1": 1, "h": HEIGHT, "w": WIDTH, "c": channels}
        shape = tuple(sides[letter] for letter in CONSTANTS[kind])
        return b.constant(b.random.uniform(0.2, 1.0, shape).astype(np.float32), f"zoo/constant{number}")
    has_height, has_width, has_channels = SHAPES[kind]
    x = image
    window = (1 if has_height else HEIGHT, 1 if has_width else WIDTH)
    if window != (1, 1):
        out = b.tensor((1, HEIGHT // window[0], WIDTH // window[1], 3), f"zoo/pool{number}/Pool")
        kind_of = options("Pool2D", padding=1, strideH=1, strideW=1, filterHeight=window[0], filterWidth=window[1])
        x = b.op("AVERAGE_POOL_2D", [x], out, kind_of)
    x = _conv(b, x, channels if has_channels else 1, f"operand{number}")
    return b.op("LOGISTIC", [x], b.like(x, f"zoo/operand{number}/Sigmoid"))


def _conv(b: Builder, x: int, filters: int, name: str) -> int:
    """1×1, with weights that spread inputs around 0.5 over the whole of a sigmoid."""
    _, height, width, channels = b.tensors[x].shape
    weights = (b.random.normal(0, 5 * channels**-0.5, (filters, 1, 1, channels))).astype(np.float32)
    bias = (-0.5 * weights.sum((1, 2, 3)) + b.random.normal(0, 0.5, filters)).astype(np.float32)
    out = b.tensor((1, height, width, filters), f"zoo/{name}/Conv2D")
    return b.op("CONV_2D", [x, b.constant(weights), b.constant(bias)], out, _pointwise())


def _pointwise() -> Any:
    return options("Conv2D", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1)


def images(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(3, h, w, 3) uint8: slopes of light in other directions and colours, under noise."""
    random = np.random.default_rng(3)
    down, across = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    slopes = [(down, across, 1 - down), (1 - across, down * across, down), (0.9 * across, 1 - down, across)]
    light = np.stack([np.stack(one, -1) for one in slopes])
    noisy = light + random.uniform(-0.25, 0.25, light.shape) + np.array([-0.2, 0.1, 0.25])[:, None, None, None]
    return np.uint8(np.clip(noisy, 0, 1) * 255)


def inputs(photos: np.ndarray | None = None) -> list[list[np.ndarray]]:
    """The same as the files eat them."""
    return [[image[None] / np.float32(255)] for image in (images() if photos is None else photos)]
