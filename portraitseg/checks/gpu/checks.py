"""Checks of single operators that are more than a number in rules.toml; each is named there."""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from portraitseg.tflite.graph import Graph, Op, Tensor


@dataclass(frozen=True)
class Fault:
    """Why a delegate leaves an operator to the CPU, and what to do about it."""

    reason: str
    remedy: str


def paddings(op: Op, graph: Graph) -> Fault | None:
    """PAD: the second input is a constant of 4×2 or 3×2 numbers."""
    del graph
    shape = op.inputs[1].shape if len(op.inputs) > 1 and op.inputs[1] is not None else ()
    if shape in ((4, 2), (3, 2)):
        return None
    return Fault(f"paddings of shape {sides(shape)}, not 4×2 or 3×2", "pad tensors of rank 4 (batch, height, width, c)")


def prelu_alpha(op: Op, graph: Graph) -> Fault | None:
    """PRELU: alpha has one number a channel, or the input's whole height×width×channels; nothing in between."""
    del graph
    if len(op.inputs) != 2 or op.inputs[0] is None or op.inputs[1] is None:
        return Fault("not one input and one alpha", "use ReLU6")
    shape, alpha = op.inputs[0].shape, op.inputs[1]
    remedy = "share the slopes over height and width (PReLU with shared_axes=[1, 2]), or use ReLU6"
    if not alpha.is_constant:
        return Fault("alpha is computed at run time", remedy)
    if all(side == 1 for side in alpha.shape[:-1]) and alpha.shape[-1:] == shape[-1:]:
        return None
    if len(shape) == 4 and alpha.shape in (shape[1:], (1, *shape[1:])):
        return None
    return Fault(f"alpha of shape {sides(alpha.shape)} for an input of {sides(shape)}", remedy)


def shared_slopes(op: Op, graph: Graph) -> Fault | None:
    """Classic PRELU: a slope for every pixel is taken, and computed wrong in browsers (MediaPipe 1.1.0 on WebGL2).

    No check of the delegate's own; mediapipe 0.10.21 on OpenGL is right.
    """
    del graph
    alpha = op.inputs[1] if len(op.inputs) == 2 else None
    if alpha is None or all(side == 1 for side in alpha.shape[:-1]):
        return None
    return Fault(
        "a slope for every pixel: taken, but its numbers are wrong in browsers",
        "share the slopes over height and width (PReLU with shared_axes=[1, 2]), or use ReLU6",
    )


def one_resize_flag(op: Op, graph: Graph) -> Fault | None:
    """RESIZE_BILINEAR: align_corners and half_pixel_centers exclude each other."""
    del graph
    if op.options.get("align_corners") and op.options.get("half_pixel_centers"):
        return Fault("align_corners and half_pixel_centers are both set", "use UpSampling2D(interpolation='bilinear')")
    return None


def broadcast_by_list(op: Op, graph: Graph) -> Fault | None:
    """Classic ADD and MUL: tensors of different rank are broadcast in three cases only."""
    del graph
    shapes = [tensor.shape for tensor in op.inputs if tensor is not None]
    if len(shapes) != 2 or len(shapes[0]) == len(shapes[1]) or min(len(shapes[0]), len(shapes[1])) <= 1:
        return None
    short, long = sorted(shapes, key=len)
    if len(long) == 4:
        is_image = len(short) == 3 and long[0] == 1
        is_number = short == (1, 1) and long[0] == 1
        is_vector = len(short) == 2 and short == (long[0], long[3])
        if is_image or is_number or is_vector:
            return None
    return _no_broadcast(shapes[0], shapes[1])


def broadcast(op: Op, graph: Graph) -> Fault | None:
    """ML Drift: tensors of different rank are broadcast as numpy does."""
    del graph
    shapes = [tensor.shape for tensor in op.inputs if tensor is not None]
    if len(shapes) != 2 or len(shapes[0]) == len(shapes[1]):
        return None
    for one, other in zip(reversed(shapes[0]), reversed(shapes[1]), strict=False):
        if one != other and 1 not in (one, other):
            return _no_broadcast(shapes[0], shapes[1])
    return None


def _no_broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> Fault:
    return Fault(
        f"no broadcasting of {sides(one)} with {sides(other)}", "keep rank 4: keepdims=True, or Reshape to 1×1×1×c"
    )


def distinct_inputs(op: Op, graph: Graph) -> Fault | None:
    """Both inputs of an elementwise operator are the same tensor, which only ADD and MUL are rewritten for."""
    del graph
    indices = [tensor.index for tensor in op.runtime_inputs]
    if len(indices) == 2 and indices[0] == indices[1]:
        return Fault("both inputs are the same tensor", "use Multiply or Add, or drop the operator")
    return None


