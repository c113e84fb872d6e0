"""Runs .onnx files with onnxruntime on the CPU; NCHW files are transposed inside, so that callers always pass NHWC."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from portraitseg.errors import InputError
from portraitseg.runners import tensors
from portraitseg.runners.base import Runner, TensorInfo

#: onnxruntime's element types that a photo or a mask can have.
_DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}


class OnnxRunner(Runner):
    """An .onnx file in an InferenceSession. `input` and `output` keep the file's own layout."""

    def __init__(self, path: Path, session: Any, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.runtime = f"onnxruntime {metadata.version('onnxruntime')}"
        # what the session really took, not what was asked for
        self.delegate = session.get_providers()[0].removesuffix("ExecutionProvider").lower()
        self._session = session
        self.input = tensors.only_input(path, [_tensor_info(node) for node in session.get_inputs()])
        self.input_layout = tensors.check_input(path, self.input)
        self.output, self.output_layout = tensors.choose_output(
            path, [_tensor_info(node) for node in session.get_outputs()]
        )
        self.size = tensors.input_size(self.input.shape, self.input_layout)
        self.channels = tensors.input_channels(path, self.input, self.input_layout)

    def run(self, inputs: Shaped[np.ndarray, "1 h w c"]) -> Shaped[np.ndarray, "1 h w 1"]:
        """Runs the file once."""
        if self.input_layout == "NCHW":
            inputs = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        (outputs,) = self._session.run([self.output.name], {self.input.name: inputs})
        return outputs.transpose(0, 2, 3, 1) if self.output_layout == "NCHW" else outputs


def open_onnx(path: Path, threads: int = 1, reference_kernels: bool = False) -> Runner:
    """Opens an .onnx file.

    Raises:
        InputError: no ONNX model, ops that the runtime does not have, or tensors that are not a photo and a mask.
    """
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # idle workers would spin for a while after each run, on the cores on which another file is then being timed
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # an x86 processor without VNNI adds pairs of 8-bit products in 16 bits, which saturate: wrong masks
    options.add_session_config_entry("session.x64quantprecision", "1")
    if reference_kernels:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    # its exceptions have no common base of their own
    refusals = (
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.NoModel,
        ort_errors.NotImplemented,
        ort_errors.RuntimeException,
    )
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except refusals as error:
        raise InputError(f"{path}: onnxruntime refuses it: {str(error).splitlines()[0]}") from error
    return OnnxRunner(path, session, threads)


def _tensor_info(node: Any) -> TensorInfo:
    """Reads a graph input or output; a named or missing size becomes -1. ONNX keeps no scale beside a tensor."""
    shape = tuple(side if isinstance(side, int) else -1 for side in node.shape or ())
    return TensorInfo(node.name, shape, _DTYPES.get(node.type, node.type))
