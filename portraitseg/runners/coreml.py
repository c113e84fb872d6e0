"""Runs .mlpackage and .mlmodel files with Core ML itself, which exists on macOS only."""

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from portraitseg import contract
from portraitseg.errors import InputError
from portraitseg.runners import tensors
from portraitseg.runners.base import NotRunnable, Runner, TensorInfo


class CoremlRunner(Runner):
    """A Core ML model with an image or multi-array input and an image or multi-array mask.

    Images are bytes in and out: they appear as uint8 NHWC tensors, the mask with scale 1/255. The scaling to what the
    network eats is inside the file.
    """

    def __init__(self, path: Path, model: Any, delegate: str) -> None:
        self.path = path
        # Core ML decides by itself; 0 says so
        self.threads = 0
        self.runtime = f"coremltools {metadata.version('coremltools')}"
        self.delegate = delegate
        self._model = model
        description = model.get_spec().description
        self._input_is_image = _is_image(tensor_features(path, description.input)[0])
        self.input, self.output, self.input_layout, self.output_layout = describe(path, description)
        self.size = tensors.input_size(self.input.shape, self.input_layout)
        self.channels = tensors.input_channels(path, self.input, self.input_layout)

    def run(self, inputs: Shaped[np.ndarray, "1 h w c"]) -> Shaped[np.ndarray, "1 h w 1"]:
        """Runs the file once; with image input this includes wrapping the bytes as a PIL image."""
        value: Any = inputs.transpose(0, 3, 1, 2) if self.input_layout == "NCHW" else inputs
        if self._input_is_image:
            from PIL import Image

            value = Image.fromarray(inputs[0])
        outputs = np.asarray(self._model.predict({self.input.name: value})[self.output.name])
        if outputs.ndim == 2:
            # a grayscale image comes back as (h, w)
            return outputs[None, :, :, None]
        return outputs.transpose(0, 2, 3, 1) if self.output_layout == "NCHW" else outputs


def open_coreml(path: Path, threads: int = 1, reference_kernels: bool = False) -> Runner:
    """Opens a Core ML model on all compute units, or on the CPU alone for `reference_kernels`.

    Raises:
        NotRunnable: away from macOS.
        InputError: no Core ML model, or tensors that are not a photo and a mask.
    """
    if sys.platform != "darwin":
        raise NotRunnable("Core ML runs on macOS only", needs="macOS")
    import coremltools as ct

    unit = ct.ComputeUnit.CPU_ONLY if reference_kernels else ct.ComputeUnit.ALL
    try:
        model = ct.models.MLModel(str(path), compute_units=unit)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a Core ML model: {str(error).splitlines()[0]}") from error
    return CoremlRunner(path, model, unit.name.lower())


def tensor_features(path: Path, features: Any) -> list[Any]:
    """The features of a model description that are images or multi-arrays.

    Raises:
        InputError: none.
    """
    found = [feature for feature in features if feature.type.WhichOneof("Type") in ("imageType", "multiArrayType")]
    if not found:
        raise InputError(f"{path}: no image and no multi-array among {[feature.name for feature in features]}")
    return found


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


def _is_image(feature: Any) -> bool:
    return feature.type.WhichOneof("Type") == "imageType"


def _tensor_info(feature: Any, shape_if_unstated: tuple[int, ...] = ()) -> TensorInfo:
    """Reads a feature; mlprograms may leave the shape of an output unstated, it is then the input's size."""
    if _is_image(feature):
        image = feature.type.imageType
        # FeatureTypes.proto: GRAYSCALE = 10, RGB = 20, BGR = 30; Core ML reorders by itself
        channels = 1 if image.colorSpace == 10 else 3
        return TensorInfo(feature.name, (1, image.height, image.width, channels), "uint8", contract.INPUT_SCALE, 0)
    array = feature.type.multiArrayType
    shape = tuple(int(side) for side in array.shape) or shape_if_unstated
    # FeatureTypes.proto: FLOAT32 = 65568, FLOAT16 = 65552, DOUBLE = 65600; predict takes and returns float32 for these
    dtype = "float32" if array.dataType in (65568, 65552, 65600) else f"multiarray type {array.dataType}"
    return TensorInfo(feature.name, shape, dtype)
