"""What trainings are known by: everything that decides counts, nothing else does, and defaults do not move unseen."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from portraitseg import identity
from portraitseg.config import Config, parse_config

#: The defaults by key, as of `SCHEME`; new ones join when it is written anew.
PINNED = Path(__file__).parent / "golden" / "defaults.json"

REMEDY = (
    f"defaults changed: what was trained before would be taken for another training, or another for it. Raise "
    f"identity.SCHEME (now {identity.SCHEME}), run `python -m tests.golden.write` and say so in CHANGELOG.md"
)


def config(**sections: Any) -> Config:
    return parse_config(sections, "test")


def test_a_default_does_not_move_without_another_scheme() -> None:
    """A new setting fails nothing here: that of a run of before is at its default."""
    pinned = json.loads(PINNED.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(identity._flat(Config())))
    assert pinned["scheme"] == identity.SCHEME, REMEDY
    moved = {name for name, value in pinned["defaults"].items() if now.get(name, value) != value}
    assert not moved, f"{sorted(moved)}: {REMEDY}"


def test_the_defaults_differ_in_nothing() -> None:
    assert identity.differences(Config()) == {}


def test_every_setting_decides_or_is_named() -> None:
    """Each key of the configuration, moved from its default, is in the hash of QAT unless it is on the list."""
    known = set(identity._flat(Config()))
    assert known >= identity.DECIDES_NOTHING
    moved = {"train.save_every": 3, "qat.epochs": 5, "export.calibration_photos": 7, "seed": 9, "loss": {"bce": 2.0}}
    for name, value in moved.items():
        section, _, key = name.partition(".")
        other = config(**{section: {key: value} if key else value})
        assert identity.of_qat(other, "0") != identity.of_qat(Config(), "0"), name
    for name, value in {"data.licence": "x", "train.workers": 3, "export.parity_photos": 3}.items():
        section, _, key = name.partition(".")
        other = config(**{section: {key: value}})
        assert identity.of_qat(other, "0") == identity.of_qat(Config(), "0"), name
        assert identity.of_config(other) != identity.of_config(Config()), name


def test_what_comes_after_training_does_not_decide_it() -> None:
    other = config(qat={"epochs": 9}, export={"calibration_photos": 9})
    assert identity.of_training(other) == identity.of_training(Config())
    assert identity.of_training(config(train={"epochs": 9})) != identity.of_training(Config())


def test_the_order_of_augmentations_decides() -> None:
    one, other = ({name: {"p": 0.5} for name in names} for names in (("add", "gamma"), ("gamma", "add")))
    assert identity.of_training(config(augment=one)) != identity.of_training(config(augment=other))


def test_other_weights_and_other_facts_are_another_training() -> None:
    assert identity.of_qat(Config(), "0") != identity.of_qat(Config(), "1")
    assert identity.of_fit(Config(), {"keys": ("a",)}) != identity.of_fit(Config(), {"keys": ("b",)})


def test_an_identity_says_its_scheme() -> None:
    assert not identity.is_of_earlier_scheme(identity.of_training(Config()))
    # what was saved before there were numbers
    assert identity.is_of_earlier_scheme("0" * 64) and identity.is_of_earlier_scheme("")


@dataclass(frozen=True)
class Plan:
    epochs: int
    later: int = 0


def test_a_later_field_of_a_plan_is_left_out_until_it_is_used() -> None:
    assert identity.used_fields(Plan(0)) == {"epochs": 0}
    assert identity.used_fields(replace(Plan(0), later=1)) == {"epochs": 0, "later": 1}


@pytest.mark.parametrize("key", sorted(identity.DECIDES_NOTHING))
def test_what_decides_nothing_is_a_setting(key: str) -> None:
    assert key in identity._flat(Config())
