import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portraitseg import config
from portraitseg.config import Config, data_overrides, load_config, parse_config, parse_text, read_values
from portraitseg.errors import InputError

ROOT = Path(__file__).parents[1]

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
shares = st.floats(0, 1)
positive = st.floats(1e-12, 1e6)

configs = st.builds(
    Config,
    seed=st.integers(0, 2**32 - 1),
    data=st.builds(
        config.DataConfig,
        format=st.sampled_from(["folder", "eg1800", "synthetic"]),
        root=words.filter(bool).map(Path),
        val_ratio=st.floats(0.01, 0.99),
        blank_sets=st.lists(words).map(tuple),
        soft_masks=st.booleans(),
        licence=words,
    ),
    model=st.builds(config.ModelConfig, name=words, size=st.tuples(st.integers(32, 2048), st.integers(32, 2048))),
    train=st.builds(
        config.TrainConfig,
        epochs=st.integers(1, 1000),
        learning_rate=positive,
        clip_norm=st.none() | positive,
        schedule=st.sampled_from(["cosine", "constant"]),
        ema=st.floats(0, 0.9999),
    ),
    augment=st.dictionaries(words, st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False))),
    loss=st.dictionaries(words, positive),
)


@settings(deadline=None, max_examples=60)
@given(value=configs)
def test_what_a_run_saves_reads_back_equal(tmp_path_factory: pytest.TempPathFactory, value: Config) -> None:
    path = tmp_path_factory.mktemp("x") / "config.json"
    path.write_text(value.model_dump_json(indent=2), encoding="utf-8")
    again = load_config(path)
    assert again == value
    # the order of augmentations is the order in which they are applied
    assert list(again.augment) == list(value.augment)


def test_defaults() -> None:
    assert load_config(None) == Config()
    assert parse_config({}, "x") == Config()


@pytest.mark.parametrize("path", sorted((ROOT / "train/configs").glob("*.toml")), ids=lambda path: path.name)
def test_our_own_configurations_are_read(path: Path) -> None:
    load_config(path, ["data.root=x"])


def test_the_defaults_are_what_we_recommend() -> None:
    path = ROOT / "train/configs/contour_medium.toml"
    assert load_config(path) == Config()
    # it says all that decides a network's training, so that a default that moves shows here
    stated = read_values(path)
    assert set(stated["augment"]) == set(Config().augment) and {"name", "pretrained"} <= set(stated["model"])


@pytest.mark.parametrize("path", sorted((ROOT / "train/configs").glob("*.toml")), ids=lambda path: path.name)
def test_a_configuration_says_only_what_differs(path: Path) -> None:
    if (base := tomllib.loads(path.read_text(encoding="utf-8"))).pop("extend", None) is None:
        assert path.name == "contour_medium.toml"
        return
    extended = read_values(path.parent / tomllib.loads(path.read_text(encoding="utf-8"))["extend"])
    for section, values in base.items():
        if section in ("augment", "loss"):
            assert values != extended[section]
        else:
            same = {key for key, value in values.items() if extended.get(section, {}).get(key) == value}
            assert not same, f"{section}: {same}"


@pytest.mark.parametrize("path", sorted((ROOT / "train/configs").glob("*.toml")), ids=lambda path: path.name)
def test_a_configuration_begins_with_one_recipe(path: Path) -> None:
    head = path.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    assert all(line.startswith("# ") for line in head) and len(head) <= 7
    commands = [line for line in head if line.startswith("#   make")]
    assert 1 <= len(commands) <= 3
    # a score that nobody saw is not made up
    if path.name != "demo.toml":
        assert any("IoU on val" in line and re.search(r"\d+ ?.* minutes", line) for line in head)


