"""ONNX files for onnxruntime: float, and with the quantization of QAT as QuantizeLinear and DequantizeLinear."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int8

from export.product.parity import Bound
from export.product.product import Networks, Product, ReferenceName, input_tensor, output_tensor
from export.product.quiet import quiet
from export.product.tracing import name_tensors
from portraitseg.errors import CheckFailed
from portraitseg.manifest import Tensor
from portraitseg.runners.tensors import Layout

#: The newest that tf2onnx 1.17 was measured with (1.5e-7 from Keras); QDQ with one scale a channel needs 13.
OPSET = 17

LAYOUTS: tuple[Layout, ...] = ("NHWC", "NCHW")

#: Recipe → Keras model, bound.
ONNX_RECIPES: dict[str, tuple[ReferenceName, Bound]] = {
    # measured max 2e-6 and 7e-6, as for TFLite
    "fp32": ("float", Bound(1e-4, 1e-5, 0.999)),
    # measured max 0.10 and 0.16, mean 0.0014 and 0.006, mask IoU 0.998 and 0.983: as the int8 TFLite file. onnxruntime
    # sums in integers and rounds once an operator; uint8 × int8 is exact with VNNI (measured) and on Arm, but on x86
    # without it pairs of products may saturate at 16 bits, unless the session option "session.x64quantprecision" is "1"
    "qdq": ("qat", Bound(0.3, 0.015, 0.97)),
}

#: Steps of an 8-bit kernel, symmetric and without -128, as TFMOT has it.
_STEPS = 127
#: How far from whole steps a kernel may lie and still be taken for quantized: float32 makes 2e-5 of it.
_GRID_TOLERANCE = 1e-3


def onnx_products(networks: Networks) -> list[Product]:
    """The ONNX files: NHWC as Keras has it, and NCHW as ONNX likes it."""
    height, width = networks.size
    return [
        Product(
            path=f"{networks.name}-{height}x{width}-{layout.lower()}-{recipe}.onnx",
            channels="rgb",
            recipe=recipe,
            write=partial(
                write_onnx,
                model=model,
                layout=layout,
                is_quantized=reference == "qat",
                licence=networks.licence,
            ),
            describe=describe_onnx,
            reference=reference,
            bound=bound,
        )
        for layout in LAYOUTS
        for recipe, (reference, bound) in ONNX_RECIPES.items()
        if (model := networks.get(reference)) is not None
    ]


def write_onnx(
    path: Path,
    model: Any,
    layout: Layout = "NHWC",
    is_quantized: bool = False,
    licence: str = "",
) -> None:
    """Converts a Keras model with the batch fixed to 1, input `image`, output `mask`, and has it checked by onnx.

    Its metadata say under what the weights are, where `licence` does.

    Raises:
        CheckFailed: what onnx says against the file.
    """
    import tf2onnx

    function = name_tensors(model)
    planes = {"inputs_as_nchw": ["image"], "outputs_as_nchw": ["mask"]} if layout == "NCHW" else {}
    with quiet():
        proto, _ = tf2onnx.convert.from_function(
            function, input_signature=function.input_signature, opset=OPSET, **planes
        )
    if is_quantized:
        store_int8_kernels(proto)
    if licence:
        proto.metadata_props.add(key="license", value=f"code and network Apache-2.0; weights: {licence}")
    check_onnx(proto, path.name)
    path.write_bytes(proto.SerializeToString())


def check_onnx(proto: Any, name: str) -> None:
    """Runs onnx's checker, and its shape inference in strict mode.

    Raises:
        CheckFailed: with onnx's first line; or a tensor on the way whose shape stays unknown.
    """
    import onnx

    try:
        onnx.checker.check_model(proto)
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CheckFailed(f"{name}: onnx refuses it: {first.strip()}") from error
    known = {info.name for info in (*inferred.graph.value_info, *inferred.graph.output) if _is_fixed(info)}
    unknown = [output for node in inferred.graph.node for output in node.output if output not in known]
    if unknown:
        # runtimes for phones plan their memory ahead
        raise CheckFailed(f"{name}: no fixed shape for {len(unknown)} tensors, the first is '{unknown[0]}'")


def store_int8_kernels(proto: Any) -> None:
    """Stores the kernels of a QAT network as int8 with a DequantizeLinear behind, one scale a channel; in place.

    tf2onnx folds TFMOT's fake quantization of a kernel, and the batch norm behind it, into one float32 constant.
    onnxruntime then finds a float kernel between quantized activations and quantizes it anew, all channels with one
    scale (its WeightBiasQuantization, from the basic level on): after folding, channels differ in range by a factor of
    a hundred, so that most are left with a few steps. Measured beside Keras: mean 0.0196, mask IoU 0.945
    (0.0041 at 256 px), against 0.0024 and 0.994 with that one optimizer off. Stored like this it is 0.006 and 0.983
    (0.0014), and the file less than half.
    """
    from onnx import helper, numpy_helper

    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kernels = {node.input[1] for node in graph.node if node.op_type == "Conv"} & constants.keys()
    dequantize = []
    for name in sorted(kernels):
        steps, scales = split_scales(numpy_helper.to_array(constants[name]))
        graph.initializer.remove(constants[name])
        parts = [f"{name}/int8", f"{name}/scale", f"{name}/zero"]
        for part, values in zip(parts, (steps, scales, np.zeros(len(scales), np.int8)), strict=True):
            graph.initializer.append(numpy_helper.from_array(values, part))
        dequantize.append(helper.make_node("DequantizeLinear", parts, [name], name=f"{name}/dequantize", axis=0))
    # nodes must stand in the order of computation
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*dequantize, *rest])


def split_scales(
    kernel: Float32[np.ndarray, "c h w i"],
) -> tuple[Int8[np.ndarray, "c h w i"], Float32[np.ndarray, "*c"]]:
    """Finds the grid on which each output channel of a fake-quantized kernel lies.

    A channel's greatest weight is 127 steps where it had a scale of its own. A depthwise kernel had one for all, so the
    greatest of a channel may be any number of steps: the least that makes all of them whole is taken.

    Returns:
        Steps and scales, steps · scales = kernel; a channel that lies on no grid is rounded to 127 steps.
    """
    channels = kernel.reshape(len(kernel), -1).astype(np.float64)
    greatest = np.abs(channels).max(axis=1)
    scales = np.where(greatest > 0, greatest, 1.0) / _STEPS
    for channel in np.nonzero(_distance(channels / scales[:, None]) > _GRID_TOLERANCE)[0]:
        candidates = greatest[channel] / np.arange(1, _STEPS + 1)
        fits = _distance(channels[channel] / candidates[:, None]) <= _GRID_TOLERANCE
        if fits.any():
            scales[channel] = candidates[fits.argmax()]
    steps = np.rint(channels / scales[:, None]).astype(np.int8)
    return steps.reshape(kernel.shape), scales.astype(np.float32)


def describe_onnx(path: Path) -> tuple[Tensor, Tensor]:
    """Reads input and output with onnxruntime; both say their layout."""
    from portraitseg.runners.onnx import open_onnx

    runner = open_onnx(path)
    source = input_tensor(runner.input, runner.channels)
    layout = "NCHW" if runner.output.shape[1] == 1 else "NHWC"
    return source, output_tensor(runner.output).model_copy(update={"layout": layout})


def _distance(steps: Any) -> Any:
    """Of each row, from whole numbers: the greatest."""
    return np.abs(steps - np.rint(steps)).max(axis=-1)


def _is_fixed(info: Any) -> bool:
    shape = info.type.tensor_type
    return shape.HasField("shape") and all(side.HasField("dim_value") for side in shape.shape.dim)
