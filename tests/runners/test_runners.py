"""Runners on tiny files: the same answer from every runtime, and a clear refusal of what is not photo → mask."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from portraitseg.errors import InputError
from portraitseg.runners import RUNNERS, open_runner
from portraitseg.runners.coreml import evaluator as coreml
from tests.runners.tiny import expected, write_onnx, write_tflite

IMAGE = np.random.default_rng(1).integers(0, 256, (8, 10, 3), dtype=np.uint8)

# one rounding of float32 for each of a few additions of numbers below 1
FLOAT_BOUND = 1e-6


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reference_kernels", [False, True])
@pytest.mark.parametrize("write", [write_tflite, write_onnx], ids=["tflite", "onnx"])
def test_float_files_follow_the_contract(tmp_path, write, threads, reference_kernels):
    suffix = {write_tflite: ".tflite", write_onnx: ".onnx"}[write]
    runner = open_runner(write(tmp_path / f"m{suffix}"), threads, reference_kernels)
    assert runner.size == (8, 10) and runner.channels == "rgb" and runner.threads == threads
    assert runner.input.dtype == runner.output.dtype == "float32" and runner.output.scale is None
    truth = expected(IMAGE[None] / 255)[0, :, :, 0]
    np.testing.assert_allclose(runner.predict(IMAGE), truth, atol=FLOAT_BOUND)
    # the bound notices swapped colours
    assert np.abs(runner.predict(IMAGE[:, :, ::-1].copy()) - truth).max() > 1000 * FLOAT_BOUND


def test_nchw_takes_the_same_inputs_as_nhwc(tmp_path):
    runners = [open_runner(write_onnx(tmp_path / f"m-{layout}-fp32.onnx", layout)) for layout in ("nhwc", "nchw")]
    assert runners[1].input.shape == (1, 3, 8, 10)
    outputs = [runner.run(runner.prepare(IMAGE)) for runner in runners]
    assert outputs[0].shape == outputs[1].shape == (1, 8, 10, 1)
    np.testing.assert_allclose(outputs[0], outputs[1], atol=FLOAT_BOUND)


def test_uint8_takes_bytes_and_tells_its_scale(tmp_path):
    runner = open_runner(write_tflite(tmp_path / "m.tflite", dtype="uint8", scale=1 / 255))
    assert runner.input.dtype == "uint8" and runner.input.zero_point == 0
    assert runner.output.scale == pytest.approx(1 / 255)
    np.testing.assert_array_equal(runner.prepare(IMAGE)[0], IMAGE)
    # the file rounds to a step of 1/255
    np.testing.assert_allclose(runner.predict(IMAGE), IMAGE.mean(axis=2) / 255, atol=0.5 / 255 + 1e-5)


def test_int8_quantizes_by_its_own_scale(tmp_path):
    runner = open_runner(write_tflite(tmp_path / "m.tflite", dtype="int8", scale=1 / 255, zero_point=-128))
    np.testing.assert_array_equal(runner.prepare(IMAGE)[0].astype(int) + 128, IMAGE)
    np.testing.assert_allclose(runner.predict(IMAGE), IMAGE.mean(axis=2) / 255, atol=0.5 / 255 + 1e-5)


def test_fourth_channel_is_alpha_unless_it_is_called_prior(tmp_path):
    runner = open_runner(write_tflite(tmp_path / "m.tflite", shape=(1, 8, 10, 4)))
    assert runner.channels == "rgba" and runner.prepare(IMAGE)[0, 0, 0, 3] == 1
    for file, tensor in (("fast_scnn-8x10-prior-fp32.tflite", "image"), ("m.tflite", "image_and_prior")):
        with pytest.raises(InputError, match="fourth channel is a previous mask"):
            open_runner(write_tflite(tmp_path / file, shape=(1, 8, 10, 4), name=tensor))


def test_delegate_is_what_the_interpreter_uses(tmp_path):
    path = write_tflite(tmp_path / "m.tflite")
    assert open_runner(path).delegate == "xnnpack"
    assert open_runner(path, reference_kernels=True).delegate == "none"


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"extra_input": True}, "2 inputs"),
        ({"signature": (1, -1, -1, 3)}, "open size"),
        ({"signature": (-1, 8, 10, 3)}, "open size"),
        ({"shape": (1, 8, 3)}, "rank 3"),
        ({"shape": (2, 8, 10, 3)}, "takes 2 photos"),
        ({"shape": (1, 8, 10, 2)}, "3 or 4 channels"),
        ({"shape": (1, 3, 8, 10)}, "NHWC"),
        ({"out_channels": 2}, "exactly one mask"),
        ({"dtype": "uint8"}, "without a quantization scale"),
        ({"dtype": "int8"}, "int8 without a quantization scale"),
        ({"dtype": "uint8", "scale": 0.00313}, "1/255"),
        ({"dtype": "uint8", "scale": 1 / 255, "zero_point": 3}, "1/255"),
    ],
)
def test_refuses_tflite_files_that_are_not_photo_to_mask(tmp_path, faults, message):
    with pytest.raises(InputError, match=message):
        open_runner(write_tflite(tmp_path / "m.tflite", **faults))


@pytest.mark.parametrize(("faults", "message"), [({"size": ("h", "w")}, "open size"), ({"inputs": 2}, "2 inputs")])
def test_refuses_onnx_files_that_are_not_photo_to_mask(tmp_path, faults, message):
    with pytest.raises(InputError, match=message):
        open_runner(write_onnx(tmp_path / "m.onnx", **faults))


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"no model" * 50, "truncated"], ids=["empty", "text", "truncated"])
def test_refuses_damaged_files(tmp_path, suffix, content):
    path = (write_tflite if suffix == ".tflite" else write_onnx)(tmp_path / f"m{suffix}")
    path.write_bytes(path.read_bytes()[:100] if content == "truncated" else content)
    with pytest.raises(InputError, match="m" + suffix):
        open_runner(path)


def test_refuses_unknown_suffix_missing_file_and_no_threads(tmp_path):
    with pytest.raises(InputError, match=r"\.tflite, \.onnx"):
        open_runner(tmp_path / "m.pb")
    for suffix in RUNNERS:
        with pytest.raises(InputError, match="no such file"):
            open_runner(tmp_path / f"m{suffix}")
    with pytest.raises(InputError, match="at least 1"):
        open_runner(tmp_path / "m.tflite", threads=0)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is there")
def _feature(name: str, kind: str, **values: object) -> SimpleNamespace:
    return SimpleNamespace(
        name=name, type=SimpleNamespace(WhichOneof=lambda _: kind, **{kind: SimpleNamespace(**values)})
    )


def test_core_ml_description_of_images_and_arrays():
    # stand-ins of the protobuf: coremltools takes seconds to import, and TensorFlow with it
    image = _feature("image", "imageType", height=8, width=10, colorSpace=20)
    gray = _feature("mask", "imageType", height=8, width=10, colorSpace=10)
    array = _feature("image", "multiArrayType", shape=[1, 8, 10, 3], dataType=65568)
    unstated = _feature("mask", "multiArrayType", shape=[], dataType=65552)
    path = Path("m.mlpackage")
    info, output, *_ = coreml.describe(path, SimpleNamespace(input=[image], output=[gray]))
    assert (info.shape, info.dtype, output.dtype, output.scale) == ((1, 8, 10, 3), "uint8", "uint8", 1 / 255)
    info, output, *_ = coreml.describe(path, SimpleNamespace(input=[array], output=[unstated]))
    assert (info.dtype, output.shape, output.dtype) == ("float32", (1, 8, 10, 1), "float32")
    with pytest.raises(InputError, match="2 inputs"):
        coreml.describe(path, SimpleNamespace(input=[image, array], output=[gray]))
