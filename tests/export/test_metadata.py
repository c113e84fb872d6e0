"""Metadata: what it says, that it changes no result, and that damaged or foreign files end in one line."""

import contextlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg.errors import InputError
from portraitseg.runners import open_runner
from portraitseg.tflite import _metadata_schema as schema
from portraitseg.tflite import info, metadata
from portraitseg.tflite.graph import parse_graph
from portraitseg.tflite.metadata import Card

CARD = Card("tiny", "0123456789ab", "CC0-1.0, academic", "fp32", "rgb", "IoU 0.9512 on val")


def _bare(channels: int = 3, is_quantized: bool = False) -> bytes:
    """A convolution and a sigmoid, as the converter writes them: no metadata of ours."""
    from export.quantization import recipes
    from portraitseg.models.keras_route import keras

    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, channels), name="image")
    x = keras.layers.Conv2D(1, 3, padding="same")(image)
    model = keras.Model(image, keras.layers.Activation("sigmoid")(x))
    calibration = np.random.default_rng(0).random((4, 16, 16, 3), np.float32)
    recipe = recipes.RECIPES["static_wi8_ai8_u8" if is_quantized else "fp32"]
    return recipe.convert(model, calibration)


@pytest.fixture(scope="module", params=["fp32", "u8"])
def bare(request: pytest.FixtureRequest) -> bytes:
    return _bare(is_quantized=request.param == "u8")


def test_results_are_the_same_bits(bare: bytes, tmp_path: Path) -> None:
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    before.write_bytes(bare)
    after.write_bytes(metadata.attach(bare, CARD))
    photo = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for reference_kernels in (False, True):
        runners = [open_runner(path, reference_kernels=reference_kernels) for path in (before, after)]
        outputs = [runner.run(runner.prepare(photo)) for runner in runners]
        np.testing.assert_array_equal(*outputs)
        assert outputs[0].std() > 0
    assert parse_graph(bare, "") == parse_graph(after.read_bytes(), "")


def test_buffers_keep_their_alignment(bare: bytes) -> None:
    from ai_edge_litert import schema_py_generated

    def offsets(content: bytes) -> list[int]:
        model = schema_py_generated.Model.GetRootAs(content)
        buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
        return [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]

    old, new = offsets(bare), offsets(metadata.attach(bare, CARD))
    assert len({(b - a) % 16 for a, b in zip(old, new, strict=False)}) == 1
    assert all((b - a) % 16 == 0 for a, b in zip(old, new, strict=False)) and len(new) == len(old) + 1
    assert new[-1] % 16 == 0


def test_same_input_gives_the_same_bytes(bare: bytes) -> None:
    assert metadata.attach(bare, CARD) == metadata.attach(bare, CARD)


def test_what_it_says(bare: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.tflite"
    path.write_bytes(metadata.attach(bare, CARD))
    facts = info.read_info(path)
    values = facts.metadata
    assert values is not None
    assert (values["name"], values["version"], values["author"]) == ("tiny", "0123456789ab", "portraitseg")
    assert "CC0-1.0, academic" in values["license"] and "0.9512" in values["description"]
    (graph,) = values["subgraphs"]
    assert graph["inputs"][0]["process_units"] == [{"options": ("NormalizationOptions", {"mean": [0], "std": [255]})}]
    assert graph["inputs"][0]["content"]["properties"] == ("ImageProperties", {"color_space": schema.COLOR_RGB})
    assert graph["custom"][0]["name"] == "SEGMENTER_METADATA" and graph["custom"][0]["activation"] == "NONE"
    assert graph["outputs"][0]["associated_files"][0]["name"] == "labels.txt"
    assert facts.labels == {"labels.txt": ["person"]}
    # what MediaPipe maps into memory
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    shown = "\n".join(f"{what}: {value}" for what, value in info.describe(path))
    assert "activation NONE" in shown and "CONV_2D" in shown and "labels.txt: person" in shown


def test_a_second_buffer_of_the_name_is_refused(bare: bytes) -> None:
    with pytest.raises(AssertionError, match="already"):
        metadata.attach(metadata.attach(bare, CARD), CARD)


def test_file_without_metadata(bare: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(bare)
    facts = info.read_info(path)
    assert facts.metadata is None and facts.files == {}
    assert ("metadata", "none") in info.describe(path)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PROCESS_UNITS = st.lists(
    st.fixed_dictionaries(
        {"options": st.tuples(st.just("NormalizationOptions"), st.just({"mean": [0.5, 2.0], "std": [1.0]}))}
    ),
    max_size=3,
)
TENSORS = st.fixed_dictionaries({"name": TEXTS, "process_units": PROCESS_UNITS})
CUSTOM = st.fixed_dictionaries({"name": TEXTS, "data": st.binary(max_size=40)})
GRAPHS = st.fixed_dictionaries({"inputs": st.lists(TENSORS, max_size=3), "custom": st.lists(CUSTOM, max_size=2)})


@settings(max_examples=50)
@given(st.fixed_dictionaries({"name": TEXTS, "license": TEXTS, "subgraphs": st.lists(GRAPHS, max_size=2)}))
def test_pack_and_unpack(values: dict[str, Any]) -> None:
    assert schema.unpack("ModelMetadata", schema.pack("ModelMetadata", values, b"M001"), b"M001") == values


@settings(max_examples=150)
@given(st.data())
def test_damaged_files_end_in_one_error(data: st.DataObject) -> None:
    content = bytearray(_damaged_base())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(len(content) // 2, len(content)))
    path = _scratch() / "damaged.tflite"
    path.write_bytes(bytes(content[:end]))
    # anything else that is raised fails the test
    with contextlib.suppress(InputError):
        info.describe(path)


_CACHE: dict[str, Any] = {}


def _damaged_base() -> bytes:
    if "base" not in _CACHE:
        _CACHE["base"] = metadata.attach(_bare(), CARD)
    return _CACHE["base"]


def _scratch() -> Path:
    import tempfile

    if "folder" not in _CACHE:
        _CACHE["folder"] = tempfile.TemporaryDirectory()
    return Path(_CACHE["folder"].name)


def test_a_table_named_a_million_times_is_refused() -> None:
    custom = schema.pack("ModelMetadata", {"subgraphs": [{"name": "x"}] * 20_000}, b"M001")
    with pytest.raises(ValueError, match="more than"):
        schema.unpack("ModelMetadata", custom, b"M001")


@pytest.mark.parametrize(("name", "content"), [("a.tflite", b"TFL3"), ("a.tflite", b"")])
def test_command_ends_with_2(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    root = Path(info.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-m", "portraitseg", "info", str(path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and result.stderr.startswith("error: ")
