import json
from pathlib import Path

import pytest

from benchmark.measuring.model_files import _listed_files
from portraitseg import files, manifest
from portraitseg.checks import record as recording
from portraitseg.checks.gpu import report
from portraitseg.checks.gpu.report import FileReport
from portraitseg.checks.gpu.result import GpuRun
from portraitseg.manifest import GpuCheck, Manifest
from tests.test_manifest import example

PASSED = GpuRun("classic_mediapipe", "passed", nodes=3, delegated=3, max_abs=0.001, mean_abs=1e-4, mask_iou=0.99)


@pytest.fixture
def assets(zoo_folder: Path, tmp_path: Path) -> Path:
    """A folder of assets whose manifest lists conv.tflite."""
    path = tmp_path / "conv.tflite"
    path.write_bytes((zoo_folder / "conv.tflite").read_bytes())
    content = example()
    content["files"][0] |= {
        "path": path.name,
        "sha256": files.sha256(path),
        "bytes": path.stat().st_size,
        "channels": "rgb",
    }
    content["files"][0]["input"] |= {"shape": [1, 16, 16, 3], "color": "RGB"}
    (tmp_path / manifest.MANIFEST_NAME).write_text(json.dumps(content))
    return tmp_path


def record(examined: FileReport) -> bool:
    return recording.record(examined.path, "gpu", report.to_checks(examined))


def report_of(path: Path, *runs: GpuRun) -> report.FileReport:
    examined = report.examine(path, photos=[], drivers=[])
    return report.FileReport(path, examined.arithmetic, examined.operators, examined.judgements, runs)


def checks(folder: Path) -> dict[str, GpuCheck]:
    listed = manifest.read(Manifest, folder / manifest.MANIFEST_NAME)
    return {check.route: check for check in listed.files[0].gpu}


def test_what_was_found_is_in_the_manifest_and_in_the_benchmarks_table(assets: Path) -> None:
    assert record(report_of(assets / "conv.tflite", PASSED))
    after = checks(assets)
    # the route that did not run now stays as it was
    assert after.keys() == {"litert_swiftshader", "rules_classic", "rules_mldrift", "classic_mediapipe"}
    assert after["litert_swiftshader"].nodes == 63
    assert (after["classic_mediapipe"].verdict, after["classic_mediapipe"].mask_iou) == ("passed", 0.99)
    path = assets / manifest.MANIFEST_NAME
    (model_file,) = _listed_files(path, manifest.read(Manifest, path))
    assert model_file.gpu is not None and "classic_mediapipe passed 3/3" in model_file.gpu


def test_a_route_that_does_not_run_replaces_none_that_did(assets: Path) -> None:
    path = assets / "conv.tflite"
    record(report_of(path, PASSED))
    record(report_of(path, GpuRun("classic_mediapipe", "not_run", "gone"), GpuRun("web_litert", "not_run", "gone")))
    assert checks(assets)["classic_mediapipe"].verdict == "passed"
    assert checks(assets)["web_litert"].reason == "gone"
    record(report_of(path, GpuRun("classic_mediapipe", "failed", "wrong")))
    assert checks(assets)["classic_mediapipe"].verdict == "failed"


def test_a_file_with_other_bytes_is_not_recorded(assets: Path, zoo_folder: Path) -> None:
    (assets / "conv.tflite").write_bytes((zoo_folder / "add.tflite").read_bytes())
    before = (assets / manifest.MANIFEST_NAME).read_bytes()
    assert not record(report_of(assets / "conv.tflite", PASSED))
    assert (assets / manifest.MANIFEST_NAME).read_bytes() == before


def test_a_foreign_file_has_no_manifest(zoo_folder: Path) -> None:
    assert not record(report_of(zoo_folder / "conv.tflite", PASSED))
