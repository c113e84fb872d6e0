"""No checkpoint is chosen on background-only photos, and what they lend to a score is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from portraitseg.config import Config, parse_config
from portraitseg.data import open_dataset
from portraitseg.errors import InputError
from tests.data import drawn
from train.check import check_data
from train.stream import maker_of

NOBODY = drawn.ids(0, 0)


def written(root: Path, val: list[Any]) -> Config:
    drawn.write(root, [drawn.binary] * 8 + val)
    names = [f"p{index:03d}" for index in range(8 + len(val))]
    (root / "splits.json").write_text(json.dumps({"splits": {"train": names[:8], "val": names[8:]}}))
    return parse_config({"data": {"format": "folder", "root": str(root)}}, "test")


def test_a_background_only_split_is_refused(tmp_path: Path) -> None:
    config = written(tmp_path, [NOBODY] * 2)
    data = open_dataset(config.data, 0)
    with pytest.raises(InputError, match=r"split 'val': 2 of 2 masks show nobody: an empty mask would be right"):
        check_data(data, ("train", "val"), needs_masks=True)
    # to look at them is no training
    assert check_data(data, ("train", "val")).peopled == {"train": 8, "val": 0}


def test_what_background_only_photos_lend_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from train import stage

    config = written(tmp_path, [drawn.binary, NOBODY, NOBODY])
    data = open_dataset(config.data, 0)
    checked = check_data(data, ("train", "val"), needs_masks=True)
    monkeypatch.setattr(stage, "deployed", lambda model: model)
    scores = [(0.5, False), (1.0, True), (0.0, True)]
    monkeypatch.setattr(stage.KerasEvaluator, "scores", lambda self, model: iter(scores))
    capsys.readouterr()
    stage.say_of_background_only(None, data, config, checked)
    said = " ".join("".join(capsys.readouterr()).split())
    assert "2 of 3 validation photos show nobody; on 1 of them nothing was found, which counts as IoU 1" in said
    assert said.endswith("the others alone have 50.00 %")


def test_what_was_read_when_it_was_packed_is_not_all_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from train import stage

    config = written(tmp_path, [drawn.binary] * 4)
    data = open_dataset(config.data, 0)
    maker = maker_of(data, config)
    monkeypatch.setattr(stage, "_MOST_CHECKED", 3)
    assert stage._check_photos(maker, config).photos == 12 and "looked at" not in capsys.readouterr().err
    monkeypatch.setattr(type(data), "was_read", True)
    assert stage._check_photos(maker, config).looked == {"train": 3, "val": 3}
    assert "looked at 6 of 12, evenly taken" in " ".join(capsys.readouterr().err.split())
