"""Scores on disk: what a kill leaves, what makes them stale, and that processes change no figure."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import journal as journals
from benchmark.measuring import latency, scoring
from benchmark.measuring.journal import Journal, locked
from benchmark.measuring.model_files import FOREIGN, ModelFile
from benchmark.measuring.peers import open_file
from benchmark.measuring.robustness import CLEAN, CONDITIONS
from benchmark.measuring.scoring import CHUNK, LEAST_PHOTOS, Scoring, processes
from portraitseg.config import DataConfig
from portraitseg.data import open_dataset
from portraitseg.data.mixed import MixedDataset
from portraitseg.data.shards import ROW, ShardsDataset
from portraitseg.errors import InputError
from portraitseg.manifest import Refine
from portraitseg.refine import EdgeRefiner
from portraitseg.runners import tflite
from tests.benchmark.conftest import write_photos
from tests.runners.tiny import write_tflite

ROOT = Path(__file__).parents[2]
NAMES = ("iou", "boundary_iou")


def write(path: Path, count: int, identity: dict | None = None, done: int | None = None) -> Journal:
    journal = Journal(path, identity or {"file": "a"}, NAMES, count)
    indices = np.arange(count if done is None else done)
    journal.append(indices, np.stack([indices / 10, indices / 100], axis=1).astype(np.float64))
    return journal


def test_a_journal_is_read_as_it_was_written(tmp_path):
    journal = write(tmp_path / "a.scores", 10_000)
    again = Journal(journal.path, {"file": "a"}, NAMES, 10_000)
    assert again.is_complete and journal.is_complete
    np.testing.assert_array_equal(again.column("boundary_iou"), np.arange(10_000) / 100)
    # NaN is a score too: it says that something is wrong
    journal.append(np.array([3]), np.array([[np.nan, np.inf]]))
    assert np.isnan(Journal(journal.path, {"file": "a"}, NAMES, 10_000).column("iou")[3])


@pytest.mark.parametrize(
    ("identity", "names", "count", "version"),
    [
        ({"file": "b"}, NAMES, 5, 1),
        ({"file": "a"}, ("iou", "miou"), 5, 1),
        ({"file": "a"}, NAMES, 6, 1),
        ({"file": "a"}, NAMES, 5, 2),
    ],
)
def test_a_journal_of_something_else_begins_anew(tmp_path, monkeypatch, identity, names, count, version):
    path = write(tmp_path / "a.scores", 5).path
    monkeypatch.setattr(journals, "METRICS_VERSION", version)
    assert not Journal(path, identity, names, count).done.any()


@given(cut=st.integers(0, 400), flipped=st.integers(0, 300))
def test_what_a_kill_cut_short_or_a_disk_spoiled_is_made_again(tmp_path_factory, cut, flipped):
    path = tmp_path_factory.mktemp("journal") / "a.scores"
    write(path, 10)
    content = path.read_bytes()
    begin = content.index(b"\n") + 1
    damaged = bytearray(content[: max(begin, len(content) - cut)])
    position = begin + flipped
    if position < len(damaged):
        damaged[position] ^= 1
    path.write_bytes(damaged)
    again = Journal(path, {"file": "a"}, NAMES, 10)
    whole = (len(damaged) - begin) // 24
    assert again.done.sum() == min(whole, flipped // 24 if position < len(damaged) else whole)
    # whatever was lost: it can be made again, and then all is as before
    missing = np.flatnonzero(~again.done)
    again.append(missing, np.stack([missing / 10, missing / 100], axis=1).astype(np.float64))
    np.testing.assert_array_equal(again.column("iou"), journal_column())


def journal_column() -> np.ndarray:
    return np.arange(10) / 10


def test_one_writer_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(InputError, match="another benchmark"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", {"test_a": 21})
    return open_dataset(DataConfig(format="folder", root=tmp_path / "photos"), seed=7)


def model_file(path: Path) -> ModelFile:
    return ModelFile(path, path.stem, FOREIGN, None, 1)


def score(dataset, *model_files: ModelFile, conditions=(CLEAN,), workers: int = 1) -> Scoring:
    runners = {one.name: open_file(one, threads=1) for one in model_files} if workers == 1 else {}
    made = Scoring(
        list(model_files), dataset, "test_a", list(conditions), Path("journal"), workers=workers, runners=runners
    )
    deque(made.run(), maxlen=0)
    return made


def test_processes_change_no_figure(photos):
    files = [model_file(write_tflite(Path(f"{name}.tflite"), shape=(1, 24, 30, 3))) for name in "ab"]
    files[0] = replace(files[0], refine=Refine(**asdict(EdgeRefiner(side=15))))
    conditions = (CLEAN, *CONDITIONS)
    alone = score(photos, *files, conditions=conditions)
    before = {path.name: sorted_records(path) for path in Path("journal").glob("*.scores")}
    for path in Path("journal").glob("*.scores"):
        path.unlink()
    together = score(photos, *files, conditions=conditions, workers=2)
    assert together.photos_done == 21
    # bit by bit, in whatever order they came
    assert {path.name: sorted_records(path) for path in Path("journal").glob("*.scores")} == before
    quality = together.result("jpeg_50")[files[1].name]
    assert quality.keys == tuple(sorted(photos.keys("test_a"))) and quality.mean("iou") > 0.9
    np.testing.assert_array_equal(quality.values("iou"), alone.result("jpeg_50")[files[0].name].values("iou"))


def sorted_records(path: Path) -> tuple[bytes, list[bytes]]:
    header, _, content = path.read_bytes().partition(b"\n")
    size = 8 + 8 * len(json.loads(header)["columns"])
    return header, sorted(content[start : start + size] for start in range(0, len(content), size))


def test_only_what_is_missing_is_scored(photos, monkeypatch):
    first = model_file(write_tflite(Path("a.tflite"), shape=(1, 24, 30, 3)))
    calls: list[str] = []
    original = tflite.TfliteRunner.run
    monkeypatch.setattr(tflite.TfliteRunner, "run", lambda self, x: calls.append(self.path.name) or original(self, x))
    score(photos, first)
    assert len(calls) == 21
    calls.clear()
    score(photos, first)
    assert calls == []
    # a file more: the others keep their scores
    score(photos, first, model_file(write_tflite(Path("b.tflite"), shape=(1, 24, 30, 3))))
    assert calls == ["b.tflite"] * 21
    calls.clear()
    # other bytes under the same name
    write_tflite(Path("a.tflite"), shape=(1, 24, 30, 3), name="other")
    score(photos, first)
    assert len(calls) == 21
    calls.clear()
    # described otherwise
    Path("a.toml").write_text("invert = false")
    assert score(photos, first).result(CLEAN)[first.name].mean("iou") > 0.9 and calls == []
    Path("a.toml").unlink()
    # a mask was drawn anew; and another list of photos
    mask = next((photos.root / "masks").iterdir())
    os.utime(mask, (1, 1))
    score(photos, first)
    assert len(calls) == 21
    calls.clear()
    shorter = replace(photos, splits={"test_a": photos.keys("test_a")[:9]})
    assert len(score(shorter, first).result(CLEAN)[first.name].keys) == 9 and len(calls) == 9


def test_a_process_that_dies_is_said_in_a_line(photos, monkeypatch):
    one = model_file(write_tflite(Path("a.tflite"), shape=(1, 24, 30, 3)))

    def die(future):
        raise scoring.BrokenProcessPool

    monkeypatch.setattr(scoring.Future, "result", die)
    with pytest.raises(InputError, match=r"died.*--workers"):
        score(photos, one, workers=2)


def test_processes_are_sent_the_names_of_their_photos_alone(photos):
    import pickle

    keys = photos.keys("test_a")[:2]
    part = photos.excerpt(keys)
    assert part.splits == {} and tuple(part.suffixes) == keys
    np.testing.assert_array_equal(part.load(keys[1]).image, photos.load(keys[1]).image)
    with pytest.raises(KeyError):
        part.load(photos.keys("test_a")[5])
    # as much for a long list as for a short one
    longer = replace(photos, suffixes={**photos.suffixes, **{f"more{i}": (".png", ".png") for i in range(1000)}})
    assert len(pickle.dumps(longer.excerpt(keys))) == len(pickle.dumps(part))


def test_an_interrupted_process_leaves_its_chunk(photos):
    one = model_file(write_tflite(Path("a.tflite"), shape=(1, 24, 30, 3)))
    answers = iter([False, False, True])
    worker = scoring._Worker([one], False, {one.name: open_file(one, threads=1)}, is_stopped=lambda: next(answers))
    chunk = scoring.Chunk(photos.keys("test_a"), tuple(range(21)), ((one.name, CLEAN),))
    with pytest.raises(scoring.Stopped):
        worker.score(photos, chunk)
    assert next(answers, None) is None


def test_chunks_are_of_runs_not_of_photos(photos):
    files = [model_file(write_tflite(Path(f"{index}.tflite"), shape=(1, 24, 30, 3))) for index in range(5)]
    made = Scoring(files, photos, "test_a", (CLEAN, *CONDITIONS), Path("journal"), workers=2)
    # thirty runs a photo
    assert [len(chunk.keys) for chunk in made._chunks()] == [1] * 21
    few = Scoring(files[:1], photos, "test_a", (CLEAN,), Path("other"), workers=2)
    assert [len(chunk.keys) for chunk in few._chunks()] == [21]


def test_how_many_processes():
    assert processes(3, 1) == 3 and processes(None, LEAST_PHOTOS - 1) == 1
    assert processes(None, LEAST_PHOTOS) == scoring.cores() >= 1


def test_an_interrupted_benchmark_goes_on(workspace, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setattr(scoring, "CHUNK", 1)
    original, calls = tflite.TfliteRunner.run, []

    def interrupted(self, inputs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, inputs)

    arguments = ["run", "--run", "tiny", "--splits", "test_a"]
    monkeypatch.setattr(tflite.TfliteRunner, "run", interrupted)
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 130 and "2 of 4 photos are kept" in first.stderr
    monkeypatch.setattr(tflite.TfliteRunner, "run", original)
    second = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert second.exit_code == 0 and "2 of 4 photos are there from before" in second.stderr
    # the tables are written: the journals have served
    assert not Path("runs/tiny/benchmark/journal").exists()


@pytest.mark.full
def test_killed_in_the_middle_and_run_again(workspace):
    write_photos(workspace / "many", {"test_a": 400})
    command = [sys.executable, "-m", "benchmark", "run", "--run", "tiny", "--data", "many", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    journal = Path("runs/tiny/benchmark/journal")
    killed = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not any(path.stat().st_size > 3000 for path in journal.glob("*.scores")):
        assert time.monotonic() < until and killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "of 400 photos are there from before" in done.stderr
    resumed = Path("runs/tiny/benchmark/photos.csv").read_text().splitlines()
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert resumed == Path("runs/tiny/benchmark/photos.csv").read_text().splitlines() and len(resumed) == 801
    assert CHUNK < 400


def test_all_of_an_index_and_all_sets_of_a_mix_tell_the_photos(photos, tmp_path):
    rows = np.zeros(5000, ROW)
    shards = ShardsDataset("a", {}, place="a", shards=("x",), index_keys=np.zeros(5000, "S4"), rows=rows)
    before = scoring.identify_photos(shards, ("k",))
    rows["crc"][2500] = 1
    assert scoring.identify_photos(shards, ("k",)) != before
    mixed = MixedDataset("m", {}, members={"one": photos})
    keys = tuple(f"one/{key}" for key in photos.keys("test_a"))
    before = [scoring.identify_photos(mixed, keys, is_copy) for is_copy in (False, True)]
    os.utime(tmp_path / "photos/images/test_a_3.png", (1, 1))
    after = [scoring.identify_photos(mixed, keys, is_copy) for is_copy in (False, True)]
    # a copy has other times
    assert before[0] != after[0] and before[1] == after[1]
