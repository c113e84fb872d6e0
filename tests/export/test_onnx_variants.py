"""Every ONNX file of the tiny network: onnx's own checks, layouts, int8 kernels, and damages that parity catches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.formats.to_onnx import ONNX_RECIPES, check_onnx, split_scales
from export.product import parity
from portraitseg.errors import CheckFailed
from portraitseg.runners import open_runner
from tests.export.conftest import Exported
from tests.export.test_files import _half_pixel

ENDS = [f"-{layout}-{recipe}.onnx" for layout in ("nhwc", "nchw") for recipe in ONNX_RECIPES]


def _faults(exported: Exported, end: str, path: Path | None = None, change: Any = None) -> list[str]:
    product, sound = exported.find(end)
    reference = exported.references[product.reference]
    runner = open_runner(path or sound)
    outputs = [runner.predict(photo) for photo in reference.photos]
    return parity.compare([change(y) if change else y for y in outputs], reference).faults(product.bound)


@pytest.mark.parametrize("end", ENDS)
def test_parity_passes(exported: Exported, end: str) -> None:
    assert _faults(exported, end) == []


@pytest.mark.parametrize("end", ENDS)
def test_layout_is_in_the_file_and_in_the_manifest(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    source, mask = product.describe(path)
    is_planar = "nchw" in end
    assert source.shape == ((1, 3, 64, 64) if is_planar else (1, 64, 64, 3))
    assert mask.shape == ((1, 1, 64, 64) if is_planar else (1, 64, 64, 1))
    assert source.layout == mask.layout == ("NCHW" if is_planar else "NHWC")
    assert (source.name, mask.name, source.color) == ("image", "mask", "RGB")


@pytest.mark.parametrize("recipe", ONNX_RECIPES)
def test_layouts_agree(exported: Exported, recipe: str) -> None:
    photo = exported.references["float"].photos[0]
    one, other = (open_runner(exported.find(f"-{layout}-{recipe}.onnx")[1]) for layout in ("nhwc", "nchw"))
    np.testing.assert_allclose(one.predict(photo), other.predict(photo), atol=1e-6)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_quantized_kernels_lie_on_their_grid(exported: Exported, layout: str) -> None:
    """In the file they are int8; what they stand for is what the QAT network computes with."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(exported.find(f"-{layout}-qdq.onnx")[1]).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    behind = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 20
    for node in convolutions:
        steps, scales, zero = (constants[name] for name in behind[node.input[1]].input)
        assert (steps.dtype, zero.any()) == (np.int8, False)
        assert scales.shape == (len(steps),) and (scales > 0).all()


def test_quantized_file_is_smaller(exported: Exported) -> None:
    for layout in ("nhwc", "nchw"):
        float_file, quantized = (exported.find(f"-{layout}-{recipe}.onnx")[1] for recipe in ("fp32", "qdq"))
        # a quarter of the weights, and a graph with as many nodes again
        assert quantized.stat().st_size < 0.6 * float_file.stat().st_size


def test_fused_optimizations_keep_the_quantized_file_near(exported: Exported) -> None:
    """onnxruntime quantizes float kernels anew, with one scale for all channels: mean 0.02 beside its plain self."""
    path = exported.find("-nhwc-qdq.onnx")[1]
    photos = exported.references["qat"].photos
    fused, plain = open_runner(path), open_runner(path, reference_kernels=True)
    difference = np.mean([np.abs(fused.predict(photo) - plain.predict(photo)).mean() for photo in photos])
    assert difference < 0.01


@pytest.mark.parametrize("seed", range(5))
def test_scales_are_found_again(seed: int) -> None:
    """Of a kernel with a scale a channel, and of a depthwise one with one scale, after batch norm is folded in."""
    random = np.random.default_rng(seed)
    steps = random.integers(-127, 128, (8, 5, 3, 3))
    steps[:, 0, 0, 0] = 127
    factors = random.uniform(1e-4, 2, 8).astype(np.float32)
    depthwise = random.integers(-127, 128, (8, 1, 3, 3))
    depthwise[0] = 0
    for whole in (steps, depthwise):
        kernel = whole.astype(np.float32) * factors[:, None, None, None]
        integers, scales = split_scales(kernel)
        np.testing.assert_allclose(integers * scales[:, None, None, None], kernel, rtol=1e-5, atol=1e-9)


def test_kernel_on_no_grid_is_rounded() -> None:
    kernel = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    steps, scales = split_scales(kernel)
    error = np.abs(steps * scales[:, None, None, None] - kernel)
    assert (error <= scales[:, None, None, None] * 0.501).all()
    assert (np.abs(steps).reshape(4, -1).max(axis=1) == 127).all()


def test_checker_refuses(exported: Exported) -> None:
    import onnx

    path = exported.find("-nhwc-fp32.onnx")[1]

    def check(edit: Callable[[Any], None]) -> None:
        proto = onnx.load(path)
        edit(proto)
        check_onnx(proto, "x.onnx")

    def misname(proto: Any) -> None:
        proto.graph.node[3].op_type = "Convolve"

    def open_size(proto: Any) -> None:
        proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "height"

    def contradict(proto: Any) -> None:
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 63

    check(lambda proto: None)
    with pytest.raises(CheckFailed, match=r"x\.onnx: onnx refuses it: .*Convolve"):
        check(misname)
    with pytest.raises(CheckFailed, match=r"x\.onnx: (no fixed shape|onnx refuses it)"):
        check(open_size)
    with pytest.raises(CheckFailed, match=r"x\.onnx: onnx refuses it"):
        check(contradict)


def _damaged(path: Path, into: Path, edit: Callable[[Any], None]) -> Path:
    import onnx

    proto = onnx.load(path)
    edit(proto)
    copy = into / path.name
    onnx.save(proto, copy)
    return copy


def _scramble_kernel(proto: Any) -> None:
    """Shuffles the first convolution's kernel; int8 ones stand behind a DequantizeLinear."""
    from onnx import numpy_helper

    convolution = next(node for node in proto.graph.node if node.op_type == "Conv")
    names = {convolution.input[1], f"{convolution.input[1]}/int8"}
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name in names)
    values = numpy_helper.to_array(tensor)
    shuffled = np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape)
    tensor.CopyFrom(numpy_helper.from_array(shuffled, tensor.name))


def _corner_aligned(proto: Any) -> None:
    for node in proto.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Resize" and attribute.name == "coordinate_transformation_mode":
                assert attribute.s == b"half_pixel"
                attribute.s = b"asymmetric"


@pytest.mark.parametrize("edit", [_scramble_kernel, _corner_aligned])
@pytest.mark.parametrize("end", ENDS)
def test_damaged_file(exported: Exported, tmp_path: Path, end: str, edit: Callable[[Any], None]) -> None:
    assert _faults(exported, end, _damaged(exported.find(end)[1], tmp_path, edit))


@pytest.mark.parametrize("end", ENDS)
def test_wrong_pixels(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    reference = exported.references[product.reference]
    runner = open_runner(path)
    swapped = [runner.predict(np.ascontiguousarray(photo[..., ::-1])) for photo in reference.photos]
    assert parity.compare(swapped, reference).faults(product.bound)
    # the scale of the input dropped: bytes where 0…1 is meant
    bytes_in = [runner.run(runner.prepare(photo) * np.float32(255))[0, :, :, 0] for photo in reference.photos]
    assert parity.compare(bytes_in, reference).faults(product.bound)
    assert any("gain" in fault for fault in _faults(exported, end, change=lambda y: y * np.float32(0.98)))
    assert any("shifted" in fault for fault in _faults(exported, end, change=_half_pixel))
