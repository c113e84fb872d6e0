"""Loading, first run and memory of a file in a process of its own; and the same file without XNNPACK."""

from pathlib import Path

import numpy as np
import pytest

from benchmark.measuring import measure
from benchmark.measuring.cold import ColdStart, cold_start
from benchmark.measuring.measure import REFERENCE
from benchmark.measuring.model_files import FOREIGN, ModelFile
from benchmark.measuring.peers import open_file
from benchmark.tables.rows import make_rows
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from tests.runners.tiny import write_tflite


def model_file(path: Path) -> ModelFile:
    return ModelFile(path, path.stem, FOREIGN, None, 1)


def test_a_process_of_its_own_tells_time_and_memory(tmp_path):
    small = cold_start(model_file(write_tflite(tmp_path / "small.tflite", shape=(1, 24, 30, 3))), threads=1)
    assert small.init_ms > 0 and small.first_ms > 0 and small.peak_mb is not None and small.peak_mb >= 0
    large = cold_start(model_file(write_tflite(tmp_path / "large.tflite", shape=(1, 2000, 2000, 3))), threads=1)
    # its input alone has 48 MB, its output 16 MB
    assert large.peak_mb is not None and 64 < large.peak_mb < 400


def test_what_does_not_open_there_is_said_in_a_line(tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no flatbuffer")
    with pytest.raises(InputError, match=r"broken\.tflite: no first run in a process of its own: .*not a TFLite file"):
        cold_start(model_file(broken), threads=1)


def test_without_xnnpack_the_answer_is_the_same(tmp_path):
    path = write_tflite(tmp_path / "m.tflite", shape=(1, 24, 30, 3))
    image = np.random.default_rng(1).integers(0, 256, (24, 30, 3), np.uint8)
    fast, plain = (open_file(model_file(path), 1, with_xnnpack) for with_xnnpack in (True, False))
    assert (fast.delegate, plain.delegate) == ("xnnpack", "none")
    # three products in float32, summed in another order
    np.testing.assert_allclose(fast.predict(image), plain.predict(image), atol=1e-6)
    path.with_suffix(".toml").write_text("invert = true")
    described = open_file(model_file(path), 1, with_xnnpack=False)
    assert described.delegate == "none"
    np.testing.assert_allclose(described.predict(image), 1 - plain.predict(image), atol=1e-6)


def test_first_runs_and_plain_kernels_reach_the_table(workspace, monkeypatch):
    starts = iter([ColdStart(9.0, 5.0, 10.0), ColdStart(7.0, 4.0, 12.0), ColdStart(8.0, 30.0, 11.0)])
    monkeypatch.setattr(measure, "cold_start", lambda model_file, threads: next(starts))
    profile = measure.Profile(warmup=0, rounds=20, budget_s=1.0, starts=3)
    monkeypatch.setitem(measure.PROFILES, "full", profile)
    ours = ModelFile(Path("android_assets/tiny/tiny-24x30-rgb-fp32.tflite"), "tiny", "fp32", "rgb", 1, Path("m.json"))
    dataset = open_dataset(DataConfig(format="folder", root=Path("photos")), seed=7)
    measured = measure.measure(measure.Plan([ours], ours, "full", [1]), dataset, ["test_a"])
    (row,) = make_rows(measured)
    # medians, and the greatest memory
    assert (row.init_ms, row.first_ms, row.peak_mb) == (8.0, 5.0, 12.0)
    assert set(measured.plain_rounds[1][0]) == {ours.name, REFERENCE}
    # a p99 of twenty rounds would be their slowest
    assert row.p99_ms is None
    measured.plain_refused[ours.name] = "not_run: a custom op"
    measured.plain_rounds[1] = [{ours.name: 4.0, REFERENCE: 2.0}] * 20
    assert make_rows(measured)[0].no_xnnpack_reason == "not_run: a custom op"
    measured.plain_refused.clear()
    (row,) = make_rows(measured)
    assert (row.no_xnnpack_p50_ms, row.no_xnnpack_ratio_to_reference, row.no_xnnpack_reason) == (4.0, 2.0, None)
    # what is too noisy to count is no figure
    measured.plain_rounds[1] = [{ours.name: 4.0, REFERENCE: 2.0}] * 15 + [{ours.name: 4.0, REFERENCE: 1.0}] * 5
    (row,) = make_rows(measured)
    assert row.no_xnnpack_p50_ms is None and "reference: latency too noisy" in (row.no_xnnpack_reason or "")
