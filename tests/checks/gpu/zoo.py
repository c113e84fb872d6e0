"""Small files, broken and sound: each broken one holds one thing that a delegate refuses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.checks.gpu.builder import Builder, options

SIDE, CHANNELS = 16, 8
#: A feature map of the zoo's network.
MAP = (1, SIDE, SIDE, CHANNELS)


@dataclass(frozen=True)
class Animal:
    """One file.

    Attributes:
        content: writes it.
        refused: delegate → (operator, a part of the reason); a delegate that is not named takes the file.
        on_run: what LiteRT's accelerator does with it: `passed` or `failed`.
        says: part of the reason of a failed run; by default not looked at, as it is the delegate's own refusal.
    """

    content: Callable[[], bytes]
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    on_run: str = "failed"
    says: str = ""


def _both(op: str, reason: str) -> dict[str, tuple[str, str]]:
    return {"classic": (op, reason), "mldrift": (op, reason)}


def _stem() -> tuple[Builder, int]:
    b = Builder()
    return b, b.conv(b.input((1, SIDE, SIDE, 3)), CHANNELS, "stem", kernel=3, activation="RELU6")


def _head(b: Builder, x: int) -> bytes:
    """A pointwise convolution and a sigmoid: the mask, which changes with the photo."""
    logits = b.conv(x, 1, "logits")
    return b.content(b.op("LOGISTIC", [logits], b.like(logits, "mask")))


def _reshape(b: Builder, x: int, shape: tuple[int, ...], name: str = "zoo/reshape/Reshape") -> int:
    out = b.tensor(shape, name, "FLOAT32")
    return b.op("RESHAPE", [x, b.ints(*shape)], out, options("Reshape", newShape=list(shape)))


def _unary(name: str, layer: str = "odd", table: str | None = None, version: int = 1, **attributes: object) -> bytes:
    """stem → one operator that keeps the shape → head."""
    b, x = _stem()
    kind = options(table, **attributes) if table else None
    return _head(b, b.op(name, [x], b.like(x, f"zoo/{layer}/{name}"), kind, version))


def _binary(name: str, version: int = 1, table: str | None = None, other: tuple[int, ...] | None = None) -> bytes:
    """stem → an operator with a constant → head."""
    b, x = _stem()
    values = b.random.uniform(0.5, 1.5, other or (CHANNELS,)).astype(np.float32)
    kind = options(table) if table else None
    return _head(b, b.op(name, [x, b.constant(values)], b.like(x, f"zoo/odd/{name}"), kind, version))


def arg_max(dtype: str) -> bytes:
    b, x = _stem()
    out = b.tensor(MAP[:3], "zoo/classes/ArgMax", dtype)
    kind = options("ArgMax", outputType=getattr(schema.TensorType, dtype))
    return b.content(b.op("ARG_MAX", [x, b.ints(3)], out, kind))


def conv_3d() -> bytes:
    b, x = _stem()
    x = _reshape(b, x, (1, 1, *MAP[1:]))
    weights = b.constant(b.random.normal(0, 0.3, (1, 1, 1, CHANNELS, CHANNELS)).astype(np.float32))
    kind = options("Conv3D", strideD=1, strideW=1, strideH=1)
    x = b.op("CONV_3D", [x, weights], b.like(x, "zoo/conv3d/Conv3D"), kind)
    return _head(b, _reshape(b, x, MAP))


def rank_5() -> bytes:
    b, x = _stem()
    x = _reshape(b, x, (1, SIDE, SIDE, 2, CHANNELS // 2), "zoo/groups/Reshape")
    out = b.tensor((1, SIDE, SIDE, CHANNELS // 2, 2), "zoo/shuffle/Transpose")
    x = b.op("TRANSPOSE", [x, b.ints(0, 1, 2, 4, 3)], out)
    return _head(b, _reshape(b, x, MAP))


def dynamic_batch() -> bytes:
    b = Builder()
    x = b.input((1, SIDE, SIDE, 3), signature=(-1, SIDE, SIDE, 3))
    for layer in ("stem", "body"):
        x = b.conv(x, CHANNELS, layer)
        b.tensors[x].shapeSignature = [-1, *MAP[1:]]
    return _head(b, x)


def dynamic_size() -> bytes:
    """Open height and width, which the file stores as 1: what runs is one pixel."""
    b = Builder()
    x = b.conv(b.input((1, 1, 1, 3), signature=(1, -1, -1, 3)), CHANNELS, "stem")
    b.tensors[x].shapeSignature = [1, -1, -1, CHANNELS]
    x = b.op("SUB", [x, b.constant(np.full(CHANNELS, 100, np.float32))], b.like(x, "zoo/far/Sub"), options("Sub"))
    return _head(b, b.op("RELU", [x], b.like(x, "zoo/far/Relu")))


def dynamic_reshape() -> bytes:
    """A size that the graph computes: SHAPE → RESHAPE, whose output has no size before it runs."""
    b, x = _stem()
    size = b.op("SHAPE", [x], b.tensor((4,), "zoo/size/Shape", "INT32"), options("Shape", outType=2))
    out = b.tensor(MAP, "zoo/flexible/Reshape", signature=(-1, -1, -1, CHANNELS))
    return _head(b, b.op("RESHAPE", [x, size], out))


def transpose_conv(version: int, activation: str = "NONE") -> bytes:
    b, x = _stem()
    weights = b.constant(b.random.normal(0, 0.3, (CHANNELS, 2, 2, CHANNELS)).astype(np.float32))
    inputs = [b.ints(1, 2 * SIDE, 2 * SIDE, CHANNELS), weights, x]
    if version >= 3:
        inputs.append(b.constant(np.zeros(CHANNELS, np.float32)))
    out = b.tensor((1, 2 * SIDE, 2 * SIDE, CHANNELS), "zoo/up/conv2d_transpose")
    fused = getattr(schema.ActivationFunctionType, activation)
    kind = options("TransposeConv", strideW=2, strideH=2, fusedActivationFunction=fused)
    return _head(b, b.op("TRANSPOSE_CONV", inputs, out, kind, version))


def space_to_batch() -> bytes:
    """What a dilated convolution becomes when the batch is open."""
    b, x = _stem()
    zeros = b.constant(np.zeros((2, 2), np.int32))
    split = b.tensor((4, SIDE // 2, SIDE // 2, CHANNELS), "zoo/dilated/SpaceToBatchND")
    x = b.op("SPACE_TO_BATCH_ND", [x, b.ints(2, 2), zeros], split, options("SpaceToBatchND"))
    x = b.conv(x, CHANNELS, "dilated", kernel=3)
    out = b.tensor(MAP, "zoo/dilated/BatchToSpaceND")
    return _head(b, b.op("BATCH_TO_SPACE_ND", [x, b.ints(2, 2), zeros], out, options("BatchToSpaceND")))


def prelu(alpha: tuple[int, ...]) -> bytes:
    b = Builder()
    x = b.conv(b.input((1, SIDE, SIDE, 3)), CHANNELS, "stem", kernel=3)
    slopes = b.constant(b.random.uniform(0.1, 0.4, alpha).astype(np.float32))
    return _head(b, b.op("PRELU", [x, slopes], b.like(x, "zoo/p_re_lu/PReLU")))


def resize(name: str = "RESIZE_BILINEAR", align: bool = False, half: bool = True, version: int = 3) -> bytes:
    b, x = _stem()
    kind = options(
        "ResizeBilinear" if name == "RESIZE_BILINEAR" else "ResizeNearestNeighbor",
        alignCorners=align,
        halfPixelCenters=half,
    )
    out = b.tensor((1, 2 * SIDE, 2 * SIDE, CHANNELS), "zoo/up_up/resize")
    return _head(b, b.op(name, [x, b.ints(2 * SIDE, 2 * SIDE)], out, kind, version))


def split_in_the_middle() -> bytes:
    b, x = _stem()
    for index in range(4):
        x = b.conv(x, CHANNELS, f"before{index}", kernel=3)
    x = b.op("LOG_SOFTMAX", [x], b.like(x, "zoo/middle/LogSoftmax"), options("LogSoftmax"))
    for index in range(2):
        x = b.conv(x, CHANNELS, f"after{index}")
    return _head(b, x)


def subtract_itself() -> bytes:
    b, x = _stem()
    return _head(b, b.op("SUB", [x, x], b.like(x, "zoo/nothing/Sub"), options("Sub")))


def squeeze() -> bytes:
    b, x = _stem()
    out = b.tensor(MAP[1:], "zoo/thin/Squeeze")
    x = b.op("SQUEEZE", [x], out, options("Squeeze", squeezeDims=[0]))
    wide = b.tensor(MAP, "zoo/thin/ExpandDims")
    return _head(b, b.op("EXPAND_DIMS", [x, b.ints(0)], wide, options("ExpandDims")))


def strided_slice(shrink: int = 0, version: int = 1) -> bytes:
    b, x = _stem()
    shape = (1, SIDE, CHANNELS) if shrink else (1, 1, SIDE, CHANNELS)
    inputs = [x, b.ints(0, 3, 0, 0), b.ints(1, 4, SIDE, CHANNELS), b.ints(1, 1, 1, 1)]
    out = b.tensor(shape, "zoo/row/strided_slice")
    x = b.op("STRIDED_SLICE", inputs, out, options("StridedSlice", shrinkAxisMask=shrink), version)
    return _head(b, _reshape(b, x, (1, 1, SIDE, CHANNELS)))


def mirror_pad(mode: int) -> bytes:
    b, x = _stem()
    pads = b.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    out = b.tensor((1, SIDE + 2, SIDE + 2, CHANNELS), "zoo/mirror/MirrorPad")
    return _head(b, b.op("MIRROR_PAD", [x, pads], out, options("MirrorPad", mode=mode)))


def pad_rank_2() -> bytes:
    b, x = _stem()
    x = _reshape(b, x, (SIDE * SIDE, CHANNELS))
    pads = b.constant(np.array([[0, 0], [0, CHANNELS]], np.int32))
    x = b.op("PAD", [x, pads], b.tensor((SIDE * SIDE, 2 * CHANNELS), "zoo/widen/Pad"), options("Pad"))
    return _head(b, _reshape(b, x, (1, SIDE, SIDE, 2 * CHANNELS)))


def slice_rank_2() -> bytes:
    b, x = _stem()
    x = _reshape(b, x, (SIDE * SIDE, CHANNELS))
    out = b.tensor((SIDE * SIDE, 4), "zoo/narrow/Slice")
    x = b.op("SLICE", [x, b.ints(0, 0), b.ints(SIDE * SIDE, 4)], out, options("Slice"))
    return _head(b, _reshape(b, x, (1, SIDE, SIDE, 4)))


def int64_arithmetic() -> bytes:
    """A float that takes a detour over int64."""
    b, x = _stem()
    scaled = b.op("MUL", [x, b.constant(np.array([20.0], np.float32))], b.like(x, "zoo/scale/Mul"), options("Mul"))
    whole = b.op("CAST", [scaled], b.like(x, "zoo/whole/Cast", dtype="INT64"), options("Cast"))
    total = b.op("ADD", [whole, whole], b.like(x, "zoo/twice/Add", dtype="INT64"), options("Add"), 4)
    return _head(b, b.op("CAST", [total], b.like(x, "zoo/back/Cast"), options("Cast")))


def int16_activations() -> bytes:
    """`static_wi8_ai16`: int8 weights, int16 activations."""
    b = Builder()
    x = b.input((1, SIDE, SIDE, 3))
    x = b.op("QUANTIZE", [x], b.like(x, "zoo/stem/quantize", dtype="INT16", scale=1 / 32767), options("Quantize"))
    scale = np.full(CHANNELS, 0.01, np.float32)
    weights = b.constant(b.random.integers(-127, 128, (CHANNELS, 1, 1, 3)).astype(np.int8), scale=scale)
    bias = b.constant(np.zeros(CHANNELS, np.int64), scale=scale / 32767)
    out = b.tensor(MAP, "zoo/stem/Conv2D", "INT16", scale=1e-4)
    x = b.op("CONV_2D", [x, weights, bias], out, options("Conv2D", strideW=1, strideH=1), 4)
    return b.content(b.op("DEQUANTIZE", [x], b.like(x, "mask"), options("Dequantize"), 3))


def mean(axes_at_run_time: bool = False, name: str = "MEAN") -> bytes:
    b, x = _stem()
    axes = b.input((2,), "axes", dtype="INT32") if axes_at_run_time else b.ints(1, 2)
    out = b.tensor((1, 1, 1, CHANNELS), "zoo/global/Mean")
    gate = b.op(name, [x, axes], out, options("Reducer", keepDims=True))
    return _head(b, b.op("MUL", [x, gate], b.like(x, "zoo/gate/Mul"), options("Mul")))


def mean_of_many_pixels() -> bytes:
    """As squeeze-and-excite blocks at high resolution have it: a mean over more than 64×64 pixels of four slices."""
    side, channels = 96, 16
    b = Builder()
    x = b.conv(b.input((1, side, side, 3)), channels, "stem", activation="RELU6")
    out = b.tensor((1, 1, 1, channels), "zoo/global/Mean")
    gate = b.op("MEAN", [x, b.ints(1, 2)], out, options("Reducer", keepDims=True))
    return _head(b, b.op("MUL", [x, gate], b.like(x, "zoo/gate/Mul"), options("Mul")))


def fully_connected(weights_format: int = 0) -> bytes:
    b, x = _stem()
    x = _reshape(b, x, (SIDE * SIDE, CHANNELS))
    weights = b.constant(b.random.normal(0, 0.3, (4, CHANNELS)).astype(np.float32))
    out = b.tensor((SIDE * SIDE, 4), "zoo/dense/MatMul")
    x = b.op("FULLY_CONNECTED", [x, weights, -1], out, options("FullyConnected", weightsFormat=weights_format))
    return _head(b, _reshape(b, x, (1, SIDE, SIDE, 4)))


def split_reversed() -> bytes:
    """Two halves of the channels that change places."""
    b, x = _stem()
    halves = [b.tensor((*MAP[:3], CHANNELS // 2), f"zoo/split/{part}") for part in range(2)]
    b.op("SPLIT", [b.constant(np.int32(3)), x], halves, options("Split", numSplits=2))
    out = b.tensor(MAP, "zoo/swapped/concat")
    return _head(b, b.op("CONCATENATION", halves[::-1], out, options("Concatenation", axis=3)))


def resize_smaller() -> bytes:
    b, x = _stem()
    half = b.tensor((1, SIDE // 2, SIDE // 2, CHANNELS), "zoo/smaller/resize")
    kind = options("ResizeBilinear", halfPixelCenters=True)
    x = b.op("RESIZE_BILINEAR", [x, b.ints(SIDE // 2, SIDE // 2)], half, kind, 3)
    return _head(b, b.op("RESIZE_BILINEAR", [x, b.ints(SIDE, SIDE)], b.tensor(MAP, "zoo/back/resize"), kind, 3))


def mean_of_channels() -> bytes:
    """As layer normalization and spatial attention have it."""
    b, x = _stem()
    out = b.tensor((*MAP[:3], 1), "zoo/channels/Mean")
    return _head(b, b.op("MEAN", [x, b.ints(3)], out, options("Reducer", keepDims=True)))


def mul_larger_constant() -> bytes:
    """One channel of the network times a constant of eight."""
    b, x = _stem()
    one = b.conv(x, 1, "attention")
    values = b.constant(b.random.uniform(0.5, 1.5, (CHANNELS,)).astype(np.float32))
    return _head(b, b.op("MUL", [one, values], b.tensor(MAP, "zoo/odd/MUL"), options("Mul")))


def quantized_dense(dtype: str) -> bytes:
    """A dense layer of 8-bit tensors over each pixel, as TensorFlow 1 (UINT8) and today's converter (INT8) write it."""
    b = Builder()
    zero = {"UINT8": 128, "INT8": 0}[dtype]
    x = b.input((1, SIDE, SIDE, 3))
    table = options("Quantize")
    x = b.op("QUANTIZE", [x], b.like(x, "zoo/bytes", dtype=dtype, scale=1 / 255, zero_point=zero - 128), table)
    x = b.op("RESHAPE", [x, b.ints(1, 3 * SIDE**2)], b.tensor((1, 3 * SIDE**2), "zoo/flat", dtype, 1 / 255, zero - 128))
    values = b.random.integers(-20, 21, (SIDE**2, 3 * SIDE**2)) + zero
    weights = b.constant(values.astype(np.int8 if dtype == "INT8" else np.uint8), scale=0.01, zero_point=zero)
    bias = b.constant(np.zeros(SIDE**2, np.int32), scale=0.01 / 255)
    out = b.tensor((1, SIDE**2), "zoo/dense/MatMul", dtype, scale=0.02, zero_point=zero)
    x = b.op("FULLY_CONNECTED", [x, weights, bias], out, options("FullyConnected"), 4 if dtype == "INT8" else 2)
    x = b.op("RESHAPE", [x, b.ints(1, SIDE, SIDE, 1)], b.tensor((1, SIDE, SIDE, 1), "zoo/map", dtype, 0.02, zero))
    logistic = b.like(x, "zoo/mask/Sigmoid", dtype=dtype, scale=1 / 256, zero_point=zero - 128)
    x = b.op("LOGISTIC", [x], logistic, version=2)
    return b.content(b.op("DEQUANTIZE", [x], b.like(x, "mask"), options("Dequantize"), 2))


