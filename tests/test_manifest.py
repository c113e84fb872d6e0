import copy
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import files, manifest
from portraitseg.errors import InputError
from portraitseg.manifest import Artifact, Manifest
from tests.golden import write

#: What stands in the example of docs/interface.md for hashes.
_SHORTENED = {
    "config_sha256": "a" * 64,
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "weights_sha256": "b" * 64,
    "sha256": "c" * 64,
}


def _read_example() -> dict[str, Any]:
    text = (Path(__file__).parents[1] / "docs/interface.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    return json.loads(block, object_hook=lambda item: item | {k: _SHORTENED[k] for k, v in item.items() if v == "…"})


EXAMPLE = _read_example()


def example() -> dict[str, Any]:
    return copy.deepcopy(EXAMPLE)


def validate(value: Any) -> None:
    schema = json.loads(write.SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(value)


# ---- what is right


def test_the_schema_is_the_committed_one() -> None:
    """Run `python -m tests.golden.write` where this fails, and write a line in CHANGELOG.md."""
    assert write.SCHEMA.read_text(encoding="utf-8") == manifest.schema()


def test_the_example_of_the_interface_is_valid_for_outsiders_and_for_us() -> None:
    validate(EXAMPLE)
    read = manifest.parse(Manifest, json.dumps(EXAMPLE), "example")
    entry = read.files[0]
    assert entry.input.shape == (1, 256, 256, 4) and entry.quality[0].photos == 256 and read.source.seed == 7


def test_what_we_write_is_valid_for_outsiders(tmp_path: Path) -> None:
    record = manifest.parse(Manifest, json.dumps(EXAMPLE), "example")
    manifest.write(tmp_path / "manifest.json", record)
    validate(json.loads((tmp_path / "manifest.json").read_text()))
    assert manifest.read(Manifest, tmp_path / "manifest.json") == record


hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
short_hashes = st.text("0123456789abcdef", min_size=16, max_size=16)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
reasons = texts.filter(bool)
numbers = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(0, 1)
counts = st.integers(0, 2**53)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1, max_size=20)

sources = st.builds(
    manifest.Source,
    model=texts,
    config_sha256=hashes,
    git_commit=texts,
    seed=counts,
    weights_sha256=hashes,
    data=st.lists(
        st.builds(manifest.DataSource, set=texts, split=texts, sha256_16=short_hashes, licence=texts), max_size=3
    ).map(tuple),
    tools=st.dictionaries(texts, texts, max_size=3),
)
tensors = st.builds(
    manifest.Tensor,
    name=texts,
    shape=st.lists(st.integers(1, 4096), max_size=4).map(tuple),
    dtype=st.sampled_from(["float32", "uint8", "image"]),
    range=st.tuples(numbers, numbers),
    scale=st.none() | numbers,
    zero_point=st.none() | st.integers(-128, 255),
)
entries = st.builds(
    manifest.FileEntry,
    path=names,
    sha256=hashes,
    bytes=counts,
    model=names,
    channels=st.sampled_from(["rgb", "rgba"]),
    recipe=names,
    input=tensors,
    output=tensors,
    parity=st.builds(manifest.Parity, reference=texts, max_abs=st.none() | numbers, passed=st.booleans())
    | st.builds(manifest.Parity, reference=texts, not_run=texts),
    gpu=st.lists(
        st.builds(manifest.GpuCheck, route=texts, verdict=st.just("passed"))
        | st.builds(manifest.GpuCheck, route=texts, verdict=st.sampled_from(["failed", "not_run"]), reason=reasons),
        max_size=2,
    ).map(tuple),
    quality=st.lists(
        st.builds(
            manifest.Quality, split=texts, sha256_16=short_hashes, iou=shares, boundary_iou=shares, photos=counts
        ),
        max_size=2,
    ).map(tuple),
    note=st.none() | texts,
)
manifests = st.builds(
    Manifest, source=sources, files=st.lists(entries, max_size=3, unique_by=lambda entry: entry.path).map(tuple)
)


@settings(max_examples=50)
@given(record=manifests)
def test_manifests_round_trip(tmp_path_factory: pytest.TempPathFactory, record: Manifest) -> None:
    path = tmp_path_factory.mktemp("x") / "manifest.json"
    manifest.write(path, record)
    assert manifest.read(Manifest, path) == record
    validate(json.loads(path.read_bytes()))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50)
