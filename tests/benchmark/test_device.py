"""The phone benchmark against a stand-in adb, whose transcripts are constructed: no phone was there."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring.model_files import ModelFile
from benchmark.phone import adb
from benchmark.phone.adb import Phone, Vanished, connect, parse_devices
from benchmark.phone.device import Backend, DeviceMeasurement, Timing, backends, parse
from benchmark.tables import history
from portraitseg.errors import InputError
from portraitseg.runs import Run
from tests.runners.tiny import write_tflite

HERE = Path(__file__).parent
TRANSCRIPTS = HERE / "transcripts"
READY = "PHONE1\tdevice\n"
ANSWERS = {"--use_xnnpack": "cpu", "--use_gpu": "gpu", "--use_nnapi": "npu_fallback"}
CPU, GPU, NPU = backends([1])


@pytest.fixture
def stand_in(tmp_path):
    """Writes a scenario; returns the stand-in's path."""

    def write(devices: str = READY, **scenario) -> Path:
        folder = tmp_path / "adb"
        folder.mkdir(exist_ok=True)
        # -S -E: it needs no packages, and starts in a third of the time
        script = f"#!{sys.executable} -SE\n" + (HERE / "stand_in_adb.py").read_text()
        (folder / "adb").write_text(script)
        (folder / "adb").chmod(0o755)
        given = {"devices": devices, "answers": ANSWERS, "transcripts": str(TRANSCRIPTS), **scenario}
        (folder / "scenario.json").write_text(json.dumps(given))
        (folder / "calls.log").write_text("")
        return folder / "adb"

    return write


@pytest.fixture
def files(workspace):
    """The run `tiny`, and a stand-in for benchmark_model that is only ever copied."""
    Path("benchmark_model").write_bytes(b"\x7fELF constructed")
    return workspace


def command(program: Path, *arguments: str):
    given = ["device", "--run", "tiny", "--adb", str(program), "--benchmark-model", "benchmark_model", "--passes", "1"]
    return CliRunner().invoke(app, [*given, *arguments], catch_exceptions=False)


def rows() -> list[dict[str, str]]:
    with Path("runs/tiny/benchmark/device.csv").open() as file:
        return list(csv.DictReader(file))


def transcript(name: str) -> str:
    text = (TRANSCRIPTS / f"{name}.txt").read_text()
    assert text.startswith("CONSTRUCTED")
    return text


def test_noise_of_the_reference_spoils_the_ratios(tmp_path):
    calm, wild = (Timing(2.0, fastest, 2.0, 50, 3.0, 1.0, None, "all") for fastest in (1.9, 1.0))
    ours, theirs = (ModelFile(Path(f"{name}.tflite"), name, "fp32", "rgb", 1) for name in ("ours", "theirs"))
    measured = DeviceMeasurement(Phone(tmp_path, "P"), [ours, theirs], theirs, [GPU])
    measured.timings = {(ours.name, GPU): [calm, calm], (theirs.name, GPU): [calm, wild]}
    mine, other = measured.rows()
    assert not mine.valid and mine.reason.startswith("reference: latency too noisy: p50/fastest 2.00")
    assert not other.valid and other.reason.startswith("latency too noisy") and other.ratio_to_reference == 1


def test_transcripts():
    cpu = parse(transcript("cpu"), CPU)
    # the counted runs, not the warm-up before them
    assert (cpu.median_ms, cpu.fastest_ms, cpu.count, cpu.first_ms) == (4.4, 4.29, 50, 9.12)
    assert (cpu.peak_mb, cpu.delegated) == (14.8125, "all")
    gpu = parse(transcript("gpu"), GPU)
    assert (gpu.median_ms, gpu.init_ms, gpu.delegated) == (2.2, pytest.approx(1265.4), "all")
    assert parse(transcript("gpu_part"), GPU).delegated == "part"
    assert parse(transcript("npu_fallback"), NPU).delegated == "none"
    # a delegate that says nothing took nothing
    assert parse(transcript("cpu"), GPU).delegated == "none"
    old = parse(transcript("old"), CPU)
    assert old.median_ms is None and old.mean_ms == pytest.approx(6.7676)
    assert parse("", CPU) is None and parse("Failed to load model", CPU) is None


def test_table_of_a_phone(files, stand_in):
    program = stand_in()
    write_tflite(Path("other.tflite"), shape=(1, 24, 30, 3))
    done = command(program, "--threads", "1,2", "--reference", "other.tflite")
    assert done.exit_code == 0 and "Constructed Phone 1, Android 15, arm64-v8a" in done.stdout
    table = {(Path(row["file"]).name, row["delegate"], row["threads"]): row for row in rows()}
    # the ONNX file is none of benchmark_model's
    assert len(table) == 2 * 4 and all(name.endswith(".tflite") for name, _, _ in table)
    gpu = table["tiny-24x30-rgb-fp32.tflite", "gpu", ""]
    assert (gpu["valid"], gpu["latency_valid"], gpu["quality_valid"]) == ("true", "true", "false")
    assert (gpu["p50_ms"], gpu["ratio_to_reference"], gpu["rounds"]) == ("2.200", "1.00000", "50")
    assert gpu["reference"] == "other.tflite" and gpu["machine"].startswith("Constructed Phone 1")
    npu = table["tiny-24x30-rgb-fp32.tflite", "npu", ""]
    assert npu["valid"] == "false" and npu["reason"].startswith("not_run: the npu takes no part") and not npu["p50_ms"]
    (record,) = history.read(Path("runs/tiny/benchmark"))
    assert record["kind"] == "device" and record["phone"].startswith("Constructed")
    # nothing is left on the phone, and nobody's file names reach its shell
    calls = (program.parent / "calls.log").read_text()
    assert "rm -rf /data/local/tmp/portraitseg-" in calls.splitlines()[-1]
    assert all("fp32" not in line for line in calls.splitlines() if " shell " in line)


