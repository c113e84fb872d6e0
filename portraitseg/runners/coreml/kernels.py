"""Convolution, pooling and resampling of NCHW float32 arrays in plain numpy: the arithmetic of the Core ML evaluator.

Padding rules are those of coremltools' MIL operators (`coremltools/converters/mil/mil/ops/defs/_utils.py`), which are
TensorFlow's: `same` gives ceil(size / stride) outputs, the odd pixel of padding going to the bottom and right.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64

#: (before, after) of the rows, then of the columns.
Pads = tuple[tuple[int, int], tuple[int, int]]
Pair = tuple[int, int]
#: (row of the window, column of it, the pixels that it meets).
Taps = list[tuple[int, int, np.ndarray]]

#: How output pixels are placed on the input's grid (`resize_bilinear` in the MIL operator reference).
SAMPLING_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")


def paddings(
    pad_type: str,
    size: Pair,
    kernel: Pair,
    strides: Pair,
    dilations: Pair = (1, 1),
    pad: Sequence[int] | np.ndarray | None = None,
) -> Pads:
    """Rows and columns to add before and after, for a window that slides over an image.

    Args:
        pad_type: `valid`, `same`, `same_lower` (the odd pixel goes to the top and left) or `custom`.
        size, kernel, strides, dilations: (rows, columns).
        pad: of `custom`: (top, bottom, left, right).

    Raises:
        ValueError: another pad_type, or `custom` without four numbers.
    """
    if pad_type == "valid":
        return (0, 0), (0, 0)
    if pad_type == "custom":
        if pad is None or len(pad) != 4:
            raise ValueError(f"pad_type 'custom' with pad={pad}: expected 4 numbers")
        top, bottom, left, right = (int(side) for side in pad)
        return (top, bottom), (left, right)
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"unknown pad_type '{pad_type}'")

    def split(axis: int) -> Pair:
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        total = max(0, (-(-size[axis] // strides[axis]) - 1) * strides[axis] + reach - size[axis])
        less, more = total // 2, total - total // 2
        return (less, more) if pad_type == "same" else (more, less)

    return split(0), split(1)


def conv2d(
    x: Float32[np.ndarray, "n c h w"],
    weight: Float32[np.ndarray, "o i kh kw"],
    strides: Pair,
    pads: Pads,
    dilations: Pair,
    groups: int,
) -> Float32[np.ndarray, "n o h2 w2"]:
    """Cross-correlation with zero padding, without bias.

    Args:
        weight: i is the number of input channels of one group.

    Raises:
        ValueError: channels that do not divide into the groups, or a window larger than the padded image.
    """
    n, channels = x.shape[:2]
    filters, per_group = weight.shape[:2]
    if channels != per_group * groups or filters % groups:
        raise ValueError(f"{channels} channels, weight {weight.shape}, {groups} groups")
    taps, (height, width) = _taps(_pad_zero(x, pads), (weight.shape[2], weight.shape[3]), strides, dilations)
    if per_group == 1 and groups > 1:
        return _depthwise(taps, weight, (n, channels, filters // channels, height, width))
    results = []
    for group in range(groups):
        rows = slice(group * per_group, (group + 1) * per_group)
        columns = [tap[:, rows].reshape(n, per_group, height * width) for _, _, tap in taps]
        kernel = weight[group * (filters // groups) : (group + 1) * (filters // groups)]
        # (o, kh·kw·i) to match the order in which the taps are stacked
        kernel = kernel.transpose(0, 2, 3, 1).reshape(filters // groups, -1)
        results.append(kernel @ (columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)))
    return np.concatenate(results, axis=1).reshape(n, filters, height, width)


def conv2d_transpose(
    x: Float32[np.ndarray, "n c h w"],
    weight: Float32[np.ndarray, "c o kh kw"],
    strides: Pair,
    dilations: Pair,
    groups: int,
    before: Pair,
    size: Pair,
) -> Float32[np.ndarray, "n o2 h2 w2"]:
    """The gradient of a convolution with respect to its input, without bias.

    Args:
        weight: o is the number of output channels of one group.
        before: rows and columns to cut off at the top and left.
        size: of the output; where nothing was written it is 0.

    Raises:
        ValueError: channels that do not divide into the groups.
    """
    n, channels, height, width = x.shape
    kh, kw = weight.shape[2:]
    if channels != weight.shape[0] or channels % groups:
        raise ValueError(f"{channels} channels, weight {weight.shape}, {groups} groups")
    full = (
        max((height - 1) * strides[0] + (kh - 1) * dilations[0] + 1, before[0] + size[0]),
        max((width - 1) * strides[1] + (kw - 1) * dilations[1] + 1, before[1] + size[1]),
    )
    result = np.zeros((n, weight.shape[1] * groups, *full), np.float32)
    flat = x.reshape(n, groups, channels // groups, height * width)
    kernel = weight.reshape(groups, channels // groups, -1, kh, kw)
    for i in range(kh):
        for j in range(kw):
            part = kernel[..., i, j].transpose(0, 2, 1) @ flat
            rows = slice(i * dilations[0], i * dilations[0] + (height - 1) * strides[0] + 1, strides[0])
            columns = slice(j * dilations[1], j * dilations[1] + (width - 1) * strides[1] + 1, strides[1])
            result[:, :, rows, columns] += part.reshape(n, -1, height, width)
    return result[:, :, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]


def pool2d(
    x: Float32[np.ndarray, "n c h w"],
    mode: Literal["average", "max"],
    kernel: Pair,
    strides: Pair,
    pads: Pads,
    exclude_padding: bool = False,
    ceil_mode: bool = False,
) -> Float32[np.ndarray, "n c h2 w2"]:
    """Average or maximum of each window.

    Args:
        exclude_padding: an average divides by the pixels of the window that are inside the image.
        ceil_mode: PyTorch's: a last window that hangs over the edge counts, unless it begins outside.
    """
    extra = [0, 0]
    if ceil_mode:
        for axis in (0, 1):
            padded = x.shape[2 + axis] + sum(pads[axis])
            count = -(-(padded - kernel[axis]) // strides[axis]) + 1
            if (count - 1) * strides[axis] >= x.shape[2 + axis] + pads[axis][0] and sum(pads[axis]):
                count -= 1
            extra[axis] = max(0, (count - 1) * strides[axis] + kernel[axis] - padded)
    hang = ((0, extra[0]), (0, extra[1]))
    if mode == "max":
        filled = np.pad(x, ((0, 0), (0, 0), *pads), constant_values=-np.inf)
        return _windows(np.pad(filled, ((0, 0), (0, 0), *hang), constant_values=-np.inf), kernel, strides).max((4, 5))
    total = _windows(_pad_zero(_pad_zero(x, pads), hang), kernel, strides).sum((4, 5), dtype=np.float64)
    inside = np.pad(np.ones((1, 1, *x.shape[2:]), np.float32), ((0, 0), (0, 0), *pads), constant_values=1)
    if exclude_padding:
        inside = _pad_zero(np.ones((1, 1, *x.shape[2:]), np.float32), pads)
    return (total / _windows(_pad_zero(inside, hang), kernel, strides).sum((4, 5))).astype(np.float32)


def grid(length: int, length_out: int, mode: str) -> Float64[np.ndarray, " points"]:
    """Where on an axis of `length` pixels each of `target` output pixels samples.

    The formulas are those of `resize_bilinear` in the MIL operator reference. `UNALIGN_CORNERS` is TensorFlow's
    half-pixel centres, `DEFAULT` its legacy mode, `STRICT_ALIGN_CORNERS` its align_corners.

    Raises:
        ValueError: another mode.
    """
    index = np.arange(length_out, dtype=np.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if length_out == 1:
            return np.array([0.0 if mode == "STRICT_ALIGN_CORNERS" else (length - 1) / 2])
        points = index * (length - 1) / (length_out - 1)
    elif mode == "UNALIGN_CORNERS":
        points = (index + 0.5) * length / length_out - 0.5
    elif mode == "DEFAULT":
        points = index * length / length_out
    elif mode == "OFFSET_CORNERS":
        points = (index + 0.5) * max(1, length - 1) / length_out
    else:
        raise ValueError(f"unknown sampling_mode '{mode}' (there are: {', '.join(SAMPLING_MODES)})")
    return np.clip(points, 0, length - 1)


def resample_linear(
    x: Float32[np.ndarray, "*d h w"], rows: Float64[np.ndarray, " h2"], columns: Float64[np.ndarray, " w2"]
) -> Float32[np.ndarray, "*d h2 w2"]:
    """Bilinear interpolation at the given coordinates, which are inside the image."""
    low, high, share = _neighbours(rows, x.shape[-2])
    upper = x[..., low, :]
    y = upper + (x[..., high, :] - upper) * share[:, None]
    low, high, share = _neighbours(columns, x.shape[-1])
    left = y[..., low]
    return left + (y[..., high] - left) * share


def _neighbours(points: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low = np.floor(points).astype(np.int64)
    return low, np.minimum(low + 1, length - 1), (points - low).astype(np.float32)


def _pad_zero(x: np.ndarray, pads: Pads) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else x


def _taps(x: np.ndarray, kernel: Pair, strides: Pair, dilations: Pair) -> tuple[Taps, Pair]:
    """For each element of the window the pixels that it meets, and the (rows, columns) of the output."""
    reach = [(kernel[axis] - 1) * dilations[axis] + 1 for axis in (0, 1)]
    height, width = ((x.shape[2 + axis] - reach[axis]) // strides[axis] + 1 for axis in (0, 1))
    if height < 1 or width < 1:
        raise ValueError(f"window {kernel} with dilations {dilations} on an image of {x.shape[2:]}")
    taps = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilations[0], j * dilations[1]
            rows = slice(top, top + (height - 1) * strides[0] + 1, strides[0])
            taps.append((i, j, x[:, :, rows, left : left + (width - 1) * strides[1] + 1 : strides[1]]))
    return taps, (height, width)


def _depthwise(taps: Taps, weight: np.ndarray, shape: tuple[int, int, int, int, int]) -> np.ndarray:
    """One input channel per group. Shape: (n, channels, filters per channel, height, width)."""
    n, channels, multiplier, height, width = shape
    kernel = weight.reshape(channels, multiplier, *weight.shape[2:])
    result = np.zeros(shape, np.float32)
    product = np.empty(shape, np.float32)
    for i, j, tap in taps:
        np.multiply(tap[:, :, None], kernel[:, :, i, j, None, None], out=product)
        result += product
    return result.reshape(n, channels * multiplier, height, width)


def _windows(x: np.ndarray, kernel: Pair, strides: Pair) -> np.ndarray:
    views = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    return views[:, :, :: strides[0], :: strides[1]]
