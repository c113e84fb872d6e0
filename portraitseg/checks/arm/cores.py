"""Processor cores of real phones, as LiteRT sees them: what the emulator executes and what Linux says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portraitseg import files

_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_DOT = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Core:
    """One core.

    Attributes:
        cpu: of the emulator, which decides what can be executed and what HWCAP says.
        features: of /proc/cpuinfo.
        variant, part, revision: of MIDR; the implementer is Arm. XNNPACK chooses kernels by them.
        caches_kib: level 1, 2 and 3; XNNPACK's tiles depend on them.
        describes: where it is found.
    """

    cpu: str
    features: str
    variant: int
    part: int
    revision: int
    caches_kib: tuple[int, int, int]
    describes: str


#: qemu 7.2 knows no A55 and no A510: they are given the instructions of the A76 and of `max`, and their own names.
_MAX = "max,sve=off,sme=off,pauth-impdef=on"

#: MIDR from Arm's technical reference manuals; the caches are those of common phones.
CORES: Mapping[str, Core] = {
    "cortex-a53": Core("cortex-a53", _BASE, 0, 0xD03, 4, (32, 512, 1024), "small, 2012: no dot product, no fp16"),
    "cortex-a55": Core("cortex-a76", _DOT, 2, 0xD05, 0, (32, 256, 1024), "small, 2017: dot product, fp16"),
    "cortex-a76": Core("cortex-a76", _DOT, 4, 0xD0B, 0, (64, 512, 4096), "big, 2018: dot product, fp16"),
    "cortex-a510": Core(_MAX, f"{_DOT} i8mm bf16", 0, 0xD46, 3, (32, 256, 4096), "small, 2021: i8mm"),
    "cortex-a715": Core(_MAX, f"{_DOT} i8mm bf16", 1, 0xD4D, 0, (64, 512, 8192), "big, 2022: i8mm"),
}


def make_root(core: Core, guest: Path, target: Path) -> Path:
    """A root for the emulator: the guest's folders by links, the core's own /proc/cpuinfo and /sys.

    Without it LiteRT reads those of the x86 host, and crashes when tensors are allocated.
    """
    if target.is_dir():
        return target
    # not `files.replacing`: it would follow the links and write all of the guest to the disk again
    with files.scratch_folder(target.parent) as scratch:
        root = scratch / target.name
        root.mkdir()
        for name in ("etc", "lib", "usr"):
            (root / name).symlink_to(guest.resolve() / name)
        for path, text in _system(core).items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(f"{text}\n")
        root.replace(target)
    return target


def _system(core: Core) -> dict[str, str]:
    cpu = "sys/devices/system/cpu"
    info = [
        "processor\t: 0",
        "BogoMIPS\t: 38.40",
        f"Features\t: {core.features}",
        "CPU implementer\t: 0x41",
        "CPU architecture: 8",
        f"CPU variant\t: {core.variant:#x}",
        f"CPU part\t: {core.part:#x}",
        f"CPU revision\t: {core.revision}",
        "",
    ]
    system = {"proc/cpuinfo": "\n".join(info)}
    system |= {f"{cpu}/{name}": "0" for name in ("possible", "present", "online", "kernel_max")}
    system |= {f"{cpu}/cpu0/cpufreq/cpuinfo_{end}_freq": hz for end, hz in (("max", "2000000"), ("min", "300000"))}
    shared = ("core_cpus", "thread_siblings", "core_siblings", "package_cpus", "cluster_cpus")
    names = ["physical_package_id", "core_id", *(f"{name}_list" for name in shared)]
    system |= {f"{cpu}/cpu0/topology/{name}": "0" for name in names}
    first, second, third = core.caches_kib
    levels = ((1, "Data", first), (1, "Instruction", first), (2, "Unified", second), (3, "Unified", third))
    for index, (level, kind, kib) in enumerate(levels):
        values = {"level": level, "type": kind, "size": f"{kib}K", "coherency_line_size": 64, "shared_cpu_list": 0}
        system |= {f"{cpu}/cpu0/cache/index{index}/{name}": str(value) for name, value in values.items()}
    return system
