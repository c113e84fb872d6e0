"""The CPU beside the GPU: each engine in a process of its own, so that a fault has the right name."""

from pathlib import Path

import numpy as np
import pytest

from portraitseg.checks.gpu import process
from portraitseg.checks.gpu.dequantized import dequantize_weights
from portraitseg.checks.gpu.inputs import make_inputs
from portraitseg.checks.gpu.log import read_log
from portraitseg.checks.gpu.result import GpuRun
from portraitseg.checks.gpu.tolerance import arithmetic, tolerance
from portraitseg.tflite.graph import parse_graph
from tests.checks.gpu import zoo
from tests.checks.gpu.builder import Builder, options
from tests.checks.gpu.standin import reference_masks


def dynamic(per_channel: bool = True) -> bytes:
    """Float activations, 8-bit weights: convolution, depthwise convolution, transposed convolution, dense layer."""
    b = Builder(4)
    side, channels = zoo.SIDE, zoo.CHANNELS

    def weights(shape: tuple[int, ...], axis: int) -> int:
        # TFLite's depthwise kernel has one scale a channel in any case
        has_one = not per_channel and shape[0] > 1
        scale = 0.004 if has_one else b.random.uniform(0.002, 0.006, shape[axis])
        index = b.constant(b.random.integers(-127, 128, shape).astype(np.int8), scale=scale)
        b.tensors[index].quantization.quantizedDimension = axis
        return index

    one = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
    zeros = b.constant(np.zeros(channels, np.float32))
    x = b.op(
        "CONV_2D",
        [b.input((1, side, side, 3)), weights((channels, 3, 3, 3), 0), zeros],
        b.tensor(zoo.MAP, "zoo/stem/Conv2D"),
        options("Conv2D", fusedActivationFunction=1, **one),
        5,
    )
    table = options("DepthwiseConv2D", depthMultiplier=1, **one)
    x = b.op("DEPTHWISE_CONV_2D", [x, weights((1, 3, 3, channels), 3), zeros], b.like(x, "zoo/deep"), table, 6)
    logits = b.op(
        "CONV_2D",
        [x, weights((1, 1, 1, channels), 0), b.constant(np.zeros(1, np.float32))],
        b.tensor((1, side, side, 1), "zoo/logits"),
        options("Conv2D", **one),
        5,
    )
    return b.content(b.op("LOGISTIC", [logits], b.like(logits, "mask")))


@pytest.mark.parametrize("per_channel", [True, False])
def test_widened_weights_are_the_numbers_that_the_bytes_stand_for(per_channel: bool, photos: list[np.ndarray]) -> None:
    content = dynamic(per_channel)
    graph, wide = parse_graph(content, "dynamic"), parse_graph(dequantize_weights(content), "widened")
    assert (arithmetic(graph), arithmetic(wide)) == ("dynamic", "fp32")
    assert [op.name for op in wide.ops] == [op.name for op in graph.ops]
    inputs = make_inputs(graph, photos)
    rounded, exact = (np.stack(reference_masks(one, inputs)) for one in (content, dequantize_weights(content)))
    # the CPU rounds activations to 8 bits: near, and not the same
    assert 1e-4 < np.abs(rounded - exact).max() < 0.1


def test_a_float_or_int8_file_stays() -> None:
    for content in (zoo.fused("RELU6"), zoo.int8_network()):
        before, after = parse_graph(content, "zoo"), parse_graph(dequantize_weights(content), "zoo")
        assert [(t.dtype, t.shape) for t in before.tensors] == [(t.dtype, t.shape) for t in after.tensors]


def test_a_dynamic_range_file_is_held_to_the_bounds_of_float(tmp_path: Path, photos: list[np.ndarray]) -> None:
    path = tmp_path / "dynamic.tflite"
    path.write_bytes(dynamic())
    graph = parse_graph(path.read_bytes(), "dynamic")
    inputs = make_inputs(graph, photos)
    reference = process.run_reference(path, graph, inputs, 60.0)
    assert reference.is_dequantized and "dequantized" in reference.words
    assert tolerance(graph, "fp32", is_dequantized=True) == tolerance(parse_graph(zoo.fused("RELU6"), "z"), "fp32")
    assert reference.outputs is not None
    run = GpuRun("litert_swiftshader", "passed", adapter="SwiftShader", precision="fp32")
    assert process.compared(run, graph, reference, reference.outputs, "fp32").verdict == "passed"
    # a GPU that rounded activations as the CPU does is beyond them
    rounded = [[mask] for mask in reference_masks(path.read_bytes(), inputs)]
    assert process.compared(run, graph, reference, rounded, "fp32").verdict == "failed"


def test_a_file_that_xnnpack_does_not_run_is_no_fault_of_the_gpu(tmp_path: Path, photos: list[np.ndarray]) -> None:
    path = tmp_path / "dead.tflite"
    path.write_bytes(zoo.dead_activation())
    graph = parse_graph(path.read_bytes(), "dead")
    reference = process.run_reference(path, graph, make_inputs(graph, photos), 60.0)
    assert reference.kernels == "reference" and reference.outputs is not None
    if reference.other_error is None:
        pytest.skip("this version of XNNPACK runs it")
    run = GpuRun("litert_swiftshader", "passed", adapter="SwiftShader", precision="fp32")
    gpu_run = process.compared(run, graph, reference, reference.outputs, "fp32")
    assert gpu_run.verdict == "passed"
    (warning,) = gpu_run.warnings
    assert warning.startswith("XNNPACK") and "no fault of the GPU" in warning and reference.other_error in warning


def test_a_python_error_keeps_its_reason(tmp_path: Path, photos: list[np.ndarray]) -> None:
    path = tmp_path / "conv.tflite"
    path.write_bytes(zoo.fused("RELU6"))
    outputs, error = process._run_cpu(path, [[np.zeros((1, 3, 3, 3), np.float32)]], "reference", 60.0)
    assert outputs is None
    assert (error or "").startswith("exit 1: ValueError: Cannot set tensor: Dimension mismatch")


def test_where_no_engine_of_the_cpu_runs_a_file_nobody_is_accused(tmp_path: Path) -> None:
    path = tmp_path / "custom.tflite"
    path.write_bytes(zoo.custom_op("MyBlur"))
    graph = parse_graph(path.read_bytes(), "custom")
    reference = process.run_reference(path, graph, make_inputs(graph, []), 60.0)
    gpu_run = process.compared(GpuRun("web_litert", "passed"), graph, reference, [], "fp32")
    assert gpu_run.verdict == "not_run"
    assert "reference kernels: " in (gpu_run.reason or "") and "XNNPACK: " in (gpu_run.reason or "")


@pytest.mark.parametrize(
    ("log", "exception"),
    [
        ("Traceback (most recent call last):\n  File\nValueError: of no use\n", "ValueError: of no use"),
        ("INFO: ok\nmy.module.OddError: words\n", "my.module.OddError: words"),
        ("KeyboardInterrupt\n", "KeyboardInterrupt"),
        ("INFO: an Error: inside a line\nERROR: Node 1\n", None),
    ],
)
def test_how_python_ends_is_read_from_the_log(log: str, exception: str | None) -> None:
    assert read_log(log).exception == exception
