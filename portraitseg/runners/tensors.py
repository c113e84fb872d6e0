"""What every runtime asks of a file's tensors: a photo goes in, one mask comes out, sizes are fixed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from portraitseg import contract
from portraitseg.errors import InputError
from portraitseg.runners.base import TensorInfo

Layout = Literal["NHWC", "NCHW"]

INPUT_DTYPES = ("float32", "uint8", "int8")
#: int16 is the output of static_wi8_ai16 files without a DEQUANTIZE at the end.
OUTPUT_DTYPES = ("float32", "uint8", "int8", "int16")


class UnfitError(InputError):
    """A file that runs, whose tensors are not a photo and a mask as ours are: a description may say what they are."""


def only_input(path: Path, inputs: Sequence[TensorInfo]) -> TensorInfo:
    """The one input of a file.

    Raises:
        InputError: none, or several.
    """
    if len(inputs) != 1:
        names = ", ".join(info.name for info in inputs) or "none"
        raise UnfitError(f"{path}: {len(inputs)} inputs ({names}): a portrait file has one, the photo")
    return inputs[0]


def check_input(path: Path, info: TensorInfo) -> Layout:
    """Checks the input and tells its layout: NHWC unless only the second axis can be channels.

    Raises:
        InputError: a shape that is not a batch of one photo with 3 or 4 channels, or a dtype that no photo has.
    """
    _check_fixed(path, info)
    batch, first, _, last = info.shape
    if batch != 1:
        raise UnfitError(f"{path}: input '{info.name}' takes {batch} photos: export it with the batch fixed to 1")
    if last not in (3, 4) and first not in (3, 4):
        raise UnfitError(f"{path}: input '{info.name}' is {info.shape}: expected 3 or 4 channels")
    if info.dtype not in INPUT_DTYPES:
        raise UnfitError(f"{path}: input '{info.name}' is {info.dtype}: expected one of {', '.join(INPUT_DTYPES)}")
    if info.dtype == "int8" and not info.scale:
        raise UnfitError(f"{path}: input '{info.name}' is int8 without a quantization scale")
    if info.dtype == "uint8" and info.scale is not None:
        _check_takes_bytes(path, info)
    return "NHWC" if last in (3, 4) else "NCHW"


def choose_output(path: Path, outputs: Sequence[TensorInfo]) -> tuple[TensorInfo, Layout]:
    """The output that is the mask: the only one of shape 1×H×W×1 (or 1×1×H×W), with its layout.

    Raises:
        InputError: no such output, or several; integers without a quantization scale.
    """
    masks = [(info, layout) for info in outputs if (layout := _mask_layout(info.shape)) is not None]
    if len(masks) != 1:
        shapes = ", ".join(f"'{info.name}' {info.shape}" for info in outputs) or "none"
        raise UnfitError(f"{path}: outputs {shapes}: expected exactly one mask of shape 1×H×W×1")
    info, layout = masks[0]
    if info.dtype not in OUTPUT_DTYPES:
        raise UnfitError(f"{path}: output '{info.name}' is {info.dtype}: expected one of {', '.join(OUTPUT_DTYPES)}")
    if info.dtype != "float32" and not info.scale:
        raise UnfitError(f"{path}: output '{info.name}' is {info.dtype} without a quantization scale")
    return info, layout


def input_size(shape: tuple[int, ...], layout: Layout) -> tuple[int, int]:
    """(height, width) of an input."""
    return (shape[1], shape[2]) if layout == "NHWC" else (shape[2], shape[3])


def input_channels(path: Path, info: TensorInfo, layout: Layout) -> contract.Channels:
    """What the channels are: with four of them, RGBA.

    Raises:
        UnfitError: the fourth is a previous mask, by a name that we once gave: alpha in its place would spoil the mask.
    """
    if info.shape[3 if layout == "NHWC" else 1] == 3:
        return "rgb"
    if "prior" in info.name.lower() or "-prior-" in path.name:
        raise UnfitError(f"{path}: its fourth channel is a previous mask, which nothing here gives: name a file of RGB")
    return "rgba"


def _mask_layout(shape: tuple[int, ...]) -> Layout | None:
    if len(shape) != 4 or shape[0] != 1 or any(side < 1 for side in shape):
        return None
    if shape[3] == 1:
        return "NHWC"
    return "NCHW" if shape[1] == 1 else None


def _check_fixed(path: Path, info: TensorInfo) -> None:
    if len(info.shape) != 4:
        raise UnfitError(
            f"{path}: input '{info.name}' has rank {len(info.shape)}, expected 4 (batch, height, width, channels)"
        )
    if any(side < 1 for side in info.shape):
        # runtimes write an open side as -1 (TFLite) or as a name (ONNX, which we read as -1)
        raise UnfitError(f"{path}: input '{info.name}' has an open size {info.shape}: export it with fixed sizes")


def _check_takes_bytes(path: Path, info: TensorInfo) -> None:
    # 1e-5: float32 rounding of 1/255 is far below, and the faults that were seen (0.00313, 1/127.5, 1/256) far above
    if info.zero_point != 0 or not math.isclose(info.scale or 0, contract.INPUT_SCALE, rel_tol=1e-5):
        raise UnfitError(
            f"{path}: input '{info.name}' is uint8 with scale {info.scale:.6g} and zero point {info.zero_point}: camera"
            " bytes mean 0…1 only with scale 1/255 and zero point 0; fix the input quantizer to [0, 1]"
        )
