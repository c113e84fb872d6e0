"""H-swish, x · ReLU6(x + 3) / 6 (Howard et al., 2019), written so that XNNPACK computes it in 8 bits: the same numbers.

The converter makes one HARD_SWISH of it, which XNNPACK has in float alone; TFLite's own int8 kernel for it made whole
files take three times as long. Where the layer before gives v = x / √6 instead, the same is
v · min(max(v + 3/√6, 0), √6): a sum with a constant and a product. The clamp costs nothing: it is the range of the
sum's 8 bits (`qat`).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from portraitseg.models import surgery

#: What the layer before an h-swish is divided by.
DIVISOR = math.sqrt(6.0)

#: What is added then; where that makes less than zero, h-swish is zero.
OFFSET = 3.0 / DIVISOR

#: Layers whose output is divided where their first two weights are: kernel and bias, gamma and beta.
_LINEAR = frozenset({"Conv2D", "DepthwiseConv2D", "Dense", "BatchNormalization"})


@dataclass(frozen=True)
class HardSwish:
    """The names of the layers of one.

    Attributes:
        before: what gives x, and can be divided.
        total, clamp, sixth, product: x + 3, ReLU6, its sixth, and that times x.
    """

    before: str
    total: str
    clamp: str
    sixth: str
    product: str


def find(model: Any) -> list[HardSwish]:
    """Those of a functional Keras model that `rewrite` changes."""
    return [one for layer in model.layers if (one := _look_at(layer)) is not None]


def rewrite(model: Any) -> Any:
    """The same network and names, without the sixths, the weights before divided; itself where there is no h-swish.

    Args:
        model: functional Keras model, inputs (n, h, w, c).
    """
    found = find(model)
    if not found:
        return model
    config = model.get_config()
    entries = {entry["name"]: entry for entry in config["layers"]}
    for one in found:
        entries[one.total]["config"]["offset"] = OFFSET
        entries[one.clamp]["config"]["max_value"] = DIVISOR
        for source in entries[one.product]["inbound_nodes"][0]:
            if source[0] == one.sixth:
                source[0] = one.clamp
        del entries[one.sixth]
    rebuilt = surgery.rebuild(model, {**config, "layers": list(entries.values())})
    scale(rebuilt, found, 1.0 / DIVISOR)
    return rebuilt


def clamps(rewritten: Any) -> dict[str, str]:
    """Of a network of `rewrite`: the names of the h-swishes' clamps → those of the sums before them."""
    return {
        layer.name: before.name
        for layer in rewritten.layers
        if type(layer).__name__ == "ReLU"
        and layer.max_value
        and math.isclose(layer.max_value, DIVISOR, rel_tol=1e-6)
        and _is_rescaling(before := _input(layer), 1.0, OFFSET)
    }


def scale(model: Any, found: list[HardSwish], factor: float) -> None:
    """Multiplies what the layers before h-swishes give, by their weights; in place."""
    for one in found:
        layer = model.get_layer(one.before)
        weights = layer.get_weights()
        # the other two of a batch norm are statistics of its input
        layer.set_weights([*(weight * factor for weight in weights[:2]), *weights[2:]])


def _look_at(product: Any) -> HardSwish | None:
    """The h-swish whose product a layer is, if all that reads its layers allows the rewrite."""
    if type(product).__name__ != "Multiply" or len(product.inbound_nodes) != 1:
        return None
    inputs = product.inbound_nodes[0].inbound_layers
    for sixth, before in (inputs, inputs[::-1]) if len(inputs) == 2 else ():
        if not _is_rescaling(sixth, 1 / 6, 0.0):
            continue
        clamp = _input(sixth)
        if type(clamp).__name__ != "ReLU" or clamp.max_value != 6.0 or clamp.threshold or clamp.negative_slope:
            continue
        total = _input(clamp)
        if not _is_rescaling(total, 1.0, 3.0) or _input(total) is not before:
            continue
        inner = [(sixth, [product]), (clamp, [sixth]), (total, [clamp])]
        if all(_readers(layer) == readers for layer, readers in inner) and _is_divisible(before, {total, product}):
            return HardSwish(*(layer.name for layer in (before, total, clamp, sixth, product)))
    return None


def _is_rescaling(layer: Any, factor: float, offset: float) -> bool:
    if type(layer).__name__ != "Rescaling":
        return False
    # either may be one number or a list, one a channel
    return bool(np.allclose(layer.scale, factor) and np.allclose(layer.offset, offset))


def _is_divisible(layer: Any, readers: set[Any]) -> bool:
    """Whether two weights decide the scale of what it gives, and nothing else reads that."""
    if type(layer).__name__ not in _LINEAR or set(_readers(layer)) != readers:
        return False
    if type(layer).__name__ == "BatchNormalization":
        return bool(layer.scale and layer.center)
    return bool(layer.activation.__name__ == "linear")


def _readers(layer: Any) -> list[Any]:
    return [node.outbound_layer for node in layer.outbound_nodes]


def _input(layer: Any) -> Any:
    """The one layer before it; a list where there are several."""
    return layer.inbound_nodes[0].inbound_layers
