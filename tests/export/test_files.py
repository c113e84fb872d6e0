"""The exported files: names, tensors, parity, RGBA twins; and damaged files, which parity must catch."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.formats.to_coreml import VARIANTS
from export.formats.to_onnx import ONNX_RECIPES
from export.product import parity
from export.quantization.check_int8 import INPUT_ZERO_POINT, check_int8
from export.quantization.recipes import RECIPES
from portraitseg.errors import CheckFailed
from portraitseg.runners import open_runner
from portraitseg.tflite.graph import parse_graph
from tests.export.conftest import Exported

TFLITE = list(RECIPES)
INT8 = [name for name, recipe in RECIPES.items() if recipe.integer == "INT8"]
WITH_RGBA = [name for name, recipe in RECIPES.items() if "rgba" in recipe.channels]

#: From docs/interface.md, "Files".
NAMES = {
    ".tflite": r"[a-z0-9_]+-\d+x\d+-(rgb|rgba)-[a-z0-9_]+\.tflite",
    ".mlpackage": r"[a-z0-9_]+-\d+x\d+-(fp16|int8|palette6|palette4)(-multiarray)?\.mlpackage",
    ".mlmodel": r"[a-z0-9_]+-\d+x\d+-(fp32|fp16)\.mlmodel",
    ".onnx": r"[a-z0-9_]+-\d+x\d+-(nhwc|nchw)-(fp32|qdq)\.onnx",
}


def test_names_follow_the_interface(exported: Exported) -> None:
    for name in exported.products:
        assert re.fullmatch(NAMES[Path(name).suffix], name), name
    assert len(exported.products) == len(RECIPES) + len(WITH_RGBA) + len(VARIANTS) + 2 * len(ONNX_RECIPES)


@pytest.mark.parametrize("end", [*(f"-rgb-{r}.tflite" for r in TFLITE), *(f"-{r}.onnx" for r in ONNX_RECIPES)])
def test_parity_passes(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    result, fault = parity.measure(path, exported.references[product.reference], product.bound)
    assert fault is None
    assert result.passed and result.photos == 8 and result.max_abs is not None


@pytest.mark.parametrize("end", [*(f"-rgba-{r}.tflite" for r in WITH_RGBA), *(f"-{r}.onnx" for r in ONNX_RECIPES)])
def test_tensors_are_named_and_sized(exported: Exported, end: str) -> None:
    product, path = exported.find(end)
    source, mask = product.describe(path)
    channels = 4 if "rgba" in end else 3
    dtype = "uint8" if end.endswith("_u8.tflite") else "float32"
    assert (source.name, source.shape, source.dtype) == ("image", (1, 64, 64, channels), dtype)
    assert (mask.name, mask.shape, mask.dtype) == ("mask", (1, 64, 64, 1), dtype)
    assert (source.color, source.layout, source.range) == ("RGBA" if channels == 4 else "RGB", "NHWC", (0, 1))


@pytest.mark.parametrize("recipe", TFLITE)
def test_signature_has_the_same_names(exported: Exported, recipe: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    _, path = exported.find(f"-rgb-{recipe}.tflite")
    signatures = Interpreter(str(path)).get_signature_list()
    assert signatures == {"serving_default": {"inputs": ["image"], "outputs": ["mask"]}}


@pytest.mark.parametrize("recipe", WITH_RGBA)
def test_alpha_changes_not_a_bit(exported: Exported, recipe: str) -> None:
    _, rgb = exported.find(f"-rgb-{recipe}.tflite")
    _, rgba = exported.find(f"-rgba-{recipe}.tflite")
    photos = exported.references["float"].photos
    assert parity.is_equal_to_rgb(open_runner(rgba), open_runner(rgb), photos)


@pytest.mark.parametrize("recipe", [name for name in WITH_RGBA if name not in INT8])
def test_rgba_check_fails_on_another_file(exported: Exported, recipe: str) -> None:
    _, other = exported.find("-rgb-static_wi8_ai8.tflite")
    _, rgba = exported.find(f"-rgba-{recipe}.tflite")
    assert not parity.is_equal_to_rgb(open_runner(rgba), open_runner(other), exported.references["float"].photos)


@pytest.mark.parametrize("channels", ["rgb", "rgba"])
@pytest.mark.parametrize("recipe", INT8)
def test_int8_input_is_one_step_a_byte(exported: Exported, recipe: str, channels: str) -> None:
    _, path = exported.find(f"-{channels}-{recipe}.tflite")
    content = path.read_bytes()
    check_int8(content, path.name)
    graph = parse_graph(content, path.name)
    # as it is computed, behind the operator that reads float or uint8
    (reader,) = (op for op in graph.ops if graph.inputs[0] in op.inputs)
    inside = reader.outputs[0]
    assert (inside.scales, inside.zero_points) == ((pytest.approx(1 / 255, rel=1e-6),), (INPUT_ZERO_POINT,))


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "dynamic_wi8_afp32", "static_wi8_ai16"])
def test_int8_check_refuses_float_files(exported: Exported, recipe: str) -> None:
    _, path = exported.find(f"-rgb-{recipe}.tflite")
    with pytest.raises(CheckFailed, match="not whole int8"):
        check_int8(path.read_bytes(), path.name)


def test_int8_check_refuses_another_input_scale(exported: Exported) -> None:
    _, path = exported.find("-rgb-qat_wi8_ai8.tflite")
    content = path.read_bytes()
    scale = np.float32(1 / 255).tobytes()
    at = content.find(scale)
    assert at > 0
    changed = content.replace(scale, np.float32(0.00313).tobytes())
    with pytest.raises(CheckFailed, match="1/255"):
        check_int8(changed, path.name)


Change = Callable[[np.ndarray], np.ndarray]


def _deviation(
    exported: Exported, recipe: str, change_input: Change | None = None, change_output: Change | None = None
) -> list[str]:
    product, path = exported.find(f"-rgb-{recipe}.tflite")
    runner = open_runner(path)
    reference = exported.references[product.reference]
    photos = [change_input(photo) if change_input else photo for photo in reference.photos]
    outputs = [runner.predict(np.ascontiguousarray(photo)) for photo in photos]
    outputs = [change_output(output) if change_output else output for output in outputs]
    return parity.compare(outputs, reference).faults(product.bound)


def _half_pixel(picture: np.ndarray) -> np.ndarray:
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5]], np.float32)
    return cv2.warpAffine(picture, shift, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("recipe", TFLITE)
class TestParityCatches:
    def test_nothing_in_sound_files(self, exported: Exported, recipe: str) -> None:
        assert _deviation(exported, recipe) == []

    def test_bgr(self, exported: Exported, recipe: str) -> None:
        assert _deviation(exported, recipe, change_input=lambda photo: photo[..., ::-1])

    def test_half_pixel_shift(self, exported: Exported, recipe: str) -> None:
        faults = _deviation(exported, recipe, change_output=_half_pixel)
        assert any("shifted" in fault for fault in faults)

    def test_output_scale(self, exported: Exported, recipe: str) -> None:
        faults = _deviation(exported, recipe, change_output=lambda output: output * np.float32(0.98))
        assert any("gain" in fault for fault in faults)

    def test_swapped_mask(self, exported: Exported, recipe: str) -> None:
        assert _deviation(exported, recipe, change_output=lambda output: 1 - output)

    def test_scrambled_kernel(self, exported: Exported, recipe: str, tmp_path: Path) -> None:
        product, path = exported.find(f"-rgb-{recipe}.tflite")
        damaged = tmp_path / path.name
        damaged.write_bytes(_scramble_kernel(path.read_bytes()))
        result, fault = parity.measure(damaged, exported.references[product.reference], product.bound)
        assert result.passed is False and fault


def _scramble_kernel(content: bytes) -> bytes:
    """Shuffles the values of the first convolution's kernel."""
    from ai_edge_litert import schema_py_generated as schema

    graph = parse_graph(content, "a file")
    convolution = next(op for op in graph.ops if op.name == "CONV_2D")
    kernel = convolution.inputs[1]
    if not kernel.is_constant:
        # fp16: the kernel comes out of a DEQUANTIZE
        kernel = next(op for op in graph.ops if kernel in op.outputs).inputs[0]
    changed = bytearray(content)
    model = schema.Model.GetRootAs(changed)
    values = model.Buffers(model.Subgraphs(0).Tensors(kernel.index).Buffer()).DataAsNumpy()
    width = {"FLOAT32": 4, "FLOAT16": 2, "INT8": 1}[kernel.dtype]
    words = values.reshape(-1, width)
    words[:] = words[np.random.default_rng(0).permutation(len(words))]
    return bytes(changed)


def test_parity_refuses_nan(exported: Exported) -> None:
    reference = exported.references["float"]
    outputs = list(reference.probabilities.copy())
    outputs[0][0, 0] = np.nan
    with pytest.raises(CheckFailed, match="not finite"):
        parity.compare(outputs, reference)


def test_parity_refuses_a_constant_network() -> None:
    from portraitseg import models
    from tests.export import tiny

    model = models.build("fast_scnn_w050", (64, 64))
    with pytest.raises(CheckFailed, match="train it longer"):
        parity.predict_keras(model, tiny.samples(2)[0])
