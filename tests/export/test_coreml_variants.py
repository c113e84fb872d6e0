"""Every Core ML file of the tiny network: what it says of itself, parity, and damages that parity and Vision catch."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.formats.to_coreml import VARIANTS, Converter, find_palette, write_coreml
from export.product import parity
from export.product.product import Networks
from portraitseg.errors import CheckFailed
from portraitseg.files import size_bytes
from portraitseg.runners import open_runner
from portraitseg.runners.coreml.values import read_spec
from portraitseg.runners.coreml.vision import check_vision
from tests.export.conftest import Exported
from tests.export.test_files import _half_pixel
from tests.runners import test_coreml as damages

ENDS = list(VARIANTS)
IMAGES = [end for end, variant in VARIANTS.items() if variant.is_image]
PROGRAMS = [end for end in ENDS if end.endswith(".mlpackage")]


def _less(ends: list[str]) -> list[Any]:
    """Of the compressed files CI damages the coarsest alone: the others come from the same pass."""
    return [pytest.param(end, marks=pytest.mark.full) if end.startswith(("int8", "palette6")) else end for end in ends]


#: Specification by system: 4 is iOS 13, 6 iOS 15, 7 iOS 16.
SPECIFICATIONS = {"iOS 13 or later": 4, "iOS 15 or later": 6, "needs iOS 16": 7}


def _faults(exported: Exported, end: str, path: Path | None = None, change: Any = None) -> list[str]:
    product, sound = exported.find(end)
    reference = exported.references[product.reference]
    runner = open_runner(path or sound)
    outputs = [runner.predict(photo) for photo in reference.photos]
    return parity.compare([change(y) if change else y for y in outputs], reference).faults(product.bound)


@pytest.mark.parametrize("end", ENDS)
def test_parity_passes(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    result, fault = parity.measure(path, exported.references[product.reference], product.bound)
    assert fault is None and result.passed and result.photos == 8
    # a bound that is ten times what is measured would catch little
    assert result.mean_abs is not None and result.mean_abs > product.bound.mean_abs / 10


@pytest.mark.parametrize("end", ENDS)
def test_file_says_what_it_is(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    spec, _ = read_spec(path)
    assert product.note is not None
    assert spec.specificationVersion == SPECIFICATIONS[product.note.partition(";")[0]]
    metadata = spec.description.metadata
    assert "Apache-2.0" in metadata.license and metadata.author == "portraitseg"
    assert "tiny" in metadata.shortDescription
    assert metadata.userDefined["com.apple.coreml.model.preview.type"] == "imageSegmenter"
    preview = json.loads(metadata.userDefined["com.apple.coreml.model.preview.parameters"])
    assert len(preview["labels"]) == len(preview["colors"]) == 2
    assert all(feature.shortDescription for feature in (*spec.description.input, *spec.description.output))


@pytest.mark.parametrize("end", ENDS)
def test_manifest_tells_images_from_floats(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    source, mask = product.describe(path)
    assert (source.name, source.dtype, source.color, source.layout) == ("image", "image", "RGB", "NHWC")
    if end in IMAGES:
        assert (mask.name, mask.dtype, mask.shape, mask.range) == ("mask", "image", (1, 64, 64, 1), (0, 255))
    else:
        assert (mask.name, mask.dtype, mask.shape, mask.range) == ("mask", "float32", (1, 1, 64, 64), (0, 1))
        assert mask.layout == "NCHW"


def test_each_compression_is_smaller_than_the_one_before(exported: Exported) -> None:
    order = ("fp16.mlpackage", "int8.mlpackage", "palette6.mlpackage", "palette4.mlpackage")
    # of the weights alone: of so small a network the program takes as much
    sizes = [size_bytes(next(exported.find(f"-{end}")[1].rglob("weight.bin"))) for end in order]
    assert sizes == sorted(sizes, reverse=True) and sizes[3] < sizes[0] / 2


def test_coreml_takes_and_gives_images(exported: Exported) -> None:
    import coremltools as ct

    _, path = exported.find("-fp16.mlpackage")
    spec = ct.utils.load_spec(str(path))
    # specification 6 is that of iOS 15
    assert spec.specificationVersion == 6
    (source,), (mask,) = spec.description.input, spec.description.output
    assert (source.name, source.type.imageType.width, source.type.imageType.height) == ("image", 64, 64)
    # FeatureTypes.proto: RGB = 20, GRAYSCALE = 10
    assert source.type.imageType.colorSpace == 20
    assert (mask.name, mask.type.imageType.colorSpace) == ("mask", 10)
    metadata = spec.description.metadata
    assert "Apache-2.0" in metadata.license and metadata.author and metadata.shortDescription


def test_coreml_scales_input_and_output_inside(exported: Exported) -> None:
    """The program's constants: 1/255 once at the input, 255 once at the output."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    model = ct.models.MLModel(str(exported.find("-fp16.mlpackage")[1]), skip_model_load=True)
    spec = model.get_spec()
    program = load(spec, spec.specificationVersion, file_weights_dir=model.weights_dir)
    operators = list(program.functions["main"].operations)
    factors = [
        float(op.y.val) for op in operators if op.op_type == "mul" and op.y.val is not None and op.y.val.ndim == 0
    ]
    assert factors[0] == pytest.approx(1 / 255, rel=1e-3) and factors[-1] == pytest.approx(255)
    assert [op.op_type for op in operators].count("sigmoid") == 1


@pytest.mark.parametrize("end", IMAGES)
def test_vision_finds_no_fault(exported: Exported, end: str) -> None:
    assert check_vision(exported.find(f"-{end}")[1]) == []