def feeds_cast_or_select(op: Op, graph: Graph) -> Fault | None:
    """Classic comparisons: the BOOL result goes to one CAST or SELECT with a float output, and nowhere else."""
    result = op.outputs[0].index
    readers = [reader for reader in graph.ops if any(tensor.index == result for tensor in reader.runtime_inputs)]
    if len(readers) == 1 and readers[0].name in ("CAST", "SELECT", "SELECT_V2"):
        is_float = readers[0].outputs[0].dtype in ("FLOAT32", "FLOAT16")
    else:
        is_float = False
    if is_float:
        return None
    return Fault(
        "its BOOL result is not read by exactly one CAST or SELECT to float",
        "export the probability; compare in the app",
    )


def cast_types(op: Op, graph: Graph) -> Fault | None:
    """Classic CAST: between bool and float, and between float32 and int32."""
    del graph
    source = op.inputs[0].dtype if op.inputs and op.inputs[0] is not None else "?"
    result = op.outputs[0].dtype
    floats, numbers = ("FLOAT16", "FLOAT32"), ("FLOAT32", "INT32")
    if (source == "BOOL" and result in floats) or (source in floats and result == "BOOL"):
        return None
    if source in numbers and result in numbers:
        return None
    return Fault(f"CAST from {source} to {result}", "stay in float32")


def depthwise_shapes(op: Op, graph: Graph) -> Fault | None:
    """DEPTHWISE_CONV_2D: the filter has the output's channels, which are the input's times the multiplier."""
    del graph
    if len(op.inputs) < 2 or op.inputs[0] is None or op.inputs[1] is None:
        return Fault("no filter", "export the network again")
    image, kernel, out = op.inputs[0].shape, op.inputs[1].shape, op.outputs[0].shape
    remedy = "use DepthwiseConv2D with its batch fixed to 1"
    if not len(image) == len(kernel) == len(out) == 4 or image[0] != out[0]:
        return Fault(f"input {sides(image)}, filter {sides(kernel)}, output {sides(out)}", remedy)
    if kernel[3] != out[3] or out[3] != image[3] * int(op.options.get("depth_multiplier", 1)):
        return Fault(f"filter {sides(kernel)} does not make {out[3]} channels of {image[3]}", remedy)
    return None


def quantized_pointwise_stride(op: Op, graph: Graph) -> Fault | None:
    """ML Drift takes an 8-bit 1×1 convolution with a stride and computes something else, without a word.

    No check of the delegate's own: seen with LiteRT 2.3.0 on SwiftShader and on lavapipe; in float it is right.
    """
    del graph
    image, kernel = op.inputs[0], op.inputs[1] if len(op.inputs) > 1 else None
    if image is None or kernel is None or image.dtype not in ("INT8", "UINT8") or kernel.shape[1:3] != (1, 1):
        return None
    stride = max(op.options.get("stride_h", 1), op.options.get("stride_w", 1))
    if stride == 1:
        return None
    return Fault(
        f"8-bit 1×1 convolution with stride {stride:g}: taken, but its numbers are wrong",
        "pool with that stride first, then a 1×1 convolution of stride 1",
    )


def keep_num_dims(op: Op, graph: Graph) -> Fault | None:
    """FULLY_CONNECTED that keeps dimensions must have as many in its input as in its output."""
    del graph
    if op.options.get("keep_num_dims") and op.inputs and op.inputs[0] and op.inputs[0].rank != op.outputs[0].rank:
        return Fault("keep_num_dims between different ranks", "use a 1×1 convolution")
    return None


def not_quantized_dense(op: Op, graph: Graph) -> Fault | None:
    """FULLY_CONNECTED: unsigned 8-bit activations are refused; no check of the delegates' own, seen in runs."""
    del graph
    tensors = [tensor for tensor in (*op.inputs[:2], *op.outputs) if tensor is not None]
    if not any(tensor.dtype == "UINT8" for tensor in tensors):
        return None
    return Fault(
        "a dense layer of UINT8 tensors: refused when it runs",
        "use a 1×1 convolution, or quantize to int8 (recipes static_wi8_ai8, qat_wi8_ai8)",
    )


def one_row(op: Op, graph: Graph) -> Fault | None:
    """Classic FULLY_CONNECTED: the batch of its input is 1 (mediapipe 0.10.21: `Batch size mismatch`)."""
    del graph
    image = op.inputs[0] if op.inputs else None
    if image is None or image.rank == 0 or image.shape[0] == 1:
        return None
    return Fault(f"a dense layer of {image.shape[0]} rows", "use a 1×1 convolution on the map")


#: gl/kernels/mean.cc: workgroups of 8×8, each adds up a tile of 8×8 pixels; sums lie in 32 kB of shared memory.
_TILE, _SHARED_BYTES = 8, 32768


