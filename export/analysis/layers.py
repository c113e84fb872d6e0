"""Where an exported file and its Keras model part: the layers of both, on one photo, matched by name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.runners import open_runner

#: Mean difference of a layer, as a share of its mean magnitude, from which two networks have parted. Measured at the
#: worst layer of sound files at 64 px: fp32 3e-6, float16 0.004, 8 bits 0.11; 16-value palettes need the second bound.
_PARTED_FP32, _PARTED = 1e-3, 0.35


def first_divergence(path: Path, model: Any, photo: UInt8[np.ndarray, "_ _ 3"], is_fp32: bool = False) -> str | None:
    """The first Keras layer whose output a file computes otherwise, with the difference; None if there is none.

    Args:
        path: of a .tflite, .onnx, .mlpackage or .mlmodel.
        model: the Keras model that it comes from, float or QAT.
        photo: to run both on.
        is_fp32: whether the file computes in float32, so that little may differ.
    """
    for name, share in layer_differences(path, model, photo).items():
        if not share <= (_PARTED_FP32 if is_fp32 else _PARTED):
            return f"{name} (differs by {share:.2g} of its magnitude)"
    return None


def layer_differences(path: Path, model: Any, photo: UInt8[np.ndarray, "_ _ 3"]) -> dict[str, float]:
    """Mean difference of each layer as a share of its mean magnitude, in the order of the Keras model.

    Layers are found by the names that converters keep; one that was fused into the next has no output to compare.
    """
    from portraitseg.models.keras_route import keras

    # names are those of the float network
    names = [layer.name.removeprefix("quant_") for layer in model.layers]
    inputs = contract.image_to_inputs(photo, model.input_shape[1:3])
    outputs = keras.Model(model.input, [layer.output for layer in model.layers])(inputs, training=False)
    theirs = {name: output.numpy() for name, output in zip(names, outputs, strict=True)}
    patterns = [(name, re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])")) for name in names]
    ours: dict[str, np.ndarray] = {}
    for tensor, value in _intermediates(path, photo):
        # of several fused operators the last one is named first; of "down1_dw" and "down1_dw_bn" the longer one is it
        matching = [name for name, pattern in patterns if pattern.search(tensor.split(";")[0])]
        name = max(matching, key=len, default=None)
        if name is not None and value.shape == theirs[name].shape:
            ours[name] = value
    return {
        name: float(np.abs(ours[name] - theirs[name]).mean() / (np.abs(theirs[name]).mean() + 1e-6))
        for name in names
        if name in ours
    }


def _intermediates(path: Path, photo: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of each tensor of a file, NHWC, in the order of computation."""
    inputs = open_runner(path).prepare(photo)
    if path.suffix == ".tflite":
        yield from _of_tflite(path, inputs)
    elif path.suffix == ".onnx":
        yield from _of_onnx(path, inputs)
    elif path.suffix in (".mlpackage", ".mlmodel"):
        yield from _of_coreml(path, inputs)


def _of_tflite(path: Path, inputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path), experimental_preserve_all_tensors=True, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], inputs)
    interpreter.invoke()
    details = {item["index"]: item for item in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():
        for index in operator["outputs"]:
            value = interpreter.get_tensor(index)
            scale, zero_point = details[index]["quantization"]
            value = value.astype(np.float32)
            yield details[index]["name"], (value - zero_point) * np.float32(scale) if scale else value


def _of_onnx(path: Path, inputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    import onnx
    import onnxruntime as ort

    proto = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(proto)
    del proto.graph.output[:]
    proto.graph.output.extend(
        info for info in (*inferred.graph.value_info, *inferred.graph.output) if _is_float(info) and "/" in info.name
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    values = session.run(None, {source.name: inputs if source.shape[3] == 3 else inputs.transpose(0, 3, 1, 2)})
    for output, value in zip(session.get_outputs(), values, strict=True):
        yield output.name, value.transpose(0, 2, 3, 1) if value.ndim == 4 else value


def _is_float(info: Any) -> bool:
    return info.type.tensor_type.elem_type == 1


def _of_coreml(path: Path, inputs: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    from portraitseg.runners.coreml.evaluator import CoreMLEvaluator

    seen: list[tuple[str, np.ndarray]] = []
    runner = CoreMLEvaluator(path)
    runner.floats(inputs, lambda name, value: seen.append((name, np.array(value))))
    for name, value in seen:
        planes = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
        yield name, planes / 255 if name == runner.output.name and runner.output.dtype == "uint8" else planes
