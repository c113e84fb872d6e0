"""Whether half precision can overflow in a float network, for any photo whatever: bounds by interval arithmetic.

Each operator's output is bounded from the bounds of its inputs, channel by channel, and so is each partial sum on the
way, in whatever order it is added: |bias| + Σ |weight| · max |input|, times (1 + 2⁻¹¹) for each rounding. ReLU6, a
clamp and the sigmoid begin anew, so that the bounds of networks with them stay small; those of ReLU and h-swish grow
layer by layer.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from portraitseg.checks.arm.weights import read_weights, run_time_ops
from portraitseg.tflite.graph import Graph, Op, read_graph

#: The greatest finite number of 16 bits (IEEE 754 binary16).
GREATEST = 65_504.0

#: Where a clamp ends numbers; what photos reach behind clamped layers: docs/arm.md.
CLAMP = 256.0

#: Relative error of one rounding to 11 bits.
_UNIT = 2.0**-11

#: x · sigmoid(x) has its least value, -0.2785, at -1.28; with what rounding may add.
_LEAST_SWISH = -0.28

Bounds = tuple[Float64[np.ndarray, " _"], Float64[np.ndarray, " _"]]


@dataclass(frozen=True)
class LayerBound:
    """What is known of the numbers of an operator.

    Attributes:
        greatest: that it can meet, its partial sums included.
        low, high: of its output.
        size: elements of its output.
        sources: places in `Proof.layers` of the operators that it takes its inputs from.
    """

    name: str
    layer: str
    greatest: float
    low: float
    high: float
    size: int
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Proof:
    """What is known of a file.

    Attributes:
        layers: in the order of execution, up to the first operator that has no rule.
        unknown: that operator; None where all have one.
    """

    layers: tuple[LayerBound, ...]
    unknown: str | None

    @property
    def greatest(self) -> LayerBound:
        """The operator with the greatest number; one that is not a number counts as infinite."""
        return max(self.layers, key=lambda layer: np.inf if np.isnan(layer.greatest) else layer.greatest)

    @property
    def fault(self) -> str | None:
        """Why overflow cannot be excluded; None: it is."""
        if self.unknown is not None:
            return f"no bound is known for operator {self.unknown}"
        worst = self.greatest
        if worst.greatest < GREATEST:
            return None
        return f"{worst.name} of layer '{worst.layer}' can reach {worst.greatest:.3g}, above {GREATEST:g}"


def prove(path: Path) -> Proof:
    """Bounds all numbers of a float .tflite whose inputs lie in [0, 1].

    Raises:
        InputError: no TFLite file, or a damaged one.
    """
    graph = read_graph(path)
    return bound(graph, read_weights(path.read_bytes(), graph, str(path)))


def bound(
    graph: Graph, weights: Mapping[int, np.ndarray], clamped: Collection[str] = (), count: int | None = None
) -> Proof:
    """The same of what was read of a file.

    Args:
        graph, weights: of the file.
        clamped: layers whose outputs are looked at as if they ended at ±`CLAMP`.
        count: of the operators, from the first; None: all.
    """
    bounds: dict[int, Bounds] = {
        tensor.index: (np.zeros(tensor.shape[-1]), np.ones(tensor.shape[-1])) for tensor in graph.inputs
    }
    layers: list[LayerBound] = []
    makers: dict[int, tuple[int, Op]] = {}
    for op in run_time_ops(graph, weights)[:count]:
        rule = _RULES.get(op.name)
        if rule is None or any(t.index not in bounds for t in op.runtime_inputs if t.index not in weights):
            return Proof(tuple(layers), op.name)
        (low, high), greatest = rule(op, bounds, weights)
        low, high = _activate(op, low, high)
        if _is_swish(op, makers):
            low = np.maximum(low, _LEAST_SWISH)
        if op.layer in clamped:
            low, high = np.clip(low, -CLAMP, CLAMP), np.clip(high, -CLAMP, CLAMP)
        sources = tuple(makers[t.index][0] for t in op.runtime_inputs if t.index in makers)
        size = op.outputs[0].size
        layers.append(LayerBound(op.name, op.layer, greatest, float(low.min()), float(high.max()), size, sources))
        bounds[op.outputs[0].index], makers[op.outputs[0].index] = (low, high), (len(layers) - 1, op)
    return Proof(tuple(layers), None)


def _is_swish(op: Op, makers: Mapping[int, tuple[int, Op]]) -> bool:
    """Whether an operator multiplies a tensor by its own sigmoid."""
    if op.name != "MUL" or len(op.runtime_inputs) != 2:
        return False
    one, other = (tensor.index for tensor in op.runtime_inputs)
    return any(
        maker is not None and maker[1].name == "LOGISTIC" and maker[1].runtime_inputs[0].index == x
        for x, maker in ((one, makers.get(other)), (other, makers.get(one)))
    )


def _activate(op: Op, low: np.ndarray, high: np.ndarray) -> Bounds:
    limits = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}.get(op.activation)
    return (low, high) if limits is None else (np.clip(low, *limits), np.clip(high, *limits))


Ruled = tuple[Bounds, float]
Rule = Callable[[Op, Mapping[int, Bounds], Mapping[int, np.ndarray]], Ruled]


def _of(op: Op, position: int, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Bounds:
    """Bounds of an input; a constant bounds itself."""
    tensor = op.inputs[position]
    assert tensor is not None
    if tensor.index in bounds:
        return bounds[tensor.index]
    values = weights[tensor.index].astype(np.float64)
    flat = values.reshape(-1, values.shape[-1]) if values.ndim else values.reshape(1, 1)
    return flat.min(axis=0), flat.max(axis=0)


def _largest(bounds: Bounds) -> float:
    return float(max(np.abs(bounds[0]).max(), np.abs(bounds[1]).max()))


def _summed(kernel: np.ndarray, bias: np.ndarray, low: np.ndarray, high: np.ndarray) -> Ruled:
    """Bounds of Σ kernel · input + bias; kernel (o, taps, i), input bounds (i,) or, by channel, kernel (c, taps, 1)."""
    grown = (1 + _UNIT) ** (kernel.shape[1] * kernel.shape[2] + 1)
    # a window at the border sees zeros
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    up, down = np.maximum(kernel, 0), np.minimum(kernel, 0)
    top = (up * high + down * low).sum(axis=(1, 2))
    bottom = (up * low + down * high).sum(axis=(1, 2))
    partial = (np.abs(bias) + (np.abs(kernel) * np.maximum(-low, high)).sum(axis=(1, 2))) * grown
    # what rounding may add to the sum is within what it may add to the partial sums
    slack = partial * (1 - 1 / grown)
    return (bottom + bias - slack, top + bias + slack), float(partial.max())


def _convolution(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    low, high = _of(op, 0, bounds, weights)
    kernel = weights[op.inputs[1].index].astype(np.float64)  # type: ignore[union-attr]
    out, channels = kernel.shape[0], kernel.shape[-1]
    return _summed(kernel.reshape(out, -1, channels), _bias(op, weights, out), low, high)


def _depthwise(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    low, high = _of(op, 0, bounds, weights)
    kernel = weights[op.inputs[1].index].astype(np.float64)  # type: ignore[union-attr]
    out = kernel.shape[-1]
    repeat = out // len(low)
    by_channel = kernel.reshape(-1, out).T[:, :, None]
    low, high = (np.repeat(side, repeat)[:, None, None] for side in (low, high))
    return _summed(by_channel, _bias(op, weights, out), low, high)


def _bias(op: Op, weights: Mapping[int, np.ndarray], count: int) -> np.ndarray:
    tensor = op.inputs[2] if len(op.inputs) > 2 else None
    return np.zeros(count) if tensor is None else weights[tensor.index].astype(np.float64)


def _add(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    one, other = _of(op, 0, bounds, weights), _of(op, 1, bounds, weights)
    low, high = (one[0] + other[0]) * 1.0, (one[1] + other[1]) * 1.0
    greatest = _largest((low, high)) * (1 + _UNIT)
    return (low - greatest * _UNIT, high + greatest * _UNIT), greatest


def _multiply(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    one, other = _of(op, 0, bounds, weights), _of(op, 1, bounds, weights)
    products = np.stack([a * b for a in one for b in other])
    found = products.min(axis=0), products.max(axis=0)
    greatest = _largest(found) * (1 + _UNIT)
    return (found[0] - greatest * _UNIT, found[1] + greatest * _UNIT), greatest


def _same(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    """What interpolates, selects or copies; zeros of a padding included."""
    low, high = _of(op, 0, bounds, weights)
    found = np.minimum(low, 0), np.maximum(high, 0)
    # an interpolation subtracts first: twice the range
    return found, _largest(found) * (2 if op.name == "RESIZE_BILINEAR" else 1)


def _mean(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    """XNNPACK sums in single precision (`f16_f32acc_rdsum`); nothing else computes in half precision on a CPU."""
    found = _of(op, 0, bounds, weights)
    return found, _largest(found)


def _average(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    """An average of a window is a sum first."""
    found = _of(op, 0, bounds, weights)
    count = int(op.options["filter_width"] * op.options["filter_height"])
    return found, _largest(found) * count * (1 + _UNIT) ** count


def _extremum(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    one, other = _of(op, 0, bounds, weights), _of(op, 1, bounds, weights)
    pick = np.minimum if op.name == "MINIMUM" else np.maximum
    return (pick(one[0], other[0]), pick(one[1], other[1])), max(_largest(one), _largest(other))


def _reshape(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    low, high = _of(op, 0, bounds, weights)
    count = op.outputs[0].shape[-1]
    if count != len(low):
        low, high = np.full(count, low.min()), np.full(count, high.max())
    return (low, high), _largest((low, high))


def _concatenation(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    parts = [_of(op, place, bounds, weights) for place in range(len(op.inputs))]
    axis = int(op.options.get("axis", -1)) % len(op.outputs[0].shape)
    join = np.concatenate if axis == len(op.outputs[0].shape) - 1 else None
    if join is not None:
        found = join([part[0] for part in parts]), join([part[1] for part in parts])
    else:
        found = np.min([part[0] for part in parts], axis=0), np.max([part[1] for part in parts], axis=0)
    return found, _largest(found)


def _sigmoid(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    # XNNPACK works on |x| and exp(-|x|), of which it takes the power of two: |x| · log₂ e
    greatest = max(1.0, _largest(_of(op, 0, bounds, weights)) * 1.5)
    count = op.outputs[0].shape[-1]
    return (np.zeros(count), np.ones(count)), greatest


def _relu(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    low, high = _of(op, 0, bounds, weights)
    most = 6.0 if op.name == "RELU6" else np.inf
    return (np.clip(low, 0, most), np.clip(high, 0, most)), _largest((low, high))


def _hard_swish(op: Op, bounds: Mapping[int, Bounds], weights: Mapping[int, np.ndarray]) -> Ruled:
    low, high = _of(op, 0, bounds, weights)
    # x · relu6(x + 3) / 6 has its least value, -0.375, at -1.5
    found = np.minimum(np.maximum(low, -0.375), 0), np.maximum(high, 0)
    return found, _largest((low, high)) * 6


_RULES: Mapping[str, Rule] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average,
    "CONCATENATION": _concatenation,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "HARD_SWISH": _hard_swish,
    "LOGISTIC": _sigmoid,
    "MAX_POOL_2D": _same,
    "MAXIMUM": _extremum,
    "MEAN": _mean,
    "MINIMUM": _extremum,
    "MUL": _multiply,
    "PAD": _same,
    "RELU": _relu,
    "RELU6": _relu,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _same,
    "RESIZE_NEAREST_NEIGHBOR": _same,
    "STRIDED_SLICE": _same,
}


def is_float(graph: Graph) -> bool:
    """Whether all activations are floating-point: half precision concerns no other file."""
    return all(tensor.dtype in ("FLOAT32", "FLOAT16") for op in graph.ops for tensor in op.outputs)
