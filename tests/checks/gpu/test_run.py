"""What a run finds: the traps of LiteRT's accelerator one by one, on SwiftShader where it is there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portraitseg.checks.gpu import child
from portraitseg.checks.gpu.driver import Driver
from portraitseg.checks.gpu.inputs import make_inputs
from portraitseg.checks.gpu.litert import run_on_gpu
from portraitseg.checks.gpu.log import read_log
from portraitseg.checks.gpu.result import GpuRun
from portraitseg.checks.gpu.rules import judge
from portraitseg.tflite.graph import parse_graph, read_graph
from tests import outside
from tests.checks.gpu import zoo

#: One file for each way to fail, and some that pass: what CI runs. The whole zoo is `full`.
QUICK = (
    "arg_max_int64",
    "split_in_the_middle",
    "custom_op",
    "grouped_convolution",
    "int8_pointwise_stride",
    "matmul_with_itself",
    "transpose_conv_stride_3",
    "constant_output",
    "fp16_weights",
    "int8_network",
)


def run(path: Path, driver: Driver, photos: list[np.ndarray], time_limit_s: float = 300.0) -> GpuRun:
    graph = read_graph(path)
    return run_on_gpu(path, graph, make_inputs(graph, photos), driver, time_limit_s)


def check_animal(name: str, folder: Path, driver: Driver, photos: list[np.ndarray]) -> None:
    animal = zoo.BROKEN.get(name, zoo.Animal(zoo.SOUND.get(name, bytes), on_run="passed"))
    gpu_run = run(folder / f"{name}.tflite", driver, photos)
    assert gpu_run.verdict == animal.on_run, gpu_run.reason
    assert animal.says in (gpu_run.reason or "")
    judgement = judge(read_graph(folder / f"{name}.tflite"), "mldrift")
    if gpu_run.refused:
        # the accelerator's own words: `NAME: why`
        named = {line.split(":")[0] for line in gpu_run.refused}
        # on open sizes the rules are stricter than this runtime, which computes at the size that the file stores
        strict = [refusal for refusal in judgement.refusals if "open size" not in refusal.reason]
        assert named >= {refusal.name for refusal in strict}
        assert named <= {refusal.name for refusal in judgement.refusals}
        if len(strict) == len(judgement.refusals):
            assert gpu_run.delegated == len(judgement.partition.delegated)
    if gpu_run.verdict == "passed":
        assert gpu_run.delegated == gpu_run.nodes
        assert gpu_run.adapter is not None and "SwiftShader" in gpu_run.adapter
        assert gpu_run.library is not None and gpu_run.max_abs is not None and gpu_run.bound is not None
        assert gpu_run.max_abs <= gpu_run.bound


@pytest.mark.parametrize("name", QUICK)
def test_zoo_quick(name: str, zoo_folder: Path, driver: Driver, photos: list[np.ndarray]) -> None:
    check_animal(name, zoo_folder, driver, photos)


@pytest.mark.full
@pytest.mark.parametrize("name", sorted(({*zoo.BROKEN, *zoo.SOUND}) - set(QUICK)))
def test_zoo(name: str, zoo_folder: Path, driver: Driver, photos: list[np.ndarray]) -> None:
    check_animal(name, zoo_folder, driver, photos)


@pytest.mark.parametrize(
    "recipe", ["fp16", "qat_wi8_ai8", *(pytest.param(n, marks=pytest.mark.full) for n in ("fp32", "dynamic_wi8_afp32"))]
)
def test_our_files(recipe: str, our_files: dict[str, Path], driver: Driver, photos: list[np.ndarray]) -> None:
    gpu_run = run(our_files[recipe], driver, photos)
    assert gpu_run.verdict == "passed", gpu_run.reason
    assert gpu_run.delegated == gpu_run.nodes
    assert gpu_run.kernels == "reference"
    # 8 bits at 64 px: a step of the logits moves the outline; XNNPACK is as far from reference kernels
    assert gpu_run.mask_iou is not None and gpu_run.mask_iou > (0.95 if "wi8" in recipe else 0.999)


@pytest.mark.full
def test_mediapipe_models(driver: Driver, photos: list[np.ndarray]) -> None:
    for path in outside.mediapipe_models():
        gpu_run = run(path, driver, photos)
        assert gpu_run.verdict == "passed", gpu_run.reason
        assert gpu_run.kernels == "xnnpack"


def test_another_driver_than_asked_for_is_not_run(zoo_folder: Path, driver: Driver, photos: list[np.ndarray]) -> None:
    other = replace(driver, route="litert_other", libraries=("libvulkan_other.so",))
    gpu_run = run(zoo_folder / "conv.tflite", other, photos)
    assert gpu_run.verdict == "not_run"
    assert "libvulkan_other.so was not mapped" in (gpu_run.reason or "")


def test_no_adapter_is_not_run(zoo_folder: Path, driver: Driver, photos: list[np.ndarray], tmp_path: Path) -> None:
    gpu_run = run(zoo_folder / "conv.tflite", replace(driver, icds=(tmp_path / "none.json",)), photos)
    assert gpu_run.verdict == "not_run"
    assert "no adapter" in (gpu_run.reason or "")


def test_a_hang_is_a_failure(zoo_folder: Path, driver: Driver, photos: list[np.ndarray]) -> None:
    gpu_run = run(zoo_folder / "conv.tflite", driver, photos, time_limit_s=0.05)
    assert gpu_run.verdict == "failed"
    assert gpu_run.reason == "ML Drift: no result within 0.05 s"


def test_inputs_are_photos_by_the_contract_and_noise(photos: list[np.ndarray]) -> None:
    graph = parse_graph(zoo.fused("RELU6"), "zoo")
    runs = make_inputs(graph, photos, noise=2)
    assert len(runs) == len(photos) + 2
    assert all(one[0].shape == (1, zoo.SIDE, zoo.SIDE, 3) and one[0].dtype == np.float32 for one in runs)
    assert not np.array_equal(runs[0][0], runs[-1][0])
    # a file that takes no photo gets noise alone
    assert len(make_inputs(parse_graph(zoo.mean(axes_at_run_time=True), "zoo"), photos)) == 2


class _Buffer:
    """An output that LiteRT waits for in vain, some times."""

    def __init__(self, error: str | None) -> None:
        self.error = error

    def get_tensor_details(self) -> dict[str, Any]:
        return {"shape": (1, 2), "dtype": "float32"}

    def read(self, count: int, kind: type) -> np.ndarray:
        if self.error:
            raise RuntimeError(self.error)
        return np.ones(count, kind)


class _Model:
    def __init__(self, *errors: str | None) -> None:
        self.errors = list(errors)

    def create_input_buffers(self, signature: int) -> list[Any]:
        return []

    def create_output_buffers(self, signature: int) -> list[_Buffer]:
        return [_Buffer(self.errors.pop(0))]

    def run_by_index(self, *_: Any) -> None:
        pass


def test_litert_giving_up_on_a_slow_driver_is_no_failure() -> None:
    lock = "Failed to lock custom tensor buffer."
    assert child._run_once(_Model(lock, lock, None), [])[0].shape == (1, 2)
    with pytest.raises(RuntimeError, match="out of memory"):
        child._run_once(_Model(lock, "out of memory"), [])


LOG = """INFO: something
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1 10880 environment.cc:532] Selected adapter: SwiftShader Device (Subzero), arch=swiftshader
Following operations are not supported by GPU delegate:
LOG_SOFTMAX: Operation is not supported.
ADD: Tensor type(INT64) is not supported. x
5 operations will run on the GPU, and the remaining 6 operations will run on the CPU.
E0000 00:00:1 1 environment.cc:105] Validation error: Binding size for [Buffer (unlabeled)] is zero.
 - While validating entries[1]
F0000 00:00:1 2 model.cc:218] Check failed: !IsInput(consumer, value) Node 1
ERROR: [./litert/cc/litert_compiled_model.h:1961]
ERROR: Node number 1 (RESIZE_BILINEAR) failed to prepare.
"""


def test_reads_the_log() -> None:
    log = read_log(LOG)
    assert log.adapter == "SwiftShader Device (Subzero), arch=swiftshader"
    assert log.delegated == 5
    assert log.refused == ("LOG_SOFTMAX: Operation is not supported.", "ADD: Tensor type(INT64) is not supported. x")
    assert log.validation == "Binding size for [Buffer (unlabeled)] is zero."
    assert log.fatal == "Check failed: !IsInput(consumer, value) Node 1"
    assert log.errors == ("Node number 1 (RESIZE_BILINEAR) failed to prepare.",)
    assert not log.has_no_adapter


def test_reads_a_log_without_a_gpu() -> None:
    log = read_log("ERROR: [delegate_webgpu.cc:359] Failed to initialize: INTERNAL: No adapters found\n")
    assert log.has_no_adapter and log.adapter is None and log.delegated is None
    assert read_log("No operations will run on the GPU, and all 3 operations will run on the CPU.").delegated == 0
