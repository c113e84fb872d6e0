"""Runs .mlpackage and .mlmodel files: with Core ML on macOS, elsewhere with a reference evaluator of the saved file.

The evaluator reads what is on disk, the specification and the weight file, so it checks what is shipped and not what
the converter had in memory. Its masks stand for those of a device (docs/decisions/0003); its run time for nothing.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from portraitseg import contract
from portraitseg.errors import InputError
from portraitseg.runners import tensors
from portraitseg.runners.base import Runner, TensorInfo
from portraitseg.runners.coreml.network import load_network
from portraitseg.runners.coreml.program import Precision, Program, Watch, load_program
from portraitseg.runners.coreml.values import read_spec

#: FeatureTypes.proto, ImageFeatureType.ColorSpace.
GRAYSCALE, RGB, BGR, GRAYSCALE_FLOAT16 = 10, 20, 30, 40


class CoreMLRunner(Runner):
    """A Core ML model with an image or multi-array input and an image or multi-array mask.

    Images are bytes in and out: they appear as uint8 NHWC tensors, the mask with scale 1/255. The scaling to what the
    network eats is inside the file.
    """

    def __init__(self, path: Path, description: Any) -> None:
        self.path = path
        # Core ML, or numpy's BLAS, decides by itself; 0 says so
        self.threads = 0
        self.input, self.output, self.input_layout, _ = describe(path, description)
        self.size = tensors.input_size(self.input.shape, self.input_layout)
        self.channels = tensors.input_channels(path, self.input, self.input_layout)
        self._color_in, self._color_out = (
            next(_color(feature) for feature in features if feature.name == name)
            for features, name in ((description.input, self.input.name), (description.output, self.output.name))
        )


class CoreMLNative(CoreMLRunner):
    """A Core ML model in Core ML."""

    def __init__(self, path: Path, model: Any, delegate: str) -> None:
        super().__init__(path, model.get_spec().description)
        self.runtime = f"coremltools {metadata.version('coremltools')}"
        self.delegate = delegate
        self._model = model

    def run(self, inputs: Shaped[np.ndarray, "1 h w c"]) -> Shaped[np.ndarray, "1 h w 1"]:
        """Runs the file once; with image input this includes wrapping the bytes as a PIL image."""
        value: Any = inputs.transpose(0, 3, 1, 2) if self.input_layout == "NCHW" else inputs
        if self._color_in is not None:
            from PIL import Image

            value = Image.fromarray(inputs[0])
        return _to_nhwc(np.asarray(self._model.predict({self.input.name: value})[self.output.name]))


class CoreMLEvaluator(CoreMLRunner):
    """A Core ML model in the evaluator. `program` is what was read from the file."""

    latency_reason = "needs macOS"
    delegate = "numpy"

    def __init__(self, path: Path, precision: Precision = "file") -> None:
        spec, folder = read_spec(path)
        kind = spec.WhichOneof("Type")
        if kind not in ("mlProgram", "neuralNetwork"):
            raise InputError(f"{path}: a Core ML {kind}: expected an ML program or a neural network")
        self.program: Program = load_program(path, spec, folder) if kind == "mlProgram" else load_network(path, spec)
        self.precision = precision
        super().__init__(path, spec.description)
        halves = precision == "fp16" or (precision == "file" and any(any(s.is_half) for s in self.program.steps))
        self.runtime = f"portraitseg coreml evaluator ({'fp16 rounding' if halves else 'fp32'})"

    def run(self, inputs: Shaped[np.ndarray, "1 h w c"]) -> Shaped[np.ndarray, "1 h w 1"]:
        """Runs the file once."""
        values = self.floats(inputs)
        return values if self._color_out is None else to_bytes(values)

    def floats(
        self, inputs: Shaped[np.ndarray, "1 h w c"], watch: Watch | None = None
    ) -> Float32[np.ndarray, "1 h w 1"]:
        """The mask as the network computes it, before it becomes an image of bytes.

        Args:
            inputs: as for `run`.
            watch: sees each tensor, NCHW, in the order of computation.
        """
        value = inputs.astype(np.float32)
        if self._color_in == BGR:
            # callers pass RGB; Core ML reorders a camera buffer to what the description says
            value = value[..., ::-1]
        if self._color_in is not None or self.input_layout == "NCHW":
            value = np.ascontiguousarray(value.transpose(0, 3, 1, 2))
        return _to_nhwc(self.program.evaluate({self.input.name: value}, self.precision, watch)[self.output.name])


def open_coreml(path: Path, threads: int = 1, reference_kernels: bool = False) -> Runner:
    """Opens a Core ML model.

    On macOS on all compute units, or on the CPU alone for `reference_kernels`. Elsewhere in the evaluator, which rounds
    to float16 where the file says so.

    Raises:
        InputError: no Core ML model, an operator that the evaluator does not know, or tensors that are not a photo and
            a mask.
    """
    return _open_native(path, reference_kernels) if sys.platform == "darwin" else CoreMLEvaluator(path)


def to_bytes(values: Float32[np.ndarray, "*d"]) -> UInt8[np.ndarray, "*d"]:
    """A tensor as a grayscale image: cut to 0…255, to the nearest byte.

    Apple does not document the rounding. Were it downward, a probability would differ by at most one step of 1/255.
    """
    return np.rint(np.clip(np.nan_to_num(values), 0, 255)).astype(np.uint8)


def _open_native(path: Path, reference_kernels: bool) -> Runner:
    import coremltools as ct

    unit = ct.ComputeUnit.CPU_ONLY if reference_kernels else ct.ComputeUnit.ALL
    try:
        model = ct.models.MLModel(str(path), compute_units=unit)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a Core ML model: {str(error).splitlines()[0]}") from error
    return CoreMLNative(path, model, unit.name.lower())


def _to_nhwc(mask: np.ndarray) -> np.ndarray:
    """(h, w), 1×1×H×W or 1×H×W×1 → the last: the description of an ML program need not state the output's shape."""
    if mask.ndim == 2:
        # Core ML's grayscale image
        return mask[None, :, :, None]
    return mask.transpose(0, 2, 3, 1) if mask.shape[1] == 1 else mask


