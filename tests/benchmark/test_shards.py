"""`--shard i/n`: several machines score one run, and what comes of it is what one machine makes, to the bit."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark import stage
from benchmark.__main__ import app
from benchmark.measuring import journal as journals
from benchmark.measuring import latency
from benchmark.measuring.measure import score_shard
from benchmark.tables.results import RESULTS
from portraitseg.errors import InputError
from portraitseg.runs import Run
from tests.benchmark.conftest import write_manifest, write_photos
from tests.runners.tiny import write_tflite

OUT = Path("runs/tiny/benchmark")
JOURNAL = OUT / "journal"


@pytest.fixture(autouse=True)
def _calm_machine(monkeypatch):
    # what CI's machines do meanwhile is not under test
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["run", "--run", "tiny", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stderr


def made() -> dict[str, object]:
    """All that says how good the files are: scores by photo, the table's rows without times, the manifests."""
    times = ("ms", "mb", "ratio", "valid", "reason")
    with (OUT / "results.csv").open() as file:
        table = [
            {name: row[name] for name in RESULTS if not any(word in name for word in times)}
            for row in csv.DictReader(file)
        ]
    paths = [OUT / "photos.csv", Path("android_assets/tiny/manifest.json"), Path("runs/tiny/onnx/manifest.json")]
    paths += [path for name in ("robustness.csv", "flicker.csv") if (path := OUT / name).exists()]
    return {"table": table, **{str(path): path.read_bytes() for path in paths}}


@pytest.fixture(scope="module")
def known() -> dict[str, object]:
    return {}


@pytest.fixture
def of_one(workspace, known):
    """What one machine makes; after it the run is as before."""
    if not known:
        for name in ("android_assets", "runs"):
            shutil.copytree(name, f"before/{name}")
        run()
        known |= made()
        for name in ("android_assets", "runs"):
            shutil.rmtree(name)
            shutil.copytree(f"before/{name}", name)
    assert made_nothing()
    return known


def made_nothing() -> bool:
    return not (OUT / "results.csv").exists()


def test_two_shards_make_what_one_run_makes(of_one):
    output = run("--shard", "2/2")
    # test_a has 4 photos, test_b 3: the second part is one photo less
    assert "shard 2/2 is scored; of others this is not there yet: 1/2 (4 photos)" in output and made_nothing()
    output = run("--shard", "1/2")
    assert "not there yet" not in output and made() == of_one and not JOURNAL.exists()


@pytest.mark.full
def test_conditions_are_shared_out_too(workspace):
    run("--robustness")
    expected = made()
    assert str(OUT / "robustness.csv") in expected
    shutil.rmtree(OUT)
    for part in (1, 2, 3):
        run("--shard", f"{part}/3", "--robustness")
    assert made() == expected


def test_a_run_of_all_takes_what_shards_have_and_scores_the_rest(of_one):
    run("--shard", "1/3")
    output = run()
    assert "quality on test_a: 2 of 4 photos are there from before" in output
    assert made() == of_one and not JOURNAL.exists()


def test_a_shard_goes_on_and_makes_again_what_is_damaged(of_one):
    run("--shard", "1/2")
    path = max((JOURNAL / "shard-1-of-2").glob("*.scores"), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    output = run("--shard", "1/2")
    assert "1 of 2 photos are there from before" in output and path.read_bytes() == content
    # the other one finds the damage as well
    path.write_bytes(content[:-3] + b"abc")
    assert "1/2 (1 photos)" in run("--shard", "2/2") and made_nothing()
    run("--shard", "1/2")
    assert made() == of_one


def test_photos_may_lie_elsewhere_but_must_be_the_same(of_one):
    run("--shard", "1/2")
    shutil.copytree("photos", "copy")
    run("--shard", "2/2", "--data", "copy")
    assert made() == of_one
    run("--shard", "1/2")
    write_photos(Path("other"))
    shutil.copy("photos/masks/test_a_0.png", "other/masks/test_a_1.png")
    with pytest.raises(InputError, match=r"shard-1-of-2: scored with another photo \(.*; here .*give all the same"):
        run("--shard", "2/2", "--data", "other")
    # nor does a run of all mix them
    with pytest.raises(InputError, match="shard-1-of-2: scored with another photo"):
        run("--data", "other")


def test_another_file_or_version_is_named(workspace, monkeypatch):
    run("--shard", "1/2")
    with monkeypatch.context() as patched:
        patched.setattr(journals, "METRICS_VERSION", 2)
        with pytest.raises(InputError, match=r"shard-1-of-2: scored with another metrics_version \(1; here 2\)"):
            run("--shard", "2/2")
    header = next((JOURNAL / "shard-1-of-2").glob("*.scores"))
    content = header.read_bytes()
    header.write_bytes(b"{}\n")
    with pytest.raises(InputError, match="shard-1-of-2: scored with another "):
        run("--shard", "2/2")
    header.write_bytes(b"no journal\n")
    with pytest.raises(InputError, match="shard-1-of-2: no scores of this version"):
        run("--shard", "2/2")
    header.write_bytes(content)
    path = write_tflite(Path("android_assets/tiny/tiny-24x30-rgb-fp32.tflite"), shape=(1, 24, 30, 3), name="other")
    write_manifest(path.parent, path.name)
    with pytest.raises(InputError, match="shard-1-of-2: scored with another file"):
        run("--shard", "2/2")


def test_nobody_scores_a_shard_twice_nor_exports_meanwhile(workspace):
    with Run("tiny").locked(is_shared=True):
        with pytest.raises(InputError, match="another process is writing"), Run("tiny").locked():
            pass
        with journals.locked(JOURNAL / "shard-1-of-2"), pytest.raises(InputError, match="another benchmark"):
            run("--shard", "1/2")
        run("--shard", "2/2")
    with Run("tiny").locked(), pytest.raises(InputError, match="another process is writing"):
        run("--shard", "1/2")


def test_who_comes_second_leaves_the_tables_alone(workspace, monkeypatch):
    run("--shard", "1/2")

    def and_the_other_ends(*arguments):
        missing = score_shard(*arguments)
        shutil.rmtree(JOURNAL)
        return missing

    monkeypatch.setattr(stage, "score_shard", and_the_other_ends)
    assert "another machine has written the tables" in run("--shard", "2/2") and made_nothing()


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b"])
def test_a_shard_that_cannot_be_is_refused(workspace, text):
    with pytest.raises(InputError, match="--shard"):
        run("--shard", text)


def test_more_shards_than_photos(of_one):
    for part in range(1, 6):
        run("--shard", f"{part}/5")
    assert made() == of_one and json.loads(Path("runs/tiny/onnx/manifest.json").read_text())
