"""The emulator, an AArch64 Python and LiteRT's wheel for it, fetched without root by apt-get and pip."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from portraitseg import files
from portraitseg.checks.gpu import environment
from portraitseg.cli import say
from portraitseg.errors import InputError

#: What is fetched, pinned.
PACKAGES = Path(__file__).with_name("packages.toml")

#: Another folder than the checkout's cache is named by this variable.
CACHE_VARIABLE = "PORTRAITSEG_ARM"

#: The library whose symbols name the kernels.
LIBRARY = Path("site/ai_edge_litert/libpywrap_litert_common.so")

QEMU = Path("host/usr/bin/qemu-aarch64")
PYTHON = Path("guest/usr/bin/python3.11")
_MARKS = (QEMU, PYTHON, LIBRARY)

#: No member of a wheel is larger: what says so is not unpacked.
_MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Deb:
    """A Debian package: pinned by version, and by the hash of its file."""

    name: str
    version: str
    architecture: str
    sha256: str

    @property
    def file(self) -> str:
        """As `apt-get download` names it."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"


@dataclass(frozen=True)
class Wheel:
    """A Python package for the emulated machine."""

    name: str
    version: str
    platform: str
    sha256: str


@cache
def _pins() -> tuple[tuple[Deb, ...], tuple[Wheel, ...]]:
    listed = tomllib.loads(PACKAGES.read_text())
    return tuple(Deb(**entry) for entry in listed["deb"]), tuple(Wheel(**entry) for entry in listed["wheel"])


def cache_folder() -> Path:
    """The folder of what was fetched."""
    return Path(os.environ.get(CACHE_VARIABLE) or environment.CACHE / "arm")


