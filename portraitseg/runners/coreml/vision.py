"""Checks what Vision needs of a Core ML file, so that an app gets a pixel buffer, and one that is not black.

`VNCoreMLRequest` feeds the only image input and returns a `VNPixelBufferObservation` for an image output; for anything
else it returns a multi-array, and for a mask of 0…1 in an image of bytes a black picture.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from portraitseg import contract
from portraitseg.runners.coreml.evaluator import GRAYSCALE, RGB, CoreMLEvaluator
from portraitseg.runners.coreml.program import Program, Ref, Step
from portraitseg.runners.coreml.values import read_spec

INPUT, OUTPUT = "image", "mask"

Range = tuple[float, float]
_ANY: Range = (-math.inf, math.inf)

#: Operators whose result lies within the range of their `x`.
_KEEP_RANGE = {
    *(
        "identity",
        "cast",
        "transpose",
        "reshape",
        "expand_dims",
        "squeeze",
        "slice_by_index",
        "max_pool",
        "reduce_mean",
    ),
    *("upsample_bilinear", "resize_bilinear", "upsample_nearest_neighbor", "resize_nearest_neighbor"),
}


def check_vision(path: Path) -> list[str]:
    """Faults of a file for use with Vision, each with its remedy; none if it is as it should be.

    Raises:
        InputError: no Core ML model, or an operator that the evaluator does not know.
    """
    spec, _ = read_spec(path)
    description = spec.description
    faults = _check_input(description) + _check_output(description)
    if faults:
        # scale and range are read from a program with one image and one mask
        return [f"{path}: {fault}" for fault in faults]
    program = CoreMLEvaluator(path).program
    return [f"{path}: {fault}" for fault in (*_check_scale(program), *_check_range(program))]


def _check_input(description: Any) -> list[str]:
    features = list(description.input)
    if len(features) != 1:
        return [f"{len(features)} inputs ({', '.join(f.name for f in features)}): Vision feeds one, the image"]
    (feature,) = features
    faults = []
    if feature.name != INPUT:
        faults.append(f"input '{feature.name}': name it '{INPUT}': ct.ImageType(name='{INPUT}', …)")
    if feature.type.WhichOneof("Type") != "imageType":
        return [*faults, f"input '{feature.name}' is a multi-array: Vision feeds images: inputs=[ct.ImageType(…)]"]
    image = feature.type.imageType
    if image.colorSpace != RGB:
        faults.append(f"input '{feature.name}' is not RGB: networks here eat RGB: color_layout=ct.colorlayout.RGB")
    if image.WhichOneof("SizeFlexibility") is not None:
        faults.append(f"input '{feature.name}' has a flexible size: convert with one fixed shape")
    return faults


def _check_output(description: Any) -> list[str]:
    features = list(description.output)
    if len(features) != 1:
        return [f"{len(features)} outputs ({', '.join(f.name for f in features)}): expected one, '{OUTPUT}'"]
    (feature,) = features
    faults = []
    if feature.name != OUTPUT:
        faults.append(f"output '{feature.name}': name it '{OUTPUT}'")
    if feature.type.WhichOneof("Type") != "imageType":
        remedy = "outputs=[ct.ImageType(color_layout=ct.colorlayout.GRAYSCALE)], of a tensor (1, 1, h, w)"
        return [*faults, f"output '{feature.name}' is a multi-array: Vision gives a pixel buffer of an image: {remedy}"]
    image, source = feature.type.imageType, description.input[0].type.imageType
    if image.colorSpace != GRAYSCALE:
        faults.append(f"output '{feature.name}' is not 8-bit grayscale: color_layout=ct.colorlayout.GRAYSCALE")
    if description.input[0].type.HasField("imageType") and (image.height, image.width) != (source.height, source.width):
        size = f"{image.width}x{image.height}, the input {source.width}x{source.height}"
        faults.append(f"output '{feature.name}' is {size}: upsample the logits to the input's size")
    return faults


def _check_scale(program: Program) -> list[str]:
    """The first operator that changes the image must be × 1/255."""
    names = {INPUT}
    for step in program.steps:
        if not names.intersection(step.needs()):
            continue
        if step.kind in ("identity", "cast", "transpose"):
            names.update(step.outputs)
            continue
        factor = _factor(step)
        if factor is not None and math.isclose(factor, contract.INPUT_SCALE, rel_tol=1e-3):
            return []
        what = f"× {factor:.6g}" if factor is not None else f"op '{step.kind}'"
        return [f"input '{INPUT}' meets {what} first: bytes must become 0…1: ct.ImageType(scale=1/255)"]
    return [f"input '{INPUT}' is never used: the mask does not depend on the photo"]


def _factor(step: Step) -> float | None:
    """The constant by which a step multiplies, if that is what it does."""
    constants = [value for value in step.inputs.values() if not isinstance(value, Ref)]
    if len(constants) != 1 or np.size(constants[0]) != 1 or step.kind not in ("mul", "real_div"):
        return None
    value = float(np.reshape(constants[0], ()))
    if step.kind == "mul":
        return value
    return 1 / value if isinstance(step.inputs["x"], Ref) and value else None


def _check_range(program: Program) -> list[str]:
    """The mask's values, by interval arithmetic from the last operator that bounds them."""
    ranges: dict[str, Range] = {INPUT: (0.0, 255.0)}
    for step in program.steps:
        ranges.update(dict.fromkeys(step.outputs, _range(step, ranges)))
    low, high = ranges[OUTPUT]
    # 1e-3 of 255: the constant 255 is exact in float16, anything else is a wrong factor
    if abs(low) <= 0.255 and abs(high - 255) <= 0.255:
        return []
    if not (math.isfinite(low) and math.isfinite(high)):
        return [f"output '{OUTPUT}' has no bounds: end the network in a sigmoid, times 255"]
    return [f"output '{OUTPUT}' lies in {low:.4g}…{high:.4g}, not 0…255: multiply the sigmoid by 255 inside the graph"]


def _range(step: Step, ranges: dict[str, Range]) -> Range:
    fixed: dict[str, Range] = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "sigmoid_hard": (0.0, 1.0)}
    if step.kind in fixed:
        return fixed[step.kind]
    if step.kind == "clip":
        return float(step.inputs["alpha"]), float(step.inputs["beta"])
    sources = [ranges.get(name, _ANY) for name in step.needs()]
    if step.kind in _KEEP_RANGE or step.kind == "concat":
        return min(low for low, _ in sources), max(high for _, high in sources)
    factor = _factor(step)
    if factor is not None and len(sources) == 1 and all(map(math.isfinite, sources[0])):
        ends = sorted(end * factor for end in sources[0])
        return ends[0], ends[1]
    return _ANY