def mean_by_opengl(op: Op, graph: Graph) -> Fault | None:
    """Classic MEAN on OpenGL ES: over height and width alone, and of at most 64×64 pixels where it goes by tiles."""
    del graph
    image, axes = op.inputs[0], op.inputs[1]
    if image is None or axes is None or axes.values is None:
        return None
    named = sorted(axis % max(image.rank, 1) for axis in axes.values)
    if image.rank != 4 or named != [1, 2]:
        return Fault(
            f"a mean over axes {named} of {sides(image.shape)}: OpenGL ES has it over height and width alone",
            "over one side AveragePooling2D((height, 1)), over channels a fixed 1×1 convolution with 1/c in its kernel",
        )
    _, height, width, channels = image.shape
    is_tiled = height % _TILE == 0 and width % _TILE == 0 and channels % 4 == 0
    is_tiled = is_tiled and (height // _TILE) * (width // _TILE) * channels * 4 <= _SHARED_BYTES
    if not is_tiled or max(height, width) <= _TILE * _TILE:
        return None
    return Fault(
        f"a mean over {height}×{width} pixels: OpenGL ES leaves out all but 64×64, its numbers are wrong",
        "AveragePooling2D(2) before GlobalAveragePooling2D: the same mean, of fewer pixels",
    )


def whole_slices(op: Op, graph: Graph) -> Fault | None:
    """ML Drift CONV_2D in groups: right for groups of four channels, wrong for two (WebGPU), which fill no slice."""
    kernel = op.inputs[1] if len(op.inputs) > 1 else None
    if kernel is None or kernel.rank != 4 or kernel.shape[3] % 4 == 0:
        return None
    return no_groups(op, graph)


def no_downsampling(op: Op, graph: Graph) -> Fault | None:
    """Classic resizes: OpenGL ES makes nothing smaller (gl/kernels/resize.cc)."""
    del graph
    image, out = op.inputs[0] if op.inputs else None, op.outputs[0]
    if image is None or image.rank != 4 or out.rank != 4 or all(out.shape[a] >= image.shape[a] for a in (1, 2)):
        return None
    sizes = f"{image.shape[1]}×{image.shape[2]} to {out.shape[1]}×{out.shape[2]}"
    return Fault(
        f"a resize from {sizes}: OpenGL ES makes nothing smaller", "AveragePooling2D, or a strided convolution"
    )


def split_in_order(op: Op, graph: Graph) -> Fault | None:
    """ML Drift CONCATENATION right behind a SPLIT: both are left out, whatever the order of the parts.

    No check of the delegate's own: seen with LiteRT 2.3.0 on SwiftShader; in order, or with an operator between, it is
    right.
    """
    read = [tensor.index for tensor in op.runtime_inputs]
    for split in graph.ops:
        parts = [tensor.index for tensor in split.outputs]
        if split.name in ("SPLIT", "SPLIT_V") and sorted(read) == sorted(parts) and read != parts:
            return Fault(
                "the parts of a SPLIT in another order: taken, but its numbers are wrong",
                "swap channels with a fixed 1×1 convolution",
            )
    return None


def one_for_each_channel(op: Op, graph: Graph) -> Fault | None:
    """Classic DEPTHWISE_CONV_2D: a multiplier of 1, or one input channel (mediapipe 0.10.21)."""
    del graph
    image, multiplier = op.inputs[0], int(op.options.get("depth_multiplier", 1))
    if image is None or multiplier == 1 or image.shape[-1:] == (1,):
        return None
    return Fault(
        f"depth_multiplier {multiplier} of {image.shape[-1]} channels",
        f"Concatenate of {multiplier} DepthwiseConv2D, or a 1×1 convolution that widens first",
    )


def no_groups(op: Op, graph: Graph) -> Fault | None:
    """Classic CONV_2D in groups: mediapipe 0.10.21 has no shader for it."""
    del graph
    image, kernel = op.inputs[0], op.inputs[1] if len(op.inputs) > 1 else None
    if image is None or kernel is None or image.rank != 4 or kernel.rank != 4 or image.shape[3] == kernel.shape[3]:
        return None
    groups = image.shape[3] // max(kernel.shape[3], 1)
    return Fault(
        f"a convolution in {groups} groups of {kernel.shape[3]} channels: refused when it runs, or computed wrong",
        "use DepthwiseConv2D and a 1×1 convolution, or a convolution for each group and Concatenate",
    )


def not_int16(op: Op, graph: Graph) -> Fault | None:
    """DEQUANTIZE of 16-bit activations."""
    del graph
    if op.inputs and op.inputs[0] is not None and op.inputs[0].dtype == "INT16":
        return Fault("dequantizes INT16", "use 8-bit activations (static_wi8_ai8, qat_wi8_ai8) or fp16")
    return None


def dequantized_constant_rank(op: Op, graph: Graph) -> Fault | None:
    """ML Drift reads constants of rank 2 to 4 through a DEQUANTIZE; float16 ones are seen through before."""
    del graph
    source = op.inputs[0] if op.inputs else None
    if source is not None and source.is_constant and not 2 <= source.rank <= 4:
        return Fault(f"dequantizes a constant of rank {source.rank}", "store that constant as float32 or float16")
    return None


def constant_axes(op: Op, graph: Graph) -> Fault | None:
    """MEAN and its like: axes are INT32 and in the file."""
    del graph
    axes = op.inputs[1] if len(op.inputs) > 1 else None
    if axes is None or not axes.is_constant or axes.dtype != "INT32":
        return Fault("axes are not constant INT32", "name the axes as numbers when building the network")
    return None


def constant_slice(op: Op, graph: Graph) -> Fault | None:
    """SLICE and STRIDED_SLICE: begin, end or size, and strides are in the file and none is negative."""
    del graph
    bounds = op.inputs[1:]
    if any(tensor is None or not tensor.is_constant for tensor in bounds):
        return Fault("bounds are computed at run time", "slice with numbers (Cropping2D)")
    strides = bounds[2].values if len(bounds) == 3 and bounds[2] is not None else None
    if strides and min(strides) < 1:
        return Fault(f"strides {strides}", "slice forwards, with strides of at least 1")
    return None


def gather_indices(op: Op, graph: Graph) -> Fault | None:
    """GATHER: one row of INT32 indices."""
    del graph
    indices = op.inputs[1] if len(op.inputs) > 1 else None
    if indices is None or indices.rank != 1 or indices.dtype != "INT32":
        return Fault("indices are not one row of INT32", "use slices and Concatenate")
    return None


def matmul_constant(op: Op, graph: Graph) -> Fault | None:
    """Classic BATCH_MATMUL: a constant second matrix has rank 2."""
    del graph
    second = op.inputs[1] if len(op.inputs) > 1 else None
    if second is not None and second.is_constant and second.rank != 2:
        return Fault(f"constant matrix of rank {second.rank}", "use Dense or a 1×1 convolution")
    return None


def select_shapes(op: Op, graph: Graph) -> Fault | None:
    """SELECT: a float or bool condition; both branches have the output's shape or are one number."""
    del graph
    condition, *branches = op.inputs
    if condition is None or condition.dtype not in ("BOOL", "FLOAT16", "FLOAT32"):
        return Fault("the condition is neither bool nor float", "write it as a product with a mask")
    for branch in branches:
        if branch is not None and branch.shape not in ((), (1,), op.outputs[0].shape):
            return Fault(f"a branch of shape {sides(branch.shape)}", "give both branches the shape of the output")
    return None


def custom_strides(op: Op, graph: Graph) -> Fault | None:
    """Convolution2DTransposeBias: its options are padding, stride width and stride height, 32-bit each."""
    del graph
    if len(op.custom_options) < 12 or min(struct.unpack("<3i", op.custom_options[:12])[1:]) < 1:
        return Fault("its custom options hold no strides", "use the builtin TRANSPOSE_CONV")
    return None


def sides(shape: tuple[int, ...]) -> str:
    """A shape in words, `1×32×32×8`."""
    return "×".join(str(side) for side in shape) or "()"


def quantization(tensor: Tensor) -> Fault | None:
    """An 8-bit activation has exactly one scale: delegates compute it as float and round to its steps."""
    if tensor.dtype not in ("INT8", "UINT8") or len(tensor.scales) == 1:
        return None
    return Fault(
        f"activation '{tensor.name}' has {len(tensor.scales)} scales, not one", "quantize activations per tensor"
    )


#: By the name in rules.toml.
CHECKS: dict[str, Callable[[Op, Graph], Fault | None]] = {
    check.__name__: check
    for check in (
        broadcast,
        broadcast_by_list,
        cast_types,
        constant_axes,
        constant_slice,
        custom_strides,
        depthwise_shapes,
        dequantized_constant_rank,
        distinct_inputs,
        feeds_cast_or_select,
        gather_indices,
        keep_num_dims,
        matmul_constant,
        mean_by_opengl,
        no_downsampling,
        no_groups,
        not_int16,
        not_quantized_dense,
        one_for_each_channel,
        one_resize_flag,
        one_row,
        paddings,
        prelu_alpha,
        quantized_pointwise_stride,
        select_shapes,
        shared_slopes,
        split_in_order,
        whole_slices,
    )
}
