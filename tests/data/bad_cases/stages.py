"""What stages leave for one another: runs, manifests, exported files; and photos that changed in between."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from portraitseg import files, manifest
from tests.data.bad_cases import spoil
from tests.data.bad_cases.case import FIT, Case
from tests.data.bad_cases.spoil import write_h5

NAME = "tiny-24x30-rgb-fp32.tflite"

#: What a .tflite is instead of photo → mask: how `write_tflite` makes it, and what is said of it.
NO_SEGMENTERS: dict[str, tuple[dict[str, Any], str]] = {
    "a classifier, no segmenter": ({"shape": (1, 3), "dtype": "uint8"}, "rank 2, expected 4"),
    "two masks": ({"out_channels": 2}, "expected exactly one mask"),
    "gray photos": ({"shape": (1, 24, 30, 1)}, "expected 3 or 4 channels"),
    "dynamic shapes": ({"signature": (1, -1, -1, 3)}, "open size (1, -1, -1, 3): export it with fixed sizes"),
    "two photos at once": ({"shape": (2, 24, 30, 3)}, "takes 2 photos: export it with the batch fixed to 1"),
    "several inputs": ({"extra_input": True}, "2 inputs (image, second): a portrait file has one, the photo"),
    "int8 without quantization parameters": ({"dtype": "int8"}, "int8 without a quantization scale"),
    "uint8 of another scale than 1/255": (
        {"dtype": "uint8", "scale": 1 / 127},
        "camera bytes mean 0…1 only with scale 1/255",
    ),
}

_EXPORT = ("android", "--run", "mine", "--skip-qat")
_BENCHMARK = ("run", "--run", "mine")


def make_run(folder: Path, content: bytes | None = None, **file: Any) -> None:
    """A run `mine`, trained on DATA and exported, as far as a stage looks before it begins its work.

    Args:
        folder: where DATA is.
        content: of the exported file; None: a tiny one.
        file: how the tiny one differs from a good one, see `write_tflite`.
    """
    from portraitseg.config import Config, DataConfig
    from portraitseg.data import open_dataset
    from tests.runners.tiny import write_tflite

    run, assets = folder / "runs/mine", folder / "android_assets/mine"
    run.mkdir(parents=True)
    assets.mkdir(parents=True)
    config = Config(data=DataConfig(format="folder", root=Path("DATA")))
    files.write_text(run / "config.json", config.model_dump_json())
    write_h5(run / "best.h5")
    if content is None:
        write_tflite(assets / NAME, **{"shape": (1, 24, 30, 3), **file})
    else:
        (assets / NAME).write_bytes(content)
    known = open_dataset(DataConfig(format="folder", root=folder / "DATA"), config.seed)
    source = manifest.Source(
        model="fast_scnn",
        config_sha256="0" * 64,
        git_commit="unknown",
        seed=config.seed,
        weights_sha256=files.sha256(run / "best.h5"),
        data=(manifest.DataSource(set="DATA", split="train", sha256_16=known.split_hash("train"), licence="unknown"),),
        tools={},
    )
    manifest.write(run / "artifact.json", manifest.Artifact(source=source))
    image = {"name": "image", "shape": (1, 24, 30, 3), "dtype": "float32", "range": (0.0, 1.0)}
    entry = manifest.FileEntry(
        path=NAME,
        sha256=files.sha256(assets / NAME),
        bytes=files.size_bytes(assets / NAME),
        model="tiny",
        channels="rgb",
        recipe="fp32",
        input=manifest.Tensor(**image),
        output=manifest.Tensor(**{**image, "name": "mask", "shape": (1, 24, 30, 1)}),
        parity=manifest.Parity(reference="keras", not_run="a tiny file has no Keras model"),
    )
    manifest.write(assets / "manifest.json", manifest.Manifest(source=source, files=(entry,)))


def _after(change: Callable[[Path], object]) -> Callable[[Path], object]:
    """A run, then what happened to it."""

    def prepare(folder: Path) -> None:
        make_run(folder)
        change(folder)

    return prepare


def _append(name: str, folder: Path) -> None:
    with (folder / name).open("ab") as file:
        file.write(b"!")


def _edit(name: str, change: Callable[[dict], object], folder: Path) -> None:  # type: ignore[type-arg]
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


def _cut(name: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def _edited(change: Callable[[dict], object]) -> Callable[[Path], object]:  # type: ignore[type-arg]
    return _after(partial(_edit, f"{_ASSETS}/manifest.json", change))


def _another_list(folder: Path) -> None:
    spoil.write_splits(folder, {"train": ["a", "b"], "val": ["d"]})


def _peer(name: str) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        make_run(folder)
        spoil.write(f"peers/{name}", b"", folder)

    return prepare


def _peer_classifier(folder: Path) -> None:
    from tests.runners.tiny import write_tflite

    make_run(folder)
    (folder / "peers").mkdir()
    write_tflite(folder / "peers/foreign.tflite", **NO_SEGMENTERS["a classifier, no segmenter"][0])


def _without_splits(folder: Path) -> None:
    """So few photos that none is drawn for `val`."""
    spoil.alone(folder)
    make_run(folder)


def _unlabelled_split(folder: Path) -> None:
    spoil.unlabelled(folder)
    make_run(folder)


def _crashing_peer(folder: Path) -> None:
    from tests.runners.hostile import write_crashing

    make_run(folder)
    (folder / "peers").mkdir()
    write_crashing(folder / "peers/foreign.tflite")


def _held_by_another(folder: Path) -> None:
    """A process that holds the run's lock; it ends with this one, or when the folder is gone."""
    (folder / "runs/mine").mkdir(parents=True)
    code = (
        "import fcntl, os, sys, time\n"
        "file = open('.lock', 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True)\n"
        "parent = os.getppid()\n"
        "while os.path.exists(sys.argv[1]) and os.getppid() == parent: time.sleep(0.1)"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(folder)]
    holder = subprocess.Popen(command, cwd=folder / "runs/mine", stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.stdout.close()


def _other_training(folder: Path) -> None:
    from portraitseg.identity import SCHEME
    from train import state

    (folder / "runs/mine").mkdir(parents=True)
    state.save(folder / "runs/mine", state.Progress(f"{SCHEME}:of another training"), {})


_ASSETS = "android_assets/mine"
_FILE = f"{_ASSETS}/{NAME}"
_MANIFEST = f"{_ASSETS}/manifest.json"
_ON_VAL = (*_BENCHMARK, "--splits", "val")
_PEERS = (*_BENCHMARK, "--peers", "peers")
_AGAIN = (*FIT, "--run", "mine")


def cases() -> Iterator[Case]:
    measured, exported = partial(Case, code=2, arguments=_BENCHMARK), partial(Case, code=2, arguments=_EXPORT)
    # manifests and the files that they name
    for what, says, prepare in (
        ("exported file that differs from its manifest", (NAME, "SHA-256", "export"), _after(partial(_append, _FILE))),
        ("exported file that is missing", (NAME, "missing", "export"), _after(partial(spoil.remove, _FILE))),
        ("manifest that is cut short", ("manifest.json", "export"), _after(partial(_cut, _MANIFEST))),
        (
            "manifest with an unknown key",
            ("version", "not permitted", "export"),
            _edited(lambda m: m.update(version=1)),
        ),
        (
            "manifest of a later form",
            ("schema_version", "should be 1", "export"),
            _edited(lambda m: m.update(schema_version=2)),
        ),
        (
            "manifest with `../` in a path",
            ("path", "stay inside its folder", "export"),
            _edited(lambda m: m["files"][0].update(path=f"../mine/{NAME}")),
        ),
        (
            "manifest that names a file twice",
            ("names a file twice", "export"),
            _edited(lambda m: m["files"].append(m["files"][0])),
        ),
        (
            "files of other weights than the run's",
            ("manifest.json", "other weights", "export the run again"),
            _edited(lambda m: m["source"].update(weights_sha256="f" * 64)),
        ),
    ):
        yield measured(what, says=says, prepare=prepare, stage="benchmark")
    # peers
    yield measured(
        "PEERS that is not there",
        says=("PEERS peers", "no such folder"),
        prepare=make_run,
        arguments=_PEERS,
        stage="benchmark",
    )
    yield measured(
        "PEERS without a .tflite",
        says=("PEERS peers", "no .tflite"),
        prepare=_peer("notes.txt"),
        arguments=_PEERS,
        stage="benchmark",
    )
    for what, name, shown in (
        ("a line break", "two\nlines.tflite", "two\\nlines.tflite"),
        ("codes that recolour the terminal", "\x1b[31mred.tflite", "\\x1b[31mred.tflite"),
    ):
        yield measured(
            f"peer whose name has {what}",
            says=(shown, "rename"),
            prepare=_peer(name),
            arguments=_PEERS,
            stage="benchmark",
        )
    yield Case(
        "peer that crashes the runtime",
        0,
        ("foreign.tflite", "crash", "take it out"),
        _crashing_peer,
        (*_PEERS, "--splits", "val"),
        "benchmark",
    )
    yield Case(
        "peer: a classifier, no segmenter",
        0,
        ("foreign.tflite", "rank 2, expected 4"),
        _peer_classifier,
        (*_PEERS, "--splits", "val"),
        "benchmark",
    )
    # files that are no segmenters
    exported_file = partial(measured, arguments=_ON_VAL, stage="benchmark")
    for what, (values, message) in NO_SEGMENTERS.items():
        prepare = partial(make_run, **values)
        yield exported_file(f"exported .tflite: {what}", says=(NAME, message), prepare=prepare)
    for what, content in (("text", b"no flatbuffer"), ("an empty file", b"")):
        prepare = partial(make_run, content=content)
        yield exported_file(f"exported .tflite: {what}", says=(NAME, "not a TFLite file"), prepare=prepare)
    # splits to measure on
    for what, says, prepare, name in (
        ("SPLITS with an unknown name", ("no split 'tset'", "train, val"), make_run, "tset"),
        ("SPLITS with an empty name", ("no split ''", "train, val"), make_run, ""),
        ("SPLITS with an empty split", ("'val' is empty", "add photos", "another split"), _without_splits, "val"),
        (
            "SPLITS with a split without masks",
            ("photo street/s", "no mask", "are labelled"),
            _unlabelled_split,
            "unlabelled",
        ),
    ):
        yield measured(
            what,
            says=says,
            prepare=prepare,
            arguments=(*_BENCHMARK, "--splits", name),
            stage="benchmark",
        )
    yield measured(
        "splits.json with an empty split, at the benchmark",
        says=("splits.json", "'test' is empty", "take the split out"),
        prepare=_after(spoil.splits({"train": ["a"], "val": ["d"], "test": []})),
        stage="benchmark",
    )
    # the run
    for what, says, prepare in (
        (
            "weights that differ from artifact.json",
            ("best.h5", "SHA-256", "artifact.json"),
            _after(partial(_append, "runs/mine/best.h5")),
        ),
        (
            "artifact.json that is cut short",
            ("artifact.json", "train"),
            _after(partial(_cut, "runs/mine/artifact.json")),
        ),
        (
            "run whose weights are gone",
            ("best.h5", "no such file", "make train"),
            _after(partial(spoil.remove, "runs/mine/best.h5")),
        ),
        ("run that was never trained", ("runs/mine", "make train RUN=mine"), lambda folder: None),
        (
            "photos that changed since training",
            ("DATA", "'train'", "was trained on", "photos of the training"),
            _after(_another_list),
        ),
        (
            "photos that moved since training",
            ("DATA", "no such folder", "DATA="),
            _after(lambda f: (f / "DATA").rename(f / "moved")),
        ),
    ):
        yield exported(what, says=says, prepare=prepare, stage="export")
    yield Case(
        "photos that moved since training, at the benchmark",
        2,
        ("DATA", "no such folder", "DATA="),
        _after(lambda f: (f / "DATA").rename(f / "moved")),
        _BENCHMARK,
        "benchmark",
    )
    # going on with a training
    yield Case(
        "RUN that holds another training",
        2,
        ("runs/mine", "another configuration or other photos", "--overwrite"),
        _other_training,
        _AGAIN,
    )
    yield Case(
        "RUN whose state is damaged",
        2,
        ("state.npz", "damaged", "take it away"),
        partial(spoil.write, "runs/mine/state.npz", b"PK"),
        _AGAIN,
    )
    for what, content in (("a pickle", spoil.pickled), ("an .npz of pickles", spoil.npz_of_pickles)):
        yield Case(
            f"RUN whose state is {what}",
            2,
            ("state.npz", "damaged", "take it away"),
            lambda f, content=content: spoil.write("runs/mine/state.npz", content(), f),  # type: ignore[misc]
            _AGAIN,
        )
    yield Case(
        "RUN that another process is writing to", 2, ("RUN=mine", "another process", "wait"), _held_by_another, _AGAIN
    )
    yield Case(
        "RUN that is a file", 2, ("RUN=mine", "is a file", "another RUN"), partial(spoil.write, "runs", b""), _AGAIN
    )