def test_part_of_it_on_the_cpu_and_noise_and_old_versions(files, stand_in):
    command(stand_in(answers={"--use_xnnpack": "old", "--use_gpu": "gpu_part", "--use_nnapi": "crash"}))
    table = {row["delegate"]: row for row in rows() if row["threads"] in ("1", "")}
    assert table["gpu"]["valid"] == "true" and table["gpu"]["reason"] == "part of it runs on the CPU"
    assert table["xnnpack"]["latency_valid"] == "false" and "prints no median" in table["xnnpack"]["reason"]
    assert table["npu"]["reason"] == "not_run: Failed to construct interpreter (exit code 1)"


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("", "no phone: connect one"),
        ("PHONE1\tunauthorized\n", "unauthorized: unlock it and confirm"),
        ("PHONE1\toffline\n", "offline: unplug it"),
        ("PHONE1\tno permissions (missing udev rules?)\n", "udev rule"),
        ("PHONE1\thost\n", "host: look at its screen"),
        ("PHONE1\tdevice\nPHONE2\tdevice\n", r"2 phones \(PHONE1, PHONE2\): choose one with --serial"),
    ],
)
def test_no_phone_to_talk_to(stand_in, devices, message):
    with pytest.raises(InputError, match=message):
        connect(stand_in(devices))


def test_one_of_several_phones(stand_in):
    program = stand_in("PHONE1\tunauthorized\nPHONE2\tdevice\n")
    assert connect(program, "PHONE2").serial == "PHONE2"
    with pytest.raises(InputError, match="unauthorized"):
        connect(program, "PHONE1")
    with pytest.raises(InputError, match=r"no such phone \(there are: PHONE1, PHONE2\)"):
        connect(program, "PHONE3")


def test_a_run_that_is_being_written_is_not_measured(files, stand_in):
    with Run("tiny").locked(), pytest.raises(InputError, match="another process"):
        command(stand_in())


def test_no_adb(tmp_path):
    with pytest.raises(InputError, match="platform-tools"):
        connect(tmp_path / "adb")
    (tmp_path / "adb").write_text("")
    with pytest.raises(InputError, match="chmod"):
        connect(tmp_path / "adb")
    (tmp_path / "adb").chmod(0o755)
    (tmp_path / "adb").write_bytes(b"\x7fELF for another machine")
    with pytest.raises(InputError, match=r"cannot be run|no phone"):
        connect(tmp_path / "adb")


def test_a_phone_that_vanishes_leaves_what_was_measured(files, stand_in):
    with pytest.raises(Vanished, match=r"PHONE1: gone while it was measured .*not found"):
        command(stand_in(vanish_after=2))
    table = rows()
    # four backends, of which two were done
    assert len(table) == 2 and len(history.read(Path("runs/tiny/benchmark"))) == 1
    shutil.rmtree("runs/tiny/benchmark")
    with pytest.raises(Vanished):
        command(stand_in(vanish_after=0))
    assert not Path("runs/tiny/benchmark").exists()


def test_a_phone_that_hangs(stand_in, monkeypatch):
    monkeypatch.setattr(adb, "SHORT_S", 5.0)
    phone = Phone(stand_in(hang=True), "PHONE1", timeout_s=0.3)
    with pytest.raises(Vanished, match="no answer for"):
        phone.shell("benchmark_model --graph=x --use_gpu=true")


def test_no_room_and_no_program(files, stand_in):
    with pytest.raises(InputError, match="No space left"):
        command(stand_in(push_fails=True))
    Path("benchmark_model").unlink()
    with pytest.raises(InputError, match="--benchmark-model benchmark_model: no such file"):
        command(stand_in())


def test_benchmark_model_of_litert_cli(files, stand_in, monkeypatch):
    program = stand_in()
    home = Path("home").resolve()
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(InputError, match=r"litert-cli: no .*arm64-v8a/benchmark_model: run `pip install litert-cli`"):
        command(program, "--benchmark-model", "litert-cli")
    cached = home / ".cache/litert-cli/binaries/arm64-v8a/benchmark_model"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"of litert-cli")
    assert command(program, "--benchmark-model", "litert-cli").exit_code == 0
    pushed = [line for line in (program.parent / "calls.log").read_text().splitlines() if "push" in line]
    assert str(cached) in pushed[0] and rows()


def test_list_of_devices():
    text = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n"
    assert parse_devices(text) == {} == parse_devices("error: something else")
    assert parse_devices(f"{text}A1\tdevice\nB2  no permissions (user in plugdev group); see [x]\n\n") == {
        "A1": "device",
        "B2": "no permissions (user in plugdev group); see [x]",
    }


def test_backends():
    assert [backend.threads for backend in backends([1, 4])] == [1, 4, None, None]
    assert Backend("gpu", "--use_gpu=true", "GPU") in backends([1])


def test_report_plots_the_phone(files, stand_in, monkeypatch):
    from benchmark.measuring import intervals

    monkeypatch.setattr(intervals, "RESAMPLES", 50)
    CliRunner().invoke(app, ["run", "--run", "tiny", "--splits", "test_a"], catch_exceptions=False)
    command(stand_in())
    CliRunner().invoke(app, ["report", "--run", "tiny", "--photos", "0"], catch_exceptions=False)
    text = Path("runs/tiny/benchmark/report.html").read_text()
    assert "test_a: IoU against latency, gpu, Constructed Phone 1" in text
