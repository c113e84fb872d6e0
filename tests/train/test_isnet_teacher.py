"""The recipe that makes a teacher of IS-Net's package, on a small network packed alike."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from train.function_matching import open_file

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "train/examples/isnet_teacher.py"))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Halved by a convolution, as large as before by the sizes of 64 pixels; two outputs, in pieces of 300 bytes."""
    kernel = np.random.default_rng(0).normal(0, 1, (1, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "kernel"], ["half"], strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Resize", ["half", "", "", "sizes"], ["whole"], mode="linear"),
            helper.make_node("Sigmoid", ["whole"], ["output"]),
            helper.make_node("Sigmoid", ["half"], ["another"]),
        ],
        "packed",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 64, 64))],
        [
            helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, 1, 64, 64)),
            helper.make_tensor_value_info("another", TensorProto.FLOAT, (1, 1, 32, 32)),
        ],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.array([1, 1, 64, 64]), "sizes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "as_published.onnx")
    content = model.SerializeToString()
    pieces = [content[start : start + 300] for start in range(0, len(content), 300)]
    names = [hashlib.sha256(piece).hexdigest() for piece in pieces]
    (tmp_path / "dist").mkdir()
    for name, piece in zip(names, pieces, strict=True):
        (tmp_path / "dist" / name).write_bytes(piece)
    index = {"/models/medium": {"chunks": [{"hash": name} for name in names]}}
    (tmp_path / "dist/resources.json").write_text(json.dumps(index))
    return tmp_path


def run(path: Path, pixels: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["output"], {"input": pixels})[0]


@pytest.mark.parametrize("side", [64, 96])
def test_values_of_0_to_1_at_any_side(package: Path, side: int) -> None:
    adapted = package / "adapted.onnx"
    onnx.save(RECIPE["adapt"](RECIPE["assemble"](package), side), adapted)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, side, side)).astype(np.float32)
    mask = run(adapted, pixels / 255)
    assert mask.shape == (1, 1, side, side) and mask.std() > 0.1
    # the published file, which takes (pixel - 128) / 256, on a part whose kernels and resizing see nothing else
    published = run(package / "as_published.onnx", ((pixels - 128) / 256)[..., :64, :64])
    np.testing.assert_allclose(mask[..., :60, :60], published[..., :60, :60], atol=1e-5)


def test_label_takes_it(package: Path) -> None:
    adapted = package / "adapted.onnx"
    onnx.save(RECIPE["adapt"](RECIPE["assemble"](package), 96), adapted)
    photo = np.random.default_rng(2).integers(0, 256, (80, 60, 3)).astype(np.uint8)
    assert open_file(adapted)(photo).shape == (96, 96)
