"""Copies the weights of a network into a wider one that computes the same."""

from typing import Any

import numpy as np

#: Of the noise by which the copies of a channel share its outgoing weights. Equal copies would get equal gradients, and
#: never part; with weights that differ from output to output they part at the first step.
_SEED = 7


def copy_wider(source: Any, wide: Any) -> None:
    """Gives a wider network the function of a narrower one: Net2WiderNet (Chen et al., ICLR 2016, arXiv:1511.05641).

    Channel j of the wide network is a copy of channel j modulo c of the narrow one, which has c; who reads the copies
    divides the weight among them, unequally and anew for each output. All layers that see one channel at a time (Add,
    Multiply, depthwise convolutions, batch norm, activations, pooling) then see equal copies. Outputs are equal but for
    rounding.

    Args:
        source: flat Keras model of convolutions, depthwise ones and batch norms; channels are concatenated nowhere.
        target: the same layers by name, none narrower; changed in place. Of equal widths, it gets the same weights.
    """
    rng = np.random.default_rng(_SEED)
    for layer in wide.layers:
        if layer.weights:
            shapes = [tuple(weight.shape) for weight in layer.weights]
            values = source.get_layer(layer.name).get_weights()
            is_depthwise = type(layer).__name__ == "DepthwiseConv2D"
            pairs = zip(values, shapes, strict=True)
            layer.set_weights([_wider(value, shape, is_depthwise, rng) for value, shape in pairs])


def _wider(value: np.ndarray, shape: tuple[int, ...], is_depthwise: bool, rng: np.random.Generator) -> np.ndarray:
    if value.ndim == 1:
        return value[_originals(len(value), shape[0])]
    assert value.shape[:2] == shape[:2], f"kernels of {value.shape} and {shape}"
    inputs = _originals(value.shape[2], shape[2])
    if is_depthwise:
        return value[:, :, inputs]
    wide = value[:, :, inputs][..., _originals(value.shape[3], shape[3])]
    # shares of the copies of each input channel: 1 in all, each between a third and three times another
    shares = rng.uniform(0.5, 1.5, wide.shape)
    total = np.zeros((*shape[:2], value.shape[2], shape[3]))
    for index, original in enumerate(inputs):
        total[:, :, original] += shares[:, :, index]
    return (wide * shares / total[:, :, inputs]).astype(np.float32)


def _originals(narrow: int, wide: int) -> np.ndarray:
    """For each channel of the wide network, the one of the narrow network that it copies."""
    assert wide >= narrow, f"{wide} channels cannot hold {narrow}"
    return np.arange(wide) % narrow
