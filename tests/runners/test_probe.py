"""A stranger's .tflite may crash the runtime or never come back: it does so in a process of its own."""

import time
from pathlib import Path

import pytest

from portraitseg.errors import InputError
from portraitseg.runners import tflite
from portraitseg.runners.tflite import probe
from tests.runners import hostile
from tests.runners.tiny import write_tflite


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_sound_file_passes(tmp_path: Path, dtype: str) -> None:
    probe(write_tflite(tmp_path / "x.tflite", dtype=dtype, scale=1 / 255 if dtype == "uint8" else None))


def test_a_crash_is_one_line(tmp_path: Path) -> None:
    path = hostile.write_crashing(tmp_path / "x.tflite")
    with pytest.raises(
        InputError, match=rf"^{path}: running it .* ended in a crash \(SIG[A-Z]+\): take it out"
    ) as error:
        probe(path)
    assert "\n" not in str(error.value)


def test_a_file_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite, "PROBE_LIMIT_S", 1.0)
    path = hostile.write_endless(tmp_path / "x.tflite")
    start = time.process_time()
    with pytest.raises(InputError, match=rf"^{path}: running it took over 1 s .*: take it out"):
        probe(path)
    # it is the child that spins
    assert time.process_time() - start < 0.5


def test_a_file_larger_than_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a TFLite file that runs here|ended in a crash"):
        probe(hostile.write_vast(tmp_path / "x.tflite"))


@pytest.mark.parametrize("content", [b"", b"hello", b"\0\0\0\0TFL3" + bytes(100)])
def test_what_is_no_tflite_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{path}: not a TFLite file that runs here: \S"):
        probe(path)
