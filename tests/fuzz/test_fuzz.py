"""A short run of every fuzz target, the same on every machine; `make test-full` lets atheris look for new paths."""

import importlib.util
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from portraitseg.models import checkpoint
from tests.fuzz.mutate import inputs
from tests.fuzz.seeds import WORDS, seeds
from tests.fuzz.targets import SLOW, TARGETS

# `reading` silences Pillow; pytest sets the filters back
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")

ROOT = Path(__file__).parents[2]

COUNTS = dict.fromkeys(TARGETS, 2000) | {"image": 1000, "h5": 12}

#: Growth of the process's greatest memory. An image reader may decode 50 megapixels, as RGB and what Pillow needs.
MOST_MB = dict.fromkeys(TARGETS, 150) | {"image": 700, "mat": 400}


def peak_mb() -> float:
    """Greatest resident memory so far; kilobytes on Linux, bytes on macOS."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


@pytest.mark.parametrize("name", TARGETS)
def test_reads_or_refuses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "READ_LIMIT_S", 5)
    target = TARGETS[name]
    corpus = seeds(name)
    target(corpus[0])
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
    monkeypatch.setattr(checkpoint, "READ_LIMIT_S", 3)
    start = time.process_time()
    TARGETS[path.name.partition("-")[0]](path.read_bytes())
    assert time.process_time() - start < 1


@pytest.mark.full
def test_damaged_h5_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process an input, so that these are fewer."""
    monkeypatch.setattr(checkpoint, "READ_LIMIT_S", 5)
    for data in inputs(seeds("h5"), WORDS, 1000, seed=1):
        TARGETS["h5"](data)


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW])
def test_with_coverage(name: str) -> None:
    """100,000 inputs each, guided by what they reach."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed here (it has wheels for Linux only)")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", name, "--runs", "100000"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
