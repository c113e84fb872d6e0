"""A short run of every fuzz target, the same on every machine; `make test-full` lets atheris look for new paths.

`FUZZ_RUNS=1000000 make test-full` for more than 100,000 inputs each.
"""

import contextlib
import importlib.util
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portraitseg.models import checkpoint
from tests.hardening.fuzz.mutate import inputs
from tests.hardening.fuzz.seeds import WORDS, seeds
from tests.hardening.fuzz.targets import SLOW, TARGETS

# `reading` silences Pillow; pytest sets the filters back
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

ROOT = Path(__file__).parents[3]

COUNTS = dict.fromkeys(TARGETS, 600) | {"h5": 6}

FULL_COUNT = os.environ.get("FUZZ_RUNS", "100000")

#: Growth of the process's greatest memory. An image reader may decode 50 megapixels, as RGB and what Pillow needs.
MOST_MB = dict.fromkeys(TARGETS, 150) | {"image": 700, "mat": 400}


_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def forget_peak() -> None:
    """Sets the greatest memory so far back to what is in use, or what an earlier test took would hide all growth."""
    with contextlib.suppress(OSError):
        # 5: the peak of resident memory (proc(5)); only Linux has it
        _CLEAR.write_text("5")


def peak_mb() -> float:
    """Greatest resident memory since `forget_peak`; without Linux's /proc since the process began."""
    if _STATUS.exists():
        return int(next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.skipif(not _CLEAR.exists(), reason="Linux forgets a peak, macOS does not")
def test_growth_shows_after_a_greater_peak() -> None:
    bytes(300_000_000)
    forget_peak()
    before = peak_mb()
    bytearray(b"x") * 200_000_000
    assert 150 < peak_mb() - before < 250


@pytest.mark.parametrize("name", TARGETS)
def test_reads_or_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "READ_LIMIT_S", 5)
    target = TARGETS[name]
    corpus = seeds(name)
    target(corpus[0])
    forget_peak()
    before = peak_mb()
    for number, data in enumerate(inputs(corpus, WORDS, COUNTS[name])):
        start = time.process_time()
        try:
            target(data)
        except Exception as error:
            raise AssertionError(f"{name}: input {number}: {data[:2000]!r}") from error
        assert time.process_time() - start < 1, f"{name}: input {number} takes too long: {data[:2000]!r}"
    assert peak_mb() - before < MOST_MB[name]


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "findings").glob("*")), ids=lambda path: path.name)
def test_what_was_found_stays_mended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what ends is given time, on a full machine too
    monkeypatch.setattr(checkpoint, "READ_LIMIT_S", 1 if path.name.endswith("for_ever") else 3)
    start = time.process_time()
    TARGETS[path.name.partition("-")[0]](path.read_bytes())
    assert time.process_time() - start < 1


@pytest.mark.full
@pytest.mark.parametrize("name", TARGETS)
def test_many(name: str) -> None:
    """Guided by what they reach; those of h5 in forked children."""
    if name not in SLOW and importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed here (it has wheels for Linux only)")
    done = subprocess.run(
        [sys.executable, "-m", "tests.hardening.fuzz.campaign", name, "--runs", FULL_COUNT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert done.stdout.startswith(f"{name}: {FULL_COUNT} inputs ") and done.stdout.endswith("no finding\n")
