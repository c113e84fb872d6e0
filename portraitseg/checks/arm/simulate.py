"""A float network in half precision on this machine, as XNNPACK computes it on phones: 60 times faster than emulated.

Weights, activations and every partial sum are rounded to 16 bits, in the order of XNNPACK's kernels. It is no second
interpreter: it knows the operators of our networks, and tests hold it beside the emulator.
"""

import ctypes
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from portraitseg.checks.arm import fetch
from portraitseg.checks.arm.weights import read_weights, run_time_ops
from portraitseg.errors import InputError
from portraitseg.tflite.graph import Op, read_graph

_LIMITS = {"NONE": (-np.inf, np.inf), "RELU": (0.0, np.inf), "RELU6": (0.0, 6.0)}

#: Vectors of the C code hold so many channels.
_LANES = 8

Array = Float32[np.ndarray, "..."]


class _Shape(ctypes.Structure):
    """As `shape_t` in half.c."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("height", "width", "channels", "out_height", "out_width", "out")),
        *((name, ctypes.c_int) for name in ("kernel_height", "kernel_width", "stride_y", "stride_x")),
        *((name, ctypes.c_int) for name in ("dilation_y", "dilation_x", "top", "left")),
        *((name, ctypes.c_float) for name in ("low", "high")),
    ]


class HalfNetwork:
    """A float .tflite with one photo as its input.

    Raises:
        InputError: no TFLite file, an operator that the simulation does not know, no compiler, another processor.
    """

    def __init__(self, path: Path) -> None:
        self._graph = read_graph(path)
        self._weights = {
            index: rounded(values) for index, values in read_weights(path.read_bytes(), self._graph, str(path)).items()
        }
        self._ops = run_time_ops(self._graph, self._weights)
        if unknown := sorted({op.name for op in self._ops if op.name not in _OPERATORS}):
            raise InputError(f"{path}: half precision of {', '.join(unknown)} is not simulated")
        self._library = _library()
        self._packed: dict[int, tuple[Array, Array]] = {}

    def run(self, inputs: Float32[np.ndarray, "1 h w c"]) -> tuple[Float32[np.ndarray, "1 h2 w2 1"], dict[str, float]]:
        """Runs it once.

        Returns:
            The output, and by layer the greatest absolute value of its result (inf where it overflowed).
        """
        values: dict[int, Array] = {self._graph.inputs[0].index: rounded(inputs)}
        greatest = {}
        for op in self._ops:
            with np.errstate(over="ignore", invalid="ignore"):
                result = _OPERATORS[op.name](self, op, values)
            values[op.outputs[0].index] = result
            greatest[f"{op.layer} {op.name}"] = float(np.abs(result).max())
        return values[self._graph.outputs[0].index], greatest

    def value(self, op: Op, position: int, values: Mapping[int, Array]) -> Array:
        """An input of an operator, constant or not."""
        tensor = op.inputs[position]
        assert tensor is not None
        return values[tensor.index] if tensor.index in values else self._weights[tensor.index]

    def convolve(self, op: Op, values: Mapping[int, Array], depthwise: bool) -> Array:
        """CONV_2D and DEPTHWISE_CONV_2D, in C."""
        image = np.ascontiguousarray(self.value(op, 0, values))
        _, out_height, out_width, out = op.outputs[0].shape
        kernel, bias = self._pack(op, depthwise)
        padded = kernel.shape[-1]
        kernel_height, kernel_width = kernel.shape[:2]
        steps = [int(op.options.get(f"{name}", 1)) for name in ("stride_h", "stride_w")]
        gaps = [int(op.options.get(f"dilation_{side}_factor", 1)) for side in ("h", "w")]
        is_same = op.options.get("padding", 0) == 0
        borders = [
            max(0, (count - 1) * step + (size - 1) * gap + 1 - side) // 2 if is_same else 0
            for count, step, size, gap, side in zip(
                (out_height, out_width), steps, (kernel_height, kernel_width), gaps, image.shape[1:3], strict=True
            )
        ]
        if depthwise and padded != image.shape[3]:
            image = np.pad(image, ((0, 0), (0, 0), (0, 0), (0, padded - image.shape[3])))
        sizes = (*image.shape[1:], out_height, out_width, padded, kernel_height, kernel_width, *steps, *gaps, *borders)
        shape = _Shape(*sizes, *_LIMITS[op.activation])
        result = np.empty((1, out_height, out_width, padded), np.float32)
        function = self._library.convolve_depthwise if depthwise else self._library.convolve
        function(
            ctypes.byref(shape), *(array.ctypes.data_as(ctypes.c_void_p) for array in (image, kernel, bias, result))
        )
        return np.ascontiguousarray(result[..., :out])

    def _pack(self, op: Op, depthwise: bool) -> tuple[Array, Array]:
        """Kernel (h, w, in, out) or (h, w, out) and bias, filled up to whole vectors."""
        if op.index not in self._packed:
            tensor = op.inputs[1]
            assert tensor is not None
            stored = self._weights[tensor.index]
            kernel = stored[0] if depthwise else stored.transpose(1, 2, 3, 0)
            rest = -kernel.shape[-1] % _LANES
            bias = self._weights[op.inputs[2].index] if len(op.inputs) > 2 and op.inputs[2] else None
            bias = np.zeros(kernel.shape[-1], np.float32) if bias is None else bias
            width = [(0, 0)] * (kernel.ndim - 1) + [(0, rest)]
            self._packed[op.index] = np.ascontiguousarray(np.pad(kernel, width)), np.pad(bias, (0, rest))
        return self._packed[op.index]


def rounded(values: Array) -> Array:
    """The nearest numbers of 16 bits; what is above 65,504 becomes infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float32)


