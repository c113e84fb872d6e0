from pathlib import Path

import numpy as np
import pytest

from portraitseg.checks.gpu import process
from portraitseg.checks.gpu.compare import compare
from portraitseg.checks.gpu.inputs import make_inputs
from portraitseg.checks.gpu.result import Inputs
from portraitseg.checks.gpu.tolerance import Precision, Tolerance, arithmetic, output_step, tolerance
from portraitseg.tflite.graph import Graph, parse_graph
from tests.checks.gpu import zoo

LOOSE = Tolerance(1.0, 1.0, "")
EXACT = Tolerance(1e-5, 1e-5, "")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return parse_graph(zoo.fused("RELU6"), "zoo")


@pytest.fixture(scope="module")
def masks() -> list[list[np.ndarray]]:
    random = np.random.default_rng(1)
    return [[random.uniform(0, 1, (1, zoo.SIDE, zoo.SIDE, 1)).astype(np.float32)] for _ in range(3)]


def test_equal_outputs_pass(graph: Graph, masks: list[list[np.ndarray]]) -> None:
    difference = compare(graph, masks, masks, EXACT)
    assert difference.fault is None and difference.max_abs == difference.mean_abs == 0.0 and difference.mask_iou == 1.0


@pytest.mark.parametrize("bound", [1e-5, 1e-3, 1e-2, 0.1])
def test_each_bound_fails_just_beyond_it(graph: Graph, masks: list[list[np.ndarray]], bound: float) -> None:
    within = [[run[0] * np.float32(1 - bound / 2)] for run in masks]
    beyond = [[run[0] + np.float32(1.5 * bound)] for run in masks]
    limit = Tolerance(bound, bound, "")
    assert compare(graph, masks, within, limit).fault is None
    assert "differs by" in (compare(graph, masks, beyond, limit).fault or "")
    assert "on average" in (compare(graph, masks, beyond, Tolerance(1.0, bound, "")).fault or "")


def test_one_wrong_pixel_of_one_run_fails(graph: Graph, masks: list[list[np.ndarray]]) -> None:
    wrong = [[run[0].copy()] for run in masks]
    wrong[2][0][0, 3, 4, 0] = 1 - wrong[2][0][0, 3, 4, 0]
    assert compare(graph, masks, wrong, Tolerance(1e-2, 1.0, "")).fault is not None


def test_mask_iou_is_over_the_pixels_of_all_runs(graph: Graph) -> None:
    """A run with one person pixel, which the GPU misses, does not decide."""
    person, nobody = np.zeros((2, 1, zoo.SIDE, zoo.SIDE, 1), np.float32)
    person[0, :8], nobody[0, 0, 0] = 1.0, 1.0
    gpu = [[person], [np.zeros_like(nobody)]]
    assert compare(graph, [[person], [nobody]], gpu, LOOSE).mask_iou == pytest.approx(128 / 129)


def test_a_nan_fails(graph: Graph, masks: list[list[np.ndarray]]) -> None:
    wrong = [[np.full_like(run[0], np.nan)] for run in masks]
    difference = compare(graph, masks, wrong, LOOSE)
    assert difference.fault is not None and difference.max_abs is None and difference.mean_abs is None
    assert "not finite" in (compare(graph, wrong, masks, LOOSE).fault or "")


def test_constant_outputs_prove_nothing(graph: Graph, masks: list[list[np.ndarray]]) -> None:
    same = [[np.full_like(run[0], 0.5)] for run in masks]
    assert "prove nothing" in (compare(graph, same, same, EXACT).fault or "")
    assert "differs by" in (compare(graph, masks, same, EXACT).fault or "")


def test_missing_and_misshapen_outputs_fail(graph: Graph, masks: list[list[np.ndarray]]) -> None:
    assert compare(graph, masks, masks[:2], LOOSE).fault is not None
    assert "another size" in (compare(graph, masks, [[run[0][:, 1:]] for run in masks], LOOSE).fault or "")


def test_quantized_outputs_are_compared_as_numbers() -> None:
    graph = parse_graph(zoo.int8_network(), "zoo")
    assert arithmetic(graph) == "int8"
    # the logits' scale of 0.05 moves a probability by 0.0125, three steps of the output
    assert output_step(graph) == pytest.approx(0.0125)
    assert tolerance(graph, "fp32").bound == pytest.approx(0.15)
    assert tolerance(graph, "fp32").mean_bound == pytest.approx(0.0125)


