"""The routes in a browser: their traps with a stand-in for node, and Chromium itself where it is there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portraitseg.checks.gpu import environment, web
from portraitseg.checks.gpu.inputs import image_inputs, make_images, make_inputs
from portraitseg.checks.gpu.result import GpuRun, Subject
from portraitseg.errors import InputError
from portraitseg.tflite.graph import read_graph
from tests.checks.gpu import standin
from tests.checks.gpu.conftest import installed as installed_or_skipped
from tests.checks.gpu.standin import CRASH, HANG, WEB_LITERT, WEB_MEDIAPIPE, XNNPACK

FACTS = {"adapter": "SwiftShader", "precision": "fp32", "accelerated": True, "browser": "150.0"}


@pytest.fixture
def subject(zoo_folder: Path, photos: list[np.ndarray]) -> Subject:
    path = zoo_folder / "conv.tflite"
    return Subject(path, read_graph(path), photos[:1], time_limit_s=60.0)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which the packages count as installed; `node` is what a test puts there."""
    packages, programs = tmp_path / "packages", tmp_path / "programs"
    packages.mkdir()
    environment.record(packages, web.LOCK)
    monkeypatch.setattr(web, "FOLDER", packages)
    standin.program(programs / "chromium", "exit 1")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv(web.VARIABLE, raising=False)
    return programs


def masks(subject: Subject, library: web.Library) -> list[np.ndarray]:
    graph = subject.graph
    images = image_inputs(graph, make_images(graph, subject.photos))
    inputs = images if library == "mediapipe" else make_inputs(graph, subject.photos)
    return standin.reference_masks(subject.path.read_bytes(), inputs)


def run(subject: Subject, library: web.Library) -> GpuRun:
    by_route = {one.route: one for one in web.run_file(subject)}
    assert by_route.keys() == {"web_mediapipe", "web_litert"}
    assert all(one.nodes == len(subject.graph.ops) for one in by_route.values())
    return by_route[f"web_{library}"]


@pytest.mark.parametrize(("library", "log"), [("mediapipe", WEB_MEDIAPIPE), ("litert", WEB_LITERT)])
def test_masks_decide(library: web.Library, log: str, subject: Subject, machine: Path) -> None:
    expected = masks(subject, library)
    standin.browser(machine, log, FACTS, expected)
    gpu_run = run(subject, library)
    assert (gpu_run.verdict, gpu_run.delegated, gpu_run.reason) == ("passed", 3, None)
    assert (gpu_run.adapter, gpu_run.library) == ("SwiftShader", "Chromium 150.0")
    assert gpu_run.max_abs == pytest.approx(0, abs=1e-6)
    standin.browser(machine, log, FACTS, [1 - mask for mask in expected])
    assert "differs by" in (run(subject, library).reason or "")


@pytest.mark.parametrize(
    ("library", "log", "facts", "reason"),
    [
        # right masks, and a library that says that all is well: the console tells
        ("litert", WEB_LITERT + standin.WEB_PARTIAL, {}, "operators are left to WASM"),
        ("litert", standin.PARTIAL + WEB_LITERT, {}, "refused: LOG_SOFTMAX: Operation is not supported."),
        ("litert", standin.COUNT + WEB_LITERT, {}, "operators are left to WASM"),
        ("litert", WEB_LITERT + standin.WEB_INVALID, {}, "validation error: Binding size for [Buffer"),
        ("litert", WEB_LITERT, {"accelerated": False}, "operators are left to WASM"),
        ("mediapipe", WEB_MEDIAPIPE + XNNPACK, {}, "operators are left to WASM"),
        ("mediapipe", WEB_MEDIAPIPE + standin.PARTIAL, {}, "refused: LOG_SOFTMAX: Operation is not supported."),
        # nothing was drawn on its WebGL context
        ("mediapipe", WEB_MEDIAPIPE, {"accelerated": False}, "operators are left to WASM"),
    ],
)
def test_partial_delegation_is_read_from_the_console(
    library: web.Library, log: str, facts: dict[str, Any], reason: str, subject: Subject, machine: Path
) -> None:
    standin.browser(machine, log, FACTS | facts, masks(subject, library))
    gpu_run = run(subject, library)
    assert gpu_run.verdict == "failed" and reason in (gpu_run.reason or "")


