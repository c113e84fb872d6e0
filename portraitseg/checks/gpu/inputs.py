"""What a file is run on: photos by the contract, and noise."""

import numpy as np
from jaxtyping import UInt8

from portraitseg import contract
from portraitseg.checks.gpu.result import Inputs, Photos
from portraitseg.tflite.graph import Graph, Tensor

_NUMPY = {"FLOAT32": np.float32, "INT32": np.int32, "INT8": np.int8, "UINT8": np.uint8, "BOOL": np.bool_}


def make_inputs(graph: Graph, photos: Photos, noise: int = 2, seed: int = 0) -> Inputs:
    """Photos, by the contract, where the file takes a photo; then noise."""
    random = np.random.default_rng(seed)
    runs: Inputs = []
    if len(graph.inputs) == 1 and _takes_photo(graph.inputs[0]):
        runs += [[_photo_input(graph.inputs[0], photo)] for photo in photos]
    return runs + [[_noise(tensor, random) for tensor in graph.inputs] for _ in range(noise)]


def make_extremes(graph: Graph) -> Inputs:
    """What no photo is beyond: black, white, one colour, a chequered pattern."""
    return [[pattern(tensor) for tensor in graph.inputs] for pattern in (_black, _white, _red, _chequered)]


def _black(tensor: Tensor) -> np.ndarray:
    return _between(tensor, np.zeros(_closed(tensor)))


def _white(tensor: Tensor) -> np.ndarray:
    return _between(tensor, np.ones(_closed(tensor)))


def _red(tensor: Tensor) -> np.ndarray:
    values = np.zeros(_closed(tensor))
    values[..., 0] = 1
    return _between(tensor, values)


def _chequered(tensor: Tensor) -> np.ndarray:
    return _between(tensor, np.indices(_closed(tensor))[1:3].sum(axis=0) % 2)


def _closed(tensor: Tensor) -> tuple[int, ...]:
    return tuple(max(side, 1) for side in tensor.shape) or (1,)


def _between(tensor: Tensor, share: np.ndarray) -> np.ndarray:
    """From the least (0) to the greatest (1) that a camera gives such a tensor."""
    kind = _NUMPY.get(tensor.dtype, np.float32)
    shape = tuple(max(side, 1) for side in tensor.shape)
    if tensor.dtype in ("INT8", "UINT8"):
        limits = np.iinfo(kind)
        share = limits.min + share * (limits.max - limits.min)
    return np.asarray(share).reshape(shape).astype(kind)


def _takes_photo(tensor: Tensor) -> bool:
    shape = tensor.shape
    return len(shape) == 4 and shape[0] == 1 and shape[3] in (3, 4) and tensor.dtype in ("FLOAT32", "UINT8", "INT8")


def _photo_input(tensor: Tensor, photo: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
    channels: contract.Channels = "rgb" if tensor.shape[3] == 3 else "rgba"
    size = (tensor.shape[1], tensor.shape[2])
    if tensor.dtype == "UINT8":
        return contract.image_to_inputs(photo, size, channels, "uint8")
    values = contract.image_to_inputs(photo, size, channels)
    if tensor.dtype == "FLOAT32":
        return values
    steps = np.round(values / np.float32(tensor.scales[0])) + tensor.zero_points[0]
    return np.clip(steps, -128, 127).astype(np.int8)


def _noise(tensor: Tensor, random: np.random.Generator) -> np.ndarray:
    shape = tuple(max(side, 1) for side in tensor.shape)
    if tensor.dtype == "FLOAT32":
        return random.uniform(0, 1, shape).astype(np.float32)
    if tensor.dtype in ("INT8", "UINT8"):
        kind = np.int8 if tensor.dtype == "INT8" else np.uint8
        return random.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
    return np.ones(shape, _NUMPY.get(tensor.dtype, np.float32))


def make_images(graph: Graph, photos: Photos, noise: int = 2, seed: int = 0) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Photos at the size of the one input of a file, and noise, as bytes: what a camera hands to a segmenter.

    An opaque fourth channel is added where the file takes one.
    """
    _, height, width, channels = graph.inputs[0].shape
    size = (height, width)
    random = np.random.default_rng(seed)
    frames = [*photos, *(random.integers(0, 256, (*size, 3), np.uint8) for _ in range(noise))]
    kind: contract.Channels = "rgb" if channels == 3 else "rgba"
    return np.concatenate([contract.image_to_inputs(frame, size, kind, "uint8") for frame in frames])


def image_inputs(graph: Graph, images: UInt8[np.ndarray, "n h w c"]) -> Inputs:
    """The same images as the file eats them, run by run."""
    return [[_photo_input(graph.inputs[0], image[..., :3])] for image in images]


def opaque(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 4"]:
    """RGB or RGBA bytes as the RGBA that a browser's ImageData holds."""
    if image.shape[2] == 4:
        return image
    return np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)
