"""One function per MIL operator, by the operator's name and with its parameters' names and defaults.

Source: the MIL operator reference (https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html),
iOS 15 to iOS 18. Images are NCHW. Arithmetic is float32; rounding to float16 is the business of `coreml_program`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from portraitseg.runners.coreml import constexpr, kernels

Array = np.ndarray
#: A tensor, or a scalar constant.
Operand = Any
Number = float | int


def _pair(values: Sequence[int] | Array | None, default: int = 1) -> tuple[int, int]:
    if values is None:
        return default, default
    if len(values) != 2:
        raise ValueError(f"{len(values)} spatial axes: only images (2 axes) are known")
    return int(values[0]), int(values[1])


def _axes(axes: Any, rank: int) -> tuple[int, ...]:
    return tuple(range(rank)) if axes is None else tuple(int(axis) % rank for axis in np.atleast_1d(axes))


# --- convolution, pooling -------------------------------------------------------------------------------------------


def conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """Convolution. x (n, c, h, w), weight (out, c / groups, kh, kw)."""
    step, spread = _pair(strides), _pair(dilations)
    pads = kernels.paddings(pad_type, x.shape[2:], weight.shape[2:], step, spread, pad)
    return _add_bias(kernels.conv2d(x, weight, step, pads, spread, groups), bias)


def conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    pad: Array | None = None,
    output_shape: Array | None = None,
    pad_type: str = "valid",
    strides: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Array:
    """Transposed convolution. x (n, c, h, w), weight (c, out / groups, kh, kw); `same` as in TensorFlow."""
    step, spread = _pair(strides), _pair(dilations)
    kernel = weight.shape[2:]
    full = [(x.shape[2 + i] - 1) * step[i] + (kernel[i] - 1) * spread[i] + 1 for i in (0, 1)]
    stated = None if output_shape is None else [int(side) for side in output_shape[2:]]
    if pad_type == "same":
        size = stated or [x.shape[2 + i] * step[i] for i in (0, 1)]
        pads = kernels.paddings("same", (size[0], size[1]), kernel, step, spread)
    else:
        pads = kernels.paddings(pad_type, x.shape[2:], kernel, step, spread, pad)
        size = stated or [full[i] - sum(pads[i]) for i in (0, 1)]
    before = (pads[0][0], pads[1][0])
    return _add_bias(kernels.conv2d_transpose(x, weight, step, spread, groups, before, (size[0], size[1])), bias)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """Fully connected: x @ weight.T + bias. weight (out, in)."""
    return x @ weight.T if bias is None else x @ weight.T + bias


def matmul(x: Operand, y: Operand, transpose_x: bool = False, transpose_y: bool = False) -> Array:
    """Matrix product of the last two axes."""
    return (np.swapaxes(x, -1, -2) if transpose_x else x) @ (np.swapaxes(y, -1, -2) if transpose_y else y)


def avg_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str = "valid",
    strides: Array | None = None,
    pad: Array | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """Average of windows. x (n, c, h, w)."""
    pool = _pool("average", x, kernel_sizes, pad_type, strides, pad)
    return pool(exclude_padding_from_average, ceil_mode)


def max_pool(
    x: Array,
    kernel_sizes: Array,
    pad_type: str = "valid",
    strides: Array | None = None,
    pad: Array | None = None,
    ceil_mode: bool = False,
) -> Array:
    """Maximum of windows. x (n, c, h, w)."""
    return _pool("max", x, kernel_sizes, pad_type, strides, pad)(False, ceil_mode)


def _pool(
    mode: Literal["average", "max"], x: Array, sizes: Array, pad_type: str, strides: Array | None, pad: Array | None
) -> Callable[[bool, bool], Array]:
    kernel, step = _pair(sizes), _pair(strides)
    pads = kernels.paddings(pad_type, x.shape[2:], kernel, step, pad=pad)
    return lambda exclude, ceil: kernels.pool2d(x, mode, kernel, step, pads, exclude, ceil)


def _add_bias(x: Array, bias: Array | None) -> Array:
    return x if bias is None else x + bias[:, None, None]


# --- resampling -----------------------------------------------------------------------------------------------------


def upsample_bilinear(
    x: Array,
    scale_factor_height: Number = 1,
    scale_factor_width: Number = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Array:
    """Bilinear by factors; `half_pixel_centers` (iOS 16) is the opposite of align_corners unless given."""
    if align_corners and half_pixel_centers:
        raise ValueError("align_corners and half_pixel_centers together have no defined meaning")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS"
    if not align_corners and half_pixel_centers is False:
        mode = "DEFAULT"
    height, width = _scaled(x, scale_factor_height, scale_factor_width)
    return resize_bilinear(x, height, width, mode)


def resize_bilinear(
    x: Array, target_size_height: int = 1, target_size_width: int = 1, sampling_mode: str = "DEFAULT"
) -> Array:
    """Bilinear to a size. x (…, h, w)."""
    rows = kernels.grid(x.shape[-2], target_size_height, sampling_mode)
    return kernels.resample_linear(x, rows, kernels.grid(x.shape[-1], target_size_width, sampling_mode))


def upsample_nearest_neighbor(x: Array, scale_factor_height: Number = 1, scale_factor_width: Number = 1) -> Array:
    """Nearest neighbour by factors."""
    return resize_nearest_neighbor(x, *_scaled(x, scale_factor_height, scale_factor_width))


def resize_nearest_neighbor(x: Array, target_size_height: int, target_size_width: int) -> Array:
    """Nearest neighbour to a size: pixel floor(i · size / target), as TensorFlow's default and PyTorch's."""
    rows = np.arange(target_size_height) * x.shape[-2] // target_size_height
    return x[..., rows, :][..., np.arange(target_size_width) * x.shape[-1] // target_size_width]


def _scaled(x: Array, height: Number, width: Number) -> tuple[int, int]:
    return int(np.floor(x.shape[-2] * height)), int(np.floor(x.shape[-1] * width))


# --- elementwise ----------------------------------------------------------------------------------------------------


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    def operator(x: Operand, y: Operand) -> Array:
        return function(x, y)

    return operator


def _unary(function: Callable[[Any], Any]) -> Callable[..., Array]:
    def operator(x: Array) -> Array:
        return function(x)

    return operator


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        # e^-x is infinite below -88: the quotient is then 0, as it should be
        return 1 / (1 + np.exp(-x))


def clip(x: Array, alpha: Number, beta: Number) -> Array:
    """To [alpha, beta]."""
    return np.clip(x, np.float32(alpha), np.float32(beta))


def leaky_relu(x: Array, alpha: Number) -> Array:
    """alpha·x below 0."""
    return np.where(x < 0, np.float32(alpha) * x, x)


def prelu(x: Array, alpha: Array) -> Array:
    """alpha[c]·x below 0. x (n, c, …)."""
    return np.where(x < 0, alpha.reshape(-1, *[1] * (x.ndim - 2)) * x, x)


def elu(x: Array, alpha: Number) -> Array:
    """alpha·(e^x - 1) below 0."""
    return np.where(x < 0, np.float32(alpha) * np.expm1(np.minimum(x, 0)), x)


def clamped_relu(x: Array, alpha: Number, beta: Number) -> Array:
    """min(beta, x), alpha·x below 0."""
    return np.minimum(np.float32(beta), leaky_relu(x, alpha))


def sigmoid_hard(x: Array, alpha: Number = 0.2, beta: Number = 0.5) -> Array:
    """alpha·x + beta, to [0, 1]."""
    return np.clip(np.float32(alpha) * x + np.float32(beta), np.float32(0), np.float32(1))


def linear_activation(x: Array, alpha: Number, beta: Number = 0.0) -> Array:
    """alpha·x + beta."""
    return np.float32(alpha) * x + np.float32(beta)


def rsqrt(x: Array, epsilon: Number = 1e-12) -> Array:
    """1/√(x + epsilon)."""
    return 1 / np.sqrt(x + np.float32(epsilon))


def inverse(x: Array, epsilon: Number = 1e-4) -> Array:
    """1/(x + epsilon)."""
    return 1 / (x + np.float32(epsilon))


def log(x: Array, epsilon: Number = 1e-45) -> Array:
    """ln(x + epsilon)."""
    return np.log(x + np.float32(epsilon))


def softmax(x: Array, axis: int = -1) -> Array:
    """e^x over its sum along an axis."""
    power = np.exp(x - x.max(axis, keepdims=True))
    return power / power.sum(axis, keepdims=True)


def batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: Number = 1e-5,
) -> Array:
    """gamma·(x - mean)/√(variance + epsilon) + beta. x (n, c, …); the rest (c)."""
    shape = (-1, *[1] * (x.ndim - 2))
    y = (x - mean.reshape(shape)) / np.sqrt(variance.reshape(shape) + np.float32(epsilon))
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


def cast(x: Operand, dtype: str) -> Operand:
    """To another type. Floats stay float32 here (the step's declared type rounds); integers truncate towards 0."""
    if dtype in ("fp16", "fp32", "fp64"):
        return np.asarray(x, np.float32)
    kinds = {"int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16, "int32": np.int32}
    return np.asarray(x, bool if dtype == "bool" else kinds[dtype])


# --- reductions, shapes ---------------------------------------------------------------------------------------------


def _reduction(function: Callable[..., Any]) -> Callable[..., Array]:
    def operator(x: Array, axes: Any = None, keep_dims: bool = False) -> Array:
        return np.asarray(function(x, axis=_axes(axes, x.ndim), keepdims=keep_dims))

    return operator


def concat(values: list[Array], axis: int, interleave: bool = False) -> Array:
    """Side by side along an axis."""
    if interleave:
        raise ValueError("interleaved concat is not known")
    return np.concatenate(values, axis)


def transpose(x: Array, perm: Array) -> Array:
    """Axis i of the result is axis perm[i] of x."""
    return np.transpose(x, [int(axis) for axis in perm])


def reshape(x: Array, shape: Array) -> Array:
    """Row-major; 0 keeps a side, -1 takes what is left."""
    return x.reshape([x.shape[i] if side == 0 else int(side) for i, side in enumerate(shape)])


def expand_dims(x: Array, axes: Any) -> Array:
    """Adds axes of length 1, at their places in the result."""
    return np.expand_dims(x, tuple(int(axis) for axis in np.atleast_1d(axes)))


def squeeze(x: Array, axes: Any = None) -> Array:
    """Removes axes of length 1, all of them by default."""
    return np.squeeze(x, None if axes is None else _axes(axes, x.ndim))


def pad(x: Array, pad: Array, mode: str = "constant", constant_val: Number = 0.0) -> Array:
    """Pads the last axes. pad: (before, after) of each."""
    sides = [(0, 0)] * (x.ndim - len(pad) // 2) + [(int(a), int(b)) for a, b in np.reshape(pad, (-1, 2))]
    if mode == "constant":
        return np.pad(x, sides, constant_values=constant_val)
    if mode == "reflect":
        return np.pad(x, sides, "reflect")
    if mode == "replicate":
        return np.pad(x, sides, "edge")
    raise ValueError(f"unknown pad mode '{mode}'")


def slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    """x[begin:end:stride, …]; a true mask leaves a border open, or indexes and drops the axis."""
    if len(begin) != x.ndim or len(end) != x.ndim:
        raise ValueError(f"{len(begin)} and {len(end)} borders for {x.ndim} axes")

    def flag(mask: Array | None, axis: int) -> bool:
        return mask is not None and bool(mask[axis])

    index: list[slice | int] = []
    for axis in range(x.ndim):
        if flag(squeeze_mask, axis):
            index.append(int(begin[axis]))
            continue
        first = None if flag(begin_mask, axis) else int(begin[axis])
        last = None if flag(end_mask, axis) else int(end[axis])
        index.append(slice(first, last, 1 if stride is None else int(stride[axis])))
    return np.asarray(x[tuple(index)])


def split(x: Array, axis: int, num_splits: int | None = None, split_sizes: Array | None = None) -> tuple[Array, ...]:
    """Into equal parts, or parts of the given sizes."""
    if split_sizes is None:
        return tuple(np.split(x, num_splits or 1, axis))
    return tuple(np.split(x, np.cumsum([int(size) for size in split_sizes])[:-1], axis))


#: MIL operator → function of its parameters. `const` is not an operation of a run.
OPS: dict[str, Callable[..., Any]] = {
    **{
        function.__name__: function
        for function in (
            *(conv, conv_transpose, linear, matmul, avg_pool, max_pool),
            *(upsample_bilinear, resize_bilinear, upsample_nearest_neighbor, resize_nearest_neighbor),
            *(clip, leaky_relu, prelu, elu, clamped_relu, sigmoid_hard, linear_activation, rsqrt, inverse, log),
            *(softmax, batch_norm, cast, concat, transpose, reshape, expand_dims, squeeze, pad, slice_by_index, split),
            *(constexpr.constexpr_affine_dequantize, constexpr.constexpr_blockwise_shift_scale),
            *(constexpr.constexpr_lut_to_dense, constexpr.constexpr_sparse_to_dense, constexpr.constexpr_cast),
        )
    },
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "real_div": _binary(np.divide),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "pow": _binary(np.power),
    "identity": _unary(lambda x: x),
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "sigmoid": _unary(_sigmoid),
    "silu": _unary(lambda x: x * _sigmoid(x)),
    "softplus": _unary(lambda x: np.logaddexp(x, np.float32(0))),
    "softsign": _unary(lambda x: x / (1 + np.abs(x))),
    "tanh": _unary(np.tanh),
    "exp": _unary(np.exp),
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "abs": _unary(np.abs),
    "reduce_mean": _reduction(np.mean),
    "reduce_sum": _reduction(np.sum),
    "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min),
}
