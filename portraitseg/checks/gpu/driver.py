"""Vulkan drivers for LiteRT's GPU accelerator: those that the machine has, and SwiftShader, fetched without root."""

import ctypes.util
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from portraitseg import files
from portraitseg.errors import InputError

#: Where `make gpu-driver` puts SwiftShader; another folder with the same content is named by this variable.
CACHE = Path(__file__).resolve().parents[3] / ".cache" / "gpu-driver"
CACHE_VARIABLE = "PORTRAITSEG_GPU_DRIVER"

LIBRARY, LOADER, ICD, RECORD = "libvk_swiftshader.so", "libvulkan.so.1", "vk_swiftshader_icd.json", "source.json"

#: An npm package whose archive holds SwiftShader and Vulkan's loader; the hashes are of the two files inside.
NPM_PACKAGE = "@sparticuz/chromium@153.0.0"
NPM_ARCHIVE = "package/bin/swiftshader.tar.br"
NPM_SHA256 = {
    LIBRARY: "2f3ceffaaca7d031bc3943f8eacf398a5d9c42c5fe0d15d8840b9acfa630b58e",
    LOADER: "8ee5ac00fd7968e863b05e0f6808057db16a00ad322777e5a05bed51d4f84085",
}

#: Folders in which Linux distributions keep the descriptions of their Vulkan drivers.
ICD_FOLDERS = (Path("/usr/share/vulkan/icd.d"), Path("/usr/local/share/vulkan/icd.d"), Path("/etc/vulkan/icd.d"))

#: Vulkan 1.4 came to lavapipe with Mesa 25, the first that LiteRT accepts.
LAVAPIPE_LEAST = (1, 4)

#: What gets each driver onto a machine that lacks it.
_REMEDIES = {
    "swiftshader": "`make gpu-driver` fetches it",
    "lavapipe": "install mesa-vulkan-drivers 25 or later (Debian 12: apt-get install -t bookworm-backports)",
    "vulkan": "it is that of a graphics card",
}

#: No file of a driver is larger: what says so is not unpacked.
MAX_BYTES = 256 * 1024 * 1024

#: Seconds for one download: 70 MB over a slow line.
DOWNLOAD_S = 600


@dataclass(frozen=True)
class Driver:
    """One way to Vulkan.

    Attributes:
        route: its name in reports, such as `litert_swiftshader`.
        icds: description files, handed over in VK_ICD_FILENAMES.
        libraries: file names of which one must be mapped once LiteRT runs on it.
        loader: folder of libvulkan.so.1 where the system has none.
        has_float16: whether it computes in 16 bits when asked to; SwiftShader never does.
    """

    route: str
    icds: tuple[Path, ...]
    libraries: tuple[str, ...]
    loader: Path | None
    has_float16: bool

    def environment(self) -> dict[str, str]:
        """Variables for a process that is to use this driver and no other."""
        names = os.pathsep.join(str(path) for path in self.icds)
        variables = {"VK_ICD_FILENAMES": names, "VK_DRIVER_FILES": names}
        if self.loader is not None:
            old = os.environ.get("LD_LIBRARY_PATH")
            variables["LD_LIBRARY_PATH"] = str(self.loader) + (os.pathsep + old if old else "")
        return variables


