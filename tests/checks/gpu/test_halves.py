"""The range of 16 bits: which layers leave it, which come near, and that a 32-bit run alone would pass them."""

import numpy as np
import pytest

from portraitseg.checks.gpu import halves
from portraitseg.checks.gpu.inputs import make_extremes
from portraitseg.checks.gpu.result import GpuRun, Subject, precision_words
from portraitseg.tflite.graph import parse_graph
from tests.checks.gpu import zoo
from tests.checks.gpu.builder import Builder, options


def judged(content: bytes, folder, photos) -> GpuRun:
    path = folder / "file.tflite"
    path.write_bytes(content)
    (gpu_run,) = halves.run_file(Subject(path, parse_graph(content, "file"), photos))
    return gpu_run


def scaled(factor: float) -> bytes:
    """A map between 4 and 10, times a number and divided by it."""
    b = Builder()
    x = b.conv(b.input((1, zoo.SIDE, zoo.SIDE, 3)), 8, "stem", kernel=3, activation="RELU6")
    x = b.op("ADD", [x, b.constant(np.float32([4]))], b.like(x, "zoo/shift/Add"), options("Add"))
    large = b.op("MUL", [x, b.constant(np.float32([factor]))], b.like(x, "zoo/large/Mul"), options("Mul"))
    small = b.op("MUL", [large, b.constant(np.float32([1 / factor]))], b.like(x, "zoo/small/Mul"), options("Mul"))
    logits = b.conv(small, 1, "logits")
    return b.content(b.op("LOGISTIC", [logits], b.like(logits, "mask")))


def test_a_sum_beyond_16_bits_names_layer_value_and_remedy(tmp_path, photos) -> None:
    """As in squeeze-and-excite by a sum over 160×160 pixels."""
    b = Builder()
    x = b.conv(b.input((1, 160, 160, 3)), 8, "stem", activation="RELU")
    out = b.tensor((1, 1, 1, 8), "zoo/squeeze/Sum")
    bias = b.op("ADD", [x, b.constant(np.full(8, 4, np.float32))], b.like(x, "zoo/shift/Add"), options("Add"))
    total = b.op("SUM", [bias, b.ints(1, 2)], out, options("Reducer", keepDims=True))
    tiny = b.op("MUL", [total, b.constant(np.float32([1e-5]))], b.like(total, "zoo/scale/Mul"), options("Mul"))
    logits = b.conv(b.op("MUL", [x, tiny], b.like(x, "zoo/gate/Mul"), options("Mul")), 1, "logits")
    gpu_run = judged(b.content(b.op("LOGISTIC", [logits], b.like(logits, "mask"))), tmp_path, photos)
    assert gpu_run.verdict == "failed"
    for words in ("SUM of layer 'squeeze' reaches 1", "65,504", "GlobalAveragePooling2D"):
        assert words in (gpu_run.reason or "")


@pytest.mark.parametrize(("factor", "verdict", "warned"), [(1.0, "passed", 0), (5e3, "passed", 1), (2e4, "failed", 0)])
def test_far_near_and_beyond(factor: float, verdict: str, warned: int, tmp_path, photos) -> None:
    """At least 4, 20,000 and 80,000: the limit is 65,504, and a quarter of it is near."""
    gpu_run = judged(scaled(factor), tmp_path, photos)
    assert (gpu_run.verdict, len(gpu_run.warnings)) == (verdict, warned)
    assert gpu_run.conditions == "32-bit values of the file on the CPU; nothing ran on a GPU"


def test_extremes_reach_what_photos_do_not(tmp_path, photos) -> None:
    """A network that is large on pure red alone."""
    b = Builder()
    x = b.input((1, zoo.SIDE, zoo.SIDE, 3))
    weights = b.constant(np.float32([[[[1e6, -1e6, -1e6]]]]))
    table = options("Conv2D", strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1, fusedActivationFunction=1)
    out = b.tensor((1, zoo.SIDE, zoo.SIDE, 1), "zoo/red/Conv2D")
    x = b.op("CONV_2D", [x, weights, b.constant(np.float32([-5e5]))], out, table)
    gpu_run = judged(b.content(b.op("LOGISTIC", [x], b.like(x, "mask"))), tmp_path, [np.zeros((32, 32, 3), np.uint8)])
    assert gpu_run.verdict == "failed" and "on plain colours" in (gpu_run.reason or "")


def test_8_bit_files_are_bounded_by_their_scales(tmp_path, photos) -> None:
    assert judged(zoo.int8_network(), tmp_path, photos).verdict == "passed"
    b = Builder()
    x = b.input((1, 8, 8, 3))
    wide = b.op("QUANTIZE", [x], b.like(x, "zoo/wide/quantize", dtype="INT8", scale=1000.0), options("Quantize"))
    content = b.content(b.op("DEQUANTIZE", [wide], b.like(x, "mask"), options("Dequantize"), 2))
    gpu_run = judged(content, tmp_path, photos)
    assert gpu_run.verdict == "failed" and "128,000 on any photo, by its scale" in (gpu_run.reason or "")


def test_an_epsilon_that_16_bits_do_not_have_is_told(tmp_path, photos) -> None:
    b = Builder()
    x = b.conv(b.input((1, zoo.SIDE, zoo.SIDE, 3)), 8, "stem", activation="RELU6")
    safe = b.op("ADD", [x, b.constant(np.float32([1e-8]))], b.like(x, "zoo/epsilon/Add"), options("Add"))
    gpu_run = judged(b.content(b.op("DIV", [x, safe], b.like(x, "mask"), options("Div"))), tmp_path, photos)
    assert gpu_run.verdict == "passed"
    (warning,) = gpu_run.warnings
    assert "ADD of layer 'epsilon' reads a constant that is 0 in 16 bits" in warning


def test_what_cannot_be_run_is_not_run_with_its_reason(tmp_path, photos) -> None:
    gpu_run = judged(zoo.custom_op("MyBlur"), tmp_path, photos)
    assert gpu_run.verdict == "not_run" and "MyBlur" in (gpu_run.reason or "")


def test_extremes_are_of_every_type() -> None:
    for content in (zoo.fused("RELU6"), zoo.int8_network(), zoo.mean(axes_at_run_time=True)):
        graph = parse_graph(content, "zoo")
        for tensors in make_extremes(graph):
            assert [values.shape for values in tensors] == [tensor.shape for tensor in graph.inputs]
    black, white, *_ = make_extremes(parse_graph(zoo.fused("RELU6"), "zoo"))
    assert (black[0].max(), white[0].min()) == (0, 1)


@pytest.mark.parametrize(
    ("adapter", "precision", "says"),
    [
        ("SwiftShader Device (Subzero)", "fp32", "32-bit arithmetic of a software driver (a phone's GPU"),
        ("llvmpipe (LLVM 15)", "fp16", "16-bit tensors, 32-bit arithmetic of a software driver"),
        ("Mali-G78", "fp16", "16-bit arithmetic"),
        ("NVIDIA", "fp32", "32-bit arithmetic (a phone's GPU"),
    ],
)
def test_every_verdict_says_in_what_precision(adapter: str, precision, says: str) -> None:
    assert precision_words(adapter, precision).startswith(says)