def test_what_extends_is_merged_by_key_and_its_lists_of_terms_are_taken_whole(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.toml").write_text(
        "seed = 3\n[train]\nepochs = 5\nema = 0.5\n[loss]\nbce = 1.0\ndice = 1.0\n[augment]\nadd = { p = 0.5 }\n"
    )
    (tmp_path / "sub/middle.toml").write_text('extend = "../base.toml"\n[train]\nepochs = 6\n')
    (tmp_path / "top.toml").write_text('extend = "sub/middle.toml"\n[train]\nbatch_size = 2\n[loss]\nbce = 2.0\n')
    read = load_config(tmp_path / "top.toml", ["train.ema=0.25"])
    assert (read.seed, read.train.epochs, read.train.batch_size, read.train.ema) == (3, 6, 2, 0.25)
    assert read.loss == {"bce": 2.0} and read.augment == {"add": {"p": 0.5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extend = "a.toml"', "extends this file in turn"),
        ('extend = "none.toml"', r"none\.toml: no such file"),
        ("extend = 3", "extend: name one file"),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(path)


def test_photos_that_are_named_without_a_format(tmp_path: Path) -> None:
    """They are of the format that the configuration names; where it draws portraits, a folder."""
    path = tmp_path / "a.toml"
    path.write_text('[data]\nformat = "eg1800"\n')
    for config_path, expected in ((path, "eg1800"), (None, "folder"), (tmp_path / "none.json", "folder")):
        overrides = data_overrides(config_path, Path("ph otos"), None)
        assert overrides == ['data.root="ph otos"', f'data.format="{expected}"']
    assert load_config(path, data_overrides(path, Path("x"), None)).data.format == "eg1800"
    assert data_overrides(path, Path("x"), "folder")[1] == 'data.format="folder"'
    assert data_overrides(path, None, None) == []


def test_every_key_can_be_overridden() -> None:
    read = load_config(
        None,
        [
            "seed=9",
            "model.size=[320, 192]",
            "train.learning_rate=1",
            "data.format=folder",
            "data.root=/my photos/ü",
            "data.blank_sets=['a', 'b']",
            "augment.gamma.p=0.5",
            "loss.bce=2",
            "data.soft_masks=true",
        ],
    )
    assert read.seed == 9 and read.model.size == (320, 192) and read.train.learning_rate == 1.0
    assert read.data.root == Path("/my photos/ü") and read.data.blank_sets == ("a", "b") and read.data.soft_masks
    assert read.augment == {**Config().augment, "gamma": {"p": 0.5}} and read.loss == {**Config().loss, "bce": 2}


def test_a_section_of_a_file_is_taken_whole_and_then_overridden_by_key(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("[augment]\nhorizontal_flip = { p = 0.5 }\n[loss]\nbce = 1.0\n")
    read = load_config(path, ["augment.gamma.p=0.1", "loss.sobel=0.5"])
    assert read.augment == {"horizontal_flip": {"p": 0.5}, "gamma": {"p": 0.1}}
    assert read.loss == {"bce": 1.0, "sobel": 0.5}


@given(name=words.filter(bool))
def test_any_folder_name_comes_through_the_command_line(name: str) -> None:
    """`python -m train` hands DATA on as JSON writes it, which escapes what TOML does not take (😀, DEL)."""
    read = load_config(None, [f"data.root={json.dumps(name)}", "data.format=folder"])
    assert read.data.root == Path(name)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"sead": 7}, ["sead: unknown key", "known: seed, data"]),
        ({"train": {"epoch": 7}}, ["train.epoch: unknown key", "known: epochs"]),
        ({"train": 7}, ["train: ", "given: 7"]),
        ({"seed": "7"}, ["seed: ", "valid integer", "given: '7'"]),
        ({"seed": 7.0}, ["seed: ", "valid integer", "given: 7.0"]),
        ({"seed": -1}, ["seed: ", "greater than or equal to 0"]),
        ({"train": {"epochs": True}}, ["train.epochs: ", "given: True"]),
        ({"train": {"batch_size": 0}}, ["train.batch_size: ", "greater than or equal to 1"]),
        ({"train": {"ema": 1}}, ["train.ema: ", "less than 1"]),
        ({"train": {"workers": 10**6}}, ["train.workers: ", "less than or equal to 256"]),
        ({"train": {"schedule": "step"}}, ["train.schedule: ", "'cosine' or 'constant'"]),
        ({"train": {"learning_rate": float("inf")}}, ["train.learning_rate: ", "finite"]),
        ({"model": {"size": [256]}}, ["model.size.1: Field required"]),
        ({"model": {"size": [256, 256, 3]}}, ["model.size: ", "at most 2"]),
        ({"model": {"size": "256x256"}}, ["model.size: "]),
        ({"loss": {"bce": -1}}, ["loss.bce: ", "greater than or equal to 0"]),
        ({"augment": {"gamma": 0.5}}, ["augment.gamma: ", "given: 0.5"]),
        ({"data": {"format": "folder"}}, ["data: ", "needs a folder", "DATA="]),
        ([], ["given: []"]),
        ({"seed": 10**5000}, ["no key takes"]),
    ],
)
def test_faults_are_named_by_their_path(values: Any, parts: list[str]) -> None:
    with pytest.raises(InputError) as refused:
        parse_config(values, "my.toml")
    message = str(refused.value)
    assert message.startswith("my.toml: ") and "\n" not in message
    for part in parts:
        assert part in message or values == []


