"""What was found of a file goes into the manifest beside it, and from there into the benchmark's table."""

import json
from pathlib import Path

import pytest

from benchmark.measuring.model_files import _listed_files
from portraitseg import files, manifest
from portraitseg.checks import record as recording
from portraitseg.checks.arm.check import ArmRun, FileReport, to_checks
from portraitseg.checks.arm.counts import Count
from portraitseg.manifest import Manifest
from tests.runners.tiny import write_tflite
from tests.test_manifest import example

COUNT = Count(22_167_612, 68_200_000, 9, {"dot": 5}, {"xnn_qs8_gemm_ukernel_4x16c4__neondot": 5, "memcpy": 4}, (), True)


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """A file whose manifest lists it."""
    path = write_tflite(tmp_path / "m.tflite")
    content = example()
    content["files"][0] |= {"path": path.name, "sha256": files.sha256(path), "channels": "rgb"}
    content["files"][0]["input"] |= {"shape": [1, 8, 10, 3], "color": "RGB"}
    (tmp_path / manifest.MANIFEST_NAME).write_text(json.dumps(content))
    return path


def record(report: FileReport) -> bool:
    return recording.record(report.path, "arm", to_checks(report))


def found(path: Path, *runs: ArmRun) -> FileReport:
    return FileReport(path, is_half=False, photos=1, reference="ref.tflite", runs=runs)


def listed(path: Path) -> Manifest:
    return manifest.read(Manifest, path.parent / manifest.MANIFEST_NAME)


def test_recorded_as_the_interface_says(path: Path) -> None:
    assert record(found(path, ArmRun("cortex-a76", "passed", max_abs=0.0, count=COUNT, ratio=0.5505)))
    (check,) = listed(path).files[0].arm
    assert (check.core, check.verdict, check.max_abs, check.instructions) == ("cortex-a76", "passed", 0, 22_167_612)
    assert check.ratio_to_reference == 0.5505 and check.reference == "ref.tflite"
    assert check.kernels == ("xnn_qs8_gemm_ukernel_4x16c4__neondot",)
    (model_file,) = _listed_files(path.parent / manifest.MANIFEST_NAME, listed(path))
    assert model_file.arm == "cortex-a76 passed 22.2 M 0.55"


def test_an_export_of_the_same_bytes_keeps_it(path: Path) -> None:
    record(found(path, ArmRun("cortex-a76", "passed", count=COUNT)))
    before = listed(path)
    fresh = before.files[0].model_copy(update={"arm": ()})
    place = path.parent / manifest.MANIFEST_NAME
    assert manifest.extended(place, before.source, [fresh]).files[0].arm == before.files[0].arm
    other = fresh.model_copy(update={"sha256": "0" * 64})
    assert manifest.extended(place, before.source, [other]).files[0].arm == ()


def test_what_does_not_run_replaces_nothing(path: Path) -> None:
    record(found(path, ArmRun("cortex-a76", "passed", count=COUNT)))
    record(found(path, ArmRun("cortex-a76", "not_run", "gone"), ArmRun("cortex-a53", "not_run", "gone")))
    assert [(check.core, check.verdict) for check in listed(path).files[0].arm] == [
        ("cortex-a76", "passed"),
        ("cortex-a53", "not_run"),
    ]


def test_other_bytes_are_not_recorded(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")
    assert not record(found(path, ArmRun("cortex-a76", "passed")))
    assert not record(found(write_tflite(path.parent / "other.tflite"), ArmRun("cortex-a76", "passed")))
