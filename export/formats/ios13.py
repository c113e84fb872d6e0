"""Rewrites a neural network so that iOS 13 opens it: bilinear upsampling with half-pixel centres as a deconvolution.

The layer `upsample` learned half-pixel centres with iOS 14 (specification 5). The same function, exactly, in layers of
iOS 11: the image's edge repeated once, and a transposed convolution of stride f that gives every pixel a triangle of
2·f pixels; where triangles overlap their heights add up to 1.
"""

from typing import Any

import numpy as np
from jaxtyping import Float32

from portraitseg.errors import CheckFailed

#: coremltools' `_SPECIFICATION_VERSION_IOS_13`.
IOS13 = 4

#: Layers of Fast-SCNN and its kind that iOS 13 has, by `NeuralNetwork.proto` (comments "from … version 4 onwards") and
#: by the versions that coremltools' NeuralNetworkBuilder sets. Anything else is refused, not guessed.
LAYERS = {
    # iOS 11
    *("convolution", "pooling", "activation", "unary", "padding", "slice", "concat", "batchnorm", "scale", "bias"),
    *("add", "multiply", "max", "min", "softmax"),
    # iOS 13
    *("addBroadcastable", "subtractBroadcastable", "multiplyBroadcastable", "divideBroadcastable"),
    *("maxBroadcastable", "minBroadcastable", "concatND", "transpose", "squeeze", "expandDims", "reshapeStatic"),
    *("loadConstantND", "reduceMean", "constantPad", "sliceStatic", "clip", "softmaxND"),
}


def to_ios13(spec: Any, channels: dict[str, int]) -> None:
    """Rewrites a `Model` protobuf with a neural network in place.

    Args:
        spec: of coremltools, for iOS 14.
        channels: of each tensor that is upsampled, by name.

    Raises:
        CheckFailed: another layer that iOS 13 does not have.
    """
    network = spec.neuralNetwork
    layers = list(network.layers)
    del network.layers[:]
    for layer in layers:
        if layer.HasField("upsample") and layer.upsample.linearUpsampleMode == layer.upsample.ALIGN_CORNERS_FALSE:
            _add_upsampling(network, layer, channels[layer.input[0]])
            continue
        if not _is_known(layer):
            kind = layer.WhichOneof("layer")
            raise CheckFailed(
                f"layer '{layer.name}': '{kind}' is not known to be in iOS 13: see export/formats/ios13.py"
            )
        network.layers.add().CopyFrom(layer)
    spec.specificationVersion = IOS13


def _is_known(layer: Any) -> bool:
    kind = layer.WhichOneof("layer")
    if kind == "upsample":
        return bool(layer.upsample.mode == layer.upsample.NN)
    # two layers that took on more with iOS 14
    is_newer = any(layer.sliceStatic.squeezeMasks) or layer.concatND.interleave
    return kind in LAYERS and not is_newer


def triangle(factor: int) -> tuple[Float32[np.ndarray, " taps"], int]:
    """How much of an input pixel each of the output pixels around it has, along one axis.

    Returns:
        The weights, 2·factor of them, or one fewer for an odd factor; and how many pixels to cut off at either end of
        the transposed convolution of an image whose edge is repeated once.
    """
    taps = 2 * factor - factor % 2
    weights = 1 - np.abs(np.arange(taps) - (taps - 1) / 2) / factor
    # the first pixel's own centre lies behind the repeated one's whole stride; half a stride belongs to either side
    return weights.astype(np.float32), factor + factor // 2


def _add_upsampling(network: Any, layer: Any, channels: int) -> None:
    """Two layers in place of one."""
    if layer.upsample.fractionalScalingFactor:
        raise CheckFailed(f"layer '{layer.name}': upsampling by a fraction has no form in iOS 13")
    factors = [int(factor) for factor in layer.upsample.scalingFactor]
    edge = network.layers.add(name=f"{layer.name}/edge", input=layer.input, output=[f"{layer.output[0]}/edge"])
    edge.padding.replication.SetInParent()
    spread = network.layers.add(name=layer.name, input=edge.output, output=layer.output)
    convolution = spread.convolution
    convolution.isDeconvolution = True
    convolution.outputChannels = convolution.kernelChannels = convolution.nGroups = channels
    convolution.stride.extend(factors)
    (rows, top), (columns, left) = map(triangle, factors)
    convolution.kernelSize.extend([len(rows), len(columns)])
    for cut in (top, left):
        edge.padding.paddingAmounts.borderAmounts.add(startEdgeSize=1, endEdgeSize=1)
        convolution.valid.paddingAmounts.borderAmounts.add(startEdgeSize=cut, endEdgeSize=cut)
    kernel = np.tile(np.outer(rows, columns), (channels, 1, 1))
    half = kernel.astype(np.float16)
    if np.array_equal(half, kernel):
        # whole powers of two: nothing is lost
        convolution.weights.float16Value = half.tobytes()
    else:
        convolution.weights.floatValue.extend(kernel.ravel().tolist())
