"""The recipes: bytes against floats, whole integers, alpha under bytes, and damaged scales that must be caught."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.product import parity
from export.quantization.check_int8 import check_int8, integer_faults
from export.quantization.recipes import RECIPES
from export.quantization.training import TfliteEvaluator
from portraitseg import contract, metrics
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.errors import CheckFailed, InputError
from portraitseg.runners import open_runner
from portraitseg.tflite.graph import parse_graph
from tests.export.conftest import Exported

BYTE_RECIPES = [name for name in RECIPES if name.endswith("_u8")]


@pytest.mark.parametrize("recipe", BYTE_RECIPES)
class TestBytes:
    def test_scales_are_exact(self, exported: Exported, recipe: str) -> None:
        product, path = exported.find(f"-rgb-{recipe}.tflite")
        source, mask = product.describe(path)
        assert (source.scale, source.zero_point) == (float(np.float32(1 / 255)), 0)
        # the sigmoid's own: 1 itself cannot be said, 255 steps of 1/256 are the most
        assert (mask.scale, mask.zero_point) == (1 / 256, 0)

    def test_bytes_say_what_floats_say(self, exported: Exported, recipe: str) -> None:
        """No step of difference: byte/255 is rounded back to that very byte, and the graph between is the same."""
        _, path = exported.find(f"-rgb-{recipe}.tflite")
        _, float_path = exported.find(f"-rgb-{recipe.removesuffix('_u8')}.tflite")
        bytes_runner, float_runner = open_runner(path), open_runner(float_path)
        for photo in exported.references["float"].photos:
            pixels = bytes_runner.prepare(photo)
            assert pixels.dtype == np.uint8
            steps = bytes_runner.run(pixels)
            probability = float_runner.run(contract.bytes_to_float(pixels))
            np.testing.assert_array_equal(steps, np.round(probability * 256).astype(np.uint8))
            assert steps.std() > 10

    def test_every_byte_is_itself(self, exported: Exported, recipe: str) -> None:
        _, path = exported.find(f"-rgb-{recipe}.tflite")
        _, float_path = exported.find(f"-rgb-{recipe.removesuffix('_u8')}.tflite")
        ramp = np.resize(np.arange(256, dtype=np.uint8), (1, 64, 64, 3))
        steps = open_runner(path).run(ramp)
        probability = open_runner(float_path).run(contract.bytes_to_float(ramp))
        np.testing.assert_array_equal(steps, np.round(probability * 256).astype(np.uint8))

    @pytest.mark.parametrize("alpha", [0, 1, 127, 255])
    def test_any_constant_alpha(self, exported: Exported, recipe: str, alpha: int) -> None:
        _, rgb = exported.find(f"-rgb-{recipe}.tflite")
        _, rgba = exported.find(f"-rgba-{recipe}.tflite")
        photo = exported.references["float"].photos[0]
        runner = open_runner(rgba)
        bitmap = runner.prepare(photo)
        bitmap[..., 3] = alpha
        rgb_runner = open_runner(rgb)
        np.testing.assert_array_equal(runner.run(bitmap), rgb_runner.run(rgb_runner.prepare(photo)))

    @pytest.mark.parametrize(("scale", "zero_point"), [(1 / 256, 0), (0.00313, 0), (1 / 127.5, 128)])
    def test_another_scale_is_refused(self, exported: Exported, recipe: str, scale: float, zero_point: int) -> None:
        _, path = exported.find(f"-rgb-{recipe}.tflite")
        with pytest.raises(CheckFailed, match="uint8 input has scale"):
            check_int8(_with_input_scale(path.read_bytes(), scale, zero_point), path.name)


def test_int16_is_whole(exported: Exported) -> None:
    _, path = exported.find("-rgb-static_wi8_ai16.tflite")
    content = path.read_bytes()
    assert integer_faults(content, "INT16") == []
    assert integer_faults(content, "INT8")
    _, other = exported.find("-rgb-static_wi8_ai8.tflite")
    assert integer_faults(other.read_bytes(), "INT16")


def test_dynamic_range_is_small_and_float(exported: Exported) -> None:
    sizes = {name: exported.find(f"-rgb-{name}.tflite")[1].stat().st_size for name in RECIPES}
    # of so small a network the graph itself is a fifth of the float file
    assert sizes["dynamic_wi8_afp32"] < 0.45 * sizes["fp32"] < sizes["fp16"]
    product, path = exported.find("-rgb-dynamic_wi8_afp32.tflite")
    source, mask = product.describe(path)
    assert (source.dtype, mask.dtype) == ("float32", "float32")
    assert any("FLOAT32" in fault for fault in integer_faults(path.read_bytes()))


#: What may go wrong in a file of any arithmetic, and in one of integers; scrambled kernels are in test_files.
_ANYWHERE, _IN_INTEGERS = ("no bias", "swapped channels"), ("zero point", "input scale", "kernel scale")
DAMAGES = [
    (name, damage)
    for name, recipe in RECIPES.items()
    for damage in (*_ANYWHERE, *(_IN_INTEGERS if recipe.integer else ()))
]


@pytest.mark.parametrize(("recipe", "damage"), DAMAGES)
def test_parity_catches_damage(exported: Exported, recipe: str, damage: str, tmp_path: Path) -> None:
    product, path = exported.find(f"-rgb-{recipe}.tflite")
    damaged = tmp_path / path.name
    damaged.write_bytes(_damage(path.read_bytes(), damage))
    if (recipe, damage) == ("static_wi8_ai16", "zero point"):
        # int16 has none: the runtime itself refuses the file
        with pytest.raises(InputError, match="zero_point"):
            parity.measure(damaged, exported.references[product.reference], product.bound)
        return
    result, fault = parity.measure(damaged, exported.references[product.reference], product.bound)
    assert result.passed is False and fault


def _damage(content: bytes, kind: str) -> bytes:
    """Damages what surrounds the first convolution."""
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    model = schema.Model.GetRootAs(changed)
    graph = model.Subgraphs(0)
    ops = parse_graph(content, "a file").ops
    makers = {tensor.index: op for op in ops for tensor in op.outputs}
    inside, kernel, bias = next(op for op in ops if op.name == "CONV_2D").inputs
    if kind in _ANYWHERE:
        # of fp16 the values come out of a DEQUANTIZE
        kernel, bias = (item if item.is_constant else makers[item.index].inputs[0] for item in (kernel, bias))
        values = model.Buffers(graph.Tensors((bias if kind == "no bias" else kernel).index).Buffer()).DataAsNumpy()
        if kind == "no bias":
            values[:] = 0
        else:
            # (outputs, h, w, 3 colours)
            colours = values.reshape(-1, 3, {"FLOAT32": 4, "FLOAT16": 2, "INT8": 1}[kernel.dtype])
            colours[:] = colours[:, ::-1].copy()
    elif kind == "zero point":
        graph.Tensors(inside.index).Quantization().ZeroPointAsNumpy()[:] += 100
    else:
        where = inside if kind == "input scale" else kernel
        graph.Tensors(where.index).Quantization().ScaleAsNumpy()[:] *= 1.5
    return bytes(changed)


def test_the_int8_file_is_what_selects(exported: Exported, qat_model: Any) -> None:
    """The evaluator's figure is that of the exported file, photo by photo, and not Keras's."""
    dataset = open_dataset(DataConfig(synthetic_photos=32), seed=7)
    keys = dataset.keys("val")[:3]
    _, path = exported.find("-rgb-qat_wi8_ai8.tflite")
    runner = open_runner(path)
    ious = []
    for key in keys:
        sample = dataset.load(key)
        assert sample.mask is not None
        mask = contract.probability_to_mask(runner.predict(sample.image), sample.mask.shape)
        ious.append(metrics.iou(mask, contract.truth_to_mask(sample.mask)))
    score = TfliteEvaluator(dataset, keys)(qat_model)
    assert score == pytest.approx(np.mean(ious), abs=1e-12)
    assert 0 < score < 1


def _with_input_scale(content: bytes, scale: float, zero_point: int) -> bytes:
    """Overwrites the quantization of the input."""
    from ai_edge_litert import schema_py_generated as schema

    changed = bytearray(content)
    graph = schema.Model.GetRootAs(changed).Subgraphs(0)
    outside = graph.Tensors(graph.Inputs(0)).Quantization()
    outside.ScaleAsNumpy()[0] = scale
    outside.ZeroPointAsNumpy()[0] = zero_point
    return bytes(changed)
