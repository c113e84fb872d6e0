"""Reads an old neural network (.mlmodel, before ML programs) by writing each of its layers as MIL operators.

So one evaluator, `coreml_program`, runs both. Layers: `NeuralNetwork.proto` of the Core ML format; those that
coremltools writes for our networks, and their near relatives. Layers without axes of their own mean (…, c, h, w).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg.errors import InputError
from portraitseg.runners.coreml.program import Program, Ref, Step
from portraitseg.runners.coreml.values import unpack_bits

#: Operators of one layer: (MIL operator, its parameters); the result of each is the `LAST` of the next.
Operators = list[tuple[str, dict[str, Any]]]
LAST = Ref("")


class NotKnown(Exception):
    """A layer, or a mode of one, that has no translation."""


def load_network(path: Path, spec: Any) -> Program:
    """Reads a neural network.

    Args:
        spec: `Model` protobuf with a neuralNetwork.

    Raises:
        InputError: an unknown layer, named, or a damaged file.
    """
    network = spec.neuralNetwork
    if network.imageInputShapeMapping == 0 and any(f.type.HasField("imageType") for f in spec.description.input):
        # RANK5_IMAGE_MAPPING: coremltools before 4
        raise InputError(f"{path}: image as a tensor of rank 5: convert it again with coremltools 4 or newer")
    steps: list[Step] = []
    renamed: dict[str, str] = {}
    for processing in network.preprocessing:
        feature = processing.featureName or spec.description.input[0].name
        renamed[feature] = f"{feature}/preprocessed"
        steps.extend(_preprocess(path, processing, spec, feature, renamed[feature]))
    for layer in network.layers:
        kind = layer.WhichOneof("layer")
        inputs = [Ref(renamed.get(name, name)) for name in layer.input]
        try:
            if kind not in LAYERS:
                raise NotKnown("unknown layer")
            operators = LAYERS[kind](getattr(layer, kind), inputs)
        except NotKnown as error:
            raise InputError(
                f"{path}: layer '{kind}', which makes tensor '{', '.join(layer.output)}', is not known to the Core ML"
                f" evaluator ({error}): add it to portraitseg/runners/coreml/network.py, or run the file on macOS"
            ) from error
        except ValueError as error:
            raise InputError(f"{path}: layer '{kind}' of tensor '{layer.output[0]}': {error}") from error
        steps.extend(_chain(operators, layer.output[0]))
    return Program(path, steps, [feature.name for feature in spec.description.output])


def _chain(operators: Operators, output: str) -> list[Step]:
    """Steps of one layer, in which `LAST` becomes the result of the step before."""
    steps: list[Step] = []
    for i, (kind, inputs) in enumerate(operators):
        name = output if i == len(operators) - 1 else f"{output}/{i}"
        before = Ref(f"{output}/{i - 1}")
        steps.append(Step(kind, {key: _operand(value, before) for key, value in inputs.items()}, (name,)))
    return steps


def _operand(value: Any, before: Ref) -> Any:
    if value is LAST:
        return before
    # lists of numbers are arrays to an operator, lists of tensors stay
    return np.array(value) if isinstance(value, list) and not any(isinstance(v, Ref) for v in value) else value


def _preprocess(path: Path, processing: Any, spec: Any, feature: str, output: str) -> list[Step]:
    """Scale and bias of an image input, in the order of its channels."""
    if processing.WhichOneof("preprocessor") != "scaler":
        raise InputError(f"{path}: input '{feature}' has a mean image: use one scale, and biases")
    scaler = processing.scaler
    (image,) = (f.type.imageType for f in spec.description.input if f.name == feature)
    # FeatureTypes.proto: RGB = 20, BGR = 30
    biases = [scaler.redBias, scaler.greenBias, scaler.blueBias][:: -1 if image.colorSpace == 30 else 1]
    # protobuf leaves a scale that was never set at 0; Core ML's default is 1
    operators: Operators = [("mul", {"x": Ref(feature), "y": scaler.channelScale or 1.0})]
    if any(biases):
        operators.append(("add", {"x": LAST, "y": np.array(biases, np.float32)[:, None, None]}))
    return _chain(operators, output)


def weights(params: Any, shape: Sequence[int]) -> np.ndarray:
    """`WeightParams` → float32.

    Raises:
        ValueError: another number of elements than the shape has.
        NotKnown: a custom weight.
    """
    count = int(np.prod(shape))
    if params.floatValue:
        values = np.array(params.floatValue, np.float32)
    elif params.float16Value:
        values = np.frombuffer(params.float16Value, np.float16).astype(np.float32)
    elif params.rawValue:
        values = _dequantize(params, shape, count)
    else:
        raise NotKnown("weights of an unknown form")
    if values.size != count:
        raise ValueError(f"{values.size} weights for a shape of {tuple(shape)}")
    return values.reshape(shape)


def _dequantize(params: Any, shape: Sequence[int], count: int) -> np.ndarray:
    """Linear (scale·q + bias, per tensor or per first axis) or palette weights of 1 to 8 bits.

    coremltools packs these most significant bits first (`quantization_utils._convert_array_to_nbit_quantized_bytes`),
    unlike the weight file of an ML program.
    """
    bits = params.quantization.numberOfBits
    packed = np.frombuffer(params.rawValue, np.uint8)
    if packed.size != -(-count * bits // 8):
        raise ValueError(f"{packed.size * 8 // bits} weights for a shape of {tuple(shape)}")
    indices = packed[:count] if bits == 8 else _unpack_big(packed, bits, count)
    if params.quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        return np.array(params.quantization.lookupTableQuantization.floatValue, np.float32)[indices]
    linear = params.quantization.linearQuantization
    scale = np.array(linear.scale, np.float32)[:, None]
    bias = np.array(linear.bias or [0.0], np.float32)[:, None]
    rows = indices.astype(np.float32).reshape(shape[0] if scale.size > 1 else 1, -1)
    return scale * rows + bias


def _unpack_big(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    fields = np.unpackbits(packed)[: count * bits].reshape(count, bits)
    return unpack_bits(np.packbits(fields[:, ::-1].reshape(-1), bitorder="little"), bits, count)


# --- layers: parameters and inputs → operators ----------------------------------------------------------------------


def _padding(params: Any) -> dict[str, Any]:
    """`same` or `valid` of convolutions and pooling; `valid` may name borders of its own."""
    kind = params.WhichOneof("ConvolutionPaddingType" if hasattr(params, "nGroups") else "PoolingPaddingType")
    if kind == "same":
        return {"pad_type": "same_lower" if params.same.asymmetryMode else "same"}
    if kind == "includeLastPixel":
        height, width = list(params.includeLastPixel.paddingAmounts) or [0, 0]
        return {"pad_type": "custom", "pad": [height, height, width, width], "ceil_mode": True}
    edges = params.valid.paddingAmounts.borderAmounts
    pad = [side for edge in edges for side in (edge.startEdgeSize, edge.endEdgeSize)]
    return {"pad_type": "custom", "pad": pad} if any(pad) else {"pad_type": "valid"}


def _convolution(params: Any, inputs: list[Ref]) -> Operators:
    if len(inputs) != 1:
        raise NotKnown("weights that are computed")
    kernel = list(params.kernelSize) or [3, 3]
    groups = params.nGroups or 1
    filters = params.outputChannels
    call: dict[str, Any] = {
        "x": inputs[0],
        "strides": list(params.stride) or [1, 1],
        # ignored by deconvolutions
        "dilations": (not params.isDeconvolution and list(params.dilationFactor)) or [1, 1],
        "groups": groups,
        **_padding(params),
    }
    if params.hasBias:
        call["bias"] = weights(params.bias, [filters])
    if not params.isDeconvolution:
        return [("conv", {**call, "weight": weights(params.weights, [filters, params.kernelChannels, *kernel])})]
    call["weight"] = weights(params.weights, [params.kernelChannels, filters // groups, *kernel])
    if params.outputShape:
        call["output_shape"] = [1, filters, *params.outputShape]
    return [("conv_transpose", call)]


def _pooling(params: Any, inputs: list[Ref]) -> Operators:
    kinds = {0: "max", 1: "average"}
    if params.type not in kinds:
        raise NotKnown("L2 pooling")
    if params.globalPooling:
        return [
            (f"reduce_{'max' if params.type == 0 else 'mean'}", {"x": inputs[0], "axes": [2, 3], "keep_dims": True})
        ]
    call = {"x": inputs[0], "kernel_sizes": list(params.kernelSize) or [3, 3], "strides": list(params.stride) or [1, 1]}
    call.update(_padding(params))
    if params.type == 0:
        return [("max_pool", call)]
    return [("avg_pool", {**call, "exclude_padding_from_average": params.avgPoolExcludePadding})]


def _activation(params: Any, inputs: list[Ref]) -> Operators:
    kind = params.WhichOneof("NonlinearityType")
    value = getattr(params, kind)
    simple = {"ReLU": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softsign": "softsign", "softplus": "softplus"}
    if kind in simple:
        return [(simple[kind], {"x": inputs[0]})]
    if kind in ("linear", "sigmoidHard"):
        name = "linear_activation" if kind == "linear" else "sigmoid_hard"
        return [(name, {"x": inputs[0], "alpha": value.alpha, "beta": value.beta})]
    if kind in ("leakyReLU", "ELU"):
        return [({"leakyReLU": "leaky_relu", "ELU": "elu"}[kind], {"x": inputs[0], "alpha": value.alpha})]
    if kind == "PReLU":
        return [("prelu", {"x": inputs[0], "alpha": weights(value.alpha, [len(value.alpha.floatValue)])})]
    raise NotKnown(f"activation {kind}")


def _unary(params: Any, inputs: list[Ref]) -> Operators:
    """f(scale·x + shift), by the numbers of `UnaryFunctionLayerParams.Operation`."""
    first = ("linear_activation", {"x": inputs[0], "alpha": params.scale, "beta": params.shift})
    table: dict[int, tuple[str, dict[str, Any]]] = {
        0: ("sqrt", {}),
        1: ("rsqrt", {"epsilon": params.epsilon}),
        2: ("inverse", {"epsilon": params.epsilon}),
        3: ("pow", {"y": params.alpha}),
        4: ("exp", {}),
        5: ("log", {"epsilon": params.epsilon}),
        6: ("abs", {}),
        7: ("maximum", {"y": params.alpha}),
    }
    kind, rest = table[params.type]
    return [first, (kind, {"x": LAST, **rest})]


def _elementwise(kind: str) -> Callable[[Any, list[Ref]], Operators]:
    def layer(params: Any, inputs: list[Ref]) -> Operators:
        if len(inputs) == 1:
            return [(kind, {"x": inputs[0], "y": params.alpha})]
        first = (kind, {"x": inputs[0], "y": inputs[1]})
        return [first, *((kind, {"x": LAST, "y": other}) for other in inputs[2:])]

    return layer


def _upsample(params: Any, inputs: list[Ref]) -> Operators:
    factors = list(params.fractionalScalingFactor) or list(params.scalingFactor) or [1, 1]
    call = {"x": inputs[0], "scale_factor_height": factors[0], "scale_factor_width": factors[1]}
    if params.mode == 0:
        return [("upsample_nearest_neighbor", call)]
    # UpsampleLayerParams: DEFAULT 0 (neither), ALIGN_CORNERS_TRUE 1, ALIGN_CORNERS_FALSE 2 (half-pixel centres)
    align = params.linearUpsampleMode == 1
    half = params.linearUpsampleMode == 2
    return [("upsample_bilinear", {**call, "align_corners": align, "half_pixel_centers": half})]


def _resize_bilinear(params: Any, inputs: list[Ref]) -> Operators:
    modes = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")
    height, width = list(params.targetSize) or [1, 1]
    call = {
        "target_size_height": height,
        "target_size_width": width,
        "sampling_mode": modes[params.mode.samplingMethod],
    }
    return [("resize_bilinear", {"x": inputs[0], **call})]


def _pad(params: Any, inputs: list[Ref]) -> Operators:
    kind = params.WhichOneof("PaddingType") or "constant"
    edges = [(edge.startEdgeSize, edge.endEdgeSize) for edge in params.paddingAmounts.borderAmounts] or [(0, 0), (0, 0)]
    mode = {"constant": "constant", "reflection": "reflect", "replication": "replicate"}[kind]
    call: dict[str, Any] = {"x": inputs[0], "pad": [side for edge in edges for side in edge], "mode": mode}
    return [("pad", {**call, "constant_val": params.constant.value} if kind == "constant" else call)]


def _constant_pad(params: Any, inputs: list[Ref]) -> Operators:
    if len(inputs) != 1 or params.padToGivenOutputSizeMode:
        raise NotKnown("padding to a given size")
    return [("pad", {"x": inputs[0], "pad": list(params.padAmounts), "constant_val": params.value})]


def _slice(params: Any, inputs: list[Ref]) -> Operators:
    """Along one of the axes (c, h, w); everything here is (n, c, h, w)."""
    axis = 1 + params.axis
    begin, end, stride, is_whole = [0] * 4, [0] * 4, [1] * 4, [True] * 4
    begin[axis], end[axis], stride[axis], is_whole[axis] = params.startIndex, params.endIndex, params.stride or 1, False
    call = {"begin": begin, "end": end, "stride": stride, "begin_mask": is_whole, "end_mask": is_whole}
    return [("slice_by_index", {"x": inputs[0], **call})]


def _slice_static(params: Any, inputs: list[Ref]) -> Operators:
    call = {
        "begin": list(params.beginIds),
        "end": list(params.endIds),
        "stride": list(params.strides),
        "begin_mask": list(params.beginMasks),
        "end_mask": list(params.endMasks),
    }
    if squeeze := list(params.squeezeMasks):
        call["squeeze_mask"] = squeeze
    return [("slice_by_index", {"x": inputs[0], **call})]


def _batchnorm(params: Any, inputs: list[Ref]) -> Operators:
    if params.instanceNormalization or params.computeMeanVar:
        raise NotKnown("statistics that are computed")
    names = ("gamma", "beta", "mean", "variance")
    values = {name: weights(getattr(params, name), [params.channels]) for name in names}
    # unset or 0 is 1e-5
    return [("batch_norm", {"x": inputs[0], "epsilon": params.epsilon or 1e-5, **values})]


def _scale(params: Any, inputs: list[Ref]) -> Operators:
    first: Operators = [("mul", {"x": inputs[0], "y": _spread(params.scale, params.shapeScale)})]
    return [*first, ("add", {"x": LAST, "y": _spread(params.bias, params.shapeBias)})] if params.hasBias else first


def _bias(params: Any, inputs: list[Ref]) -> Operators:
    return [("add", {"x": inputs[0], "y": _spread(params.bias, params.shape)})]


def _spread(params: Any, shape: Sequence[int]) -> np.ndarray:
    """A weight of shape (c) or (c, h, w) that applies to (n, c, h, w)."""
    sides = list(shape)
    return weights(params, [*sides, 1, 1] if len(sides) == 1 else sides)


def _constant(params: Any, inputs: list[Ref]) -> Operators:
    return [("identity", {"x": weights(params.data, list(params.shape))})]


def _concat(params: Any, inputs: list[Ref]) -> Operators:
    if getattr(params, "sequenceConcat", False) or getattr(params, "interleave", False):
        raise NotKnown("a concat that is not along an axis")
    return [("concat", {"values": list(inputs), "axis": getattr(params, "axis", -3)})]


#: Field of `NeuralNetworkLayer` → its operators.
LAYERS: dict[str, Callable[[Any, list[Ref]], Operators]] = {
    "convolution": _convolution,
    "pooling": _pooling,
    "activation": _activation,
    "unary": _unary,
    "upsample": _upsample,
    "resizeBilinear": _resize_bilinear,
    "padding": _pad,
    "constantPad": _constant_pad,
    "slice": _slice,
    "sliceStatic": _slice_static,
    "batchnorm": _batchnorm,
    "scale": _scale,
    "bias": _bias,
    "loadConstant": _constant,
    "loadConstantND": _constant,
    "concat": _concat,
    "concatND": _concat,
    "softmax": lambda params, inputs: [("softmax", {"x": inputs[0], "axis": -3})],
    "softmaxND": lambda params, inputs: [("softmax", {"x": inputs[0], "axis": params.axis})],
    "clip": lambda params, inputs: [("clip", {"x": inputs[0], "alpha": params.minVal, "beta": params.maxVal})],
    "clampedReLU": lambda params, inputs: [
        ("clamped_relu", {"x": inputs[0], "alpha": params.alpha, "beta": params.beta})
    ],
    "transpose": lambda params, inputs: [("transpose", {"x": inputs[0], "perm": list(params.axes)})],
    "squeeze": lambda params, inputs: [
        ("squeeze", {"x": inputs[0], "axes": None if params.squeezeAll else list(params.axes)})
    ],
    "expandDims": lambda params, inputs: [("expand_dims", {"x": inputs[0], "axes": list(params.axes)})],
    "reshapeStatic": lambda params, inputs: [("reshape", {"x": inputs[0], "shape": list(params.targetShape)})],
    "reduceMean": lambda params, inputs: [
        (
            "reduce_mean",
            {"x": inputs[0], "axes": None if params.reduceAll else list(params.axes), "keep_dims": params.keepDims},
        )
    ],
    "add": _elementwise("add"),
    "multiply": _elementwise("mul"),
    "max": _elementwise("maximum"),
    "min": _elementwise("minimum"),
    "addBroadcastable": _elementwise("add"),
    "multiplyBroadcastable": _elementwise("mul"),
    "subtractBroadcastable": _elementwise("sub"),
    "divideBroadcastable": _elementwise("real_div"),
    "maxBroadcastable": _elementwise("maximum"),
    "minBroadcastable": _elementwise("minimum"),
}
