import io
import json
import tarfile
from pathlib import Path

import pytest

from portraitseg import files
from portraitseg.checks.gpu import driver
from portraitseg.errors import InputError


def write_icd(folder: Path, name: str, library: str, version: str = "1.3.0") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(
        json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": library, "api_version": version}})
    )
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a Vulkan loader and no driver."""
    for name in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(driver.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(driver, "ICD_FOLDERS", (tmp_path / "icd.d",))
    monkeypatch.setattr(driver, "has_system_loader", lambda: True)
    return tmp_path


def test_a_machine_without_drivers(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert driver.find_drivers() == []
    write_icd(machine / "cache", driver.ICD, f"./{driver.LIBRARY}")
    monkeypatch.setattr(driver, "has_system_loader", lambda: False)
    assert driver.find_drivers() == [], "a driver is of no use without a loader"


def test_finds_swiftshader_and_a_new_lavapipe(machine: Path) -> None:
    write_icd(machine / "cache", driver.ICD, f"./{driver.LIBRARY}")
    write_icd(machine / "icd.d", "lvp_icd.x86_64.json", "/usr/lib/libvulkan_lvp.so", "1.4.305")
    drivers = {one.route: one for one in driver.find_drivers()}
    assert drivers.keys() == {"litert_swiftshader", "litert_lavapipe"}
    assert drivers["litert_lavapipe"].libraries == ("libvulkan_lvp.so",)
    assert drivers["litert_lavapipe"].has_float16 and not drivers["litert_swiftshader"].has_float16


def test_leaves_out_an_old_lavapipe_and_damaged_descriptions(machine: Path) -> None:
    write_icd(machine / "icd.d", "lvp_icd.x86_64.json", "libvulkan_lvp.so", "1.3.230")
    (machine / "icd.d" / "broken.json").write_text("{")
    assert driver.find_drivers() == []


def test_the_environment_decides(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_icd(machine / "cache", driver.ICD, f"./{driver.LIBRARY}")
    icd = write_icd(machine / "own", "lvp.json", "libvulkan_lvp.so", "1.4.0")
    monkeypatch.setenv("VK_ICD_FILENAMES", str(icd))
    (only,) = driver.find_drivers()
    assert only.route == "litert_lavapipe"
    assert only.environment()["VK_ICD_FILENAMES"] == str(icd)
    assert "LD_LIBRARY_PATH" not in only.environment()


def test_the_loader_beside_the_driver_is_used_where_the_system_has_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_icd(machine / "cache", driver.ICD, f"./{driver.LIBRARY}")
    (machine / "cache" / driver.LOADER).write_bytes(b"")
    monkeypatch.setattr(driver, "has_system_loader", lambda: False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    (only,) = driver.find_drivers()
    assert only.environment()["LD_LIBRARY_PATH"] == f"{machine / 'cache'}:/opt/lib"


def archive(entries: dict[str, bytes], links: dict[str, str] | None = None) -> tarfile.TarFile:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as writer:
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            writer.addfile(info)
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            writer.addfile(info, io.BytesIO(content))
    stream.seek(0)
    return tarfile.open(fileobj=stream)


def test_unpacks_by_name_and_never_outside(tmp_path: Path) -> None:
    target = tmp_path / "inside"
    target.mkdir()
    links = {"usr/lib/libvulkan.so.1": "../../../../etc/passwd"}
    entries = {f"../../{driver.LIBRARY}": b"driver", "usr/lib/libvulkan.so.1.3.239": b"loader", "/etc/evil": b"x"}
    driver._unpack(archive(entries, links), {driver.LIBRARY, driver.LOADER}, target)
    assert (target / driver.LIBRARY).read_bytes() == b"driver"
    assert (target / driver.LOADER).read_bytes() == b"loader"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", driver.LIBRARY, driver.LOADER]


def test_a_package_without_the_driver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no libvk_swiftshader"):
        driver._unpack(archive({"readme": b""}), {driver.LIBRARY}, tmp_path)


def test_fetch_does_nothing_where_the_driver_is_whole(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = machine / "cache"
    folder.mkdir()
    (folder / driver.LIBRARY).write_bytes(b"driver")
    driver._finish(folder, "test 1.0")
    monkeypatch.setattr(driver, "_call", lambda *_: pytest.fail("nothing is to be fetched"))
    assert driver.fetch() == folder
    (folder / driver.LIBRARY).write_bytes(b"damaged")
    assert not driver.is_whole(folder)


def test_fetch_tries_the_next_client_and_leaves_nothing_half(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> str:
        (folder / driver.LIBRARY).write_bytes(b"half")
        raise InputError("another SHA-256 than expected")

    def bring(folder: Path) -> str:
        (folder / driver.LIBRARY).write_bytes(b"whole")
        return "package 1.0"

    monkeypatch.setattr(driver.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(driver, "_fetch_npm", refuse)
    monkeypatch.setattr(driver, "_fetch_apt", refuse)
    with pytest.raises(InputError, match=r"npm: another SHA-256.*apt-get: another SHA-256"):
        driver.fetch()
    assert list(machine.iterdir()) == []
    monkeypatch.setattr(driver, "_fetch_apt", bring)
    folder = driver.fetch()
    assert (folder / driver.LIBRARY).read_bytes() == b"whole" and driver.is_whole(folder)
    assert json.loads((folder / driver.RECORD).read_text())["sha256"][driver.LIBRARY] == files.sha256(
        folder / driver.LIBRARY
    )


def test_fetch_without_any_client_says_so(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="install npm, or apt-get on Debian"):
        driver.fetch()