def binary(name: str, table: str, first: str, second: str) -> bytes:
    """An operator of two of these: the map, its mean over all pixels, one channel of it."""
    b, x = _stem()
    pooled = b.tensor((1, 1, 1, CHANNELS), "zoo/global/Mean")
    gate = b.op("MEAN", [x, b.ints(1, 2)], pooled, options("Reducer", keepDims=True))
    tensors = {"map": x, "gate": b.conv(gate, CHANNELS, "gate"), "attention": b.conv(x, 1, "attention")}
    inputs = [tensors[first], tensors[second]]
    return _head(b, b.op(name, inputs, b.like(x, f"zoo/odd/{name}"), options(table)))


def depth_to_space(block: int) -> bytes:
    b, x = _stem()
    out = b.tensor((1, SIDE * block, SIDE * block, CHANNELS // block**2), "zoo/shuffle/DepthToSpace")
    return _head(b, b.op("DEPTH_TO_SPACE", [x], out, options("DepthToSpace", blockSize=block)))


def add(second: tuple[int, ...] = MAP) -> bytes:
    """A sum of two maps of the network; the second may need broadcasting."""
    b, x = _stem()
    y = b.conv(x, CHANNELS, "branch")
    if second != MAP:
        kind = options("Reducer", keepDims=len(second) == 4)
        y = b.op("MEAN", [y, b.ints(1, 2)], b.tensor(second, "zoo/global/Mean"), kind)
    return _head(b, b.op("ADD", [x, y], b.like(x, "zoo/sum/add"), options("Add")))


def hard_cut() -> bytes:
    """A mask of booleans: the threshold is inside the network."""
    b, x = _stem()
    zero = b.constant(np.zeros((1,), np.float32))
    return b.content(b.op("GREATER", [x, zero], b.like(x, "zoo/cut/Greater", dtype="BOOL"), options("Greater")))


def concat() -> bytes:
    b, x = _stem()
    y = b.conv(x, 4, "branch")
    out = b.tensor((1, SIDE, SIDE, CHANNELS + 4), "zoo/concat/concat")
    return _head(b, b.op("CONCATENATION", [x, y], out, options("Concatenation", axis=3)))


def pool(name: str) -> bytes:
    b, x = _stem()
    kind = options("Pool2D", strideW=2, strideH=2, filterWidth=2, filterHeight=2)
    out = b.tensor((1, SIDE // 2, SIDE // 2, CHANNELS), "zoo/pool/Pool")
    return _head(b, b.op(name, [x], out, kind))


def depthwise(dilation: int = 1, stride: int = 1, multiplier: int = 1) -> bytes:
    b, x = _stem()
    weights = b.constant(b.random.normal(0, 0.3, (1, 3, 3, multiplier * CHANNELS)).astype(np.float32))
    kind = options(
        "DepthwiseConv2D",
        strideW=stride,
        strideH=stride,
        depthMultiplier=multiplier,
        dilationWFactor=dilation,
        dilationHFactor=dilation,
    )
    out = b.tensor((1, SIDE // stride, SIDE // stride, multiplier * CHANNELS), "zoo/deep/depthwise")
    bias = b.constant(np.zeros(multiplier * CHANNELS, np.float32))
    return _head(b, b.op("DEPTHWISE_CONV_2D", [x, weights, bias], out, kind, 2))


def fp16_weights() -> bytes:
    """Weights stored as float16 and widened by a DEQUANTIZE that the delegate sees through."""
    b = Builder()
    x = b.input((1, SIDE, SIDE, 3))
    half = b.constant(b.random.normal(0, 0.3, (CHANNELS, 3, 3, 3)).astype(np.float16))
    weights = b.tensor((CHANNELS, 3, 3, 3), "zoo/stem/kernel_dequantize")
    b.op("DEQUANTIZE", [half], weights, options("Dequantize"), 2)
    half = b.constant(b.random.normal(0, 0.1, CHANNELS).astype(np.float16))
    bias = b.tensor((CHANNELS,), "zoo/stem/bias_dequantize")
    b.op("DEQUANTIZE", [half], bias, options("Dequantize"), 2)
    kind = options("Conv2D", strideW=1, strideH=1, fusedActivationFunction=schema.ActivationFunctionType.RELU6)
    return _head(b, b.op("CONV_2D", [x, weights, bias], b.tensor(MAP, "zoo/stem/Conv2D"), kind))


def int8_network(per_channel_activation: bool = False) -> bytes:
    """QUANTIZE → CONV_2D in int8 → LOGISTIC → DEQUANTIZE."""
    b = Builder()
    x = b.input((1, SIDE, SIDE, 3))
    quantized = b.like(x, "zoo/stem/quantize", dtype="INT8", scale=1 / 255, zero_point=-128)
    x = b.op("QUANTIZE", [x], quantized, options("Quantize"))
    scale = np.full(1, 0.01, np.float32)
    weights = b.constant(b.random.integers(-127, 128, (1, 3, 3, 3)).astype(np.int8), scale=scale)
    bias = b.constant(np.array([500], np.int32), scale=scale / 255)
    odd = np.full(2, 0.05) if per_channel_activation else 0.05
    out = b.tensor((1, SIDE, SIDE, 1), "zoo/stem/Conv2D", "INT8", scale=odd)
    x = b.op("CONV_2D", [x, weights, bias], out, options("Conv2D", strideW=1, strideH=1), 3)
    logistic = b.like(x, "zoo/mask/Sigmoid", dtype="INT8", scale=1 / 256, zero_point=-128)
    x = b.op("LOGISTIC", [x], logistic, version=2)
    return b.content(b.op("DEQUANTIZE", [x], b.like(x, "mask"), options("Dequantize"), 2))


def int8_pointwise(stride: int) -> bytes:
    """Whole int8: a 1×1 convolution with a stride, as in the shortcut of a residual block, and back to size."""
    b = Builder()
    x = b.input((1, SIDE, SIDE, 3))
    x = b.op(
        "QUANTIZE", [x], b.like(x, "zoo/quantize", dtype="INT8", scale=1 / 255, zero_point=-128), options("Quantize")
    )
    x = _int8_conv(b, x, CHANNELS, 1 / 255, stride)
    up = b.tensor(MAP, "zoo/up", "INT8", scale=0.05)
    kind = options("ResizeNearestNeighbor")
    x = b.op("RESIZE_NEAREST_NEIGHBOR", [x, b.ints(SIDE, SIDE)], up, kind, 2)
    x = _int8_conv(b, x, 1, 0.05)
    x = b.op("LOGISTIC", [x], b.like(x, "zoo/mask", dtype="INT8", scale=1 / 256, zero_point=-128), version=2)
    return b.content(b.op("DEQUANTIZE", [x], b.like(x, "mask"), options("Dequantize"), 2))


def _int8_conv(b: Builder, x: int, filters: int, scale: float, stride: int = 1) -> int:
    _, h, w, channels = b.tensors[x].shape
    scales = np.full(filters, 0.01, np.float32)
    weights = b.constant(b.random.integers(-127, 128, (filters, 1, 1, channels)).astype(np.int8), scale=scales)
    bias = b.constant(np.zeros(filters, np.int32), scale=scales * np.float32(scale))
    out = b.tensor((1, h // stride, w // stride, filters), "zoo/pointwise/Conv2D", "INT8", scale=0.05)
    return b.op("CONV_2D", [x, weights, bias], out, options("Conv2D", strideW=stride, strideH=stride), 3)


def dead_activation() -> bytes:
    """Whole int8, with a layer that was 0 on all calibration photos: its scale is a denormal number.

    Reference kernels and ML Drift run it; XNNPACK ends the process (ai-edge-litert 2.3.0).
    """
    b = Builder()
    dead, byte = 4.6e-41, 1 / 255
    x = b.input((1, SIDE, SIDE, 3))
    x = b.op("QUANTIZE", [x], b.like(x, "zoo/bytes", dtype="INT8", scale=byte, zero_point=-128), options("Quantize"))
    live = _int8_conv(b, x, CHANNELS, byte)
    zeros = b.tensor(MAP, "zoo/dead", "INT8", scale=dead, zero_point=127)
    side = b.op("QUANTIZE", [live], zeros, options("Quantize"), 2)
    pads = b.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    wide = b.tensor((1, SIDE + 2, SIDE + 2, CHANNELS), "zoo/pad", "INT8", scale=dead, zero_point=127)
    side = b.op("PAD", [side, pads], wide, options("Pad"), 2)
    begin, size = b.ints(0, 1, 1, 0), b.ints(*MAP)
    inner = b.tensor(MAP, "zoo/inner", "INT8", scale=dead, zero_point=127)
    side = _int8_conv(b, b.op("SLICE", [side, begin, size], inner, options("Slice"), 2), CHANNELS, dead)
    total = b.op("ADD", [live, side], b.tensor(MAP, "zoo/sum", "INT8", scale=0.05), options("Add"), 2)
    x = _int8_conv(b, total, 1, 0.05)
    x = b.op("LOGISTIC", [x], b.like(x, "zoo/mask", dtype="INT8", scale=1 / 256, zero_point=-128), version=2)
    return b.content(b.op("DEQUANTIZE", [x], b.like(x, "mask"), options("Dequantize"), 2))


def custom_op(name: str) -> bytes:
    b, x = _stem()
    return _head(b, b.op(name, [x], b.like(x, f"zoo/foreign/{name}"), custom_options=b"\1\2\3\4"))


def grouped_convolution(groups: int) -> bytes:
    """Groups of fewer than four channels: the delegates split them into convolutions of their own."""
    b, x = _stem()
    weights = b.constant(b.random.normal(0, 0.3, (CHANNELS, 3, 3, CHANNELS // groups)).astype(np.float32))
    bias = b.constant(np.zeros(CHANNELS, np.float32))
    kind = options("Conv2D", strideW=1, strideH=1)
    return _head(b, b.op("CONV_2D", [x, weights, bias], b.like(x, "zoo/groups/Conv2D"), kind))


def matmul_with_itself() -> bytes:
    b, x = _stem()
    out = b.tensor((1, SIDE, SIDE, SIDE), "zoo/attention/MatMul")
    return _head(b, b.op("BATCH_MATMUL", [x, x], out, options("BatchMatMul", adjY=True)))


def transpose_conv_stride_3() -> bytes:
    b, x = _stem()
    weights = b.constant(b.random.normal(0, 0.3, (4, 3, 3, CHANNELS)).astype(np.float32))
    out = b.tensor((1, 3 * SIDE, 3 * SIDE, 4), "zoo/up/conv2d_transpose")
    inputs = [b.ints(1, 3 * SIDE, 3 * SIDE, 4), weights, x]
    return _head(b, b.op("TRANSPOSE_CONV", inputs, out, options("TransposeConv", strideW=3, strideH=3)))


def constant_output() -> bytes:
    """A sigmoid that is 0 everywhere: whatever a GPU does to the network, the masks agree."""
    b, x = _stem()
    x = b.op("SUB", [x, b.constant(np.full(CHANNELS, 1e4, np.float32))], b.like(x, "zoo/far/Sub"), options("Sub"))
    x = b.op("RELU", [x], b.like(x, "zoo/far/Relu"))
    return _head(b, x)


def fused(activation: str) -> bytes:
    b = Builder()
    return _head(b, b.conv(b.input((1, SIDE, SIDE, 3)), CHANNELS, "stem", activation=activation))


BROKEN: dict[str, Animal] = {
    "arg_max_int64": Animal(
        lambda: arg_max("INT64"), {"classic": ("ARG_MAX", "no such operator"), "mldrift": ("ARG_MAX", "INT64")}
    ),
    "arg_max_int32": Animal(lambda: arg_max("INT32"), {"classic": ("ARG_MAX", "no such operator")}, "passed"),
    "conv_3d": Animal(conv_3d, _both("CONV_3D", "no such operator")),
    "rank_5": Animal(rank_5, _both("TRANSPOSE", "rank 5")),
    # this runtime takes it at batch 1; the rules are stricter, as an open batch turns dilation into SPACE_TO_BATCH
    "dynamic_batch": Animal(dynamic_batch, _both("CONV_2D", "open size"), "passed"),
    "dynamic_size": Animal(dynamic_size, _both("CONV_2D", "open size")),
    "dynamic_reshape": Animal(dynamic_reshape, _both("SHAPE", "no such operator")),
    "transpose_conv_v4": Animal(lambda: transpose_conv(4, "RELU6"), _both("TRANSPOSE_CONV", "version 4")),
    "space_to_batch": Animal(space_to_batch, _both("SPACE_TO_BATCH_ND", "no such operator")),
    "prelu_partly_shared": Animal(lambda: prelu((1, SIDE, CHANNELS)), _both("PRELU", "alpha")),
    "resize_both_flags": Animal(lambda: resize(align=True, half=True), _both("RESIZE_BILINEAR", "half_pixel_centers")),
    "split_in_the_middle": Animal(split_in_the_middle, _both("LOG_SOFTMAX", "no such operator")),
    "squeeze": Animal(squeeze, _both("SQUEEZE", "no such operator")),
    "softmax_beta": Animal(lambda: _unary("SOFTMAX", table="Softmax", beta=2.0), _both("SOFTMAX", "beta")),
    "strided_slice_shrink": Animal(lambda: strided_slice(shrink=2), _both("STRIDED_SLICE", "shrink_axis_mask")),
    "strided_slice_v4": Animal(lambda: strided_slice(version=4), {"mldrift": ("STRIDED_SLICE", "version 4")}),
    "mirror_pad_symmetric": Animal(lambda: mirror_pad(1), _both("MIRROR_PAD", "mode")),
    "pad_rank_2": Animal(pad_rank_2, _both("PAD", "paddings")),
    "slice_rank_2": Animal(slice_rank_2, {"classic": ("SLICE", "rank 2")}, "passed"),
    "int64_arithmetic": Animal(int64_arithmetic, {"classic": ("CAST", "to INT64"), "mldrift": ("ADD", "INT64")}),
    "int16_activations": Animal(int16_activations, _both("CONV_2D", "INT16")),
    "mean_axes_at_run_time": Animal(lambda: mean(axes_at_run_time=True), _both("MEAN", "inputs at run time")),
    "fully_connected_shuffled": Animal(lambda: fully_connected(1), _both("FULLY_CONNECTED", "weights_format")),
    "depth_to_space_1": Animal(lambda: depth_to_space(1), _both("DEPTH_TO_SPACE", "block_size")),
    "custom_op": Animal(lambda: custom_op("MyBlur"), _both("MyBlur", "custom")),
    "fused_sign_bit": Animal(lambda: fused("SIGN_BIT"), _both("CONV_2D", "SIGN_BIT")),
    "mul_v5": Animal(lambda: _binary("MUL", 5, "Mul"), {"classic": ("MUL", "version 5")}, "passed"),
    "hard_cut": Animal(hard_cut, {"classic": ("GREATER", "BOOL")}, "passed"),
    "l2_normalization": Animal(
        lambda: _unary("L2_NORMALIZATION", table="L2Norm"), _both("L2_NORMALIZATION", "no such operator")
    ),
    "per_channel_activation": Animal(lambda: int8_network(per_channel_activation=True), _both("CONV_2D", "scales")),
    "subtract_itself": Animal(subtract_itself, _both("SUB", "same tensor")),
    # the rules take these; only a run shows what is wrong with them
    "grouped_convolution": Animal(
        lambda: grouped_convolution(4), _both("CONV_2D", "4 groups of 2"), says="validation error"
    ),
    "matmul_with_itself": Animal(
        matmul_with_itself, _both("BATCH_MATMUL", "same tensor"), says="aborted while compiling"
    ),
    "transpose_conv_stride_3": Animal(transpose_conv_stride_3, says="differs by"),
    "constant_output": Animal(constant_output, says="everywhere"),
    # reference kernels do not apply a fused TANH, which no converter writes; the GPU does
    "conv_tanh": Animal(lambda: fused("TANH"), says="differs by"),
    # an 8-bit shortcut: the delegate takes it and computes something else, so this rule is ours
    "int8_pointwise_stride": Animal(
        lambda: int8_pointwise(2), {"mldrift": ("CONV_2D", "1×1 convolution with stride 2")}, says="differs by"
    ),
    # right in LiteRT and in mediapipe 0.10.21, wrong in the browser's MediaPipe: a rule of ours too
    "prelu_full": Animal(lambda: prelu(MAP[1:]), {"classic": ("PRELU", "slope for every pixel")}, "passed"),
    # right in ML Drift; OpenGL ES adds up 64×64 pixels of it
    "mean_of_many_pixels": Animal(mean_of_many_pixels, {"classic": ("MEAN", "96×96 pixels")}, "passed"),
    # taken by the classic delegate, and then refused by OpenGL ES or computed wrong: rules from the grid and the blocks
    "subtract_gate": Animal(lambda: binary("SUB", "Sub", "map", "gate"), {"classic": ("SUB", "1×1×1×8")}, "passed"),
    "attention_first": Animal(
        lambda: binary("MUL", "Mul", "attention", "map"), {"classic": ("MUL", "1×16×16×1 with")}, "passed"
    ),
    "add_attention": Animal(
        lambda: binary("ADD", "Add", "map", "attention"), {"classic": ("ADD", "with 1×16×16×1")}, "passed"
    ),
    "mul_larger_constant": Animal(mul_larger_constant, {"classic": ("MUL", "which is larger")}, "passed"),
    "fully_connected": Animal(fully_connected, {"classic": ("FULLY_CONNECTED", "256 rows")}, "passed"),
    "fully_connected_uint8": Animal(lambda: quantized_dense("UINT8"), _both("FULLY_CONNECTED", "UINT8")),
    "split_reversed": Animal(split_reversed, {"classic": ("SPLIT", "OpenCL"), "mldrift": ("CONCATENATION", "SPLIT")}),
    "resize_smaller": Animal(resize_smaller, {"classic": ("RESIZE_BILINEAR", "makes nothing")}, "passed"),
    "depthwise_doubled": Animal(
        lambda: depthwise(multiplier=2), {"classic": ("DEPTHWISE_CONV_2D", "depth_multiplier 2")}, "passed"
    ),
    "mean_of_channels": Animal(mean_of_channels, {"classic": ("MEAN", "axes [3]")}, "passed"),
    "sum": Animal(lambda: mean(name="SUM"), {"classic": ("SUM", "OpenCL alone")}, "passed"),
    "relu_0_to_1": Animal(lambda: _unary("RELU_0_TO_1"), _both("RELU_0_TO_1", "no such operator")),
}

SOUND: dict[str, Callable[[], bytes]] = {
    "conv": lambda: fused("RELU6"),
    "prelu_shared": lambda: prelu((1, 1, CHANNELS)),
    "resize_half_pixel": resize,
    "resize_align_corners": lambda: resize(align=True, half=False),
    "resize_nearest": lambda: resize("RESIZE_NEAREST_NEIGHBOR", half=False),
    "transpose_conv_v3": lambda: transpose_conv(3),
    "mean": mean,
    "softmax": lambda: _unary("SOFTMAX", table="Softmax", beta=1.0),
    "hard_swish": lambda: _unary("HARD_SWISH", table="HardSwish"),
    "mirror_pad_reflect": lambda: mirror_pad(0),
    "fully_connected_int8": lambda: quantized_dense("INT8"),
    "multiply_gate_first": lambda: binary("MUL", "Mul", "gate", "map"),
    "multiply_attention": lambda: binary("MUL", "Mul", "map", "attention"),
    "depth_to_space": lambda: depth_to_space(2),
    "add": add,
    "add_broadcast": lambda: add((1, 1, 1, CHANNELS)),
    "mul_constant": lambda: _binary("MUL", table="Mul"),
    "sub_constant": lambda: _binary("SUB", table="Sub"),
    "concat": concat,
    "average_pool": lambda: pool("AVERAGE_POOL_2D"),
    "max_pool": lambda: pool("MAX_POOL_2D"),
    "depthwise_dilated": lambda: depthwise(dilation=2),
    "depthwise_stride": lambda: depthwise(stride=2),
    "strided_slice": strided_slice,
    "fp16_weights": fp16_weights,
    "int8_network": int8_network,
    "int8_pointwise": lambda: int8_pointwise(1),
}