@pytest.mark.parametrize(
    ("end", "edit", "message"),
    [
        ("fp16-multiarray.mlpackage", lambda spec: None, "output 'mask' is a multi-array"),
        ("fp16.mlpackage", damages.swap_colors, "not RGB"),
        ("fp16.mlpackage", damages.drop_scale, "bytes must become 0…1"),
        ("fp16.mlmodel", damages.network_mask, "multiply the sigmoid by 255"),
    ],
)
def test_a_file_that_vision_cannot_use_fails_the_export(
    exported: Exported, networks: Networks, tmp_path: Path, end: str, edit: Callable[[Any], None], message: str
) -> None:
    import coremltools as ct

    damaged = damages.damage(exported.find(f"-{end}")[1], tmp_path, edit)
    model = ct.models.MLModel(str(damaged), skip_model_load=True)
    path = tmp_path / f"x.{end.rpartition('.')[2]}"
    variant = replace(VARIANTS["fp16.mlpackage"], make=lambda converter: model)
    with pytest.raises(CheckFailed, match=rf"^{re.escape(path.name)}: not for Vision: .*{message}"):
        write_coreml(path, variant, Converter(networks))


@pytest.mark.parametrize("end", _less(PROGRAMS))
@pytest.mark.parametrize("edit", [damages.swap_colors, damages.drop_scale, damages.scramble_kernel])
def test_damaged_program(exported: Exported, tmp_path: Path, end: str, edit: Callable[[Any], None]) -> None:
    assert _faults(exported, end, damages.damage(exported.find(f"-{end}")[1], tmp_path, edit))


# the geometry of palette4 is that of fp16; its own bound is too wide for half a pixel
@pytest.mark.parametrize("end", _less([end for end in PROGRAMS if "palette4" not in end]))
def test_upsampling_with_aligned_corners(exported: Exported, tmp_path: Path, end: str) -> None:
    path = damages.damage(exported.find(f"-{end}")[1], tmp_path, damages.shift_half_a_pixel)
    assert _faults(exported, end, path)


@pytest.mark.parametrize("end", [end for end in ENDS if "palette4" not in end])
def test_half_a_pixel(exported: Exported, end: str) -> None:
    assert any("shifted" in fault for fault in _faults(exported, end, change=_half_pixel))


@pytest.mark.parametrize("end", _less([end for end in PROGRAMS if end in IMAGES]))
def test_mask_of_0_to_1_in_an_image(exported: Exported, tmp_path: Path, end: str) -> None:
    path = damages.damage(exported.find(f"-{end}")[1], tmp_path, damages.forget_to_scale_the_mask)
    assert _faults(exported, end, path)
    assert any("255" in fault for fault in check_vision(path))


def _scramble_network(spec: Any) -> None:
    layer = next(layer for layer in spec.neuralNetwork.layers if layer.WhichOneof("layer") == "convolution")
    values = np.frombuffer(layer.convolution.weights.float16Value, np.float16)
    layer.convolution.weights.float16Value = values[::-1].tobytes()


def _shift_network(spec: Any) -> None:
    """The mask's upsampling cuts off half an input pixel too little on one side, too much on the other."""
    *_, layer = (layer for layer in spec.neuralNetwork.layers if layer.convolution.isDeconvolution)
    for edge, stride in zip(
        layer.convolution.valid.paddingAmounts.borderAmounts, layer.convolution.stride, strict=True
    ):
        edge.startEdgeSize -= stride // 2
        edge.endEdgeSize += stride // 2


@pytest.mark.parametrize(
    "edit", [damages.network_swap, damages.network_scale, damages.network_mask, _shift_network, _scramble_network]
)
def test_damaged_network(exported: Exported, tmp_path: Path, edit: Callable[[Any], None]) -> None:
    end = "fp16.mlmodel"
    assert _faults(exported, end, damages.damage(exported.find(end)[1], tmp_path, edit))


@pytest.mark.parametrize("bits", [4, 6])
def test_depthwise_kernels_stay_out_of_palettes(exported: Exported, bits: int) -> None:
    """Their channels differ in scale by orders of magnitude: one palette cost contour_small 1.2 % of its gain."""
    # the product's own converter has the float program already
    (end,) = (end for end in PROGRAMS if end.startswith(f"palette{bits}"))
    packed = exported.find(f"-{end}")[0].write.keywords["converter"].palette(bits)  # type: ignore[attr-defined]
    kinds = {
        (operator.weight.shape[1] == 1 < operator.groups.val, operator.weight.op.op_type)
        for operator in packed._mil_program.functions["main"].find_ops(op_type="conv")
        if np.prod(operator.weight.shape) > 2048
    }
    assert kinds == {(True, "constexpr_affine_dequantize"), (False, "constexpr_lut_to_dense")}


def test_palette_of_few_values_is_exact() -> None:
    values = np.array([-1, 0, 0.25, 3], np.float16)
    kernel = values[np.random.default_rng(0).integers(0, 4, (5, 7, 3))]
    palette, indices = find_palette(kernel, 16)
    assert palette.dtype == np.float16 and palette.shape == (16,)
    np.testing.assert_array_equal(palette[indices].reshape(kernel.shape), kernel)


@pytest.mark.parametrize("entries", [16, 64])
def test_palette_is_better_than_even_steps(entries: int) -> None:
    kernel = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    palette, indices = find_palette(kernel, entries)
    even = np.linspace(kernel.min(), kernel.max(), entries)
    nearest = even[np.abs(kernel[:, None] - even).argmin(axis=1)]
    assert indices.max() < entries and (np.diff(palette) >= 0).all()
    assert np.square(palette[indices] - kernel).mean() < 0.7 * np.square(nearest - kernel).mean()