def test_an_8_bit_file_may_differ_by_what_rounding_alone_does() -> None:
    graph = parse_graph(zoo.int8_network(), "zoo")
    wide, narrow = tolerance(graph, "fp32", apart=(0.2, 0.03)), tolerance(graph, "fp32", apart=(0.01, 0.001))
    assert (wide.bound, wide.mean_bound) == (pytest.approx(0.4), pytest.approx(0.045))
    assert (narrow.bound, narrow.mean_bound) == (pytest.approx(0.15), pytest.approx(0.0125))
    # a float file has no such excuse
    floats = parse_graph(zoo.fused("RELU6"), "zoo")
    assert tolerance(floats, "fp32", apart=(0.2, 0.03)) == tolerance(floats, "fp32")


def test_rounding_is_measured_in_the_unit_of_the_bounds() -> None:
    graph = parse_graph(zoo.int8_network(), "zoo")
    masks = [[np.linspace(0, 1, zoo.SIDE**2, dtype=np.float32).reshape(1, zoo.SIDE, zoo.SIDE, 1)]]
    other = [[masks[0][0] + np.float32(0.1)]]
    assert process._apart(graph, process.Reference("reference", masks, None, other)) == pytest.approx((0.1, 0.1))
    tenfold = process.Reference("reference", [[10 * masks[0][0]]], None, [[10 * other[0][0]]])
    assert process._apart(graph, tenfold) == pytest.approx((0.1, 0.1))
    assert process._apart(graph, process.Reference("reference", masks, None)) == (0.0, 0.0)


def test_arithmetic_is_read_from_the_file() -> None:
    expected = {"conv": "fp32", "fp16_weights": "fp16", "int8_network": "int8"}
    assert {name: arithmetic(parse_graph(zoo.SOUND[name](), name)) for name in expected} == expected
    assert arithmetic(parse_graph(zoo.int16_activations(), "zoo")) == "int16"


def test_bounds_state_their_reason(graph: Graph) -> None:
    exact, half, loose = tolerance(graph, "fp32"), tolerance(graph, "fp16"), tolerance(graph, "fp32", "xnnpack")
    assert exact.bound < loose.bound < half.bound
    assert all(len(one.reason) > 20 for one in (exact, half, loose))
    assert tolerance(parse_graph(zoo.arg_max("INT32"), "zoo"), "fp16").bound == 0.0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "dynamic_wi8_afp32", "qat_wi8_ai8"])
def test_a_damaged_file_is_beyond_its_tolerance(
    recipe: str, precision: Precision, our_files: dict[str, Path], photos: list[np.ndarray]
) -> None:
    """One kernel of the network with its numbers in another order: the reference kernels stand in for the GPU."""
    content = our_files[recipe].read_bytes()
    assert "differs by" in fault_of(content, scramble_a_kernel(content), precision, photos)


@pytest.mark.parametrize("recipe", ["fp32", "fp16"])
def test_32_bits_are_told_from_16(recipe: str, our_files: dict[str, Path], photos: list[np.ndarray]) -> None:
    """One kernel rounded to the 8 bits of a bfloat16 is beyond the bounds of 32-bit arithmetic."""
    content = our_files[recipe].read_bytes()
    assert "differs by" in fault_of(content, round_a_kernel(content, recipe), "fp32", photos)


def fault_of(content: bytes, damaged: bytes, precision: Precision, photos: list[np.ndarray]) -> str:
    """What is said of a GPU that computes a damaged file; of one that computes the file itself, nothing."""
    graph = parse_graph(content, "ours")
    inputs = make_inputs(graph, photos)
    sound, broken = run_reference_kernels(content, inputs), run_reference_kernels(damaged, inputs)
    limit = tolerance(graph, precision)
    assert compare(graph, sound, sound, limit).fault is None
    return compare(graph, sound, broken, limit).fault or ""


def largest_constant(content: bytearray) -> np.ndarray:
    """The bytes of the largest constant of a file, in place."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content)
    buffer = max((model.Buffers(index) for index in range(model.BuffersLength())), key=lambda one: one.DataLength())
    return np.asarray(buffer.DataAsNumpy())


def scramble_a_kernel(content: bytes) -> bytes:
    """Turns round the bytes of the largest constant, number by number."""
    changed = bytearray(content)
    values = largest_constant(changed)
    width = 4 if values.size % 4 == 0 else 1
    values[:] = values.reshape(-1, width)[::-1].reshape(-1).copy()
    return bytes(changed)


def round_a_kernel(content: bytes, recipe: str) -> bytes:
    """Rounds the largest constant to 8 bits, by leaving out the lower bits of each number."""
    changed = bytearray(content)
    kind, mask = (np.uint32, 0xFFFF0000) if recipe == "fp32" else (np.uint16, 0xFFF8)
    numbers = largest_constant(changed).view(kind)
    numbers &= kind(mask)
    return bytes(changed)


def run_reference_kernels(content: bytes, inputs: Inputs) -> Inputs:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    outputs = []
    for (values,) in inputs:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(interpreter.get_output_details()[0]["index"])])
    return outputs
