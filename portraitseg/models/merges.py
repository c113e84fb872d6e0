"""`x + y` on tensors, and its kin, as the Keras layers that say the same: QAT takes only those."""

from typing import Any

from portraitseg.models import surgery

#: TensorFlow's function inside a TFOpLambda → the layer that computes the same of two tensors.
LAYERS = {
    "__operators__.add": "Add",
    "math.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
}


def merge_layer(layer: Any) -> str | None:
    """The class of the layer that may stand for this one; None: none may, or it is a layer already."""
    if type(layer).__name__ != "TFOpLambda" or len(layer.inbound_nodes) != 1:
        return None
    # of a tensor and a constant, Keras lists the tensor alone
    tensors = layer.inbound_nodes[0].keras_inputs
    if len(tensors) != 2 or len({len(tensor.shape) for tensor in tensors}) != 1:
        return None
    return LAYERS.get(layer.get_config()["function"])


def with_layers(model: Any) -> Any:
    """The same network, names and weights, with a layer for each operator on two tensors; itself where there are none.

    Args:
        model: functional Keras model.
    """
    kinds = {layer.name: kind for layer in model.layers if (kind := merge_layer(layer)) is not None}
    if not kinds:
        return model
    config = model.get_config()
    for entry in config["layers"]:
        if (kind := kinds.get(entry["name"])) is not None:
            entry["class_name"] = kind
            entry["config"] = {key: entry["config"][key] for key in ("name", "trainable", "dtype")}
            ((name, node, tensor, other),) = entry["inbound_nodes"]
            entry["inbound_nodes"] = [[[name, node, tensor, {}], [*other["y"], {}]]]
    return surgery.rebuild(model, config)