@pytest.mark.parametrize(
    ("log", "facts", "end", "verdict", "reason"),
    [
        ("no browser: chromium does not start: closed\n", None, "exit 3", "not_run", "chromium does not start: closed"),
        ("", {"adapter": None}, "exit 0", "not_run", "the browser offers no GPU"),
        ("Error: page.evaluate: Target crashed\n", None, "exit 1", "failed", "exit 1: page.evaluate: Target crashed"),
        ("", None, CRASH, "failed", "crash (SIGSEGV)"),
        ("", FACTS, "exit 0", "failed", "the page sent no output"),
    ],
)
def test_what_ends_without_masks(
    log: str, facts: dict[str, Any] | None, end: str, verdict: str, reason: str, subject: Subject, machine: Path
) -> None:
    standin.browser(machine, log, facts, None, end)
    for library in ("mediapipe", "litert"):
        gpu_run = run(subject, library)
        assert gpu_run.verdict == verdict and reason in (gpu_run.reason or "")
        assert gpu_run.max_abs is None


def test_outputs_of_another_size_fail(subject: Subject, machine: Path) -> None:
    short = [mask[:, 1:] for mask in masks(subject, "litert")]
    standin.browser(machine, WEB_LITERT, FACTS, short)
    assert "another size" in (run(subject, "litert").reason or "")


def test_an_output_that_the_runtime_does_not_hand_over_is_not_run(
    zoo_folder: Path, photos: list[np.ndarray], machine: Path
) -> None:
    standin.browser(machine, "Error: Element type BOOL is not supported.\n", None, None, "exit 1")
    path = zoo_folder / "hard_cut.tflite"
    gpu_run = run(Subject(path, read_graph(path), photos[:1]), "litert")
    assert (gpu_run.verdict, gpu_run.reason) == ("not_run", "LiteRT's web runtime hands over no bool")


def test_a_hang_is_a_failure(subject: Subject, machine: Path) -> None:
    standin.browser(machine, "", None, None, HANG)
    gpu_run = run(Subject(subject.path, subject.graph, subject.photos, time_limit_s=0.3), "litert")
    assert (gpu_run.verdict, gpu_run.reason) == ("failed", "LiteRT in the browser: no result within 0.3 s")


