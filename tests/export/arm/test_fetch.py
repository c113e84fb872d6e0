"""What is fetched and what is refused: another hash, a mirror without a package, a machine that is not whole."""

import json
import re
import zipfile
from pathlib import Path

import pytest

from portraitseg import files
from portraitseg.checks.arm import fetch
from portraitseg.checks.gpu import environment
from portraitseg.errors import InputError


def stand_in(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of our own, in front of the real one."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def test_pins_are_whole_and_name_no_address() -> None:
    debs, wheels = fetch._pins()
    assert {deb.architecture for deb in debs} == {"amd64", "arm64"} and len(wheels) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", item.sha256) for item in (*debs, *wheels))
    assert "://" not in fetch.PACKAGES.read_text()
    assert debs[0].file == f"qemu-user_{debs[0].version.replace(':', '%3a')}_amd64.deb"


def test_a_mirror_without_a_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        tmp_path,
        "apt-get",
        'case "$*" in *update*) exit 0;; esac; echo "E: Version not found" >&2; exit 100',
        monkeypatch,
    )
    with pytest.raises(InputError, match=r"the mirror has no qemu-user .*Version not found.*: put qemu-user_") as error:
        fetch.fetch(tmp_path / "arm")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "arm/machine").exists()


def test_another_hash_is_refused_and_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = fetch._pins()[0][0].file
    stand_in(tmp_path, "apt-get", f'echo other > "{name}"', monkeypatch)
    with pytest.raises(InputError, match=f"{re.escape(name)} has another SHA-256"):
        fetch.fetch(tmp_path / "arm")
    assert not (tmp_path / "arm/downloads" / name).exists()


def test_a_broken_off_download_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there with the right hash is not asked for again."""
    debs = fetch._pins()[0]
    there = fetch.Deb("there", "1", "amd64", "0" * 64)
    monkeypatch.setattr(fetch, "_pins", lambda: ((there, debs[0]), ()))
    monkeypatch.setattr(fetch, "_has", lambda path, digest: digest == "0" * 64)
    stand_in(tmp_path, "apt-get", f'echo "$*" >> {tmp_path}/asked', monkeypatch)
    with pytest.raises(InputError, match="another SHA-256"):
        fetch.fetch(tmp_path / "arm")
    asked = (tmp_path / "asked").read_text()
    assert "download qemu-user=" in asked and "there=1" not in asked


def test_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="apt-get and dpkg-deb are needed"):
        fetch.fetch(tmp_path / "arm")


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no C compiler"):
        fetch.build_plugin(tmp_path)


def test_a_wheel_that_leads_out_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.py", "")
    with pytest.raises(InputError, match="not what a wheel holds"):
        fetch._unpack(path, tmp_path / "site")
    assert not (tmp_path / "evil.py").exists()


def test_a_damaged_machine_is_not_whole(tmp_path: Path) -> None:
    for mark in fetch._MARKS:
        (tmp_path / mark).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / mark).write_text("x")
    hashes = {str(mark): files.sha256(tmp_path / mark) for mark in fetch._MARKS}
    record = {"lock_sha256": files.sha256(fetch.PACKAGES), "sha256": hashes}
    (tmp_path / environment.RECORD).write_text(json.dumps(record))
    assert fetch.is_whole(tmp_path)
    (tmp_path / fetch.QEMU).write_text("damaged")
    assert not fetch.is_whole(tmp_path)


def test_another_host_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.platform, "machine", lambda: "riscv64")
    assert "riscv64" in (fetch.why_not() or "")