def test_several_faults_are_listed_and_many_are_not() -> None:
    with pytest.raises(InputError, match=r"seed: .*; train.batch_size: "):
        parse_config({"seed": -1, "train": {"batch_size": 0}}, "x")
    with pytest.raises(InputError, match="and 5 more") as some:
        parse_config({f"k{i}": 1 for i in range(10)}, "x")
    assert len(str(some.value)) < 1000


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("seed = ", "not TOML"),
        ("seed = 1\nseed = 2", "not TOML"),
        ("[train]\n[train]", "not TOML"),
        ("a = " + "[" * 5000, "nested too deep"),
        ("seed = " + "9" * 5000, "not TOML"),
    ],
)
def test_texts_that_are_refused(text: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        parse_text(text.encode(), "x")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "saved_by_an_editor.toml"
    path.write_bytes(b"\xef\xbb\xbf[train]\nepochs = 1\n")
    assert load_config(path).train.epochs == 1


def test_a_saved_configuration_may_have_what_was_removed_where_it_decided_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    saved = json.loads(Config().model_dump_json())
    for section, keys in config.REMOVED.items():
        saved[section] |= keys
    path.write_text(json.dumps(saved))
    assert load_config(path) == Config()
    path.write_text(json.dumps(saved | {"qat": saved["qat"] | {"distillation": 0.5}}))
    with pytest.raises(InputError, match=r"config\.json: qat\.distillation was used and is no longer there"):
        load_config(path)
    # in a file that somebody writes it is a mistake like any other
    for section, keys in config.REMOVED.items():
        for key, value in keys.items():
            with pytest.raises(InputError, match=rf"^x: {section}\.{key}: no longer there .*: take it out$"):
                parse_config({section: {key: value}}, "x")


def test_json_with_a_key_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'seed' is there twice"):
        parse_text(b'{"seed": 1, "seed": 2}', "x", is_json=True)
    with pytest.raises(InputError, match="not sections"):
        parse_text(b"[]", "x", is_json=True)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("seed", "write section.key=value"),
        ("=1", "write section.key=value"),
        ("train..epochs=1", "write section.key=value"),
        ("seed.x.y=1", "seed: "),
        ("seed=" + "[" * 5000, "--set"),
        ("seed=" + "9" * 5000, "--set"),
    ],
)
def test_overrides_that_are_refused(override: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        load_config(None, [override])


def test_an_override_cannot_hide_a_second_one() -> None:
    """As TOML its second line would be another key, and be dropped."""
    read = load_config(None, ["data.licence=1\nseed = 3"])
    assert read.data.licence == "1\nseed = 3" and read.seed == 7


def test_null_takes_back_what_was_set(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('[qat]\nschedule = "constant"\n[train]\nclip_norm = 2.0\n')
    assert load_config(path).qat.schedule == "constant"
    read = load_config(path, ["qat.schedule=null", "train.clip_norm=null"])
    assert read.qat.schedule is None and read.train.clip_norm is None
    with pytest.raises(InputError, match=r"qat\.epochs"):
        load_config(path, ["qat.epochs=null"])
    # as a string it is a word like any other
    assert load_config(path, ['data.licence="null"']).data.licence == "null"


def test_a_section_cannot_be_overridden_inside_a_value(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("seed = 3")
    with pytest.raises(InputError, match="'seed' is not a section"):
        load_config(path, ["seed.x=1"])


@pytest.mark.parametrize("name", ["folder.toml", "missing.toml"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=rf"config .*{name}: no such file: name a .toml"):
        load_config(tmp_path / name)


def test_config_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 8  # type: ignore[misc]
