"""Networks without a bound for half precision are given one: a few of their layers end at ±256, where no photo comes.

x · sigmoid(x), h-swish and ReLU grow from layer to layer: what a bound by interval arithmetic allows is 10²¹ at the end
of a network whose numbers photos bring to 150. A clamp begins anew. It changes no mask of a photo whose numbers stay
within it, and where others have overflowed it gives numbers.
"""

from collections.abc import Collection
from typing import Any

from portraitseg.checks.arm.overflow import CLAMP, GREATEST, LayerBound, Proof, bound
from portraitseg.checks.arm.weights import read_weights
from portraitseg.models.keras_route import keras
from portraitseg.tflite.graph import parse_graph


def find(content: bytes, layers: Collection[str]) -> dict[str, bool]:
    """Chooses layers whose clamps exclude overflow in half precision.

    In the order of execution: where an operator may overflow, the smallest tensor on the way to it that helps.

    Args:
        content: of a float .tflite.
        layers: that may be chosen.

    Returns:
        Layer → whether its lower end needs a clamp too. Nothing where nothing is needed, or where nothing helps.
    """
    graph = parse_graph(content, "the file")
    weights = read_weights(content, graph, "the file")
    chosen: dict[str, bool] = {}
    while True:
        proof = bound(graph, weights, chosen)
        place = next((n for n, layer in enumerate(proof.layers) if not layer.greatest < GREATEST), None)
        if place is None:
            return chosen
        for layer in _candidates(proof, place, layers, chosen):
            if bound(graph, weights, {*chosen, layer.layer}, place + 1).layers[place].greatest < GREATEST:
                chosen[layer.layer] = layer.low < -CLAMP
                break
        else:
            return {}


def _candidates(proof: Proof, place: int, layers: Collection[str], chosen: Collection[str]) -> list[LayerBound]:
    """What an operator depends on and a clamp would change, the cheapest first."""
    names = [layer.layer for layer in proof.layers]
    found = (proof.layers[n] for n in sorted(_upstream(proof, place)))
    able = [
        layer
        for layer in found
        if layer.layer in layers
        and layer.layer not in chosen
        and names.count(layer.layer) == 1
        and max(-layer.low, layer.high) > CLAMP
    ]
    return sorted(able, key=lambda layer: layer.size * (2 if layer.low < -CLAMP else 1))


def _upstream(proof: Proof, place: int) -> set[int]:
    found: set[int] = set()
    waiting = [place]
    while waiting:
        sources = [n for n in proof.layers[waiting.pop()].sources if n not in found]
        found.update(sources)
        waiting += sources
    return found


def apply(model: Any, chosen: dict[str, bool]) -> Any:
    """The same Keras network with clamps behind these layers."""

    def clone(layer: Any) -> Any:
        import tensorflow as tf

        copy = layer.__class__.from_config(layer.get_config())
        if layer.name in chosen:
            inner, is_signed = copy.call, chosen[layer.name]

            def call(inputs: Any) -> Any:
                result = tf.minimum(inner(inputs), CLAMP)
                return tf.maximum(result, -CLAMP) if is_signed else result

            copy.call = call
        return copy

    result = keras.models.clone_model(model, clone_function=clone)
    result.set_weights(model.get_weights())
    return result
