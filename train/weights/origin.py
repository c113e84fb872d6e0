"""Weights of anyone's Keras h5, such as a MattingNet of the project's origin: what corresponds is loaded, and said.

Nothing in the file is executed. Layers are told by their weights, not by their configuration, so a file with Lambda
layers can be read too, and one of weights alone. A convolution and the batch norm behind it are one unit; units of the
file and of our network correspond where kind and shape of the kernel are equal and the order is the same.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float32

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from portraitseg.models.keras_route import keras

#: A portrait network has some hundred layers and a few million weights.
MAX_LAYERS = 5_000
MAX_WEIGHTS = 200_000_000

#: Input of the h5 that is written; weights fit every size.
SIZE = (256, 256)

#: Of fresh weights where nothing corresponds.
SEED = 7

_REMEDY = "give an h5 of Keras 2, of model.save or save_weights"

#: Of batch norms where a file does not say: Keras's own.
_EPSILON = 1e-3

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


#: Kind and shape of a kernel.
Key = tuple[str, tuple[int, ...]]

#: A layer's weights by the end of their names, such as `moving_mean`.
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Norm:
    """A batch norm: (x - mean) · gamma / √(variance + epsilon) + beta, one value a channel."""

    gamma: Float32[np.ndarray, " c"]
    beta: Float32[np.ndarray, " c"]
    mean: Float32[np.ndarray, " c"]
    variance: Float32[np.ndarray, " c"]
    epsilon: float


@dataclass(frozen=True)
class Unit:
    """A convolution of the file, with the batch norm behind it.

    Attributes:
        name: of the layer.
        kind: `Conv2D`, `DepthwiseConv2D` or `Conv2DTranspose`.
        kernel: as Keras stores it, input channels before output channels.
    """

    name: str
    kind: str
    kernel: Float32[np.ndarray, "_ _ _ _"]
    bias: Float32[np.ndarray, " c"] | None
    norm: Norm | None = None

    @property
    def channels(self) -> int:
        """Of the output."""
        rows, columns = (int(side) for side in self.kernel.shape[2:])
        if self.kind == "DepthwiseConv2D":
            return rows * columns
        return rows if self.kind == "Conv2DTranspose" else columns


@dataclass(frozen=True)
class Report:
    """What became of both sides' layers.

    Attributes:
        loaded: (our layer, layer of the file).
        missing: (our layer, why it keeps its fresh weights).
        unused: (layer of the file, why).
        loaded_weights, weights: of kernels: loaded ones, all of our network.
    """

    loaded: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    unused: tuple[tuple[str, str], ...]
    loaded_weights: int
    weights: int

    @property
    def is_hollow(self) -> bool:
        """Whether hardly anything corresponds, 0 % in whole numbers: some 1×1 kernels of equal shape are no origin."""
        return self.loaded_weights < HOLLOW * self.weights


#: A share of the weights that reads as 0 %.
HOLLOW = 0.005


def import_h5(path: Path, name: str, out: Path, prepare: Callable[[Any], None] | None = None) -> Report:
    """Builds a network of ours with what an h5 has of it, and saves it as an h5 from which training goes on.

    Nothing is written where the report is hollow.

    Args:
        path: a Keras 2 h5 of anyone; one of ours, such as a larger size of a family, too.
        name: of our network.
        out: the h5 to write.
        prepare: fills the new network first, with what stays where the h5 has nothing.

    Raises:
        InputError: no such network, an h5 that cannot be read or of which nothing corresponds, or `out` is there.
    """
    if out.exists():
        raise InputError(f"{out}: is there already: name another --out, or remove it")
    keras.utils.set_random_seed(SEED)
    model = models.build(name, SIZE)
    if prepare is not None:
        prepare(model)
    report = load(model, path)
    if not report.is_hollow:
        checkpoint.save(model, out)
    return report


def load(model: Any, path: Path) -> Report:
    """Loads into a network of ours what an h5 has of it; the function of a loaded unit is the file's.

    Raises:
        InputError: an h5 that cannot be read, or of which nothing corresponds.
    """
    theirs, unused = read_units(path)
    norms = {
        layer.input._keras_history.layer.name: layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    }
    ours = [layer for layer in model.layers if isinstance(layer, _CONVOLUTIONS)]
    ours = [ours[index] for index in separable_order([_key(layer) for layer in ours])]
    theirs = [theirs[index] for index in separable_order([(unit.kind, unit.kernel.shape) for unit in theirs])]
    our_keys = [_key(layer) for layer in ours]
    their_keys = [(unit.kind, unit.kernel.shape) for unit in theirs]
    pairs = align(our_keys, their_keys)
    if not pairs:
        raise InputError(f"{path}: none of its {len(theirs)} convolutions corresponds to one of '{model.name}'")
    for one, other in pairs.items():
        _assign(ours[one], norms.get(ours[one].name), theirs[other])
    taken = set(pairs.values())
    return Report(
        loaded=tuple((ours[one].name, theirs[other].name) for one, other in pairs.items()),
        missing=tuple(
            (layer.name, _why(key, their_keys, "the file"))
            for index, (layer, key) in enumerate(zip(ours, our_keys, strict=True))
            if index not in pairs
        ),
        unused=tuple(
            (unit.name, _why(key, our_keys, model.name))
            for index, (unit, key) in enumerate(zip(theirs, their_keys, strict=True))
            if index not in taken
        )
        + tuple(unused),
        loaded_weights=sum(math.prod(our_keys[index][1]) for index in pairs),
        weights=sum(math.prod(shape) for _, shape in our_keys),
    )


def _key(layer: Any) -> Key:
    return type(layer).__name__, tuple(layer.get_weights()[0].shape)


def separable_order(keys: Sequence[Key]) -> list[int]:
    """Places in an order in which each depthwise convolution stands right before the 1x1 that reads it.

    Keras sorts layers by depth: a shortcut's convolution comes between the two halves where they are two layers, and
    before or behind both where they are one `SeparableConv2D`. The reader is known by its width.
    """
    order: list[int] = []
    waiting: list[int] = []
    for index, (kind, shape) in enumerate(keys):
        if kind == "DepthwiseConv2D":
            waiting.append(index)
            continue
        read = [other for other in waiting if math.prod(keys[other][1][2:]) == shape[2] and shape[:2] == (1, 1)][:1]
        order += [*read, index]
        waiting = [other for other in waiting if other not in read]
    return order + waiting


def align(ours: Sequence[Key], theirs: Sequence[Key]) -> dict[int, int]:
    """Pairs equal keys in order such that the most weights are paired; of equal choices the earliest.

    Args:
        ours, theirs: kind and shape of each kernel, in the networks' order.

    Returns:
        Place in ours → place in theirs, both rising.
    """
    best = np.zeros((len(ours) + 1, len(theirs) + 1), np.int64)
    for one in reversed(range(len(ours))):
        weights = math.prod(ours[one][1])
        for other in reversed(range(len(theirs))):
            both = weights + best[one + 1, other + 1] if ours[one] == theirs[other] else 0
            best[one, other] = max(both, best[one + 1, other], best[one, other + 1])
    pairs: dict[int, int] = {}
    one = other = 0
    while one < len(ours) and other < len(theirs):
        if ours[one] == theirs[other] and best[one, other] == math.prod(ours[one][1]) + best[one + 1, other + 1]:
            pairs[one] = other
            one, other = one + 1, other + 1
        elif best[one, other] == best[one, other + 1]:
            other += 1
        else:
            one += 1
    return pairs


def _why(key: Key, others: Sequence[Key], owner: str) -> str:
    kind, shape = key
    text = f"{kind} of {'x'.join(map(str, shape))}"
    count = others.count(key)
    if not count:
        return f"{owner} has no {text}"
    return f"the {count} {text} of {owner} correspond{'s' if count == 1 else ''} to others, or stand elsewhere in order"


def _assign(layer: Any, norm: Any, unit: Unit) -> None:
    """Loads a unit into our convolution and its batch norm, None where it has a bias instead."""
    bias = np.zeros(unit.channels, np.float32) if unit.bias is None else unit.bias
    if norm is None:
        kernel = unit.kernel
        if unit.norm is not None:
            # what the batch norm does to each channel, inside the kernel
            scale = unit.norm.gamma / np.sqrt(unit.norm.variance + unit.norm.epsilon)
            kernel = kernel * (scale.reshape(kernel.shape[2:]) if unit.kind == "DepthwiseConv2D" else scale)
            bias = (bias - unit.norm.mean) * scale + unit.norm.beta
        layer.set_weights([kernel, bias])
        return
    layer.set_weights([unit.kernel])
    if unit.norm is None:
        ones = np.ones_like(bias)
        norm.set_weights([ones, bias, np.zeros_like(bias), ones - np.float32(norm.epsilon)])
    else:
        theirs = unit.norm
        gamma = theirs.gamma * np.sqrt((theirs.variance + norm.epsilon) / (theirs.variance + theirs.epsilon))
        norm.set_weights([gamma, theirs.beta, theirs.mean - bias, theirs.variance])


# ---- reading


@dataclass(frozen=True)
class _Config:
    """What a file's configuration says of one layer; empty where it has none."""

    kind: str = ""
    inputs: tuple[str, ...] = ()
    epsilon: float = _EPSILON


