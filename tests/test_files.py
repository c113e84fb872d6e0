import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import files
from portraitseg.errors import InputError

ROOT = Path(__file__).parents[1]

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 100
)


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".tmp-*"))


def fill(folder: Path, content: str) -> None:
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").write_text(content)


@settings(max_examples=30, deadline=None)
@given(name=names, old=st.none() | st.binary(max_size=50), new=st.binary(max_size=50))
def test_a_file_is_replaced(tmp_path_factory: pytest.TempPathFactory, name: str, old: bytes | None, new: bytes) -> None:
    path = tmp_path_factory.mktemp("x") / "deeper" / name
    if old is not None:
        path.parent.mkdir()
        path.write_bytes(old)
    with files.replacing(path) as temporary:
        assert temporary.name == name and temporary.parent != path.parent
        temporary.write_bytes(new)
        assert (path.read_bytes() if path.exists() else None) == old
    assert path.read_bytes() == new
    assert [p.name for p in path.parent.iterdir()] == [name]


@pytest.mark.parametrize("can_swap", [True, False])
def test_a_folder_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_swap: bool) -> None:
    if not can_swap:
        monkeypatch.setattr(files, "_swap", lambda one, other: False)
    path = tmp_path / "x.mlpackage"
    for content in ("first", "second"):
        with files.replacing(path) as temporary:
            fill(temporary, content)
            (temporary / f"only {content}").touch()
        assert (path / "inner/file").read_text() == content
        assert sorted(p.name for p in path.iterdir()) == ["inner", f"only {content}"]
    assert not leftovers(tmp_path)


