"""What every runtime offers: open an exported file, look at its one input and output, run it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from portraitseg import contract


@dataclass(frozen=True)
class TensorInfo:
    """One input or output.

    Attributes:
        shape: with the batch, in the file's own layout.
        dtype: numpy's name, as the caller passes or gets it.
        scale, zero_point: of a quantized tensor, else None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None


class Runner(ABC):
    """An opened file. One image at a time; not shared between threads.

    Attributes:
        path: the file.
        runtime: library and version, such as `ai-edge-litert 2.3.0`.
        delegate: what runs the operators, such as `xnnpack`.
        threads: of the runtime.
        input, output: the file's only input and the output that is the mask.
        size: (height, width) of the input.
        channels: `rgb` or `rgba`.
        latency_reason: why its run time says nothing about the file, for `not_run: <reason>`; None where it does.
    """

    path: Path
    runtime: str
    delegate: str
    threads: int
    input: TensorInfo
    output: TensorInfo
    size: tuple[int, int]
    channels: contract.Channels = "rgb"
    latency_reason: str | None = None

    @abstractmethod
    def run(self, inputs: Shaped[np.ndarray, "1 h w c"]) -> Shaped[np.ndarray, "1 h w 1"]:
        """Runs the file once on NHWC inputs of its own dtype; returns its raw output, NHWC."""

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "1 h2 w2 c"]:
        """Photo → this file's inputs, by the contract."""
        dtype: Literal["float32", "uint8"] = "uint8" if self.input.dtype == "uint8" else "float32"
        return contract.image_to_inputs(image, self.size, self.channels, dtype)

    def predict(self, image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h2 w2"]:
        """RGB photo → probability of person at the network's size, by the contract."""
        outputs = self.run(self.prepare(image))
        return contract.outputs_to_probability(outputs, self.output.scale, self.output.zero_point)


class NotRunnable(Exception):
    """The file is sound, but nothing on this machine can run it: a row says so instead of a number.

    Attributes:
        needs: what is missing, for `not_run: needs <needs>`.
    """

    def __init__(self, message: str, needs: str) -> None:
        super().__init__(message)
        self.needs = needs
