"""Typed configuration: TOML (or the JSON of a run) plus `--set section.key=value`; nothing is silently corrected."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from portraitseg.errors import InputError

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Which photos, and how they are divided."""

    format: Literal["folder", "eg1800", "synthetic"] = "synthetic"
    root: Path | None = None
    "Folder of the photos; None only for `synthetic`."
    train_split: str = "train"
    val_split: str = "val"
    val_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.1
    "Share drawn as `val` where the data bring no splits of their own."
    blank_sets: tuple[str, ...] = ("blank",)
    "Sets without masks whose photos show nobody."
    unlabelled_sets: tuple[str, ...] = ()
    "Sets whose masks are unknown; only losses that need no mask may use them."
    soft_masks: bool = False
    "True: values between 0 and 255 are alpha; False: > 127 is person."
    synthetic_photos: Annotated[int, Field(ge=8)] = 2048
    "Portraits in the synthetic `train` split; `val` and `test` are each an eighth of it, at most 128."
    licence: str = "unknown"
    "Licence of the photos, copied into every file made from them."

    @model_validator(mode="after")
    def _root_where_needed(self) -> Self:
        if self.format != "synthetic" and self.root is None:
            raise ValueError(f"format '{self.format}' needs a folder: give DATA=… or data.root")
        return self


class ModelConfig(Section):
    """Which network, at which size."""

    name: str = "fast_scnn"
    size: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = (256, 256)
    "(height, width) of the network's input."


class TrainConfig(Section):
    """The optimisation."""

    epochs: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 16
    learning_rate: Positive = 1e-3
    warmup_epochs: Annotated[float, Field(ge=0)] = 1
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    "AdamW; never applied to biases and batch norm parameters."
    clip_norm: Positive | None = 1.0
    "Greatest global norm of the gradient; None: no clipping."
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
    "Decay of the exponential moving average of the weights that is validated and saved; 0: none."
    save_every: Annotated[int, Field(ge=1)] = 10
    "Epochs between the h5 files that are kept."
    workers: Annotated[int, Field(ge=0)] = 0
    "Processes that load and augment; 0: one per core."


class QatConfig(Section):
    """Quantization-aware training; what is not named here is as in `train`."""

    epochs: Annotated[int, Field(ge=1)] = 6
    learning_rate: Positive = 1e-4
    freeze_bn_epochs: Annotated[int, Field(ge=0)] = 2
    "Epochs at the end in which the statistics of batch norm no longer move."


class ExportConfig(Section):
    """What the export stage needs beside the weights."""

    calibration_photos: Annotated[int, Field(ge=1)] = 128
    "Photos of the training split that set the ranges of post-training quantization."
    parity_photos: Annotated[int, Field(ge=1)] = 16
    "Photos of the validation split on which each file is compared with the Keras model."


class Config(Section):
    """Everything that decides a run."""

    seed: Annotated[int, Field(ge=0)] = 7
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: dict[str, dict[str, float]] = {}
    "Augmentations in the order in which they are applied: name → its probability `p` and its own parameters."
    loss: dict[str, Annotated[float, Field(ge=0)]] = {"bce": 1.0, "dice": 1.0}
    "Loss terms: name → weight in the sum."
    qat: QatConfig = QatConfig()
    export: ExportConfig = ExportConfig()


def load_config(path: Path | None, overrides: list[str] | None = None) -> Config:
    """Reads a configuration.

    Args:
        path: `.toml`, or the `.json` that a run saved; None: the defaults.
        overrides: `section.key=value`, the value as TOML writes it (a bare word is a string).

    Raises:
        InputError: unreadable file, unknown key, wrong type or impossible value, with the dotted path.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except OSError as error:
            raise InputError(f"config {path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"config {path}: {error}") from error
    for override in overrides or []:
        _apply_override(values, override)
    return parse_config(values, str(path) if path else "config")


def parse_config(values: Any, origin: str) -> Config:
    """Checks values against the types; `origin` names the file in the error.

    Raises:
        InputError: one line, the dotted path of each fault and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(_describe_fault(dict(fault)) for fault in error.errors())
        raise InputError(f"{origin}: {faults}") from error


def _describe_fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "config"
    if fault["type"] == "extra_forbidden":
        section: Any = Config
        for part in fault["loc"][:-1]:
            section = section.model_fields[part].annotation
        return f"{where}: unknown key (known: {', '.join(section.model_fields)})"
    given = repr(fault["input"])
    return f"{where}: {fault['msg']} (given: {given if len(given) < 80 else given[:77] + '…'})"


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}: write section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override}: '{key}' is not a section")
    values[keys[-1]] = value