@given(source=sources, stages=st.dictionaries(texts, st.dictionaries(texts, json_values, max_size=3), max_size=3))
def test_artifacts_round_trip(tmp_path_factory: pytest.TempPathFactory, source: Any, stages: Any) -> None:
    path = tmp_path_factory.mktemp("x") / "artifact.json"
    record = Artifact(source=source, stages=stages)
    manifest.write(path, record)
    assert manifest.read(Artifact, path) == record


# ---- what is wrong


def _set(*path: Any, to: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for part in path[:-1]:
            value = value[part]
        value[path[-1]] = to

    return change


def _drop(*path: Any) -> Callable[[Any], None]:
    def change(value: Any) -> None:
        for part in path[:-1]:
            value = value[part]
        del value[path[-1]]

    return change


FAULTS: dict[str, tuple[Callable[[Any], None], str]] = {
    "unknown key": (_set("extra", to=1), "extra: Extra inputs"),
    "unknown key inside": (_set("files", 0, "input", "mean", to=0.5), "files.0.input.mean: Extra inputs"),
    "another version": (_set("schema_version", to=2), "schema_version: "),
    "no source": (_drop("source"), "source: Field required"),
    "short hash": (_set("files", 0, "sha256", to="c" * 63), "files.0.sha256: "),
    "hash in capitals": (_set("files", 0, "sha256", to="C" * 64), "files.0.sha256: "),
    "hash with a newline": (_set("files", 0, "sha256", to="c" * 64 + "\n"), "files.0.sha256: "),
    "negative bytes": (_set("files", 0, "bytes", to=-1), "files.0.bytes: "),
    "share above 1": (_set("files", 0, "quality", 0, "iou", to=95.0), "files.0.quality.0.iou: "),
    "text for a number": (_set("source", "seed", to="seven"), "source.seed: "),
    "verdict": (_set("files", 0, "gpu", 0, "verdict", to="maybe"), "files.0.gpu.0.verdict: "),
    "a refusal without its reason": (
        _set("files", 0, "gpu", 0, "verdict", to="not_run"),
        "'not_run' without its reason",
    ),
    "recipe of two words": (_set("files", 0, "recipe", to="fp16 fast"), "files.0.recipe: "),
    "shape of zero": (_set("files", 0, "input", "shape", to=[1, 0, 256, 3]), "files.0.input.shape.1: "),
    "absolute path": (_set("files", 0, "path", to="/etc/passwd"), "stay inside its folder"),
    "path that leaves": (_set("files", 0, "path", to="a/../../b"), "stay inside its folder"),
    "backslashes": (_set("files", 0, "path", to="..\\b"), "stay inside its folder"),
    "the folder itself": (_set("files", 0, "path", to="."), "stay inside its folder"),
    "no path": (_set("files", 0, "path", to=""), "stay inside its folder"),
    "passed without having run": (_set("files", 0, "parity", "not_run", to="no macOS"), "either passed, or not_run"),
    "neither passed nor not run": (_drop("files", 0, "parity", "passed"), "either passed, or not_run"),
    "a list": (lambda value: value["files"].append(value["files"][0]), "names a file twice"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_by_their_path(fault: str) -> None:
    change, part = FAULTS[fault]
    value = example()
    change(value)
    with pytest.raises(InputError) as refused:
        manifest.parse(Manifest, json.dumps(value), "android_assets/x/manifest.json")
    message = str(refused.value)
    assert message.startswith("android_assets/x/manifest.json: ") and part in message and "\n" not in message
    # the remedy has to work: exporting reads the old manifest first
    assert "take it away and export the run again" in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "nan", '"x"', "[" * 10_000, '{"a":' * 10_000, "\ud800", '{"\\ud800": 1}', "1" * 5000],
    ids=range(11),
)
def test_texts_that_are_no_manifest(text: str) -> None:
    with pytest.raises(InputError, match=r"^m: "):
        manifest.parse(Manifest, text, "m")


def test_infinite_and_missing_numbers_are_refused() -> None:
    for number in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = json.dumps(EXAMPLE).replace("0.012", number)
        with pytest.raises(InputError):
            manifest.parse(Manifest, text, "m")


def test_a_million_faults_are_refused_in_a_second() -> None:
    """A list of `{}` has eleven faults an entry: 1.3 million of them once took 40 s and 6 GB."""
    source = json.dumps(EXAMPLE["source"])
    texts = (
        f'{{"source": {source}, "files": [{",".join(["{}"] * 1_300_000)}]}}',
        '{"source": ' + source + "," + ",".join(f'"{i}":1' for i in range(300_000)) + "}",
    )
    for text in texts:
        start = time.process_time()
        with pytest.raises(InputError):
            manifest.parse(Manifest, text, "m")
        assert time.process_time() - start < 2  # 0.3 s here


def test_a_file_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(10**11)  # sparse: it takes no room on the disk, but would in memory
    with pytest.raises(InputError, match="over 4 MB"):
        manifest.read(Manifest, path)


def test_missing_and_unreadable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file: run the stage that writes it first"):
        manifest.read(Manifest, tmp_path / "manifest.json")
    with pytest.raises(InputError, match="Is a directory"):
        manifest.read(Manifest, tmp_path)


# ---- files and hashes


def made(folder: Path, content: bytes = b"weights") -> Manifest:
    value = example()
    name = value["files"][0]["path"]
    (folder / name).write_bytes(content)
    value["files"][0]["sha256"] = files.sha256(folder / name)
    return manifest.parse(Manifest, json.dumps(value), "m")


def test_verify(tmp_path: Path) -> None:
    record = made(tmp_path)
    manifest.verify(record, tmp_path)
    path = tmp_path / record.files[0].path
    path.write_bytes(b"weight5")
    with pytest.raises(InputError, match=rf"{path.name}: its SHA-256 differs .* export the run again"):
        manifest.verify(record, tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name}: named in manifest.json but missing: export"):
        manifest.verify(record, tmp_path)


def test_extended_keeps_files_of_the_same_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    record = made(tmp_path)
    entry = record.files[0]
    other = entry.model_copy(update={"path": "another.tflite"})

    def extend(source: manifest.Source, more: manifest.FileEntry) -> Manifest:
        manifest.write(path, manifest.extended(path, source, [more]))
        return manifest.read(Manifest, path)

    assert [e.path for e in extend(record.source, entry).files] == [entry.path]
    assert [e.path for e in extend(record.source, other).files] == ["another.tflite", entry.path]
    changed = entry.model_copy(update={"note": "again"})
    assert [e.note for e in extend(record.source, changed).files] == [None, "again"]
    retrained = record.source.model_copy(update={"weights_sha256": "d" * 64})
    again = extend(retrained, other)
    assert [e.path for e in again.files] == ["another.tflite"] and again.source == retrained


def test_stages_are_of_the_same_weights_only(tmp_path: Path) -> None:
    path = tmp_path / "artifact.json"
    source = made(tmp_path).source
    manifest.add_stage(path, source, "train", {"best_val_iou": 0.9})
    manifest.add_stage(path, source, "qat", {"epochs": 6})
    assert set(manifest.read(Artifact, path).stages) == {"train", "qat"}
    manifest.add_stage(path, source.model_copy(update={"weights_sha256": "d" * 64}), "train", {})
    assert manifest.read(Artifact, path).stages == {"train": {}}


RGBA = {"path": "a-8x8-rgba-fp32.tflite", "channels": "rgba", "color": "RGBA"}


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"channels": "rgb"}, "channels 'rgb' with an input of color 'RGBA', not 'RGB'"),
        ({"color": "RGB"}, "channels 'rgba' with an input of color 'RGB', not 'RGBA'"),
        ({"path": "a-8x8-rgb-fp32.tflite"}, "channels 'rgba' in a file that is called a-8x8-rgb-fp32.tflite"),
        ({"channels": "prior"}, "files.0.channels"),
        ({"color": "RGB+prior"}, "files.0.input.color"),
    ],
)
def test_what_the_channels_are_is_said_once(wrong: dict[str, str], fault: str) -> None:
    """In three places; a fourth channel that counts, as files of before had, is none that we know."""

    def read(parts: dict[str, str]) -> Manifest:
        values = example()
        entry = values["files"][0]
        entry |= {"path": parts["path"], "channels": parts["channels"]}
        entry["input"]["color"] = parts["color"]
        return manifest.parse(Manifest, json.dumps(values), "m")

    assert read(RGBA).files[0].channels == "rgba"
    with pytest.raises(InputError) as refused:
        read({**RGBA, **wrong})
    assert fault in str(refused.value)
