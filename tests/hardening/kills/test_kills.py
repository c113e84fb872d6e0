"""Kills and faults of disks: few and on a stand-in for `make test`, 50 of each real stage for `make test-full`.

`KILLS=200 make test-full` for more.
"""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmark.measuring.journal import Journal
from tests.hardening.kills import campaign, document, faults, whole
from tests.hardening.kills.campaign import STAGES, STANDIN, Result

ROOT = Path(__file__).parents[3]

KILLS = int(os.environ.get("KILLS", "50"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: a fork of one in which TensorFlow has worked may hang."""
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_kills_of_a_stand_in(tmp_path: Path) -> None:
    done = run("tests.hardening.kills.run", STANDIN, "--kills", "12", "--work", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"{STANDIN}: 12 kills, 3 finished, 0 faults, greatest difference 0"


def test_refusals_of_a_stand_in() -> None:
    done = run("tests.hardening.kills.faults", STANDIN, "--count", "16")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 faults" in done.stdout and "exit 2" in done.stdout


@pytest.mark.full
@pytest.mark.parametrize("name", STAGES)
def test_kills(name: str, tmp_path: Path) -> None:
    done = run("tests.hardening.kills.run", name, "--kills", str(KILLS), "--work", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.full
def test_kills_of_workers(tmp_path: Path) -> None:
    # two machines start for each: a minute on a free core
    done = run("tests.hardening.kills.workers", "--kills", str(KILLS // 10), "--work", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.full
@pytest.mark.parametrize("name", STAGES)
def test_refusals(name: str) -> None:
    done = run("tests.hardening.kills.faults", name, "--count", str(KILLS))
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


@pytest.mark.full
def test_real_disks(tmp_path: Path) -> None:
    if not faults.can_mount(tmp_path / "x"):
        pytest.skip("mounting a small disk needs root")
    done = run("tests.hardening.kills.faults", *STAGES, "--count", "0", "--disks", "6")
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]


# ---- the checks themselves can fail


def make_finished(folder: Path) -> None:
    from tests.hardening.kills.standin.__main__ import app

    here = Path.cwd()
    os.chdir(folder)
    try:
        app(["--run", campaign.RUN, "--seed", "7"])
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    "name", ["best.h5", "state.npz", "config.json", "artifact.json", "../../ios_assets/a/manifest.json"]
)
def test_a_half_file_is_seen(tmp_path: Path, name: str) -> None:
    make_finished(tmp_path)
    assert whole.faults(tmp_path) == []
    path = tmp_path / "runs/a" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(whole.faults(tmp_path)) >= 1


def test_a_half_picture_is_seen(tmp_path: Path) -> None:
    """As the golden masks of an export; one without its last chunk can still be decoded."""
    path = tmp_path / "android_assets/a/golden/portrait.png"
    path.parent.mkdir(parents=True)
    content = cv2.imencode(".png", np.arange(4096, dtype=np.uint8).reshape(64, 64))[1].tobytes()
    for kept, count in ((len(content), 0), (len(content) // 2, 1), (len(content) - 12, 1)):
        path.write_bytes(content[:kept])
        assert len(whole.faults(tmp_path)) == count


def test_a_damaged_record_of_a_journal_is_seen_and_a_cut_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "runs/a/benchmark/journal/b.scores"
    journal = Journal(path, {}, ["iou", "sad"], 3)
    journal.append(np.arange(3), np.ones((3, 2)))
    content = path.read_bytes()
    for kept in (content, content[:-5], content[:10]):
        path.write_bytes(kept)
        assert whole.faults(tmp_path) == []
    path.write_bytes(content[:-30] + b"!" + content[-29:])
    assert len(whole.faults(tmp_path)) == 1


def test_an_export_that_its_manifest_does_not_describe_is_seen(tmp_path: Path) -> None:
    make_finished(tmp_path)
    with (tmp_path / "ios_assets/a/two.mlpackage/weight.bin").open("ab") as file:
        file.write(b"!")
    assert whole.faults(tmp_path)


def test_a_lost_file_is_seen(tmp_path: Path) -> None:
    make_finished(tmp_path)
    before = whole.snapshot(tmp_path)
    (tmp_path / "runs/a/best.h5").unlink()
    result = Result("x")
    campaign.check(result, tmp_path, before)
    assert [line.split(": ")[1] for line in result.lost] == ["runs/a/best.h5"]


def test_a_lost_journal_is_seen_unless_new_results_stand(tmp_path: Path) -> None:
    folder = tmp_path / "runs/a/benchmark"
    journal = Journal(folder / "journal/b.scores", {}, ["iou"], 2)
    journal.append(np.arange(2), np.ones((2, 1)))
    (folder / "results.csv").write_text("of an earlier run")
    before = whole.snapshot(tmp_path)
    (folder / "journal/b.scores").unlink()
    (folder / "journal/.lock").unlink(missing_ok=True)
    for text, lost in (("of an earlier run", 1), ("new", 0)):
        (folder / "results.csv").write_text(text)
        result = Result("benchmark")
        campaign.check(result, tmp_path, before)
        assert len(result.lost) == lost


def test_a_stage_that_says_done_and_left_a_file_out_is_seen(tmp_path: Path) -> None:
    start = campaign.start_of(STANDIN, tmp_path)
    outcome = faults.refused(STANDIN, "disk full", 10**6, start, tmp_path / "x")
    assert outcome.code == 0 and outcome.broken == []
    outcome = faults.refused(STANDIN, "disk full", 10**6, start, tmp_path / "x", {"runs/a/never.h5"})
    assert outcome.broken == ["done, but without runs/a/never.h5"]


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_a_difference_is_seen(value: float) -> None:
    ours, theirs = {"w": np.zeros(3)}, {"w": np.array([0.0, value, 0.0])}
    assert campaign._greatest_difference(ours, theirs) > 1
    assert campaign._greatest_difference(ours, {}) == float("inf")


def test_the_document_holds_the_figures() -> None:
    """`python -m tests.hardening.kills.run --record` and its kin write it."""
    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.filled(text, document.read()) == text
    assert all(f"<!-- {section} -->\n" in text for section in document.TABLES)