def find_drivers() -> list[Driver]:
    """The drivers of this machine: those in VK_ICD_FILENAMES, SwiftShader in its folder, lavapipe, graphics cards."""
    cache = cache_folder()
    loader = None if has_system_loader() else cache if (cache / LOADER).is_file() else None
    if loader is None and not has_system_loader():
        return []
    if named := os.environ.get("VK_ICD_FILENAMES") or os.environ.get("VK_DRIVER_FILES"):
        icds = [Path(name) for name in named.split(os.pathsep) if Path(name).is_file()]
    else:
        paths = [path for folder in ICD_FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.json"))]
        icds = [path for path in (cache / ICD, *paths) if path.is_file()]
    by_route: dict[str, list[tuple[Path, str]]] = {}
    for icd in icds:
        library, version = _describe(icd)
        route = _route(library, version)
        if route is not None:
            by_route.setdefault(route, []).append((icd, library))
    return [
        Driver(
            route=route,
            icds=tuple(icd for icd, _ in members),
            libraries=tuple(PurePosixPath(library).name for _, library in members),
            loader=loader,
            has_float16=route != "litert_swiftshader",
        )
        for route, members in by_route.items()
    ]


def named(name: str) -> Driver:
    """One driver of this machine by its short name, `swiftshader`, `lavapipe` or `vulkan` (a graphics card).

    Raises:
        InputError: it is not there.
    """
    drivers = {driver.route.removeprefix("litert_"): driver for driver in find_drivers()}
    if name not in _REMEDIES:
        raise InputError(f"DRIVER={name}: there are {', '.join(_REMEDIES)}")
    if name not in drivers:
        raise InputError(f"no driver '{name}' (there are: {', '.join(drivers) or 'none'}): {_REMEDIES[name]}")
    return drivers[name]


def cache_folder() -> Path:
    """The folder of the fetched driver."""
    return Path(os.environ.get(CACHE_VARIABLE) or CACHE)


def has_system_loader() -> bool:
    """Whether the system's own libvulkan.so.1 is found without our help."""
    return ctypes.util.find_library("vulkan") is not None


def _describe(icd: Path) -> tuple[str, tuple[int, ...]]:
    """Library and Vulkan version of a driver's description; an unreadable one has no library."""
    try:
        entry = json.loads(icd.read_text())["ICD"]
        version = tuple(int(part) for part in str(entry.get("api_version", "0")).split("."))
        return str(entry["library_path"]), version
    except (OSError, ValueError, KeyError, TypeError):
        return "", ()


def _route(library: str, version: tuple[int, ...]) -> str | None:
    if not library:
        return None
    if "swiftshader" in library:
        return "litert_swiftshader"
    if "lvp" in library:
        return "litert_lavapipe" if version >= LAVAPIPE_LEAST else None
    # the drivers of graphics cards are installed everywhere, the cards are not
    return "litert_vulkan" if any(Path("/dev").glob("dri/render*")) or Path("/dev/nvidia0").exists() else None


def fetch(folder: Path | None = None) -> Path:
    """Fetches SwiftShader into its folder, by npm or by apt; does nothing where it is there and whole.

    Returns:
        The folder.

    Raises:
        InputError: neither client is there, or none of them brought what was expected.
    """
    destination = folder or cache_folder()
    if is_whole(destination):
        return destination
    routes: list[tuple[str, Callable[[Path], str]]] = [("npm", _fetch_npm), ("apt-get", _fetch_apt)]
    failures = []
    for client, route in routes:
        if shutil.which(client) is None:
            failures.append(f"{client}: not installed")
            continue
        try:
            with files.replacing(destination) as scratch:
                scratch.mkdir()
                origin = route(scratch)
                _finish(scratch, origin)
            return destination
        except (OSError, subprocess.SubprocessError, tarfile.TarError, InputError) as error:
            failures.append(f"{client}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}")
    raise InputError(f"no GPU driver fetched ({'; '.join(failures)}): install npm, or apt-get on Debian")


def is_whole(folder: Path) -> bool:
    """Whether a fetched driver is there with the hashes that were recorded when it came."""
    try:
        record = json.loads((folder / RECORD).read_text())
        return all(files.sha256(folder / name) == digest for name, digest in record["sha256"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _finish(folder: Path, origin: str) -> None:
    """Writes the driver's description and the record of where it came from."""
    icd = {"file_format_version": "1.0.0", "ICD": {"library_path": f"./{LIBRARY}", "api_version": "1.1.0"}}
    files.write_json(folder / ICD, icd)
    names = [path.name for path in sorted(folder.iterdir())]
    files.write_json(folder / RECORD, {"package": origin, "sha256": {n: files.sha256(folder / n) for n in names}})


def _fetch_npm(folder: Path) -> str:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        _call(["npm", "pack", NPM_PACKAGE, "--silent", "--pack-destination", str(scratch)])
        packed = scratch / "swiftshader.tar.br"
        with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
            member = archive.getmember(NPM_ARCHIVE)
            _copy(archive, member, packed)
        plain = scratch / "swiftshader.tar"
        # the brotli package is no dependency of ours, and whoever has npm has node
        program = (
            "const z=require('zlib'),f=require('fs'),[i,o]=process.argv.slice(1);"
            "f.writeFileSync(o,z.brotliDecompressSync(f.readFileSync(i)))"
        )
        _call(["node", "-e", program, str(packed), str(plain)])
        with tarfile.open(plain) as archive:
            _unpack(archive, {LIBRARY, LOADER}, folder)
    for file, expected in NPM_SHA256.items():
        if files.sha256(folder / file) != expected:
            raise InputError(f"{NPM_PACKAGE}: {file} has another SHA-256 than expected")
    return NPM_PACKAGE


def _fetch_apt(folder: Path) -> str:
    """Debian's package, whose hash apt checks against the signed lists; state and cache are our own, so no root."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (scratch / "state/lists/partial").mkdir(parents=True)
        (scratch / "cache/archives/partial").mkdir(parents=True)
        options = ["-qq", "-o", f"Dir::State={scratch / 'state'}", "-o", f"Dir::Cache={scratch / 'cache'}"]
        # the status file says which packages are installed; download does not need to know
        options += ["-o", "Dir::State::status=/var/lib/dpkg/status", "-o", "APT::Sandbox::User="]
        _call(["apt-get", *options, "update"], scratch)
        packages = {"chromium-common": {LIBRARY}} | ({} if has_system_loader() else {"libvulkan1": {LOADER}})
        _call(["apt-get", *options, "download", *packages], scratch)
        for package, names in packages.items():
            deb = next(scratch.glob(f"{package}_*.deb"))
            with _deb_content(deb) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
                _unpack(archive, names, folder)
        return ", ".join(sorted(path.stem for path in scratch.glob("*.deb")))


@contextmanager
def _deb_content(deb: Path) -> Iterator[IO[bytes]]:
    """The files of a .deb as a tar stream, which ends early once we have what we want."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout
        process.terminate()


def _unpack(archive: tarfile.TarFile, names: set[str], folder: Path) -> None:
    """Takes the named libraries out of an archive, wherever in it they are; follows versioned symbolic links by name.

    Raises:
        InputError: one of them is not there.
    """
    missing = set(names)
    for member in _members(archive):
        base = PurePosixPath(member.name).name
        # libvulkan.so.1 is a link to libvulkan.so.1.3.239, which is the file to take
        library = next((name for name in missing if base == name or base.startswith(f"{name}.")), None)
        if library is not None and member.isfile():
            _copy(archive, member, folder / library)
            missing.discard(library)
        if not missing:
            return
    raise InputError(f"the package holds no {', '.join(sorted(missing))}")


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    while (member := archive.next()) is not None:
        yield member


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, destination: Path) -> None:
    """Writes one file of an archive under a name of ours: paths inside the archive decide nothing."""
    if not member.isfile() or member.size > MAX_BYTES:
        raise InputError(f"{member.name}: not a plain file, or larger than a driver is")
    source = archive.extractfile(member)
    assert source is not None
    with source, destination.open("wb") as file:
        shutil.copyfileobj(source, file)
    destination.chmod(0o755)


def _call(command: list[str], folder: Path | None = None) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
    if result.returncode:
        # apt's reason is in its last lines, npm's in its first
        lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        raise InputError(f"{command[0]} {command[-1]}: exit {result.returncode}: {' '.join(lines[:2])[:300]}")
