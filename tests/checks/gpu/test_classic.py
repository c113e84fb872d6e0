"""The route over mediapipe 0.10.21: its traps with a stand-in for mediapipe, and mediapipe itself where it is there."""

import ctypes.util
from pathlib import Path

import numpy as np
import pytest

from portraitseg.checks.gpu import classic, environment
from portraitseg.checks.gpu.inputs import image_inputs, make_images
from portraitseg.checks.gpu.result import GpuRun, Subject
from portraitseg.checks.gpu.segmenter import why_not
from portraitseg.errors import InputError
from portraitseg.tflite.graph import read_graph
from tests import outside
from tests.checks.gpu import standin, zoo
from tests.checks.gpu.conftest import installed as installed_or_skipped
from tests.checks.gpu.standin import CLASSIC, CRASH, HANG, NO_EGL, XNNPACK


@pytest.fixture
def subject(zoo_folder: Path, photos: list[np.ndarray]) -> Subject:
    path = zoo_folder / "conv.tflite"
    return Subject(path, read_graph(path), photos[:1], time_limit_s=60.0)


@pytest.fixture
def masks(subject: Subject) -> list[np.ndarray]:
    inputs = image_inputs(subject.graph, make_images(subject.graph, subject.photos))
    return standin.reference_masks(subject.path.read_bytes(), inputs)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that counts as installed, on a machine with EGL."""
    folder = tmp_path / "classic"
    folder.mkdir()
    environment.record(folder, classic.LOCK)
    monkeypatch.setattr(classic, "FOLDER", folder)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so")
    return folder


def run(subject: Subject) -> GpuRun:
    (gpu_run,) = classic.run_file(subject)
    assert (gpu_run.route, gpu_run.nodes) == ("classic_mediapipe", len(subject.graph.ops))
    return gpu_run


def test_masks_that_agree_pass(subject: Subject, masks: list[np.ndarray], installed: Path) -> None:
    standin.mediapipe(installed, CLASSIC, [mask + np.float32(1e-4) for mask in masks])
    gpu_run = run(subject)
    assert (gpu_run.verdict, gpu_run.delegated, gpu_run.reason) == ("passed", 3, None)
    assert (gpu_run.adapter, gpu_run.library) == ("llvmpipe (LLVM 15.0.6)", "OpenGL ES 3.2 Mesa 22.3.6")
    assert gpu_run.precision == "fp16" and gpu_run.max_abs == pytest.approx(1e-4, rel=0.01)


def test_wrong_masks_fail(subject: Subject, masks: list[np.ndarray], installed: Path) -> None:
    standin.mediapipe(installed, CLASSIC, [1 - mask for mask in masks])
    gpu_run = run(subject)
    assert gpu_run.verdict == "failed" and "differs by" in (gpu_run.reason or "")


@pytest.mark.parametrize(
    ("log", "reason", "delegated"),
    [
        # the masks are right in all of these: it is the log that tells
        (CLASSIC + standin.PARTIAL + XNNPACK, "refused: LOG_SOFTMAX: Operation is not supported.", 5),
        (CLASSIC + standin.COUNT, "only 5 operators on the GPU", 5),
        (CLASSIC + XNNPACK, "left operators to the CPU", None),
        (CLASSIC.replace("INFO: Created TensorFlow Lite delegate for GPU.\n", ""), "made no GPU delegate", None),
        ("", "exit 0", None),
    ],
)
def test_partial_delegation_is_read_from_the_log(
    log: str, reason: str, delegated: int | None, subject: Subject, masks: list[np.ndarray], installed: Path
) -> None:
    standin.mediapipe(installed, log, masks)
    gpu_run = run(subject)
    assert (gpu_run.verdict, gpu_run.delegated) == ("failed", delegated)
    assert reason in (gpu_run.reason or "")


@pytest.mark.parametrize(
    ("log", "end", "verdict", "reason"),
    [
        (NO_EGL, "exit 1", "not_run", "EGL offers no context: apt-get install libegl1"),
        ("no mediapipe: libGLESv2.so.2: cannot open\n", "exit 3", "not_run", "no mediapipe: libGLESv2.so.2: cannot"),
        (CLASSIC, CRASH, "failed", "crash (SIGSEGV)"),
        ("", CRASH, "failed", "crash (SIGSEGV)"),
        (CLASSIC + "RuntimeError: it broke\n", "exit 1", "failed", "exit 1: RuntimeError: it broke"),
        (
            CLASSIC + "ERROR: TfLiteGpuDelegate Prepare: No shader implementation for split\n",
            "exit 1",
            "failed",
            "TfLiteGpuDelegate Prepare: No shader implementation for split",
        ),
    ],
)
def test_what_ends_before_there_is_a_mask(
    log: str, end: str, verdict: str, reason: str, subject: Subject, installed: Path
) -> None:
    standin.mediapipe(installed, log, None, end)
    gpu_run = run(subject)
    assert gpu_run.verdict == verdict and reason in (gpu_run.reason or "")
    assert gpu_run.delegated is None and gpu_run.max_abs is None


def test_a_hang_is_a_failure(subject: Subject, installed: Path) -> None:
    standin.mediapipe(installed, CLASSIC, None, HANG)
    gpu_run = run(Subject(subject.path, subject.graph, subject.photos, time_limit_s=0.3))
    assert (gpu_run.verdict, gpu_run.reason) == ("failed", "MediaPipe 0.10.21: no result within 0.3 s")


def test_a_missing_environment_is_not_run(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classic, "FOLDER", tmp_path / "gone")
    gpu_run = run(subject)
    assert gpu_run.verdict == "not_run" and "`make check-gpu-classic`" in (gpu_run.reason or "")


def test_missing_libraries_are_not_run(subject: Subject, installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del installed
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None if name == "EGL" else name)
    gpu_run = run(subject)
    assert (gpu_run.verdict, gpu_run.reason) == ("not_run", f"no libEGL: {classic.PACKAGES}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("int8_network", "float files alone"), ("mean_axes_at_run_time", "takes one image")],
)
@pytest.mark.usefixtures("installed")
def test_files_that_it_cannot_be_given_are_not_run(name: str, reason: str, zoo_folder: Path) -> None:
    path = zoo_folder / f"{name}.tflite"
    gpu_run = run(Subject(path, read_graph(path), []))
    assert gpu_run.verdict == "not_run" and reason in (gpu_run.reason or "")


def test_an_output_that_the_segmenter_changes_is_not_compared(
    zoo_folder: Path, photos: list[np.ndarray], installed: Path
) -> None:
    path = zoo_folder / "transpose_conv_v3.tflite"
    standin.mediapipe(installed, CLASSIC, [np.zeros((1, zoo.SIDE, zoo.SIDE, 1), np.float32)] * 3)
    gpu_run = run(Subject(path, read_graph(path), photos[:1]))
    assert gpu_run.verdict == "not_run" and "the segmenter changes it" in (gpu_run.reason or "")


def test_foreign_normalization_is_not_run(zoo_folder: Path, tmp_path: Path) -> None:
    from portraitseg.tflite import metadata

    content = (zoo_folder / "conv.tflite").read_bytes()
    ours = tmp_path / "ours.tflite"
    ours.write_bytes(metadata.attach(content, metadata.Card("network", "unknown", "unknown", "unknown", "rgb")))
    assert why_not(Subject(ours, read_graph(ours), [])) is None


def test_an_installation_that_fails_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    standin.program(python, 'echo "WARNING: retrying" >&2; echo "ERROR: no such package" >&2; exit 1')
    monkeypatch.setattr(classic, "FOLDER", tmp_path / "new")
    monkeypatch.setattr(classic, "_python", lambda: str(python))
    with pytest.raises(InputError, match="python: exit 1: ERROR: no such package"):
        classic.install()
    assert classic.missing() is not None


def test_another_lock_asks_for_another_installation(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("mediapipe==0.10.21\n")
    environment.record(tmp_path, lock)
    assert environment.is_installed(tmp_path, lock)
    lock.write_text("mediapipe==0.10.22\n")
    assert not environment.is_installed(tmp_path, lock)


def test_a_python_that_is_too_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classic, "PYTHON_END", (3, 0))
    monkeypatch.setattr(classic.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="install python3"):
        classic._python()


# ---- mediapipe itself


@pytest.fixture
def real() -> None:
    installed_or_skipped("CLASSIC DELEGATE", classic)


@pytest.mark.full
@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("name", "verdict", "reason"),
    [
        ("conv", "passed", None),
        ("fp16_weights", "passed", None),
        ("arg_max_int32", "failed", "ARG_MAX: Operation is not supported."),
        ("split_in_the_middle", "failed", "LOG_SOFTMAX: Operation is not supported."),
        ("custom_op", "failed", "Encountered unresolved custom op: MyBlur."),
        ("grouped_convolution", "failed", "No shader implementation for split"),
    ],
)
def test_the_delegate_itself(
    name: str, verdict: str, reason: str | None, zoo_folder: Path, photos: list[np.ndarray]
) -> None:
    path = zoo_folder / f"{name}.tflite"
    gpu_run = run(Subject(path, read_graph(path), photos))
    assert gpu_run.verdict == verdict, gpu_run.reason
    assert reason is None or reason in (gpu_run.reason or "")


@pytest.mark.full
@pytest.mark.usefixtures("real")
def test_our_files_on_the_delegate_itself(our_files: dict[str, Path], photos: list[np.ndarray]) -> None:
    for recipe in ("fp32", "fp16"):
        gpu_run = run(Subject(our_files[recipe], read_graph(our_files[recipe]), photos))
        assert gpu_run.verdict == "passed", gpu_run.reason
        assert gpu_run.delegated == gpu_run.nodes


@pytest.mark.full
@pytest.mark.usefixtures("real")
def test_mediapipes_own_model_on_the_delegate_itself(photos: list[np.ndarray]) -> None:
    path = outside.mediapipe_models()[0]
    gpu_run = run(Subject(path, read_graph(path), photos))
    assert gpu_run.verdict == "passed", gpu_run.reason


@pytest.mark.full
@pytest.mark.usefixtures("real")
def test_no_egl_on_mediapipe_itself(subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_FILENAMES", str(tmp_path / "none.json"))
    gpu_run = run(subject)
    assert gpu_run.verdict == "not_run" and "EGL offers no context" in (gpu_run.reason or "")
