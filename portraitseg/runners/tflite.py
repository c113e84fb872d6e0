"""Runs .tflite files with LiteRT's Interpreter, on XNNPACK unless reference kernels are asked for."""

import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from portraitseg.child import exit_words, run_limited
from portraitseg.errors import InputError
from portraitseg.runners import tensors
from portraitseg.runners.base import Runner, TensorInfo

#: For opening a foreign file and running it six times; MediaPipe's takes 0.3 s, most of it Python's start.
PROBE_LIMIT_S = 60.0


class TfliteRunner(Runner):
    """A .tflite file in an Interpreter whose tensors are allocated.

    MediaPipe's own files open too: their custom op Convolution2DTransposeBias is part of XNNPACK, hence of this
    runtime, but it has no reference kernel.
    """

    def __init__(self, path: Path, interpreter: Any, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.runtime = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
        self._interpreter = interpreter
        inputs = [_tensor_info(path, details) for details in interpreter.get_input_details()]
        outputs = [_tensor_info(path, details) for details in interpreter.get_output_details()]
        self.input = tensors.only_input(path, inputs)
        if tensors.check_input(path, self.input) != "NHWC":
            raise tensors.UnfitError(f"{path}: input '{self.input.name}' is {self.input.shape}: files of ours are NHWC")
        self.output, layout = tensors.choose_output(path, outputs)
        if layout != "NHWC":
            raise tensors.UnfitError(f"{path}: output '{self.output.name}' is {self.output.shape}: expected 1×H×W×1")
        self.size = tensors.input_size(self.input.shape, "NHWC")
        self.channels = tensors.input_channels(path, self.input, "NHWC")
        self._input_index = interpreter.get_input_details()[0]["index"]
        self._output_index = interpreter.get_output_details()[outputs.index(self.output)]["index"]
        try:
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            # such as a custom op or an op version that this runtime does not have
            raise InputError(f"{path}: {_first_line(error)}") from error
        self.delegate = _delegate_name(interpreter)

    def run(self, inputs: Shaped[np.ndarray, "1 h w c"]) -> Shaped[np.ndarray, "1 h w 1"]:
        """Runs the file once; copies the tensors in and out, as an app does."""
        self._interpreter.set_tensor(self._input_index, inputs)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output_index)

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> Shaped[np.ndarray, "1 h2 w2 c"]:
        """Photo → this file's inputs, by the contract; an int8 file quantizes the floats by its own scale."""
        inputs = super().prepare(image)
        if self.input.dtype != "int8":
            return inputs
        assert self.input.scale is not None
        assert self.input.zero_point is not None
        steps = np.round(inputs / np.float32(self.input.scale)) + self.input.zero_point
        return np.clip(steps, -128, 127).astype(np.int8)


def open_tflite(path: Path, threads: int = 1, reference_kernels: bool = False) -> Runner:
    """Opens a .tflite file.

    Raises:
        InputError: no flatbuffer, ops that the runtime does not have, or tensors that are not a photo and a mask.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_REF if reference_kernels else OpResolverType.AUTO
    try:
        interpreter = Interpreter(str(path), num_threads=threads, experimental_op_resolver_type=resolver)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path}: not a TFLite file: {_first_line(error)}") from error
    return TfliteRunner(path, interpreter, threads)


def probe(path: Path, threads: int = 1) -> None:
    """Runs a stranger's .tflite in a child process, so that one which crashes or never ends is known before it is ours.

    Raises:
        InputError: the runtime crashed, refused it, or did not come back within PROBE_LIMIT_S.
    """
    command = [sys.executable, "-I", "-B", str(Path(__file__).with_name("_tflite_child.py"))]
    with tempfile.TemporaryDirectory(prefix="portraitseg-probe-") as folder:
        ended = run_limited([*command, str(path.absolute()), str(threads)], Path(folder), PROBE_LIMIT_S)
    remedy = "take it out, or get an undamaged copy"
    if ended.code is None:
        raise InputError(f"{path}: running it took over {PROBE_LIMIT_S:g} s in a process of its own: {remedy}")
    if ended.code < 0:
        raise InputError(f"{path}: running it in a process of its own ended in a {exit_words(ended.code)}: {remedy}")
    if ended.code:
        last_line = (ended.log.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"{path}: not a TFLite file that runs here: {last_line[:200]}")


def _tensor_info(path: Path, details: dict[str, Any]) -> TensorInfo:
    """Reads a tensor's details; an open size is -1 in the shape signature (the plain shape would say 1)."""
    quantization = details["quantization_parameters"]
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    if len(scales) > 1:
        raise InputError(f"{path}: tensor '{details['name']}' has a scale per channel: inputs and outputs have one")
    signature = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    dtype = np.dtype(details["dtype"]).name
    is_quantized = len(scales) == 1 and np.issubdtype(np.dtype(dtype), np.integer)
    return TensorInfo(
        name=details["name"],
        shape=tuple(int(side) for side in signature),
        dtype=dtype,
        scale=float(scales[0]) if is_quantized else None,
        zero_point=int(zero_points[0]) if is_quantized else None,
    )


def _delegate_name(interpreter: Any) -> str:
    """What runs the operators, asked of the interpreter and not of what we asked for."""
    # no public call lists the nodes after delegation
    ops = [op["op_name"] for op in interpreter._get_ops_details()]
    return "xnnpack" if "DELEGATE" in ops else "none"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
