"""Every bad input gets exit code 2 and one line, or is used with one counted warning; see docs/bad-input.md."""

import errno
import functools
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from portraitseg import cli, files
from portraitseg.errors import CheckFailed, InputError
from tests.data import bad_cases
from tests.data.bad_cases import CASES, Case, Outcome
from tests.golden import write

ROOT = Path(__file__).parents[1]


@functools.cache
def outcome(case: Case) -> Outcome:
    """Each case runs once, for its own test and for the table."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return bad_cases.run_case(case, Path(folder))
        except bad_cases.NobodyElseError as error:
            warnings.warn(f"NOT TESTED, no permissions that hold: {case.what}: {error}", stacklevel=1)
            pytest.skip(str(error))


def check(case: Case, result: Outcome) -> None:
    assert result.code == case.code, result.lines
    assert not any("Traceback" in line for line in result.lines)
    errors, warned = result.starting("error:"), result.starting("warning:")
    if case.code:
        assert len(errors) == 1 and not warned
        assert all(part in errors[0] for part in case.says), errors[0]
    else:
        assert not errors and len(warned) == bool(case.says)
        assert all(part in warned[0] for part in case.says), warned


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what.replace(" ", "_"))
def test_one_line(case: Case) -> None:
    result = outcome(case)
    check(case, result)
    if case.code:
        # TensorFlow's own lines do not pass through Python's stderr
        assert all(line.startswith(("error:", "photos of ")) for line in result.lines), result.lines


def test_cases_are_told_apart() -> None:
    assert len({case.what for case in CASES}) == len(CASES)


def test_the_table_is_true() -> None:
    """Run `python -m tests.golden.write` where this fails, and look at what changed."""
    expected = bad_cases.table([(case, outcome(case)) for case in CASES])
    assert write.BAD_INPUT.read_text(encoding="utf-8") == expected


@pytest.mark.parametrize(
    "what",
    [
        "text file called .png",
        "12,000×12,000 photo",
        "16-bit RGB photo",
        "photo name that is not UTF-8",
        "RUN with `../`",
    ],
)
def test_as_a_command(what: str, tmp_path: Path) -> None:
    """The same in a process of its own: no traceback on a way that the tests in this process do not take."""
    case = next(case for case in CASES if case.what == what)
    bad_cases.write_photos(tmp_path / "DATA")
    case.prepare(tmp_path)
    check(case, bad_cases.run_process(["-m", "train", *case.arguments], tmp_path))


@pytest.mark.parametrize("side", [12_000, 20_000])
def test_a_huge_photo_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    from portraitseg.data.reading import read_image

    path = tmp_path / "huge.png"
    path.write_bytes(bad_cases.huge_png(side))
    assert path.stat().st_size < 100_000
    start = time.process_time()
    with pytest.raises(InputError, match="megapixels: reduce it"):
        read_image(path)
    assert time.process_time() - start < 1


# ---- what is not the input's fault


def answer(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Of a command that raises the error: by way of Typer, which has its own mind about some of them."""
    app = cli.new_app("test")
    app.callback()(lambda: None)

    @app.command()
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        cli.run(lambda: app(["fail"]))
    return exit_.value.code, capsys.readouterr().err  # type: ignore[return-value]


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(InputError("x: do y"), capsys) == (2, "error: x: do y\n")
    assert answer(CheckFailed("parity"), capsys) == (1, "error: parity\n")
    assert answer(KeyboardInterrupt(), capsys) == (130, "error: interrupted\n")


def test_a_library_that_memory_has_no_room_for(capsys: pytest.CaptureFixture[str]) -> None:
    error = ImportError("cv2.abi3.so: failed to map segment from shared object", name="cv2")
    code, line = answer(error, capsys)
    assert code == 2 and line.startswith("error: out of memory (loading cv2): close other programs")
    # any other is a bug
    with pytest.raises(ImportError):
        cli.run(lambda: (_ for _ in ()).throw(ImportError("no module of that name")))


def test_a_stopped_training_names_the_command_that_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --overwrite, which would begin anew."""
    monkeypatch.setattr(
        sys, "argv", ["/x/train/__main__.py", "fit", "--run", "a", "--overwrite", "--set", "a.b=[1, 2]"]
    )
    code, line = answer(KeyboardInterrupt("stopped after step 3 of 9, state saved in runs/a"), capsys)
    assert code == 130 and line.startswith("error: interrupted: stopped after step 3 of 9, state saved in runs/a; ")
    assert line.endswith("python -m train fit --run a --set 'a.b=[1, 2]'\n")


def test_a_worker_that_the_system_ended(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For real: what a pool raises when one of its processes is gone."""
    monkeypatch.setattr(sys, "argv", ["/x/train/__main__.py", "fit"])
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, pytest.raises(BrokenExecutor) as broken:
        pool.submit(os._exit, 9).result()
    code, line = answer(broken.value, capsys)
    assert code == 2 and line.startswith("error: a worker process was ended from outside") and line.count("\n") == 1
    assert "train.workers" in line and line.endswith("-m train fit\n")


