import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portraitseg.errors import InputError
from portraitseg.runs import Run

ROOT = Path(__file__).parents[1]


@given(name=st.text(max_size=20))
def test_no_name_leaves_the_folders(name: str) -> None:
    try:
        run = Run(name)
    except InputError as error:
        assert repr(name) in str(error)  # noqa: PT017 (either is right)
        return
    for path in (run.folder, run.android, run.ios):
        assert len(path.parts) == 2 and path.parts[1] == name and ".." not in path.parts
    assert name.isascii() and name.isprintable() and " " not in name


@given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True))
def test_plain_names_are_taken(name: str) -> None:
    assert Run(name).folder == Path("runs") / name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "a\n", "-rf", ".hidden", "ä", "a" * 101, "a\0"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="use letters, digits"):
        Run(name)


def test_the_second_of_two_runs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = "from portraitseg import cli, runs\ndef f():\n  with runs.Run('x').locked(): pass\ncli.run(f)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def second() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60, check=False
        )

    with Run("x").locked():
        refused = second()
    assert refused.returncode == 2 and refused.stderr.startswith("error: RUN=x: another process is writing to it: ")
    assert second().returncode == 0


def test_the_lock_is_released_by_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError), Run("x").locked():
        raise ZeroDivisionError
    with Run("x").locked():
        pass


def test_a_file_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/x").touch()
    with pytest.raises(InputError, match="runs/x is a file: move it"), Run("x").locked():
        pass
