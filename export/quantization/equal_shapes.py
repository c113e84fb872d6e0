"""Merging layers of unequal shapes, written so that the classic GPU delegate computes them: exactly the same function.

`Subtract()([map, gate])` and its kin are computed wrong, or refused, by that delegate (`gpu/broadcasts.py`). Where the
operands may change places they do; else the smaller one is repeated first: pixels by nearest neighbour, channels by
concatenation. Both copy numbers and compute none.
"""

from dataclasses import dataclass
from typing import Any

from portraitseg.checks.gpu.broadcasts import COMMUTATIVE, LAYERS, Shape, is_taken
from portraitseg.models import merges, surgery

_OPERATORS = {layer: operator for operator, layer in LAYERS.items()}


@dataclass(frozen=True)
class Unequal:
    """A layer of two tensors whose shapes the delegate does not take as they stand.

    Attributes:
        shapes: height, width and channels of both.
        swaps: whether it is enough that they change places.
    """

    layer: str
    kind: str
    shapes: tuple[Shape, Shape]
    swaps: bool

    @property
    def done(self) -> str:
        """What is done about it, in words."""
        if self.swaps:
            return "the larger tensor is named first"
        return "the smaller tensor is repeated first (UpSampling2D, Concatenate), which copies its numbers"


def find(model: Any) -> list[Unequal]:
    """The layers of a functional Keras model that `rewrite` changes."""
    return [broadcast for layer in model.layers if (broadcast := _look_at(layer)) is not None]


def rewrite(model: Any) -> Any:
    """The same network, names and weights; itself where there is nothing to do.

    Args:
        model: functional Keras model of fixed size, inputs (n, h, w, c).
    """
    model = merges.with_layers(model)
    broadcasts = {one.layer: one for one in find(model)}
    if not broadcasts:
        return model
    config = model.get_config()
    layers: list[Any] = []
    for entry in config["layers"]:
        one = broadcasts.get(entry["name"])
        if one is not None and one.swaps:
            entry["inbound_nodes"] = [entry["inbound_nodes"][0][::-1]]
        elif one is not None:
            whole = tuple(max(sides) for sides in zip(*one.shapes, strict=True))
            (node,) = entry["inbound_nodes"]
            for operand, shape in enumerate(one.shapes):
                node[operand] = _widened(layers, node[operand], shape, whole, f"{one.layer}_operand{operand}")
        layers.append(entry)
    return surgery.rebuild(model, {**config, "layers": layers})


def _look_at(layer: Any) -> Unequal | None:
    # `x + y` on tensors counts as the layer that `merges` makes of it
    kind = merges.merge_layer(layer) or type(layer).__name__
    if kind not in _OPERATORS or len(layer.inbound_nodes) != 1:
        return None
    tensors = layer.inbound_nodes[0].keras_inputs
    if len(tensors) != 2:
        return None
    shapes = tuple(tuple(tensor.shape[1:]) for tensor in tensors)
    if any(len(shape) != 3 or None in shape for shape in shapes):
        return None
    operator, (one, other) = _OPERATORS[kind], shapes
    if is_taken(operator, one, other):
        return None
    return Unequal(layer.name, kind, (one, other), operator in COMMUTATIVE and is_taken(operator, other, one))


def _widened(layers: list[Any], source: Any, shape: Any, whole: Any, name: str) -> Any:
    """Adds layers that repeat a tensor to the whole shape; returns where their result is, as a configuration has it."""
    if shape[:2] != whole[:2]:
        factors = [large // small for large, small in zip(whole[:2], shape[:2], strict=True)]
        size = {"size": factors, "interpolation": "nearest", "data_format": "channels_last"}
        source = surgery.append(layers, "UpSampling2D", f"{name}_pixels", size, [source])
    if shape[2] == whole[2]:
        return source
    # by doubling: 64 channels are six layers
    single, channels = source, 1
    while channels < whole[2]:
        more = source if 2 * channels <= whole[2] else single
        channels += channels if more is source else 1
        source = surgery.append(layers, "Concatenate", f"{name}_channels{channels}", {"axis": -1}, [source, more])
    return source
