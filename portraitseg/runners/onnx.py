"""Runs .onnx files with onnxruntime on the CPU; NCHW files are transposed inside, so that callers always pass NHWC."""

from collections import Counter
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


def describe(path: Path) -> list[tuple[str, str]]:
    """What a file says of itself, as rows of (what, value); it is parsed by `onnx`, and nothing in it is executed.

    Returns:
        One row that names the package where it is not installed.

    Raises:
        InputError: no ONNX model.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        return [("contents", "to see inputs, outputs and operators: pip install onnx")]
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise InputError(f"{path}: damaged, or no ONNX model: export it again") from error
    graph = model.graph
    if not graph.output:
        raise InputError(f"{path}: no ONNX model: it has no output")
    counts: Counter[str] = Counter()
    for constant in graph.initializer:
        counts[onnx.TensorProto.DataType.Name(constant.data_type).lower()] += int(np.prod(constant.dims))
    held = {constant.name for constant in graph.initializer}
    rows = [("constants", ", ".join(f"{count:,} {dtype}" for dtype, count in counts.most_common()) or "none")]
    rows += [("input", _value(node)) for node in graph.input if node.name not in held]
    rows += [("output", _value(node)) for node in graph.output]
    operators = Counter(node.op_type for node in graph.node).most_common()
    rows.append(("operators", ", ".join(f"{count} {name}" for name, count in operators) or "none"))
    opsets = ", ".join(f"{item.domain or 'ai.onnx'} {item.version}" for item in model.opset_import)
    rows.append(("opset", f"{opsets}; IR {model.ir_version}"))
    producer = f"{model.producer_name} {model.producer_version}".strip()
    rows += [(name, text) for name, text in (("producer", producer), ("description", model.doc_string)) if text]
    return rows + [(item.key, item.value) for item in model.metadata_props]


def _value(node: Any) -> str:
    """`image float 1×256×256×3`; an open size has its name, or `?`."""
    from onnx import TensorProto

    tensor = node.type.tensor_type
    sides = [side.dim_value if side.HasField("dim_value") else side.dim_param or "?" for side in tensor.shape.dim]
    return f"{node.name} {TensorProto.DataType.Name(tensor.elem_type).lower()} {'×'.join(map(str, sides))}"