def test_packages_that_are_missing_are_not_run(
    subject: Subject, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.browser(machine, WEB_LITERT, FACTS, None)
    monkeypatch.setattr(web, "FOLDER", tmp_path / "gone")
    gpu_run = run(subject, "litert")
    assert gpu_run.verdict == "not_run" and "`make check-gpu-web`" in (gpu_run.reason or "")


def test_no_browser_and_an_old_node_are_not_run(
    subject: Subject, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.program(machine / "node", "echo v18.19.0")
    assert "node is 18: install Node.js 20 or later" in (run(subject, "litert").reason or "")
    monkeypatch.setenv(web.VARIABLE, str(machine / "gone"))
    gpu_run = run(subject, "litert")
    assert gpu_run.verdict == "not_run" and "apt-get install chromium" in (gpu_run.reason or "")
    monkeypatch.setenv("PATH", str(machine / "nothing"))
    monkeypatch.setenv(web.VARIABLE, str(machine / "chromium"))
    assert "node is not installed" in (run(subject, "mediapipe").reason or "")


@pytest.mark.parametrize(
    ("name", "library", "reason"),
    [
        ("mean_axes_at_run_time", "mediapipe", "takes one image"),
        ("mean_axes_at_run_time", "litert", "feeds one tensor"),
    ],
)
def test_files_that_the_page_cannot_feed_are_not_run(
    name: str, library: web.Library, reason: str, zoo_folder: Path, machine: Path
) -> None:
    standin.browser(machine, "", FACTS, None)
    path = zoo_folder / f"{name}.tflite"
    gpu_run = run(Subject(path, read_graph(path), []), library)
    assert gpu_run.verdict == "not_run" and reason in (gpu_run.reason or "")


def test_an_installation_that_fails_leaves_nothing_that_counts(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.browser(machine, "", None, None)
    monkeypatch.setattr(web, "FOLDER", tmp_path / "new")
    standin.program(machine / "npm", 'echo "npm warn old" >&2; echo "npm error integrity" >&2; exit 1')
    with pytest.raises(InputError, match="npm: exit 1: npm error integrity"):
        web.install()
    assert web.missing() is not None
    monkeypatch.setenv("PATH", str(machine / "nothing"))
    with pytest.raises(InputError, match=r"no npm: install Node\.js 20 or later"):
        web.install()


def test_the_lock_holds_names_versions_and_hashes_alone() -> None:
    for lock in (web.LOCK, Path(web.__file__).with_name("classic-requirements.lock")):
        text = lock.read_text()
        assert "://" not in text
        assert "sha256:" in text or text.count('"integrity"') == text.count('"node_modules/')


# ---- Chromium itself


@pytest.fixture
def real() -> None:
    installed_or_skipped("BROWSER", web)


@pytest.mark.full
@pytest.mark.usefixtures("real")
@pytest.mark.parametrize(
    ("name", "mediapipe", "litert"),
    [
        ("conv", "passed", "passed"),
        ("fp16_weights", "passed", "passed"),
        ("split_in_the_middle", "LOG_SOFTMAX: Operation is not supported.", "LOG_SOFTMAX: Operation is not supported."),
        ("grouped_convolution", "passed", "validation error: Binding size"),
        ("arg_max_int32", "ARG_MAX: Operation is not supported.", "passed"),
    ],
)
def test_the_browser_itself(name: str, mediapipe: str, litert: str, zoo_folder: Path, photos: list[np.ndarray]) -> None:
    path = zoo_folder / f"{name}.tflite"
    by_route = {one.route: one for one in web.run_file(Subject(path, read_graph(path), photos))}
    for route, expected in (("web_mediapipe", mediapipe), ("web_litert", litert)):
        one = by_route[route]
        assert one.verdict == ("passed" if expected == "passed" else "failed"), one.reason
        assert expected == "passed" or expected in (one.reason or "")


@pytest.mark.full
@pytest.mark.usefixtures("real")
def test_our_files_in_the_browser_itself(our_files: dict[str, Path], photos: list[np.ndarray]) -> None:
    for path in our_files.values():
        for one in web.run_file(Subject(path, read_graph(path), photos)):
            assert one.verdict == "passed", f"{path.name}, {one.route}: {one.reason}"


@pytest.mark.full
@pytest.mark.usefixtures("real")
def test_mediapipe_on_the_cpu_is_noticed(
    zoo_folder: Path, photos: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap itself: the same page asking for the CPU gives right masks, and no operator on the GPU."""
    for source in web.SOURCES.glob("*.mjs"):
        text = source.read_text()
        (tmp_path / source.name).write_text(text.replace('delegate: "GPU"', 'delegate: "CPU"'))
    monkeypatch.setattr(web, "SOURCES", tmp_path)
    path = zoo_folder / "conv.tflite"
    gpu_run = run(Subject(path, read_graph(path), photos), "mediapipe")
    assert (gpu_run.verdict, gpu_run.reason) == ("failed", "operators are left to WASM on the CPU")


@pytest.mark.full
@pytest.mark.usefixtures("real")
def test_a_browser_that_does_not_start_is_not_run(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(web.VARIABLE, "/bin/false")
    gpu_run = run(subject, "litert")
    assert gpu_run.verdict == "not_run" and "/bin/false does not start" in (gpu_run.reason or "")
