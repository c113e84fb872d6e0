"""The recipes: how weights and activations of a TFLite file are stored, named as AI Edge Quantizer names them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from export.product.parity import Bound
from export.product.quiet import quiet
from export.product.tracing import name_tensors
from export.quantization import clamps, equal_shapes, means
from export.quantization.check_int8 import IntegerType
from export.quantization.half import check_half
from portraitseg.checks.arm.tolerance import HALF, PRECISION_NAME
from portraitseg.contract import Channels
from portraitseg.tflite import flatbuffer

Calibration = Float32[np.ndarray, "n h w 3"]


def fp32(model: Any, calibration: Calibration) -> bytes:
    """Everything float32: for desktops and as a yardstick."""
    return _convert(_converter(model))


def fp16(model: Any, calibration: Calibration) -> bytes:
    """Weights stored as float16, computed as the device likes: the file for GPUs."""
    import tensorflow as tf

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return _convert(converter)


def fp16acc16(model: Any, calibration: Calibration) -> bytes:
    """The weights of `fp16` with leave to compute in half precision: phones' CPUs then do, in half the instructions.

    The converter writes `fp16accfp32`. XNNPACK's kernels of 16 bits sum in 16 bits too, so it takes none of them then.
    A network that might overflow gets clamps.
    """
    content = fp16(model, calibration)
    if chosen := clamps.find(content, {layer.name for layer in model.layers}):
        content = fp16(clamps.apply(model, chosen), calibration)
    return flatbuffer.replace_metadata(content, PRECISION_NAME, HALF)


def dynamic_wi8_afp32(model: Any, calibration: Calibration) -> bytes:
    """Weights stored as int8, activations float32: a quarter of the bytes without a single photo."""
    import tensorflow as tf

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return _convert(converter)


def static_wi8_ai8(model: Any, calibration: Calibration, has_byte_io: bool = False) -> bytes:
    """Post-training: whole int8 with ranges from photos; input and output float, or bytes."""
    import tensorflow as tf

    converter = _converter(means.rewrite(model))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: _representative(calibration)
    return _convert(converter, has_byte_io)


def static_wi8_ai16(model: Any, calibration: Calibration) -> bytes:
    """Post-training: int8 weights, int16 activations, float input and output: what 8 bits cost in activations alone."""
    import tensorflow as tf

    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
    converter.representative_dataset = lambda: _representative(calibration)
    return _convert(converter)


def qat_wi8_ai8(model: Any, calibration: Calibration, has_byte_io: bool = False) -> bytes:
    """Whole int8 with the ranges of quantization-aware training; input and output float, or bytes: for CPU and NPU."""
    import tensorflow as tf

    converter = _converter(model)
    # with fake quantization in the graph this makes its integers real, and needs no photos
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return _convert(converter, has_byte_io)


@dataclass(frozen=True)
class Recipe:
    """One line of the registry.

    Attributes:
        convert: (Keras model, photos in [0, 1]) → content of a .tflite.
        reference: the Keras model that is converted and that the file is compared with.
        bound: how far the file may be from its reference.
        integer: type that every activation must have, `INT8` or `INT16`; None: float arithmetic.
        channels: of the files that are made.
        check: of the file that was written, on inputs, beside its bounds; it raises `Unsuitable` where this network is
            to do without it.
    """

    convert: Callable[[Any, Calibration], bytes]
    reference: Literal["float", "qat"]
    bound: Bound
    integer: IntegerType | None = None
    channels: tuple[Channels, ...] = ("rgb", "rgba")
    check: Callable[[Path, Calibration], None] | None = None


#: Bounds from Fast-SCNN at 256 px, and at 64 px with half the channels, which is the most sensitive that we measured.
_STATIC = Bound(None, 0.03, 0.93)
_QAT = Bound(None, 0.015, 0.975)

#: `dynamic_wi8_afp32` and `static_wi8_ai16` stand in the table for comparison (the one runs float kernels, the other
#: reference kernels: no delegate takes int16), so nobody feeds them camera bitmaps and they have no RGBA twin.
RECIPES: dict[str, Recipe] = {
    # measured max 2e-6 and 7e-6: another order of summation
    "fp32": Recipe(fp32, "float", Bound(1e-4, 1e-5, 0.999)),
    # measured max 0.003 and 0.010, mean 9e-5 and 5e-4: weights rounded to 11 bits
    "fp16": Recipe(fp16, "float", Bound(0.03, 2e-3, 0.995)),
    # on x86 it is the fp16 file bit by bit, where no clamp acts; what half precision does to it, its check says
    "fp16acc16": Recipe(fp16acc16, "float", Bound(0.03, 2e-3, 0.995), check=check_half),
    # measured mean 0.003, mask IoU 0.989 at 64 px with half the channels: weights rounded to 8 bits, a scale a channel
    "dynamic_wi8_afp32": Recipe(dynamic_wi8_afp32, "float", Bound(None, 0.01, 0.97), channels=("rgb",)),
    # measured mean 0.004 and 0.015, mask IoU 0.993 and 0.968. The largest difference (0.10 and 0.28) is that of single
    # pixels on the outline, where a step of the logits is a tenth in probability: it says nothing of the file
    "static_wi8_ai8": Recipe(static_wi8_ai8, "float", _STATIC, "INT8"),
    # the `_u8` twins measured the same to the last digit: a byte is one step of the quantized input
    "static_wi8_ai8_u8": Recipe(partial(static_wi8_ai8, has_byte_io=True), "float", _STATIC, "INT8"),
    # measured mean 0.008, mask IoU 0.979 at 64 px with half the channels
    "static_wi8_ai16": Recipe(static_wi8_ai16, "float", Bound(None, 0.02, 0.95), "INT16", channels=("rgb",)),
    # measured max 0.05 and 0.18, mean 0.002 and 0.007, mask IoU 0.997 and 0.985, before any training under fake
    # quantization. Keras rounds activations as the file does, but sums in float and does not round the sigmoid. Of
    # selfie_general, whose logits learnt from ones of hundreds: max 0.49, mean 0.0075, mask IoU 0.987 on drawn
    # portraits (with ranges that hold all outliers 0.70, 0.015, 0.974); the largest difference is that of single pixels
    # on the outline, and says nothing of the file
    "qat_wi8_ai8": Recipe(qat_wi8_ai8, "qat", _QAT, "INT8"),
    "qat_wi8_ai8_u8": Recipe(partial(qat_wi8_ai8, has_byte_io=True), "qat", _QAT, "INT8"),
}


def _converter(model: Any) -> Any:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # where shapes need it alone: other networks are converted as they are
    if equal_shapes.find(model):
        model = equal_shapes.rewrite(model)

    function = name_tensors(model)
    # frozen first: given the Keras model, the converter saves and traces every layer of it (5 to 20 times slower)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(), lower_control_flow=False)
    return tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())


def _convert(converter: Any, has_byte_io: bool = False) -> bytes:
    if has_byte_io:
        import tensorflow as tf

        # the graph stays as it is; its first and last operator turn bytes into int8 and back
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    with quiet():
        content = converter.convert()
    return flatbuffer.rename_io(content, "image", "mask")


def _representative(calibration: Calibration) -> Iterator[list[np.ndarray]]:
    """Inputs one by one, made such that the input range is exactly [0, 1]."""
    for index, photo in enumerate(calibration):
        inputs = photo[None].copy()
        if index == 0:
            # one black and one white pixel: the scale of the input is then 1/255 whatever the photos hold
            inputs[0, 0, 0], inputs[0, 0, 1] = 0, 1
        yield [inputs]
