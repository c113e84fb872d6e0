"""Nothing in an h5 is executed, nothing of it can hang or end the process that reads it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from portraitseg import models
from portraitseg.errors import InputError
from portraitseg.models import checkpoint
from portraitseg.models.checkpoint import Header, parse_header, read_header
from portraitseg.models.keras_route import keras
from tests import limits
from tests.data.bad_cases import write_h5

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def network() -> Any:
    keras.utils.set_random_seed(3)
    return models.build("fast_scnn_w050", (32, 64))


@pytest.fixture
def saved(network: Any, tmp_path: Path) -> Path:
    path = tmp_path / "best.h5"
    checkpoint.save(network, path)
    return path


def header(**changes: Any) -> bytes:
    facts = {"name": "fast_scnn", "shape": [None, 32, 32, 3], "layer": "Conv2D", **changes}
    layers = [
        {"class_name": "InputLayer", "config": {"batch_input_shape": facts["shape"]}},
        {"class_name": facts["layer"], "config": {}},
    ]
    return json.dumps({"class_name": "Functional", "config": {"name": facts["name"], "layers": layers}}).encode()


# ---- good ones


def test_a_network_comes_back_equal(network: Any, saved: Path) -> None:
    assert read_header(saved) == Header("fast_scnn_w050", (32, 64), is_quantized=False)
    again = checkpoint.load(saved)
    for mine, theirs in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    inputs = np.random.default_rng(0).random((1, 32, 64, 3), np.float32)
    np.testing.assert_array_equal(again(inputs), network(inputs))


def test_an_h5_is_smaller_than_keras_makes_it_and_says_the_same(network: Any, saved: Path, tmp_path: Path) -> None:
    loose = tmp_path / "keras.h5"
    network.save(loose, save_format="h5", include_optimizer=False)
    assert saved.stat().st_size < 0.9 * loose.stat().st_size
    with h5py.File(loose) as expected, h5py.File(saved) as actual:
        names: list[str] = []
        expected.visit(names.append)
        assert names
        for name in ["/", *names]:
            assert {key: np.array(value).tolist() for key, value in actual[name].attrs.items()} == {
                key: np.array(value).tolist() for key, value in expected[name].attrs.items()
            }
            if isinstance(expected[name], h5py.Dataset):
                assert actual[name].dtype == expected[name].dtype
                np.testing.assert_array_equal(actual[name][()], expected[name][()])
    # Keras's own reader, which is what people have
    again = keras.models.load_model(saved, compile=False)
    np.testing.assert_array_equal(again.get_weights()[0], network.get_weights()[0])


def test_saving_again_gives_the_same_weights_file_name_only(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == ["best.h5"]


def test_a_disk_that_fills_leaves_the_old_file(network: Any, saved: Path) -> None:
    """By the kernel's limit on file sizes; the HDF5 library itself would raise what no command expects."""
    before = saved.read_bytes()
    message = r"the file is larger than .*; what was there before is untouched"
    with limits.file_size(len(before) // 2), pytest.raises(InputError, match=message):
        checkpoint.save(network, saved)
    assert saved.read_bytes() == before and [path.name for path in saved.parent.iterdir()] == ["best.h5"]
    checkpoint.save(network, saved)
    assert saved.read_bytes() == before


def test_quantized_ones_are_told(tmp_path: Path) -> None:
    write_h5(tmp_path / "x.h5", name="quant_fast_scnn", layer="QuantizeWrapperV2")
    header = read_header(tmp_path / "x.h5")
    assert header.is_quantized and header.name == "fast_scnn"
    with pytest.raises(InputError, match="quantization-aware training: give the float h5"):
        checkpoint.load(tmp_path / "x.h5")


# ---- those that would run something


def test_a_real_lambda_is_refused_and_does_not_run(tmp_path: Path) -> None:
    inputs = keras.Input((32, 32, 3))
    mark = tmp_path / "it-ran"
    name = str(mark)
    outputs = keras.layers.Lambda(lambda x: (open(name, "w"), x)[1])(inputs)  # noqa: PTH123, SIM115 (a foreign author's)
    model = keras.Model(inputs, outputs, name="fast_scnn")
    mark.unlink()
    path = tmp_path / "x.h5"
    checkpoint.save(model, path)
    for read in (read_header, checkpoint.load, lambda p: checkpoint.load_weights(model, p)):
        with pytest.raises(InputError, match="Lambda, a layer that runs foreign code: give an h5"):
            read(path)
    assert not mark.exists()


@pytest.mark.parametrize("layer", sorted(checkpoint.EXECUTABLE_LAYERS))
def test_layers_that_carry_code_are_found_at_any_depth(layer: str) -> None:
    inner = json.loads(header(layer=layer))
    outer = {"class_name": "Functional", "config": {"name": "x", "layers": json.loads(header())["config"]["layers"]}}
    outer["config"]["layers"].append({"class_name": "TimeDistributed", "config": {"layer": {"layers": [inner]}}})
    with pytest.raises(InputError, match=layer):
        parse_header(json.dumps(outer).encode(), Path("x.h5"))


def test_load_model_is_called_nowhere() -> None:
    result = subprocess.run(
        ["grep", "-rnE", r"load_model\(|pickle\.load|allow_pickle=True", "--include=*.py", "."]
        + [f"--exclude-dir={name}" for name in (".venv", "tests", ".cache", ".git")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == ""


# ---- those of other networks, and damaged ones


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"config": {}}',
        b'{"config": {"layers": []}}',
        b'{"config": {"layers": 7, "name": "x"}}',
        header(shape=None),
        header(shape=[None, None, None, 3]),
        header(shape=[None, 32, 32]),
        header(shape=[None, 32, 32, 10**9]),
        header(shape=[None, 10**9, 32, 3]),
        header(shape=[None, float("inf"), 32, 3]),
        header(shape=[None, [], 32, 3]),
        header(shape=[None, "32", 32, 3]),
        b"\xff\xfe\x00",
    ],
    ids=range(17),
)
def test_configurations_that_are_no_network(text: bytes) -> None:
    with pytest.raises(InputError, match=r"^checkpoint x\.h5: no model of one image input .*: give an h5"):
        parse_header(text, Path("x.h5"))