def test_out_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = answer(MemoryError(), capsys)
    assert code == 2 and line.startswith("error: out of memory: ") and line.count("\n") == 1
    with pytest.raises(MemoryError) as numpy_error:
        np.zeros(2**60, np.uint8)
    code, line = answer(numpy_error.value, capsys)
    assert code == 2 and "Unable to allocate" in line and "train.batch_size" in line and line.count("\n") == 1


def test_tensorflow_out_of_memory(capsys: pytest.CaptureFixture[str]) -> None:
    """For real, where TensorFlow cannot get what it asks for: 2**50 bytes are more than there are addresses."""
    from portraitseg.models.keras_route import tf

    with pytest.raises(tf.errors.ResourceExhaustedError) as error:
        tf.zeros([2**25, 2**23])
    code, line = answer(error.value, capsys)
    assert code == 2 and line.startswith("error: out of memory (") and line.count("\n") == 1


def test_a_full_disk_under_copytree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As coremltools puts a package in place: the refusals are gathered as texts, in an error without a number."""

    def refuse(source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source)

    (tmp_path / "made").mkdir()
    (tmp_path / "made/weight.bin").write_bytes(b"1")
    with pytest.raises(shutil.Error) as error:
        shutil.copytree(tmp_path / "made", tmp_path / "a.mlpackage", copy_function=refuse)
    code, line = answer(error.value, capsys)
    assert code == 2 and "a.mlpackage/weight.bin: the disk is full: make room" in line
    # what is no refusal of the system stays a fault of ours
    with pytest.raises(shutil.Error):
        cli.run(lambda: _raise(shutil.Error([("a", "b", "no reason known")])))


def test_tensorflow_on_a_disk_that_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """It has no OSError: a full disk is `ResourceExhaustedError` as well."""
    from portraitseg.models.keras_route import tf

    full = tf.errors.ResourceExhaustedError(None, None, "runs/a/tensorboard/events; No space left on device")
    code, line = answer(full, capsys)
    assert code == 2 and line.startswith(
        "error: runs/a/tensorboard/events; No space left on device: the disk is full: "
    )
    refused = tf.errors.PermissionDeniedError(None, None, "runs/a/tensorboard; Permission denied")
    assert answer(refused, capsys)[0] == 2
    with pytest.raises(tf.errors.PermissionDeniedError):
        cli.run(lambda: _raise(tf.errors.PermissionDeniedError(None, None, "something else")))


def _raise(error: Exception) -> None:
    raise error


def test_another_fault_of_a_library_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a library's own"):
        cli.run(lambda: _raise(RuntimeError("a library's own")))


def test_system_errors_have_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = answer(OSError(28, "No space left on device"), capsys)
    assert (code, line) == (2, "error: system: the disk is full: make room, then run the command again\n")
    code, line = answer(PermissionError(13, "Permission denied", "runs/x"), capsys)
    assert code == 2 and line.startswith("error: runs/x: no permission: ")


def test_our_own_bugs_keep_their_traceback() -> None:
    def bug() -> None:
        raise OSError("no number")

    with pytest.raises(OSError, match="no number"):
        cli.run(bug)


def test_messages_are_one_line_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    _, line = answer(InputError("photo a\nerror: [red]b[/red] [/x] \x1b[31m :cat: \udce9 \u2028"), capsys)
    assert line == "error: photo a\\nerror: [red]b[/red] [/x] \\x1b[31m :cat: \\udce9 \\u2028\n"
    cli.warn("[/x] \r")
    cli.say("[bold]\\[x] é")
    assert capsys.readouterr().err == "warning: [/x] \\r\n[bold]\\[x] é\n"


def test_a_read_only_folder_as_a_command(tmp_path: Path) -> None:
    """As a user who may not write there; root may, so that root becomes nobody for it."""
    (tmp_path / "there").write_text("old")
    tmp_path.chmod(0o555)
    code = (
        "import os; from portraitseg import cli, files; from pathlib import Path; "
        "os.geteuid() or os.setuid(65534); "
        "cli.run(lambda: files.write_text(Path('there'), 'new'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    tmp_path.chmod(0o755)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: there: no permission: ") and done.stderr.count("\n") == 1
    assert (tmp_path / "there").read_text() == "old"
    assert not list(tmp_path.glob(f"{files.TEMPORARY_PREFIX}*"))
