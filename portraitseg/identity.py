"""What a training is known by: one hash of all that decides it, for resuming, repeating and comparing.

Of a configuration only what differs from the defaults is hashed, so that a new setting with a default leaves what was
trained before as it is, without a second edit anywhere. A default that changes is another matter: `SCHEME` is raised
then, and what was begun before is told apart by that number (`tests/test_identity.py` fails until it is).
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from portraitseg import files
from portraitseg.config import Config, SetConfig
from portraitseg.errors import InputError

#: Raised when a default changes its value, or this module what it hashes. 1 was before there were numbers.
SCHEME = 2

#: Settings that decide nothing: where the photos lie, who may use them, how fast they are read, and which files are
#: made of the weights and how those are looked at.
_TERMS = ("licence", "use", "citation")
DECIDES_NOTHING = frozenset(
    {
        "data.root",
        *(f"data.{name}" for name in _TERMS),
        "distill.licence",
        "train.init_licence",
        "train.workers",
        "export.recipes",
        "export.parity_photos",
    }
)

_OF_SETS = ("format", "mask", "person_labels", "ignore_labels")

#: Sections that come after float training.
AFTER_TRAINING = frozenset({"qat", "export"})

#: The same of every configuration, whatever they are for.
_DEFAULTS = Config()


def of_training(config: Config) -> str:
    """What float training is known by, but for its photos and the weights that it starts from: `<scheme>:<SHA-256>`.

    Raises:
        InputError: a teacher cannot be read.
    """
    return f"{SCHEME}:{digest(differences(config, without=DECIDES_NOTHING | AFTER_TRAINING))}"


def of_fit(config: Config, facts: Mapping[str, Any]) -> str:
    """What one call of `train.fit.fit` is known by; `facts` are what the configuration does not hold, as JSON has it.

    Raises:
        InputError: a teacher cannot be read.
    """
    values = differences(config, without=DECIDES_NOTHING | AFTER_TRAINING)
    return f"{SCHEME}:{digest([values, dict(facts)])}"


def of_qat(config: Config, weights_sha256: str) -> str:
    """What quantization-aware training is known by: the weights that it starts from and the whole configuration.

    Raises:
        InputError: a teacher cannot be read.
    """
    return f"{SCHEME}:{digest([weights_sha256, differences(config, without=DECIDES_NOTHING)])}"


def of_config(config: Config) -> str:
    """SHA-256 of a configuration without the folder of the photos: the same on every machine, for the manifest.

    Raises:
        InputError: a teacher cannot be read.
    """
    return digest([SCHEME, differences(config, without={"data.root"})])


def is_of_earlier_scheme(identity: str) -> bool:
    """True where an identity was made by an earlier version: whether it is the same training is not known."""
    return not identity.startswith(f"{SCHEME}:")


def digest(value: object) -> str:
    """SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differences(config: Config, without: Collection[str] = ()) -> dict[str, Any]:
    """What of a configuration differs from the defaults: `section.key` → value as JSON has it.

    Teachers count by their content, not by where they lie, and only where they are used. Augmentations keep their
    order, in which they are applied.

    Args:
        without: keys (`data.root`) and whole sections (`qat`) to leave out.

    Raises:
        InputError: a teacher cannot be read.
    """
    values = _flat(config)
    if config.distill.files:
        values["distill.files"] = teachers(config)
    else:
        # shares of nobody's answer
        values = {name: value for name, value in values.items() if not name.startswith("distill.")}
    if config.data.sets:
        # each has its own in place of these
        values = {name: value for name, value in values.items() if name.removeprefix("data.") not in _OF_SETS}
        values["data.sets"] = [_of_set(item) for item in config.data.sets]
    defaults = _flat(_DEFAULTS)
    left_out = {name for name in values if name in without or name.partition(".")[0] in without}
    return {
        name: value for name, value in values.items() if name not in left_out and value != defaults.get(name, MISSING)
    }


def _of_set(item: SetConfig) -> dict[str, Any]:
    """One of several sets, as all else: what differs from the defaults, but for where it lies and who may use it."""
    defaults = {name: field.get_default() for name, field in type(item).model_fields.items()}
    values = item.model_dump(mode="json", exclude={"root", *_TERMS})
    return {name: value for name, value in values.items() if value != defaults[name]}


def used_fields(instance: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults; those without one are always there."""
    values = {item.name: (getattr(instance, item.name), item.default) for item in fields(instance)}
    return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


def teachers(config: Config) -> list[str]:
    """SHA-256 of each file that `distill.files` names, its description with it where it has one.

    Raises:
        InputError: no such file.
    """
    return [_hash_teacher(path) for path in config.distill.files]


def _flat(config: Config) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, BaseModel):
            values |= {f"{name}.{key}": item for key, item in value.model_dump(mode="json").items()}
        else:
            # a list of pairs: JSON's objects, sorted by their keys, would forget the order
            values[name] = [[key, item] for key, item in value.items()] if isinstance(value, dict) else value
    return values


def _hash_teacher(path: Path) -> str:
    if not path.is_file():
        raise InputError(f"distill.files {path}: no such file: name exported files, or none")
    try:
        return files.sha256_with_spec(path)
    except OSError as error:
        raise InputError(f"distill.files {path}: {files.explain(error)}") from error