def tensor_features(path: Path, features: Any) -> list[Any]:
    """The features of a model description that are images or multi-arrays.

    Raises:
        InputError: none.
    """
    tensors = [feature for feature in features if feature.type.WhichOneof("Type") in ("imageType", "multiArrayType")]
    if not tensors:
        raise InputError(f"{path}: no image and no multi-array among {[feature.name for feature in features]}")
    return tensors


def describe(path: Path, description: Any) -> tuple[TensorInfo, TensorInfo, tensors.Layout, tensors.Layout]:
    """Reads the input and the mask from a Core ML model description (`ModelDescription` protobuf; works anywhere).

    Returns:
        Input, output, and the layout of each; images count as NHWC.

    Raises:
        InputError: tensors that are not a photo and a mask.
    """
    info = tensors.only_input(path, [_tensor_info(feature) for feature in tensor_features(path, description.input)])
    layout = tensors.check_input(path, info)
    size = tensors.input_size(info.shape, layout)
    outputs = [_tensor_info(feature, (1, *size, 1)) for feature in tensor_features(path, description.output)]
    output, output_layout = tensors.choose_output(path, outputs)
    return info, output, layout, output_layout


def _color(feature: Any) -> int | None:
    """The colour space of an image; None of a multi-array."""
    return feature.type.imageType.colorSpace if feature.type.WhichOneof("Type") == "imageType" else None


def _tensor_info(feature: Any, shape_if_unstated: tuple[int, ...] = ()) -> TensorInfo:
    """Reads a feature; mlprograms may leave the shape of an output unstated, it is then the input's size."""
    color = _color(feature)
    if color is not None:
        image = feature.type.imageType
        # Core ML reorders RGB and BGR by itself
        channels = 3 if color in (RGB, BGR) else 1
        return TensorInfo(feature.name, (1, image.height, image.width, channels), "uint8", contract.INPUT_SCALE, 0)
    array = feature.type.multiArrayType
    shape = tuple(int(side) for side in array.shape) or shape_if_unstated
    # FeatureTypes.proto: FLOAT32 = 65568, FLOAT16 = 65552, DOUBLE = 65600; predict takes and returns float32 for these
    dtype = "float32" if array.dataType in (65568, 65552, 65600) else f"multiarray type {array.dataType}"
    return TensorInfo(feature.name, shape, dtype)
