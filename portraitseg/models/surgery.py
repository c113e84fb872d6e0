"""Networks rebuilt from a configuration that was changed: layers put in, replaced or led to others; weights kept."""

from typing import Any

from portraitseg.models.keras_route import keras

#: Where a tensor comes from, as a configuration has it: layer, node, tensor, keyword arguments.
Source = list[Any]


def append(layers: list[Any], kind: str, name: str, config: dict[str, Any], sources: list[Source]) -> Source:
    """Adds a layer of one of Keras' classes to those of a configuration; returns where its output is."""
    entry = {"name": name, "trainable": True, "dtype": "float32", **config}
    node = [list(source) for source in sources]
    layers.append({"class_name": kind, "name": name, "config": entry, "inbound_nodes": [node]})
    return [name, 0, 0, {}]


def rebuild(model: Any, config: dict[str, Any]) -> Any:
    """A functional Keras model of this configuration, with the weights of the one that it was made from, by name."""
    rebuilt = keras.Model.from_config(config)
    take_weights(rebuilt, model)
    return rebuilt


def take_weights(model: Any, source: Any) -> None:
    """Copies the weights of every layer that has some from the layer of its name; both are Keras models."""
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())