def test_folders_are_swapped_in_one_step_here(tmp_path: Path) -> None:
    """Else a kill between two renames could leave nothing under the name."""
    fill(tmp_path / "a", "a")
    fill(tmp_path / "b", "b")
    assert files._swap(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/inner/file").read_text() == "b" and (tmp_path / "b/inner/file").read_text() == "a"


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), MemoryError(), OSError("no number")])
def test_a_failure_leaves_the_old_one(tmp_path: Path, kind: str, error: BaseException) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        fill(path, "old")
    else:
        path.write_text("old")
    before = files.sha256(path)
    with pytest.raises(type(error)), files.replacing(path) as temporary:  # noqa: PT012 (the body is what fails)
        if kind == "folder":
            fill(temporary, "half")
        else:
            temporary.write_text("half")
        raise error
    assert files.sha256(path) == before and not leftovers(tmp_path)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_written_leaves_the_old_one(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        fill(path, "old")
    else:
        path.write_text("old")
    before = files.sha256(path)
    with pytest.raises(FileNotFoundError), files.replacing(path):
        pass
    assert files.sha256(path) == before and not leftovers(tmp_path)


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    fill(path, "old")
    monkeypatch.setattr(files, "_swap", lambda one, other: False)
    replace = Path.replace

    def fail_on_new(self: Path, target: Path) -> Path:
        if self.name == "x" and target == path:
            raise OSError(errno.EIO, "Input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_on_new)
    with pytest.raises(OSError, match="Input/output"), files.replacing(path) as temporary:
        fill(temporary, "new")
    assert (path / "inner/file").read_text() == "old" and not leftovers(tmp_path)


# ---- disks


FAULTS: dict[str, tuple[int, str]] = {
    "full": (errno.ENOSPC, "the disk is full: make room"),
    "quota": (errno.EDQUOT, "quota of the disk is used up: make room"),
    "read-only": (errno.EROFS, "the disk is read-only: choose a folder"),
    "no permission": (errno.EACCES, "no permission: change"),
}


def raising(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("step", ["mkdtemp", "write", "fsync", "replace"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_disk_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: str) -> None:
    number, message = FAULTS[fault]
    path = tmp_path / "best.h5"
    path.write_text("old")
    with monkeypatch.context() as patch:
        target = {"mkdtemp": (files.tempfile, "mkdtemp"), "fsync": (os, "fsync"), "replace": (Path, "replace")}.get(
            step
        )
        if target:
            patch.setattr(*target, raising(number))
        with pytest.raises(InputError, match=message) as refused, files.replacing(path) as temporary:  # noqa: PT012
            temporary.write_text("new")
            if step == "write":
                raising(number)()
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)
    assert path.read_text() == "old" and not leftovers(tmp_path)


def test_a_fault_of_another_file_is_not_laid_to_this_one(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="elsewhere"), files.replacing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/photo.jpg")


def test_a_disk_that_fills(tmp_path: Path) -> None:
    """For real, by the kernel's limit on file sizes: write(2) itself fails, in the middle."""
    path = tmp_path / "x"
    path.write_text("old")
    code = (
        "import resource, sys; from pathlib import Path; from portraitseg import cli, files; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, resource.getrlimit(resource.RLIMIT_FSIZE)[1])); "
        "cli.run(lambda: files.write_bytes(Path(sys.argv[1]), bytes(100000)))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2 and "x: the file is larger than" in done.stderr and done.stderr.count("\n") == 1
    assert path.read_text() == "old" and not leftovers(tmp_path)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


WRITER = """
import sys, time; from pathlib import Path; from portraitseg import files
with files.replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text('half'); print(flush=True); time.sleep(60)
"""


@contextmanager
def writer_at_work(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the middle of writing a file; killed at the end."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.send_signal(signal.SIGKILL)


def test_a_killed_writer_leaves_the_old_file_and_is_cleared_up(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    stranger = tmp_path / ".tmp-of-another-program"
    with writer_at_work(path):
        [left] = leftovers(tmp_path)
        stranger.mkdir()
        files.write_text(tmp_path / "y", "another file of the folder")
        assert left.exists()  # its owner is still at it
    assert path.read_text() == "old" and left.exists()
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert not left.exists() and stranger.exists()


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on network file systems, which lock no folders."""
    path = tmp_path / "x"
    with writer_at_work(path):
        [left] = leftovers(tmp_path)
    monkeypatch.setattr(files.fcntl, "flock", raising(errno.EBADF))
    files.write_text(path, "new")
    assert left.exists()  # young: its owner may still be at it
    long_ago = time.time() - files.STALE_SECONDS - 60
    os.utime(left, (long_ago, long_ago))
    files.write_text(path, "newer")
    assert path.read_text() == "newer" and not leftovers(tmp_path)


def test_a_folder_that_a_killed_run_had_moved_aside_comes_back(tmp_path: Path) -> None:
    """Where two folders cannot be swapped in one step, a kill may fall between two renames."""
    path = tmp_path / "x"
    fill(path, "old")
    code = (
        "import os, signal, sys; from pathlib import Path; from portraitseg import files\n"
        "files._swap = lambda one, other: False\n"
        "replace = Path.replace\n"
        "def die(self, target):\n"
        "    if target == Path(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replace(self, target)\n"
        "Path.replace = die\n"
        "with files.replacing(Path(sys.argv[1])) as temporary: temporary.mkdir()"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False).returncode == -9
    assert not path.exists()
    files.write_text(tmp_path / "y", "")
    assert (path / "inner/file").read_text() == "old" and not leftovers(tmp_path)


def test_a_scratch_folder_that_was_taken_before_it_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, mkdtemp = [], files.tempfile.mkdtemp

    def make_and_lose(**options: str) -> str:
        made.append(mkdtemp(**options))
        if len(made) == 1:
            os.rmdir(made[0])  # noqa: PTH106 (mkdtemp returns a string)
        return made[-1]

    monkeypatch.setattr(files.tempfile, "mkdtemp", make_and_lose)
    files.write_text(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "new" and len(made) == 2 and not leftovers(tmp_path)


# ---- hashes


@given(content=st.binary(max_size=300))
def test_sha256_of_a_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("x") / "f"
    path.write_bytes(content)
    assert files.sha256(path) == hashlib.sha256(content).hexdigest()
    assert files.size_bytes(path) == len(content)


def test_sha256_of_a_folder(tmp_path: Path) -> None:
    """As documented; a hyphen sorts before the slash."""
    for name in ("a/x", "a-b/x", "é"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    lines = "".join(f"{hashlib.sha256(n.encode()).hexdigest()}  {n}\n" for n in ("a-b/x", "a/x", "é"))
    assert files.sha256(tmp_path) == hashlib.sha256(lines.encode()).hexdigest()
    assert files.size_bytes(tmp_path) == 5 + 3 + 2


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_sha256_of_a_folder_sees_every_change(tmp_path: Path, change: str) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    before = files.sha256(tmp_path)
    if change == "content":
        (tmp_path / "a").write_text("A")
    elif change == "name":
        (tmp_path / "a").rename(tmp_path / "c")
    elif change == "more":
        (tmp_path / "c").touch()
    else:
        (tmp_path / "a").unlink()
    assert files.sha256(tmp_path) != before


def test_json_keys_that_come_twice_are_named() -> None:
    assert files.unique_pairs([("a", 1), ("b", 2)]) == {"a": 1, "b": 2}
    with pytest.raises(ValueError, match="'a' is there twice"):
        files.unique_pairs([("a", 1), ("b", 2), ("a", 3)])
