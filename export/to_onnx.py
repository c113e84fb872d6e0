"""ONNX files for onnxruntime: float, and with the quantization of QAT as QuantizeLinear and DequantizeLinear."""

from functools import partial
from pathlib import Path
from typing import Any

from export.parity import Bound
from export.product import Networks, Product, ReferenceName, describe_with_runner
from export.quiet import quiet

#: The newest that tf2onnx 1.17 was measured with (1.5e-7 from Keras); QDQ with one scale a channel needs 13.
OPSET = 17

#: Recipe → Keras model, bound.
ONNX_RECIPES: dict[str, tuple[ReferenceName, Bound]] = {
    # measured max 2e-6 and 7e-6, as for TFLite
    "fp32": ("float", Bound(1e-4, 1e-5, 0.999)),
    # measured as onnxruntime runs it: mean 0.004 and 0.019, mask IoU 0.991 and 0.945. The graph itself is exact (0.001
    # and 0.003 with graph optimization off); onnxruntime's fusions compute more of it in integers than QAT had rounded
    "qdq": ("qat", Bound(None, 0.04, 0.90)),
}


def onnx_products(networks: Networks) -> list[Product]:
    """The ONNX files, NHWC as Keras has it."""
    height, width = networks.size
    return [
        Product(
            path=f"{networks.name}-{height}x{width}-nhwc-{recipe}.onnx",
            channels="rgb",
            recipe=recipe,
            write=partial(write_onnx, model=model),
            describe=describe_with_runner,
            reference=reference,
            bound=bound,
        )
        for recipe, (reference, bound) in ONNX_RECIPES.items()
        if (model := networks.get(reference)) is not None
    ]


def write_onnx(path: Path, model: Any) -> None:
    """Converts a Keras model with the batch fixed to 1, input `image`, output `mask`, and has it checked by onnx."""
    import onnx
    import tensorflow as tf
    import tf2onnx

    spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    # a function that names its output; given the model itself tf2onnx would name it after the last layer
    function = tf.function(lambda image: {"mask": model(image, training=False)}, input_signature=[spec])
    with quiet():
        proto, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=OPSET)
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())
