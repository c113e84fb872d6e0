"""Compiles apps/android with its stand-ins and tests, and runs it on a JVM; the Kotlin compiler is in .cache/kotlin."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANDROID = ROOT / "apps/android"
TOOLS = ROOT / ".cache/kotlin"
LIBRARY = TOOLS / "node_modules/kotlin-compiler/lib"
CHILD = ANDROID / "tests/litert_child.py"

SAMPLE = ANDROID / "sample"

#: The network whose constants are compiled in: the one that the sample's Gradle files take.
ASSETS = ROOT / "android_assets/selfie_general"

#: What the compiler itself needs, without its plugins.
_COMPILER = ("compiler", "stdlib", "script-runtime", "reflect", "daemon-client")


def skip_unless_there() -> None:
    """Skips the test, with the reason, where something is missing."""
    if shutil.which("java") is None:
        pytest.skip("Kotlin neither compiled nor run: no java (apt-get install default-jdk-headless)")
    if not LIBRARY.is_dir():
        pytest.skip("Kotlin neither compiled nor run: no compiler in .cache/kotlin (make apps-tools)")


def build(sources: list[Path], jar: Path) -> str:
    """Compiles, warnings being errors; returns what the compiler said, empty for nothing."""
    path = [*(LIBRARY / f"kotlin-{name}.jar" for name in _COMPILER), LIBRARY / "kotlinx-coroutines-core-jvm.jar"]
    command = ["java", "-Xmx1g", "-cp", os.pathsep.join(map(str, path)), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
    options = ["-kotlin-home", str(LIBRARY.parent), "-no-reflect", "-jvm-target", "1.8", "-Werror", "-d", str(jar)]
    result = subprocess.run([*command, *options, *map(str, sources)], capture_output=True, text=True, check=False)
    output = (result.stdout + result.stderr).strip()
    assert (result.returncode == 0) == jar.exists() or output, result.returncode
    return output


def built() -> Path:
    """The jar of the released sources, the sample, the stand-ins and the tests; anew where one of them has changed."""
    skip_unless_there()
    sources = [
        path for folder in (ASSETS / "kotlin", SAMPLE, ANDROID / "tests") for path in sorted(folder.rglob("*.kt"))
    ]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*sources, TOOLS / "package-lock.json"]))
    jar = TOOLS / f"portrait-{digest.hexdigest()[:16]}.jar"
    if not jar.exists():
        for old in TOOLS.glob("portrait-*.jar"):
            old.unlink()
        scratch = jar.with_suffix(f".{os.getpid()}.jar")
        assert not (output := build(sources, scratch)), output
        scratch.replace(jar)
    return jar


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the tests' `main`, whose last two arguments name the Python that runs LiteRT."""
    path = os.pathsep.join(map(str, [built(), LIBRARY / "kotlin-stdlib.jar"]))
    command = ["java", "-Xmx1g", "-ea", "-cp", path, "portrait.tests.MainKt", *arguments, sys.executable, CHILD]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
