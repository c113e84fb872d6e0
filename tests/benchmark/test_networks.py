"""The table of networks, and the contest that trains them: the stages themselves are stood in for."""

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmark.__main__ import app
from benchmark.measuring import latency
from benchmark.studies import contest, network_table, networks, readme
from benchmark.tables import results
from portraitseg import files, identity, manifest
from portraitseg.config import load_config
from portraitseg.data import open_dataset
from portraitseg.errors import CheckFailed, InputError
from portraitseg.plots import Point, scatter
from tests.benchmark.conftest import write_manifest
from tests.runners.tiny import write_tflite

NAMES = ("tiny-24x30-rgb-fp32.tflite", "tiny-24x30-rgb-qat_wi8_ai8.tflite")


def export(run: str, out_scale: float = 1.0) -> None:
    """Two files of a run; a smaller scale of the integer one's output darkens its mask."""
    folder = Path("android_assets") / run
    folder.mkdir(parents=True, exist_ok=True)
    write_tflite(folder / NAMES[0], shape=(1, 24, 30, 3))
    write_tflite(folder / NAMES[1], (1, 24, 30, 3), dtype="uint8", scale=1 / 255, out_scale=out_scale / 255)
    write_manifest(folder, *NAMES)


def command(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.fixture
def runs(workspace, monkeypatch):
    monkeypatch.setattr(latency, "MAX_SLOWDOWN", float("inf"))
    monkeypatch.setitem(latency.PROFILES, "quick", latency.Profile(warmup=0, rounds=latency.MIN_ROUNDS, budget_s=1.0))
    export("compare-a")
    export("compare-b", out_scale=0.4)
    return workspace


def test_table_of_two_runs_and_a_peer(runs):
    Path("peers").mkdir()
    write_tflite(Path("peers/other.tflite"), shape=(1, 24, 30, 3))
    arguments = ["--runs", "compare-a,compare-b", "--data", "photos", "--splits", "val,test_a", "--peers", "peers"]
    done = command("networks", *arguments, "--reference", "other.tflite", "--out", "out/networks.csv")
    assert done.exit_code == 0 and "other" in done.stdout
    made = results.read(Path("out/networks.csv"))
    assert made.to_csv() == Path("out/networks.csv").read_text() and made.columns == results.NETWORKS
    rows = made.rows
    assert [(row.network, row.recipe) for row in rows[::2]] == [
        ("a", "fp32"),
        ("a", "qat_wi8_ai8"),
        ("b", "fp32"),
        ("b", "qat_wi8_ai8"),
        ("other", "foreign"),
    ]
    # one 1×1 convolution of three channels to one, with a bias, on 24×30 pixels
    assert {(row.parameters, row.macs, row.size) for row in rows} == {(4, 24 * 30 * 3, "24×30")}
    of = {(row.network, row.recipe, row.split): row for row in rows}
    assert of["a", "fp32", "val"].change is None and of["a", "fp32", "val"].base is None
    # the same file scores the same; the dark one finds nothing
    same, dark = of["b", "fp32", "test_a"], of["b", "qat_wi8_ai8", "test_a"]
    assert (same.base, same.change, same.change_low, same.change_high) == ("a", 0, 0, 0)
    assert dark.iou == 0 and dark.change_high is not None and dark.change_high < -0.9
    assert of["other", "foreign", "val"].change == 0 and of["other", "foreign", "val"].ratio_to_reference == 1
    text = Path("out/networks.md").read_text()
    assert "the same on every photo" in text and "IoU − base val" in text and "| a | 24×30 |  | fp32 | 0.00 M |" in text
    assert sorted(path.name for path in Path("out").glob("*.png")) == [
        "networks-test_a-latency.png",
        "networks-test_a-size.png",
        "networks-val-latency.png",
        "networks-val-size.png",
    ]


def test_of_a_run_as_released_the_fp16_file_stands_for_float(runs):
    folder, half = Path("android_assets/compare-a"), NAMES[0].replace("fp32", networks.STAND_IN)
    (folder / NAMES[0]).rename(folder / half)
    write_manifest(folder, half, NAMES[1])
    command("networks", "--runs", "compare-a", "--data", "photos", "--out", "out/networks.csv")
    assert [row.recipe for row in results.read(Path("out/networks.csv")).rows] == ["fp16", "qat_wi8_ai8"]


def test_readme_takes_the_table(runs):
    command("networks", "--runs", "compare-a", "--data", "photos", "--out", "benchmark/results/networks.csv")
    Path("README.md").write_text("<!-- results:begin networks -->\n<!-- results:end networks -->\n")
    assert command("readme").exit_code == 0
    assert readme.blocks(Path("README.md").read_text())["networks"] == Path("benchmark/results/networks.md").read_text()
    assert command("readme", "--check").exit_code == 0
    Path("other.csv").write_text("network,model\na,b\n")
    with pytest.raises(InputError, match="no column 'valid'"):
        results.read(Path("other.csv"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runs", "tiny"], "no rgb qat_wi8_ai8"),
        (["--runs", "nowhere"], "export it first"),
        (["--runs", ","], "name the runs"),
        (["--runs", "compare-a", "--base", "c"], r"--base c: no such network \(there are: a\)"),
        (["--runs", "compare-a", "--splits", "nowhere"], "no split 'nowhere'"),
        (["--runs", "compare-a", "--profile", "fast"], "quick, full"),
    ],
)
def test_bad_use_of_networks(runs, arguments, message):
    with pytest.raises(InputError, match=message):
        command("networks", "--data", "photos", *arguments)
    assert not Path("benchmark").exists()


def test_two_networks_of_one_name_are_refused_before_anything_is_measured(runs, monkeypatch):
    Path("peers").mkdir()
    write_tflite(Path("peers/b.tflite"), shape=(1, 24, 30, 3))
    monkeypatch.setattr(network_table.Study, "measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(InputError, match="two networks are called 'b'"):
        command("networks", "--data", "photos", "--runs", "compare-a,compare-b", "--peers", "peers")


class Stages:
    """Stands in for `python -m train|export`: leaves the files that the stages would."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.codes: dict[str, int] = {}
        self.ious: dict[str, float] = {}

    def __call__(self, arguments: list[str]) -> int:
        self.calls.append(list(arguments))
        run = contest.Run(arguments[arguments.index("--run") + 1])
        if code := self.codes.get(f"{arguments[0]} {run.name}", 0):
            return code
        iou = {"best_val_iou": self.ious.get(run.name, 0.5)}
        overrides = [value for flag, value in pairwise(arguments) if flag == "--set"]
        if arguments[0] == "train":
            run.folder.mkdir(parents=True, exist_ok=True)
            toml = Path(arguments[arguments.index("--config") + 1])
            config = load_config(toml, ['data.root="photos"', "data.format=folder", *overrides])
            run.config.write_text(config.model_dump_json())
            run.identity.write_text(json.dumps({"training": identity.of_training(config)}))
            run.best.write_bytes(f"{run.name} {config.train.epochs}".encode())
            manifest.add_stage(run.artifact, self._source(run), "train", {"epochs": config.train.epochs, **iou})
        else:
            export(run.name)
            path = run.android / manifest.MANIFEST_NAME
            made = manifest.read(manifest.Manifest, path)
            manifest.write(path, made.model_copy(update={"source": self._source(run)}))
            config = load_config(run.config, overrides)
            # as the export does
            run.config.write_text(config.model_dump_json())
            settings = config.qat.model_dump(mode="json")
            manifest.add_stage(run.artifact, self._source(run), "qat", {"settings": settings})
        return 0

    def _source(self, run: contest.Run) -> manifest.Source:
        config = load_config(run.config)
        trained_on = open_dataset(config.data, config.seed).split_hash("train")
        data = (manifest.DataSource(set="a", split="train", sha256_16=trained_on, licence="none"),)
        given = {
            "model": "tiny",
            "config_sha256": "0" * 64,
            "git_commit": "unknown",
            "seed": 7,
            "data": data,
            "tools": {},
        }
        return manifest.Source(**given, weights_sha256=files.sha256(run.best))


@pytest.fixture
def stages(runs, monkeypatch):
    stand_in = Stages()
    monkeypatch.setattr(contest, "_stage", stand_in)
    contest.CONFIGS.mkdir(parents=True)
    for name, rate in (("c", 0.001), ("d", 0.002)):
        (contest.CONFIGS / f"{name}.toml").write_text(f"[train]\nbatch_size = 2\nlearning_rate = {rate}\n")
    return stand_in


def compete(*arguments: str):
    return command("contest", "--data", "photos", "--out", "out/n.csv", *arguments)


def test_contest_trains_each_on_as_many_photos_and_repeats_nothing(stages):
    assert compete("--models", "c d", "--images", "19").exit_code == 0
    assert [(call[0], call[1], call[3]) for call in stages.calls] == [
        ("train", "fit", "compare-c"),
        ("export", "android", "compare-c"),
        ("train", "fit", "compare-d"),
        ("export", "android", "compare-d"),
    ]
    # two photos an epoch: ten of them; a fifth for QAT
    assert "train.epochs=10" in stages.calls[0] and "qat.epochs=2" in stages.calls[1]
    rows = results.read(Path("out/n.csv")).rows
    assert {(row.network, row.images_seen, row.split) for row in rows} == {("c", 20, "val"), ("d", 20, "val")}
    stages.calls.clear()
    assert compete("--models", "c,d", "--images", "20").exit_code == 0 and stages.calls == []
    # other settings of the export alone make the files anew, and going back to the first does too
    for setting in ("qat.learning_rate=0.007", "", "qat.schedule=constant", ""):
        assert compete("--models", "c d", "--images", "20", *(["--set", setting] if setting else [])).exit_code == 0
        assert [call[:1] + call[3:4] for call in stages.calls] == [["export", "compare-c"], ["export", "compare-d"]]
        assert ("qat.learning_rate=0.007" in stages.calls[0]) == (setting == "qat.learning_rate=0.007")
        # said even where it is none: the export takes from the run's own configuration what is not
        assert ("qat.schedule=null" in stages.calls[0]) == (setting != "qat.schedule=constant")
        stages.calls.clear()
    # a file that is not what was exported is made again
    (Path("android_assets/compare-d") / NAMES[1]).write_bytes(b"damaged")
    assert compete("--models", "c d", "--images", "20").exit_code == 0
    assert [call[:1] + call[3:4] for call in stages.calls] == [["export", "compare-d"]]


def test_a_network_that_fails_does_not_stop_the_others(stages):
    stages.codes["train compare-c"] = 1
    with pytest.raises(CheckFailed, match=r"1 of 2 .*compare-c: training ended with exit code 1"):
        compete("--models", "c d", "--images", "4")
    assert {row.network for row in results.read(Path("out/n.csv")).rows} == {"d"}
    stages.codes = {"export compare-c": 1}
    with pytest.raises(CheckFailed, match="without fp32 and qat_wi8_ai8"):
        compete("--models", "c d", "--images", "4")


def test_another_training_is_replaced_only_when_told_to(stages):
    compete("--models", "c", "--images", "4")
    stages.calls.clear()
    compete("--models", "c", "--images", "8")
    assert "--overwrite" not in stages.calls[0]
    compete("--models", "c", "--images", "12", "--overwrite")
    assert "--overwrite" in stages.calls[2]
    # a finished one of the same configuration is kept even then
    stages.calls.clear()
    compete("--models", "c", "--images", "12", "--overwrite")
    assert stages.calls == []


def test_a_teacher_whose_file_changed_is_another_training(stages):
    teacher = write_tflite(Path("t.tflite"), shape=(1, 24, 30, 3))
    arguments = ["--models", "c", "--images", "4", "--set", f"distill.files=['{teacher}']"]
    compete(*arguments)
    stages.calls.clear()
    compete(*arguments)
    assert stages.calls == []
    write_tflite(teacher, shape=(1, 24, 32, 3))
    compete(*arguments, "--overwrite")
    assert stages.calls[0][0] == "train" and "--overwrite" in stages.calls[0]


def test_each_network_gets_the_rate_that_is_best_on_val(stages):
    stages.ious = {"compare-c-lr0.002": 0.8, "compare-d-lr0.001": 0.7, "compare-d-lr0.004": 0.9}
    stages.codes["train compare-d-lr0.004"] = 1
    arguments = ["--models", "c d", "--images", "4", "--rates", "1e-3,2e-3,4e-3", "--rate-images", "3"]
    assert compete(*arguments).exit_code == 0
    trial = stages.calls[0]
    # half the size, and whole epochs
    assert trial[3] == "compare-c-lr0.001" and {"model.size=[128, 128]", "train.epochs=2"} <= set(trial)
    rates = {row.network: row.learning_rate for row in results.read(Path("out/n.csv")).rows}
    # one that came to no end is not chosen, however good it was before
    assert rates == {"c": 0.002, "d": 0.001}
    lines = Path("out/n-rates.csv").read_text().splitlines()
    assert lines[0].startswith("network,learning_rate,images_seen") and len(lines) == 7
    assert lines[6] == "d,0.004,4,128×128,"
    stages.calls.clear()
    assert compete(*arguments).exit_code == 0
    assert [call[3] for call in stages.calls] == ["compare-d-lr0.004"]


def test_a_network_that_no_rate_trains_is_named(stages):
    stages.codes["train compare-c-lr0.001"] = 1
    with pytest.raises(CheckFailed, match=r"1 of 2 .*compare-c: no trial of --rates"):
        compete("--models", "c d", "--images", "4", "--rates", "1e-3")
    assert {row.network for row in results.read(Path("out/n.csv")).rows} == {"d"}


def test_rates_are_not_rounded(stages):
    assert compete("--models", "c", "--images", "4", "--rates", "1.25e-4,1.3e-4").exit_code == 0
    lines = Path("out/n-rates.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == ["0.000125", "0.00013"]


@pytest.mark.parametrize("text", ["", "fast", "1e-3,1e-3", "-1", "inf", "nan"])
def test_bad_rates(stages, text):
    with pytest.raises(InputError, match="--rates"):
        compete("--models", "c", f"--rates={text}")
    assert stages.calls == []


def test_a_variant_is_trained_by_the_configuration_of_its_network(stages):
    assert compete("--models", "c_w050", "--images", "4").exit_code == 0
    assert stages.calls[0][3] == "compare-c_w050" and 'model.name="c_w050"' in stages.calls[0]


def test_interrupted_contest(stages, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(contest, "_stage", interrupted)
    assert compete("--models", "c", "--images", "4").exit_code == 130
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("models", "text", "message"),
    [
        ("nothing", "", r"--models nothing: no .*nothing.toml \(there are: c, d, e\)"),
        ("c c", "", "twice"),
        ("c e", '[data]\ntrain_split = "val"\n', "train on different photos"),
        ("e", "[train]\nepochs = true\n", "e.toml: train.epochs"),
    ],
)
def test_bad_use_of_the_contest(stages, models, text, message):
    (contest.CONFIGS / "e.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        compete("--models", models)
    assert stages.calls == []


def test_plot_as_a_picture():
    points = [Point(1.0, 95.0, "a", "fp32"), Point(0.5, 94.0, "b", "qat"), Point(1.0, 95.0, "a twin", "fp32")]
    image = np.asarray(Image.open(io.BytesIO(scatter(points, "title", "×", "IoU %").to_png())))
    assert image.shape == (728, 1120, 3) and (image == 255).all(axis=2).mean() > 0.8
    # both kinds have their colour
    for colour in ((0, 114, 178), (213, 94, 0)):
        assert (image == colour).all(axis=2).sum() > 100
    assert scatter(points[:1], "t", "x", "y").to_png()