def read_units(path: Path) -> tuple[list[Unit], list[tuple[str, str]]]:
    """Reads the convolutions of an h5, in its order, and the other layers with weights, each with a reason.

    Raises:
        InputError: missing, not an h5, damaged, too large, or without layers.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file: {_REMEDY}")
    text = checkpoint.read_config(path, is_optional=True)
    try:
        layers = _read_layers(path)
        return _gather(layers, _parse_config(text))
    except checkpoint.DAMAGED as error:
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: no layers with weights that could be read ({reason}): {_REMEDY}") from error


def _read_layers(path: Path) -> list[tuple[str, Weights]]:
    """Layers with their weights by the end of their names, such as `kernel`; in the order of the file."""
    layers: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    total = 0
    with h5py.File(path, "r") as file:
        root = file.get("model_weights", file)
        for group in _names(root, "layer_names"):
            for weight in _names(root[group], "weight_names"):
                scope, _, which = weight.partition(":")[0].rpartition("/")
                total += root[group][weight].size
                if total > MAX_WEIGHTS or len(layers) > MAX_LAYERS:
                    raise ValueError(f"more than {MAX_WEIGHTS} weights or {MAX_LAYERS} layers: no portrait network")
                values = np.asarray(root[group][weight][()], np.float32)
                if not np.isfinite(values).all():
                    raise ValueError(f"values of '{weight}' that are not finite")
                # a model inside the model has one group for all its layers
                layers.setdefault((group, scope), {})[which] = values
    return [(scope.rpartition("/")[2] or group, weights) for (group, scope), weights in layers.items()]


def _names(group: Any, key: str) -> Iterator[str]:
    """Names in an attribute; Keras cuts one that is too long for HDF5 into `key0`, `key1` and so on."""
    parts = [key] if key in group.attrs else sorted((k for k in group.attrs if k.startswith(key)), key=len)
    if not parts:
        raise ValueError(f"no {key}")
    for part in parts:
        for name in group.attrs[part]:
            yield name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _gather(
    layers: Sequence[tuple[str, Weights]], configs: Mapping[str, _Config]
) -> tuple[list[Unit], list[tuple[str, str]]]:
    """Convolutions with their batch norms; what is neither, with the reason."""
    units: list[Unit] = []
    others: list[tuple[str, str]] = []
    for name, weights in layers:
        config = configs.get(name, _Config())
        if "moving_mean" in weights:
            norm = _read_norm(weights, config.epsilon)
            index = _find_convolution(units, config, len(norm.mean))
            if index is None:
                others.append((name, "a batch norm behind no convolution of its width"))
            else:
                units[index] = replace(units[index], norm=norm)
        elif convolutions := list(_read_convolutions(name, weights, config.kind)):
            units += convolutions
        else:
            others.append((name, f"{config.kind or 'a layer'} with {', '.join(weights)}: our networks have none"))
    return units, others


def _read_convolutions(name: str, weights: Weights, kind: str) -> Iterator[Unit]:
    kinds = {which: weights[which] for which in ("depthwise_kernel", "pointwise_kernel", "kernel") if which in weights}
    for index, (which, kernel) in enumerate(kinds.items()):
        if kernel.ndim != 4:
            # Dense, Conv1D
            return
        is_transposed = kind == "Conv2DTranspose" or (not kind and "transpose" in name)
        class_name = (
            "DepthwiseConv2D" if which == "depthwise_kernel" else "Conv2DTranspose" if is_transposed else "Conv2D"
        )
        unit = Unit(name, class_name, kernel, bias=None)
        # a separable convolution has its bias behind the second kernel
        has_bias = "bias" in weights and index == len(kinds) - 1
        yield replace(unit, bias=_read_vector(weights, "bias", unit.channels)) if has_bias else unit


def _read_norm(weights: Weights, epsilon: float) -> Norm:
    count = weights["moving_mean"].size
    mean, variance = (_read_vector(weights, f"moving_{which}", count) for which in ("mean", "variance"))
    if variance.min(initial=0) < 0:
        raise ValueError("a negative variance")
    # `scale=False` and `center=False` leave these out
    gamma = _read_vector(weights, "gamma", count) if "gamma" in weights else np.ones_like(mean)
    beta = _read_vector(weights, "beta", count) if "beta" in weights else np.zeros_like(mean)
    return Norm(gamma, beta, mean, variance, epsilon)


def _read_vector(weights: Weights, which: str, count: int) -> Float32[np.ndarray, " c"]:
    values = weights[which]
    if values.shape != (count,):
        raise ValueError(f"'{which}' has shape {values.shape} where {count} channels are")
    return values


def _find_convolution(units: Sequence[Unit], config: _Config, channels: int) -> int | None:
    """The convolution before a batch norm: by the graph where the file has one, else the last one of its width."""
    free = [index for index, unit in enumerate(units) if unit.norm is None and unit.channels == channels]
    if config.inputs:
        free = [index for index in free if units[index].name in config.inputs]
    return free[-1] if free else None


def _parse_config(text: bytes) -> dict[str, _Config]:
    """Layer → what is used of its configuration; empty where there is none, or none that is understood."""
    try:
        stack = [json.loads(text)] if len(text) <= checkpoint.MAX_CONFIG_BYTES else []
    except (ValueError, RecursionError):
        return {}
    configs = {}
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            stack += node.values()
            values = node.get("config")
            if isinstance(values, dict) and isinstance(node.get("class_name"), str):
                epsilon = values.get("epsilon")
                configs[str(node.get("name") or values.get("name"))] = _Config(
                    node["class_name"],
                    tuple(_strings(node.get("inbound_nodes"))),
                    float(epsilon) if isinstance(epsilon, int | float) and 0 < epsilon < 1 else _EPSILON,
                )
    return configs


def _strings(node: Any) -> Iterator[str]:
    """All strings in lists and values, at any depth: the names of a layer's inputs are among them."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            stack += node.values()
