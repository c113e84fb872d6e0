"""Trainings of before: fields that came later leave their hashes as they were, at their defaults."""

from dataclasses import dataclass, replace

import pytest

from export.training import _origin
from portraitseg import manifest
from portraitseg.config import LATER, Config, decisive, parse_config
from portraitseg.data import open_dataset
from train.fit import Plan, fingerprint
from train.stage import config_hash
from train.stream import recipe_of

#: What commit d27b7cd saved with a run, and the hashes that it made of it.
SAVED = {
    "seed": 7,
    "data": {
        "format": "synthetic",
        "root": None,
        "train_split": "train",
        "val_split": "val",
        "val_ratio": 0.1,
        "blank_sets": ["blank"],
        "unlabelled_sets": [],
        "soft_masks": False,
        "synthetic_photos": 2048,
        "licence": "unknown",
    },
    "model": {"name": "fast_scnn", "size": [256, 256]},
    "train": {
        "epochs": 30,
        "batch_size": 16,
        "learning_rate": 0.001,
        "warmup_epochs": 1.0,
        "schedule": "cosine",
        "weight_decay": 0.0001,
        "clip_norm": 1.0,
        "ema": 0.998,
        "save_every": 10,
        "workers": 0,
    },
    "augment": {"horizontal_flip": {"p": 0.5}},
    "loss": {"bce": 1.0, "dice": 1.0},
    "qat": {"epochs": 6, "learning_rate": 0.0001, "select": "keras", "freeze_bn_epochs": 2},
    "export": {"calibration_photos": 128, "parity_photos": 16},
}
CONFIG_HASH = "15e8c1d983deda7c331f004887b9d28014c0d25be9d2960c4415a4d054f33757"
QAT_ORIGIN = "689079006b74a44d4d0ca1bcbbfb9c87901fec6fb1744e847b9f549ff8bd706f"
FLOAT_FINGERPRINT = "468ed97c7896820617f7c3c95fc460b938a7ca94516c152a92aab858571ee217"
QAT_FINGERPRINT = "96f83cc9862ac97a664feabdb0fffeb6ebfaf6ad56a0865b71df0a502783bd2e"
SOURCE = manifest.Source(
    model="x", config_sha256="0" * 64, git_commit="u", seed=7, weights_sha256="1" * 64, data=(), tools={}
)


@dataclass
class _Model:
    name: str = "m"


def _fingerprint(config: Config, plan: Plan) -> str:
    recipe = replace(recipe_of(open_dataset(config.data, config.seed), config), keys=("a", "b"))
    return fingerprint(_Model(), config, plan, recipe)


@pytest.fixture
def config() -> Config:
    return parse_config(SAVED, "saved")


def test_hashes_of_before(config: Config) -> None:
    assert config_hash(config) == CONFIG_HASH
    assert _origin(SOURCE, config) == QAT_ORIGIN
    assert _fingerprint(config, Plan(30, 1e-3)) == FLOAT_FINGERPRINT
    assert _fingerprint(config, Plan(5, 1e-4, 2, "ab")) == QAT_FINGERPRINT


@pytest.mark.parametrize(
    "changed",
    [
        {"qat": {"schedule": "constant"}},
        {"qat": {"freeze_ranges_epochs": 2}},
        {"model": {"pretrained": "imagenet"}},
        {"train": {"shrink_share": 0.3}},
    ],
)
def test_a_later_field_that_is_used_makes_another_hash(changed: dict[str, dict[str, object]]) -> None:
    values = {**SAVED, **{section: {**SAVED[section], **new} for section, new in changed.items()}}
    other = parse_config(values, "changed")
    assert config_hash(other) != CONFIG_HASH
    assert _origin(SOURCE, other) != QAT_ORIGIN


def test_the_temperature_of_distillation_in_qat_makes_another_origin() -> None:
    """The teacher there is the float network, so that no `distill` section may be in use."""

    def origin(temperature: float) -> str:
        values = {**SAVED, "qat": {**SAVED["qat"], "distillation": 1.0}, "distill": {"temperature": temperature}}
        return _origin(SOURCE, parse_config(values, "taught"))

    assert origin(2.0) != origin(8.0) != _origin(SOURCE, parse_config(SAVED, "saved"))


def test_what_is_left_out_is_in_the_configuration() -> None:
    values = Config().model_dump()
    assert all(name in values[section] for section, names in LATER.items() for name in names)


def test_of_a_plan_too(config: Config) -> None:
    for plan in (Plan(5, 1e-4, 2, "ab", schedule="cosine"), Plan(5, 1e-4, 2, "ab", freeze_ranges_epochs=1)):
        assert _fingerprint(config, plan) != QAT_FINGERPRINT


def test_the_configuration_itself_is_not_touched(config: Config) -> None:
    before = config.model_dump()
    decisive(config, {"export": True})
    assert config.model_dump() == before
