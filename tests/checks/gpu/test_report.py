import json
from pathlib import Path

import pytest

from portraitseg.checks.gpu import command, litert, report
from portraitseg.checks.gpu.driver import Driver
from portraitseg.errors import CheckFailed, InputError


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "find_drivers", list)


def test_without_a_driver_the_rules_judge_and_the_run_says_not_run(zoo_folder: Path) -> None:
    classic, mldrift, halves, run = report.check_gpu(zoo_folder / "conv.tflite", drivers=[])
    assert (classic.route, classic.verdict, classic.delegated) == ("rules_classic", "passed", 3)
    assert (mldrift.route, mldrift.verdict) == ("rules_mldrift", "passed")
    assert (halves.route, halves.verdict) == ("range_fp16", "passed")
    assert (run.verdict, run.reason, run.delegated) == ("not_run", litert.NO_DRIVER, None)


def test_a_refusal_names_operator_layer_reason_and_remedy(zoo_folder: Path) -> None:
    classic, *_ = report.check_gpu(zoo_folder / "split_in_the_middle.tflite", drivers=[])
    assert classic.verdict == "failed"
    assert (classic.nodes, classic.delegated) == (10, 5)
    assert classic.reason == (
        "operator 5 LOG_SOFTMAX of layer 'middle': no such operator in the delegate;"
        " export the logits, or end with a sigmoid"
    )


def test_a_report_is_written_as_json_and_markdown(zoo_folder: Path, tmp_path: Path) -> None:
    examined = report.examine(zoo_folder / "squeeze.tflite", drivers=[])
    report.write(examined, tmp_path)
    content = json.loads((tmp_path / "squeeze.gpu.json").read_text())
    assert content["rules"][0]["refusals"][0]["name"] == "SQUEEZE"
    assert content["rules"][0]["fallback"] == [0, 1, 2]
    assert [run["verdict"] for run in content["runs"]] == ["passed", "not_run"]
    text = (tmp_path / "squeeze.gpu.md").read_text()
    assert "| classic | 2 / 5 |" in text and "Remedy: use Reshape" in text


def test_a_run_is_in_the_report(zoo_folder: Path, driver: Driver, tmp_path: Path) -> None:
    examined = report.examine(zoo_folder / "conv.tflite", drivers=[driver])
    assert not examined.has_failed
    *_, run = report.to_checks(examined)
    assert (run.route, run.verdict, run.nodes, run.delegated) == ("litert_swiftshader", "passed", 3, 3)
    report.write(examined, tmp_path)
    assert "SwiftShader" in (tmp_path / "conv.gpu.md").read_text()
    # who computed, in what precision, beside what, and what that cannot show
    assert run.conditions is not None
    for words in ("ML Drift", "32-bit arithmetic of a software driver", "65,504", "TFLite's reference kernels"):
        assert words in run.conditions


@pytest.mark.usefixtures("no_driver")
def test_the_command_passes_sound_files_and_fails_refused_ones(
    zoo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.check_gpu_command([zoo_folder / "conv.tflite"], tmp_path)
    assert (tmp_path / "conv.gpu.json").exists()
    with pytest.raises(CheckFailed, match=r"by a GPU delegate: squeeze\.tflite"):
        command.check_gpu_command([zoo_folder / "conv.tflite", zoo_folder / "squeeze.tflite"])
    printed = capsys.readouterr().out
    assert "conv.tflite" in printed and "not_run" in printed
    assert "squeeze.tflite, rules_classic: operator 1 SQUEEZE of layer 'thin'" in printed


def test_the_command_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name \.tflite files"):
        command.check_gpu_command([])
    with pytest.raises(InputError, match="no such file"):
        command.check_gpu_command([tmp_path / "gone.tflite"])


def test_what_is_wrong_is_said_before_anything_runs(
    zoo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a file was examined")

    monkeypatch.setattr(report, "examine", never)
    text, folder, huge = tmp_path / "text.tflite", tmp_path / "folder.tflite", tmp_path / "huge.tflite"
    text.write_text("hello")
    folder.mkdir()
    with huge.open("wb") as file:
        file.truncate(6 * 2**30)
    sound = zoo_folder / "conv.tflite"
    for bad, words in ((text, "not a TFLite file"), (folder, "directory"), (huge, "more than a file for a phone")):
        with pytest.raises(InputError, match=words):
            command.check_gpu_command([sound, bad])
    with pytest.raises(InputError, match="is a file: name a folder"):
        command.check_gpu_command([sound], text)
    with pytest.raises(InputError, match="2 files are called 'conv'"):
        command.check_gpu_command([sound, sound], tmp_path / "reports")
    with pytest.raises(InputError, match="there are litert, classic, web"):
        command.check_gpu_command([sound], routes=["opencl"])


@pytest.mark.usefixtures("no_driver")
def test_a_foreign_file_with_spaces_and_brackets_in_its_name(
    zoo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my [red] modèle.tflite"
    path.write_bytes((zoo_folder / "conv.tflite").read_bytes())
    command.check_gpu_command([path], tmp_path)
    assert "my [red] modèle.tflite" in capsys.readouterr().out
    assert (tmp_path / "my [red] modèle.gpu.json").exists()


@pytest.mark.usefixtures("no_driver")
def test_the_command_line(zoo_folder: Path, tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from portraitseg.checks.gpu.cli import add_commands

    app = typer.Typer()
    add_commands(app)
    sound = CliRunner().invoke(app, ["check-gpu", str(zoo_folder / "conv.tflite"), "--report", str(tmp_path)])
    assert sound.exit_code == 0, sound.output
    assert (tmp_path / "conv.gpu.md").exists()
    refused = CliRunner().invoke(app, ["check-gpu", str(zoo_folder / "squeeze.tflite")])
    assert isinstance(refused.exception, CheckFailed)