def test_a_configuration_too_long() -> None:
    with pytest.raises(InputError, match="this is no network"):
        parse_header(b" " * (checkpoint.MAX_CONFIG_BYTES + 1), Path("x.h5"))


def test_an_unknown_network(tmp_path: Path) -> None:
    write_h5(tmp_path / "x.h5", name="unet")
    with pytest.raises(InputError, match=r"no network 'unet' \(there are: fast_scnn"):
        checkpoint.load(tmp_path / "x.h5")


def test_another_network(saved: Path) -> None:
    with pytest.raises(InputError, match="holds 'fast_scnn_w050', not 'fast_scnn': name an h5 of the same network"):
        checkpoint.load_weights(models.build("fast_scnn", (32, 32)), saved)


def test_weights_of_another_shape(network: Any, saved: Path) -> None:
    with h5py.File(saved, "r+") as file:
        file.attrs["model_config"] = header(name="fast_scnn").decode()
    with pytest.raises(InputError, match=r"weights do not fit 'fast_scnn': .*: name an undamaged h5"):
        checkpoint.load_weights(models.build("fast_scnn", (32, 32)), saved)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file: give an h5"):
        read_header(tmp_path / "x.h5")
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(InputError, match=r"not a Keras h5, or a damaged one .*: give an h5"):
        read_header(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = [1, 2]
    with pytest.raises(InputError, match="not a Keras h5"):
        read_header(tmp_path / "x.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="damaged"):
        read_header(saved)


@pytest.mark.parametrize("kind", ["soft", "external", "external data"])
def test_what_lies_elsewhere_is_not_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.h5"
    write_h5(path)
    (tmp_path / "secret").write_bytes(bytes(64))
    with h5py.File(path, "r+") as file:
        if kind == "soft":
            file["model_weights/a"] = h5py.SoftLink("/elsewhere")
        elif kind == "external":
            file["model_weights/a"] = h5py.ExternalLink("secret", "/")
        else:
            file.create_dataset("model_weights/a", (16,), "f4", external=[(str(tmp_path / "secret"), 0, 64)])
    with pytest.raises(InputError, match=r"is a link|lies in another file"):
        read_header(path)


def test_a_file_that_says_it_is_huge(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    write_h5(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("model_weights/a", (10**12,), "f4", chunks=(1024,))
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="1000000000000 values"):
        read_header(path)


@pytest.fixture
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has read no h5 yet."""
    monkeypatch.setattr(checkpoint, "_SOUND", {})


@pytest.mark.usefixtures("nothing_is_known")
def test_a_file_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HDF5 library loops for ever in one of the fuzzer's findings; here the child merely sleeps."""
    write_h5(tmp_path / "x.h5")
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(checkpoint, "READ_LIMIT_S", 0.5)
    monkeypatch.setattr(checkpoint.sys, "executable", str(sleeper))
    with pytest.raises(InputError, match=r"reading it took over 0\.5 s"):
        read_header(tmp_path / "x.h5")


@pytest.fixture
def crasher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each child crashes."""
    path = tmp_path / "crasher"
    path.write_text("#!/bin/sh\nkill -SEGV $$\n")
    path.chmod(0o755)
    monkeypatch.setattr(checkpoint.sys, "executable", str(path))


@pytest.mark.usefixtures("nothing_is_known", "crasher")
def test_a_file_that_ends_its_reader_is_refused(tmp_path: Path) -> None:
    write_h5(tmp_path / "x.h5")
    with pytest.raises(InputError, match="reading it ended with signal 11"):
        read_header(tmp_path / "x.h5")


@pytest.mark.usefixtures("nothing_is_known", "crasher")
def test_what_this_process_wrote_needs_no_child_until_a_byte_differs(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    checkpoint.save(models.build("fast_scnn_w050", (64, 64)), path)
    assert read_header(path).name == "fast_scnn_w050"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="reading it ended with signal 11"):
        read_header(path)