def _library() -> ctypes.CDLL:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise InputError(f"half precision is simulated on x86-64 with F16C, not on {platform.machine()}")
    path = fetch.build(Path(__file__).with_name("half.c"), fetch.cache_folder(), ("-mavx2", "-mfma", "-mf16c"))
    return ctypes.CDLL(str(path))


def _add(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    total = rounded(network.value(op, 0, values) + network.value(op, 1, values))
    return np.clip(total, *_LIMITS[op.activation])


def _multiply(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return rounded(network.value(op, 0, values) * network.value(op, 1, values))


def _sigmoid(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return rounded(1 / (1 + np.exp(-network.value(op, 0, values))))


def _relu(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return np.maximum(network.value(op, 0, values), 0)


def _hard_swish(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    image = network.value(op, 0, values)
    return rounded(np.clip(rounded(image + 3), 0, 6) * rounded(image * np.float32(np.float16(1 / 6))))


def _minimum(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return np.minimum(network.value(op, 0, values), network.value(op, 1, values))


def _maximum(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return np.maximum(network.value(op, 0, values), network.value(op, 1, values))


def _mean(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    # XNNPACK sums a whole map in single precision
    return rounded(network.value(op, 0, values).mean(axis=(1, 2), keepdims=True).reshape(op.outputs[0].shape))


def _average(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    """AVERAGE_POOL_2D whose windows do not overlap the border: a sum tap by tap, then a product."""
    image = network.value(op, 0, values)
    _, height, width, _ = op.outputs[0].shape
    down, across = int(op.options["stride_h"]), int(op.options["stride_w"])
    tall, wide = int(op.options["filter_height"]), int(op.options["filter_width"])
    if (height - 1) * down + tall > image.shape[1] or (width - 1) * across + wide > image.shape[2]:
        raise InputError("half precision of AVERAGE_POOL_2D is simulated without padding")
    total = np.zeros((1, height, width, image.shape[3]), np.float32)
    for row in range(tall):
        for column in range(wide):
            total = rounded(total + image[:, row::down, column::across][:, :height, :width])
    return rounded(total * np.float16(1 / (tall * wide)).astype(np.float32))


def _pad(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    tensor = op.inputs[1]
    if tensor is None or tensor.values is None:
        raise InputError("half precision of PAD is simulated with constant paddings")
    return np.pad(network.value(op, 0, values), np.reshape(tensor.values, (-1, 2)))


def _concatenate(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return np.concatenate([network.value(op, n, values) for n in range(len(op.inputs))], axis=int(op.options["axis"]))


def _reshape(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    return network.value(op, 0, values).reshape(op.outputs[0].shape)


def _resize(network: HalfNetwork, op: Op, values: Mapping[int, Array]) -> Array:
    """Bilinear, half-pixel centres: across first, then down; each step a fused multiply-add of the difference."""
    image = network.value(op, 0, values)[0]
    if not op.options.get("half_pixel_centers"):
        raise InputError("half precision of RESIZE_BILINEAR is simulated with half-pixel centres")
    (top, bottom, down), (left, right, across) = (
        _taps(image.shape[axis], op.outputs[0].shape[1 + axis]) for axis in (0, 1)
    )
    across, down = across[None, :, None], down[:, None, None]

    def mix(one: Array, other: Array, share: Array) -> Array:
        return rounded(one + rounded(other - one) * share)

    rows = mix(image[:, left], image[:, right], across)
    return mix(rows[top], rows[bottom], down)[None]


def _taps(side: int, wanted: int) -> tuple[np.ndarray, np.ndarray, Array]:
    place = np.maximum((np.arange(wanted) + 0.5) * side / wanted - 0.5, 0)
    first = np.minimum(place.astype(int), side - 1)
    return first, np.minimum(first + 1, side - 1), rounded((place - first).astype(np.float32))


_OPERATORS: dict[str, Callable[[HalfNetwork, Op, Mapping[int, Array]], Array]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average,
    "CONCATENATION": _concatenate,
    "CONV_2D": lambda network, op, values: network.convolve(op, values, depthwise=False),
    "DEPTHWISE_CONV_2D": lambda network, op, values: network.convolve(op, values, depthwise=True),
    "HARD_SWISH": _hard_swish,
    "LOGISTIC": _sigmoid,
    "MAXIMUM": _maximum,
    "MEAN": _mean,
    "MINIMUM": _minimum,
    "MUL": _multiply,
    "PAD": _pad,
    "RELU": _relu,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
}
