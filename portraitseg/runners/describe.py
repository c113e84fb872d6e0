"""What a stranger's .tflite tells of itself: the lines of the description that lets it run as a peer or teacher."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

from portraitseg import files
from portraitseg.errors import InputError
from portraitseg.tflite.graph import Graph, Op, Tensor, read_graph

#: Where the classes of a public set are counted, which channel is person.
_PERSON = {21: ("PASCAL VOC", 15), 19: ("Cityscapes", 11), 150: ("ADE20K", 12), 151: ("ADE20K with background", 13)}

#: Operators between the one that makes a mask and the output, which change no value.
_SEEN_THROUGH = frozenset({"DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE"})
_LINEAR = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})
_RESIZES = frozenset({"RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"})


@dataclass(frozen=True)
class MapShape:
    """Height, width and channels of a tensor, and where they stand.

    Attributes:
        layout: `NHWC` or `NCHW`; of a flat tensor whether the channels are last or first.
    """

    height: int
    width: int
    channels: int
    layout: str = "NHWC"


def map_shape_of(shape: tuple[int, ...], size: tuple[int, int], layout: str | None = None) -> MapShape | None:
    """Reads an output as a map, flat ones (1, H·W) and (1, H·W, C) too; None where it is none.

    Args:
        shape: with the batch of 1, as the file has it.
        size: height and width, for what is flat.
        layout: of the description; None guesses: channels are the shorter side.
    """
    if not shape or any(side < 1 for side in shape):
        return None
    pixels = size[0] * size[1]
    if len(shape) == 4 and shape[0] == 1:
        is_first = layout == "NCHW" or (layout is None and shape[1] < min(shape[2:]) and shape[3] > shape[1])
        first = MapShape(shape[2], shape[3], shape[1], "NCHW")
        return first if is_first else MapShape(shape[1], shape[2], shape[3])
    rest = shape[1:] if shape[0] == 1 and len(shape) > 1 else shape
    if len(rest) == 2 and pixels in rest and rest != (pixels, pixels):
        is_first = rest[1] == pixels
        return MapShape(*size, rest[0] if is_first else rest[1], "NCHW" if is_first else "NHWC")
    if len(rest) == 2:
        return MapShape(rest[0], rest[1], 1)
    if len(rest) == 1 and rest[0] % pixels == 0:
        return MapShape(*size, rest[0] // pixels, layout or "NHWC")
    return None


def refusal(path: Path, reason: str) -> InputError:
    """An error that names the description which would help, with its lines as far as the file tells them."""
    description = files.spec_path(path).name
    try:
        graph = read_graph(path)
    except InputError as error:
        return error
    lines = suggest(graph)
    if lines is None:
        return InputError(
            f"{reason}: no description helps: a portrait file takes one photo and has a map of the person"
        )
    shown = ", ".join(f"`{line}`" for line in lines)
    return InputError(f"{reason}: say what it is in {description} beside it, with a line each of: {shown}")


def suggest(graph: Graph) -> list[str] | None:
    """The lines of a description, comments where the file does not tell; None: it can be no peer."""
    if len(graph.inputs) != 1:
        return None
    image = graph.inputs[0]
    layout = "NCHW" if image.rank == 4 and image.shape[1] == 3 != image.shape[3] else "NHWC"
    if image.rank != 4 or image.shape[0] != 1 or 3 not in (image.shape[1], image.shape[3]) or image.is_dynamic:
        return None
    size = (image.shape[2], image.shape[3]) if layout == "NCHW" else (image.shape[1], image.shape[2])
    maps = [
        (tensor, map_shape) for tensor in graph.outputs if (map_shape := map_shape_of(tensor.shape, size)) is not None
    ]
    if not maps:
        return _with_size(graph, image, layout)
    # the finest map, of these the one with the fewest channels: side outputs are coarser, features have more
    output, map_shape = max(maps, key=lambda one: (one[1].height * one[1].width, -one[1].channels))
    lines = _input_lines(image)
    if "NCHW" in (layout, map_shape.layout):
        lines.append(f'layout = "{layout}"')
        lines += [] if map_shape.layout == layout else [f'output_layout = "{map_shape.layout}"']
    if len(graph.outputs) > 1:
        lines.append(f'output = "{output.name}"')
    if map_shape.channels > 1:
        lines.append(_channel_line(map_shape.channels))
    return [*lines, _activation_line(graph, output, map_shape.channels)]


def _with_size(graph: Graph, image: Tensor, layout: str) -> list[str] | None:
    """A flat output of another size than the input's: a square, if it is one."""
    flat = [tensor for tensor in graph.outputs if len([side for side in tensor.shape if side > 1]) == 1]
    if len(flat) != 1:
        return None
    side = round(prod(flat[0].shape) ** 0.5)
    if side * side != prod(flat[0].shape):
        return None
    order = [f'layout = "{layout}"'] if layout != "NHWC" else []
    return [*_input_lines(image), *order, f"output_size = [{side}, {side}]", _activation_line(graph, flat[0], 1)]


def _input_lines(image: Tensor) -> list[str]:
    order = 'channel_order = "RGB"  # or "BGR", as its training read photos'
    if image.dtype in ("UINT8", "INT8") and image.scales:
        # the bytes themselves, whatever numbers they stand for
        low = 0 if image.dtype == "UINT8" else -128
        scale, offset = image.scales[0], (low - image.zero_points[0]) * image.scales[0]
        return [f"scale = {scale:.9g}", f"offset = {offset:.9g}", order]
    return ["scale = 0.00392156863  # 1/255; for -1 to 1: 0.00784313725 and offset = -1", "offset = 0", order]


def _channel_line(channels: int) -> str:
    name, person = _PERSON.get(channels, ("", 1))
    return f"output_channel = {person}" + (f"  # person in {name}" if name else "  # the one that is person")


def has_logits(graph: Graph, output: Tensor) -> bool:
    """Whether an output comes straight from a linear operator, so that its values are no probabilities."""
    op = _last(graph, output)
    return op is not None and op.name in _LINEAR and op.activation == "NONE"


def _last(graph: Graph, output: Tensor) -> Op | None:
    """The operator that makes the values of an output."""
    op = _maker(graph, output)
    while op is not None and op.name in (_SEEN_THROUGH | _RESIZES) and op.inputs[0] is not None:
        op = _maker(graph, op.inputs[0])
    return op


def _activation_line(graph: Graph, output: Tensor, channels: int) -> str:
    op = _last(graph, output)
    if op is not None and op.name in ("SOFTMAX", "LOGISTIC"):
        return f'activation = "none"  # {op.name} is in the file'
    return f'activation = "{"softmax" if channels > 1 else "sigmoid"}"  # its output is logits'


def _maker(graph: Graph, tensor: Tensor) -> Op | None:
    return next((op for op in graph.ops if any(made.index == tensor.index for made in op.outputs)), None)
