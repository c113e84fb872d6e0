"""What a target is asked for and what it promises: networks in, files to be written out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from export.product.parity import Bound
from portraitseg.contract import CHANNEL_COUNT, Channels
from portraitseg.manifest import Tensor
from portraitseg.runners import TensorInfo

_COLOR: dict[Channels, Literal["RGB", "RGBA"]] = {"rgb": "RGB", "rgba": "RGBA"}

#: `unwrapped`: the float network with the weights of quantization-aware training.
ReferenceName = Literal["float", "qat", "unwrapped"]

#: What `parity.reference` of the manifest says.
PARITY_REFERENCE: dict[ReferenceName, str] = {"float": "keras", "qat": "keras", "unwrapped": "keras_unwrapped"}


class Unsuitable(Exception):
    """A file that this network is to do without, by the check of its recipe; no other file is touched."""


@dataclass(frozen=True)
class Networks:
    """The Keras models of a run, and what goes with them into a file.

    Attributes:
        float_model: RGB in, probability out.
        qat_model: the same after quantization-aware training; None: its files are left out.
        calibration: inputs of the training split, (n, h, w, 3) in [0, 1].
        run: name of the run.
        licence: of the photos that the weights were trained on.
        unwrapped_model: the float network with the weights of quantization-aware training, where they are the better.
        val_iou: on `val`, by reference, where that was measured.
    """

    float_model: Any
    qat_model: Any | None
    calibration: Float32[np.ndarray, "n h w 3"]
    run: str
    licence: str
    unwrapped_model: Any | None = None
    val_iou: Mapping[ReferenceName, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the network, variant included."""
        return str(self.float_model.name)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.float_model.input_shape[1:3]
        return height, width

    @property
    def better_float(self) -> ReferenceName:
        """Which weights a file that computes in float is made of, where it may choose."""
        return "float" if self.unwrapped_model is None else "unwrapped"

    def get(self, reference: ReferenceName) -> Any | None:
        """The Keras model of that name, if there is one."""
        return {"float": self.float_model, "qat": self.qat_model, "unwrapped": self.unwrapped_model}[reference]


@dataclass(frozen=True)
class Product:
    """One file that a target makes.

    Attributes:
        path: name of the file, by docs/interface.md.
        write: makes it under the given path (of the same name, elsewhere).
        describe: reads its input and output from the file that was written.
        reference: the Keras model that it is compared with.
        bound: how far it may be from that.
        rgb_twin: name of the file that it must equal bit by bit, whatever the alpha.
        note: what a user of the file should know.
    """

    path: str
    channels: Channels
    recipe: str
    write: Callable[[Path], None]
    describe: Callable[[Path], tuple[Tensor, Tensor]]
    reference: ReferenceName
    bound: Bound
    rgb_twin: str | None = None
    note: str | None = None


def describe_with_runner(path: Path) -> tuple[Tensor, Tensor]:
    """Reads input and output with the file's own runtime."""
    from portraitseg.runners import open_runner

    runner = open_runner(path)
    return input_tensor(runner.input, runner.channels), output_tensor(runner.output)


def input_tensor(info: TensorInfo, channels: Channels, is_image: bool = False) -> Tensor:
    """The manifest's words for an input."""
    is_nhwc = info.shape[-1] == CHANNEL_COUNT[channels]
    return Tensor(
        name=info.name,
        shape=info.shape,
        dtype="image" if is_image else _dtype(info),
        layout="NHWC" if is_nhwc else "NCHW",
        color=_COLOR[channels],
        range=(0, 255) if is_image else (0, 1),
        scale=None if is_image else info.scale,
        zero_point=None if is_image else info.zero_point,
    )


def output_tensor(info: TensorInfo, is_image: bool = False) -> Tensor:
    """The manifest's words for a mask."""
    return Tensor(
        name=info.name,
        shape=info.shape,
        dtype="image" if is_image else _dtype(info),
        range=(0, 255) if is_image else (0, 1),
        foreground="high",
        scale=None if is_image else info.scale,
        zero_point=None if is_image else info.zero_point,
    )


def _dtype(info: TensorInfo) -> Literal["float32", "uint8"]:
    assert info.dtype in ("float32", "uint8"), f"{info.name}: {info.dtype}"
    return "uint8" if info.dtype == "uint8" else "float32"