def why_not() -> str | None:
    """Why nothing can be emulated here; None where all is there and whole."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return f"the emulator that is fetched runs on Linux on x86-64, not on {sys.platform} on {platform.machine()}"
    if not is_whole(cache_folder() / "machine"):
        return "no emulator: `make check-arm` fetches it (apt-get and pip)"
    return None


def fetch(folder: Path | None = None) -> Path:
    """Fetches what is missing, verifies every file and unpacks; does nothing where all is there and whole.

    A download that broke off goes on with the packages that are missing.

    Returns:
        The folder with `machine/`.

    Raises:
        InputError: another kind of host, a client that is missing, a mirror without one of the packages, another hash.
    """
    target = folder or cache_folder()
    if is_whole(target / "machine"):
        return target
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise InputError(f"check-arm: {why_not()}")
    store = target / "downloads"
    store.mkdir(parents=True, exist_ok=True)
    debs, wheels = _pins()
    say(f"fetching an emulator, Python and LiteRT for AArch64 into {target} (50 MB)")
    for architecture in dict.fromkeys(deb.architecture for deb in debs):
        if wanted := [d for d in debs if d.architecture == architecture and not _has(store / d.file, d.sha256)]:
            _fetch_debs(wanted, store)
    for wheel in wheels:
        if _find_wheel(store, wheel) is None:
            _fetch_wheel(wheel, store)
    with files.replacing(target / "machine") as scratch:
        scratch.mkdir()
        for deb in debs:
            part = scratch / ("guest" if deb.architecture == "arm64" else "host")
            environment.call(["dpkg-deb", "--extract", str(store / deb.file), str(part)])
        _prune(scratch)
        for wheel in wheels:
            path = _find_wheel(store, wheel)
            assert path is not None
            _unpack(path, scratch / "site")
        record = {str(mark): files.sha256(scratch / mark) for mark in _MARKS}
        files.write_json(scratch / environment.RECORD, {"lock_sha256": files.sha256(PACKAGES), "sha256": record})
    return target


def _prune(machine: Path) -> None:
    """Takes away what is never run: 30 other emulators (90 MB), documents, and links that lead nowhere here."""
    for path in (machine / "host/usr/bin").iterdir():
        if path.name != QEMU.name:
            path.unlink()
    for part in ("host", "guest"):
        shutil.rmtree(machine / part / "usr/share", ignore_errors=True)
        for path in (machine / part).rglob("*"):
            if path.is_symlink() and not path.exists():
                path.unlink()


def is_whole(machine: Path) -> bool:
    """Whether the unpacked machine is there, of today's pins, its main files undamaged."""
    try:
        record = json.loads((machine / environment.RECORD).read_text())
        return bool(record["lock_sha256"] == files.sha256(PACKAGES)) and all(
            files.sha256(machine / mark) == digest for mark, digest in record["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _has(path: Path, digest: str) -> bool:
    return path.is_file() and files.sha256(path) == digest


def _find_wheel(store: Path, wheel: Wheel) -> Path | None:
    found = store.glob(f"{wheel.name.replace('-', '_')}-{wheel.version}-*.whl")
    return next((path for path in found if _has(path, wheel.sha256)), None)


def _fetch_debs(debs: list[Deb], store: Path) -> None:
    """By apt, which checks its signed lists; state and cache are our own, so it needs no root and changes nothing."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise InputError("check-arm: apt-get and dpkg-deb are needed to fetch the emulator: use Debian or Ubuntu")
    architecture = debs[0].architecture
    with tempfile.TemporaryDirectory(prefix="check-arm-") as name:
        scratch = Path(name)
        (scratch / "state/lists/partial").mkdir(parents=True)
        (scratch / "cache/archives/partial").mkdir(parents=True)
        (scratch / "status").touch()
        own = ["-qq", "-o", f"Dir::State={scratch / 'state'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
        own += ["-o", f"Dir::State::status={scratch / 'status'}", "-o", "APT::Sandbox::User="]
        own += ["-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures={architecture}"]
        environment.call(["apt-get", *own, "update"], scratch)
        for deb in debs:
            try:
                environment.call(["apt-get", *own, "download", f"{deb.name}={deb.version}"], store)
            except InputError as error:
                raise InputError(
                    f"check-arm: the mirror has no {deb.name} {deb.version} for {deb.architecture} ({error}): put "
                    f"{deb.file} into {store}, or pin another version in {PACKAGES.name}"
                ) from error
            _verify(store / deb.file, deb.sha256)


def _fetch_wheel(wheel: Wheel, store: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", "3.11", "--platform", wheel.platform, "--dest", str(store)]
    try:
        environment.call([*command, f"{wheel.name}=={wheel.version}"])
    except InputError as error:
        raise InputError(f"check-arm: the mirror has no {wheel.name} {wheel.version} ({error})") from error
    if _find_wheel(store, wheel) is None:
        raise InputError(f"check-arm: {wheel.name} {wheel.version} has another SHA-256 than expected")


def _verify(path: Path, digest: str) -> None:
    if not _has(path, digest):
        path.unlink(missing_ok=True)
        raise InputError(f"check-arm: {path.name} has another SHA-256 than expected: fetch it again")


def _unpack(wheel: Path, target: Path) -> None:
    """Files of a wheel; a name that leads out of the folder, or one that is too large, is refused."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if "tests" in parts:
                continue
            if ".." in parts or member.filename.startswith("/") or member.file_size > _MAX_BYTES:
                raise InputError(f"check-arm: {wheel.name}: {member.filename}: not what a wheel holds")
            archive.extract(member, target)


def build_plugin(folder: Path) -> Path:
    """The counting plugin, compiled where it is not there yet.

    Raises:
        InputError: as `build`.
    """
    return build(Path(__file__).with_name("count.c"), folder)


def build(source: Path, folder: Path, options: tuple[str, ...] = ()) -> Path:
    """A library of one C file, compiled by the host's compiler where it is not there yet.

    Raises:
        InputError: no compiler, or it fails.
    """
    library = folder / f"{source.stem}-{files.sha256(source)[:16]}.so"
    if library.is_file():
        return library
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        raise InputError("no C compiler (cc): install gcc")
    with files.replacing(library) as scratch:
        flags = ["-O2", "-std=gnu11", "-fPIC", "-shared", "-Werror=implicit-function-declaration", *options]
        try:
            command = [compiler, *flags, "-o", str(scratch), str(source)]
            subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        except subprocess.CalledProcessError as error:
            line = (error.stderr.strip().splitlines() or ["no reason given"])[0]
            raise InputError(f"{compiler} does not compile {source.name}: {line[:200]}") from error
    return library
