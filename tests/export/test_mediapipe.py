"""The check with real clients: sound files pass, files with damaged metadata do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.quantization.recipes import RECIPES
from portraitseg import files, manifest
from portraitseg.checks.mediapipe import check, command
from portraitseg.checks.mediapipe.check import Benchmarked, Result, Segmented
from portraitseg.contract import CHANNEL_COUNT
from portraitseg.errors import CheckFailed, InputError
from portraitseg.runners import open_runner
from portraitseg.runs import Run
from portraitseg.tflite import _metadata_schema as schema
from portraitseg.tflite import metadata
from portraitseg.tflite.metadata import Card, attach
from tests.export.conftest import Exported
from tests.runners.hostile import write_crashing
from tests.runners.tiny import write_tflite

CARD = Card("tiny", "0", "Apache-2.0", "x", "rgb")


@pytest.mark.parametrize(
    ("channels", "dtype", "reason"),
    [
        ("rgb", "float32", None),
        ("rgb", "uint8", None),
        ("rgba", "float32", None),
        ("rgba", "uint8", "bytes in four channels"),
        ("rgb", "int8", "is int8"),
    ],
)
def test_what_the_segmenter_cannot_be_given(channels: str, dtype: str, reason: str | None, tmp_path: Path) -> None:
    shape = (1, 8, 10, CHANNEL_COUNT[channels])
    quantized = {} if dtype == "float32" else {"scale": 1 / 255, "zero_point": -128 if dtype == "int8" else 0}
    path = write_tflite(tmp_path / f"m-8x10-{channels}-x.tflite", shape=shape, dtype=dtype, **quantized)
    reason_given = check.why_not(open_runner(path))
    assert reason_given is None if reason is None else reason in str(reason_given)


def test_a_file_that_takes_the_interpreter_down_does_not_take_the_check_down(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in a process of its own ended in a"):
        check.examine(write_crashing(tmp_path / "a.tflite"))


def test_litert_benchmark_runs_and_refuses(exported: Exported, tmp_path: Path) -> None:
    _, path = exported.find("-rgba-qat_wi8_ai8_u8.tflite")
    result = check.run_benchmark(path)
    assert result.verdict == "passed" and result.median_ms is not None and result.median_ms > 0
    short = tmp_path / path.name
    short.write_bytes(path.read_bytes()[:20_000])
    refused = check.run_benchmark(short)
    assert refused.verdict == "failed" and refused.reason


RESULTS = [
    Result("a.tflite", Segmented("passed", None, 1e-6, 1e-7, 1.0, ("person",)), Benchmarked("passed", None, 3.2)),
    Result("b.tflite", Segmented("failed", "differs | much", 0.5, 0.2, 0.3), Benchmarked("failed", "exit 1")),
    Result("c.tflite", Segmented("not_run", "is int8"), Benchmarked("passed", None, 1.0)),
]


def test_report(tmp_path: Path) -> None:
    paths = command.write_report(RESULTS, tmp_path / "new")
    text, values = paths[0].read_text(encoding="utf-8"), json.loads(paths[1].read_text(encoding="utf-8"))
    assert "| a.tflite | passed | 1e-06 | 1e-07 | 1.0000 | passed | 3.2 |  |" in text
    assert "differs \\| much; exit 1" in text and "| c.tflite | not_run | – | – | – | passed | 1.0 |" in text
    assert values["mediapipe"] == command.version() and values["files"][0]["segmenter"]["labels"] == ["person"]
    assert [result.has_failed for result in RESULTS] == [False, True, False]


def test_a_failed_file_fails_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = {result.path: result for result in RESULTS}
    monkeypatch.setattr(check, "install", lambda: None)
    monkeypatch.setattr(check, "examine", lambda path: results[path.name])
    paths = [tmp_path / name for name in results]
    with pytest.raises(InputError, match="no such file"):
        command.check_mediapipe(paths, None, None)
    for path in paths:
        path.write_bytes(b"")
    command.check_mediapipe([paths[0], paths[2]], None, None)
    with pytest.raises(CheckFailed, match=r"1 of 3 files .*: b\.tflite"):
        command.check_mediapipe(paths, None, tmp_path)
    assert (tmp_path / "mediapipe.md").exists()
    with pytest.raises(InputError, match=r"name \.tflite files, or a run"):
        command.check_mediapipe([], None, None)


def test_files_of_a_run_are_verified(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run("a")
    with pytest.raises(InputError, match="make export-android RUN=a"):
        command.run_files(run)
    product, path = exported.find("-rgb-fp16.tflite")
    run.android.mkdir(parents=True)
    copy = run.android / path.name
    copy.write_bytes(path.read_bytes())
    source, mask = product.describe(path)
    entry = manifest.FileEntry(
        path=path.name,
        sha256=files.sha256(path),
        bytes=files.size_bytes(path),
        model="tiny",
        channels="rgb",
        recipe="fp16",
        input=source,
        output=mask,
        parity=manifest.Parity(reference="keras", not_run="only made for this test"),
    )
    origin = manifest.Source(
        model="m", config_sha256="0" * 64, git_commit="", seed=0, weights_sha256="0" * 64, data=(), tools={}
    )
    manifest.write(run.android / manifest.MANIFEST_NAME, manifest.Manifest(source=origin, files=(entry,)))
    assert command.run_files(run) == [copy]
    copy.write_bytes(copy.read_bytes() + b"\0")
    with pytest.raises(InputError, match="SHA-256 differs"):
        command.run_files(run)


def test_lock_has_names_versions_and_hashes_only() -> None:
    lines = [line for line in check.LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pinned = [line for line in lines if "==" in line]
    assert any(line.startswith("mediapipe==") for line in pinned)
    assert all("--hash=sha256:" in line or "==" in line or line.strip().startswith("#") for line in lines)
    assert not any("://" in line or "/tmp" in line for line in lines)


@pytest.fixture(scope="module")
def environment() -> None:
    try:
        check.install()
    except InputError as error:
        pytest.skip(f"mediapipe cannot be installed here: {error}")


@pytest.mark.full
@pytest.mark.usefixtures("environment")
class TestSegmenter:
    @pytest.mark.parametrize("end", [*(f"-rgb-{recipe}" for recipe in RECIPES), "-rgba-fp16", "-rgba-qat_wi8_ai8"])
    def test_sound_files(self, exported: Exported, end: str) -> None:
        _, path = exported.find(f"{end}.tflite")
        segmented = check.examine(path).segmenter
        assert (segmented.verdict, segmented.reason, segmented.labels) == ("passed", None, ("person",))

    def test_bytes_in_four_channels_fail_there(self, exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
        """Were this to change, `why_not` would keep a file from the check for no reason."""
        _, path = exported.find("-rgba-qat_wi8_ai8_u8.tflite")
        assert check.examine(path).segmenter.verdict == "not_run"
        monkeypatch.setattr(check, "why_not", lambda runner: None)
        assert check.examine(path).segmenter.verdict == "failed"

    @pytest.mark.parametrize("recipe", ["fp32", "qat_wi8_ai8"])
    @pytest.mark.parametrize("damage", ["std", "mean", "activation", "no normalization", "scrambled", "none at all"])
    def test_damaged_metadata(
        self,
        recipe: str,
        damage: str,
        float_model: Any,
        qat_model: Any,
        calibration: np.ndarray,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        model = float_model if RECIPES[recipe].reference == "float" else qat_model
        content = RECIPES[recipe].convert(model, calibration)
        path = tmp_path / f"m-64x64-rgb-{recipe}.tflite"
        path.write_bytes(attach(content, CARD))
        assert check.examine(path).segmenter.verdict == "passed"
        path.write_bytes(_damaged(content, damage, monkeypatch))
        segmented = check.examine(path).segmenter
        assert segmented.verdict == "failed" and segmented.reason


def _damaged(content: bytes, damage: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    if damage == "none at all":
        return content
    if damage == "scrambled":
        sound = bytearray(attach(content, CARD))
        at = sound.find(metadata.METADATA_IDENTIFIER)
        sound[at - 4 : at + 60] = np.random.default_rng(0).bytes(64)
        return bytes(sound)
    with monkeypatch.context() as patch:
        if damage in ("std", "mean"):
            patch.setattr(metadata, f"_{damage.upper()}", 127.5)
        else:
            patch.setattr(metadata, "_describe", _changed(metadata._describe, damage))
        return attach(content, CARD)


def _changed(describe: Callable[[Card], dict[str, Any]], damage: str) -> Callable[[Card], dict[str, Any]]:
    def describe_wrongly(card: Card) -> dict[str, Any]:
        values = describe(card)
        graph = values["subgraphs"][0]
        if damage == "no normalization":
            del graph["inputs"][0]["process_units"]
        else:
            options = {"activation": schema.ACTIVATIONS.index("SIGMOID"), "min_parser_version": "1.0.0"}
            packed = schema.pack("ImageSegmenterOptions", options, metadata.SEGMENTER_IDENTIFIER)
            graph["custom"] = [{"name": metadata.SEGMENTER_NAME, "data": packed}]
        return values

    return describe_wrongly
