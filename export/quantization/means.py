"""Means over large maps, written so that XNNPACK computes them in 8 bits too: the same mean.

A mean over more than 64x64 pixels is taken in two steps (`blocks.mean_over_image`), as OpenGL ES has it wrong
otherwise. The first is an AVERAGE_POOL_2D. XNNPACK has none in 8 bits, and TFLite's own kernel took an eighth of the
selfie networks' time. Here pixels are counted as channels instead, as many as a window has, which moves no number in
memory; each is averaged over what is left of the image, and then they are averaged.
"""

from typing import Any

from portraitseg.models import surgery


def rewrite(model: Any) -> Any:
    """The same network, names and weights; itself where no average pooling stands before a mean over the image.

    Args:
        model: functional Keras model of fixed size, inputs (n, h, w, c).
    """
    pools = find(model)
    if not pools:
        return model
    config = model.get_config()
    layers: list[Any] = []
    for entry in config["layers"]:
        name = entry["name"]
        if name not in pools:
            layers.append(entry)
            continue
        _, height, width, channels = pools[name].output_shape
        rows, columns = pools[name].pool_size
        wide = {"target_shape": (height, width, rows * columns * channels)}
        source = surgery.append(layers, "Reshape", f"{name}_wide", wide, *entry["inbound_nodes"])
        source = surgery.append(layers, "GlobalAveragePooling2D", f"{name}_mean", {"keepdims": True}, [source])
        # by the pool's name, which the mean behind it reads
        surgery.append(layers, "Reshape", name, {"target_shape": (rows, columns, channels)}, [source])
    return surgery.rebuild(model, {**config, "layers": layers})


def find(model: Any) -> dict[str, Any]:
    """The layers of a functional Keras model that `rewrite` replaces, by name."""
    return {layer.name: layer for layer in model.layers if _is_first_of_two(layer)}


def _is_first_of_two(layer: Any) -> bool:
    """Whether it averages windows that fill the map, for means over the image alone."""
    if type(layer).__name__ != "AveragePooling2D" or len(layer.inbound_nodes) != 1:
        return False
    if layer.pool_size != layer.strides or layer.data_format != "channels_last" or None in layer.input_shape[1:]:
        return False
    if any(side % step for side, step in zip(layer.input_shape[1:3], layer.pool_size, strict=True)):
        return False
    users = [node.outbound_layer for node in layer.outbound_nodes]
    return bool(users) and all(_is_mean(user) for user in users)


def _is_mean(layer: Any) -> bool:
    return type(layer).__name__ == "GlobalAveragePooling2D" and layer.data_format == "channels_last"
