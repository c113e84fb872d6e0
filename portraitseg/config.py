"""Typed configuration: TOML (or the JSON of a run) plus `--set section.key=value`; nothing is silently corrected."""

import copy
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from portraitseg import files
from portraitseg.errors import InputError

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
ScheduleName = Literal["cosine", "polynomial", "constant"]


#: A configuration is two kilobytes; more is some other file.
MAX_BYTES = 100_000

#: Parts of a dotted key; ours have three. The standard library's parser takes quadratic time in them.
MAX_KEY_PARTS = 100

#: Faults that one message lists.
_SHOWN_FAULTS = 5


#: Fields that came after the first trainings, by section: at their defaults they are in no hash, so that what was
#: trained before is still recognised.
LATER: Mapping[str, tuple[str, ...]] = {
    "data": ("mask",),
    "model": ("pretrained", "prior"),
    "train": ("unlabelled_per_batch", "blank_share", "paste_share"),
    "distill": ("files", "blend", "mixup"),
    "qat": ("schedule", "freeze_ranges_epochs", "distillation"),
}


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Which photos, and how they are divided."""

    format: Literal["folder", "eg1800", "aisegment", "p3m10k", "easyportrait", "voc", "synthetic"] = "synthetic"
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
    mask: str | dict[str, str] = "auto"
    "What the values of masks mean: auto, binary, alpha, or person:<ids>,ignore:<ids>; or that by set."
    soft_masks: bool = False
    "True: values between 0 and 255 are alpha; False: > 127 is person."
    synthetic_photos: Annotated[int, Field(ge=8, le=500_000)] = 2048
    "Portraits in the synthetic `train` split; `val` and `test` are each an eighth of it, at most 128."
    licence: str = "unknown"
    "Licence of the photos, copied into every file made from them."

    @field_validator("mask")
    @classmethod
    def _mask_of_known_form(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        # the data package knows this one
        from portraitseg.data.masks import parse_setting

        for setting in value.values() if isinstance(value, dict) else [value]:
            parse_setting(setting)
        return value

    @model_validator(mode="after")
    def _root_where_needed(self) -> "DataConfig":
        if self.format != "synthetic" and self.root is None:
            raise ValueError(f"format '{self.format}' needs a folder: give DATA=… or data.root")
        return self


class ModelConfig(Section):
    """Which network, at which size."""

    name: str = "fast_scnn"
    size: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = (256, 256)
    "(height, width) of the network's input."
    pretrained: Literal["imagenet"] | None = None
    "Where the encoder's weights come from; `imagenet`: for contour_* only."
    prior: bool = False
    "Whether a fourth channel takes the previous frame's mask, for video."

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 4 if self.prior else 3


class TrainConfig(Section):
    """The optimisation."""

    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 30
    "Over the training split; 0: the weights that it begins with are kept as they are, to be exported."
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    "Photos with masks."
    unlabelled_per_batch: Annotated[int, Field(ge=0, le=4096)] = 0
    "Photos of `data.unlabelled_sets` that each batch has on top, for the losses that need no mask."
    blank_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    "Share of an epoch's photos that are of `data.blank_sets`, all background; they come on top of `data.train_split`."
    paste_share: Probability = 0.0
    "Probability that the person of a photo is put before another: of nobody, where there are blank ones, or of others."
    learning_rate: Positive = 1e-3
    warmup_epochs: Annotated[float, Field(ge=0)] = 1
    schedule: ScheduleName = "cosine"
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    "AdamW; never applied to biases and batch norm parameters."
    clip_norm: Positive | None = 1.0
    "Greatest global norm of the gradient; None: no clipping."
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.998
    "Decay of the exponential moving average of the weights that is validated and saved; 0: none."
    save_every: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    "Epochs between the h5 files that are kept."
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    "Processes that load and augment; 0: one per core."


class DistillConfig(Section):
    """The networks that are learnt from."""

    teacher: Path | None = None
    "A float h5 that training wrote, of any network and size; used by the loss `distillation` alone."
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    "By which both networks' logits are divided in that loss."
    files: Annotated[tuple[Path, ...], Field(strict=False)] = ()
    "Exported files of RGB photos, anybody's (.tflite, .onnx), that look at each augmented photo of training."
    blend: Probability = 0.5
    "Share of their mean in the masks."
    mixup: Probability = 0.0
    "Probability that a photo is mixed with another one; its mask is that of the files alone."


class QatConfig(Section):
    """Quantization-aware training; what is not named here is as in `train`."""

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 6
    learning_rate: Positive = 1e-4
    schedule: ScheduleName | None = None
    "Of the learning rate; None: as in `train`."
    select: Literal["keras", "tflite"] = "tflite"
    "What chooses the best epoch: the Keras model's IoU on val, or that of the converted int8 file."
    freeze_bn_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    "Epochs at the end in which the statistics of batch norm no longer move."
    freeze_ranges_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    "Epochs at the end in which the ranges of activations no longer move either; never more than `freeze_bn_epochs`."
    distillation: Annotated[float, Field(ge=0)] = 0.0
    "Weight of the loss `distillation` with the float network as the teacher; 0: the losses are those of `loss`."


class ExportConfig(Section):
    """What the export stage needs beside the weights."""

    calibration_photos: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    "Photos of the training split that set the ranges of post-training quantization."
    parity_photos: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    "Photos of the validation split on which each file is compared with the Keras model."


class Config(Section):
    """Everything that decides a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: dict[str, dict[str, float]] = {
        "horizontal_flip": {"p": 0.5},
        "vertical_flip": {"p": 0.02},
        "rotate_scale": {"p": 0.7},
        "add": {"p": 0.2},
        "add_per_channel": {"p": 0.2},
        "gamma": {"p": 0.3},
        "occlusion_patches": {"p": 0.05},
        "mean_blur": {"p": 0.03},
        "median_blur": {"p": 0.03},
        "gaussian_blur": {"p": 0.08},
        "add_per_element": {"p": 0.1},
        "gaussian_noise": {"p": 0.0},
    }
    "Augmentations in the order in which they are applied: name → its probability `p` and its own parameters."
    loss: dict[str, Annotated[float, Field(ge=0)]] = {"bce": 1.0, "dice": 1.0}
    "Loss terms: name → weight in the sum."
    distill: DistillConfig = DistillConfig()
    qat: QatConfig = QatConfig()
    export: ExportConfig = ExportConfig()


def decisive(config: Config, exclude: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a hash is made of; what `LATER` names is left out at its default.

    Teachers are in it by their content, not by where they lie, and only where they are used.

    Args:
        exclude: what decides nothing, as pydantic's `model_dump` takes it.

    Raises:
        InputError: a teacher is needed and cannot be read.
    """
    values = config.model_dump(mode="json", exclude=dict(exclude))
    defaults = Config().model_dump(mode="json")
    distill = values.pop("distill")
    if config.loss.get("distillation") or config.distill.files:
        teacher = hash_teacher(config) if config.loss.get("distillation") else None
        values["distill"] = {**distill, "teacher": teacher, "files": hash_teachers(config)}
    for section, names in LATER.items():
        for name in names:
            if section in values and values[section].get(name) == defaults[section][name]:
                values[section].pop(name, None)
    return values


def hash_teacher(config: Config) -> str | None:
    """SHA-256 of the h5 that `distill.teacher` names; None where it names none.

    Raises:
        InputError: no such file.
    """
    path = config.distill.teacher
    return None if path is None else _hash(path, "distill.teacher", "name a float h5, or set loss.distillation to 0")


def hash_teachers(config: Config) -> list[str]:
    """SHA-256 of each file that `distill.files` names, its description with it where it has one.

    Raises:
        InputError: no such file.
    """
    return [_hash(path, "distill.files", "name exported files, or none") for path in config.distill.files]


def _hash(path: Path, key: str, remedy: str) -> str:
    if not path.is_file():
        raise InputError(f"{key} {path}: no such file: {remedy}")
    try:
        return files.sha256_with_spec(path)
    except OSError as error:
        raise InputError(f"{key} {path}: {files.explain(error)}") from error


def load_config(path: Path | None, overrides: list[str] | None = None) -> Config:
    """Reads a configuration.

    Args:
        path: `.toml`, or the `.json` that a run saved; None: the defaults.
        overrides: `section.key=value`, the value as TOML writes it (a bare word is a string, null is none).

    Raises:
        InputError: unreadable file, unknown key, wrong type or impossible value, with the dotted path.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            if not path.is_file():
                raise InputError(f"config {path}: no such file: name a .toml, such as those in train/configs/")
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"config {path}: {files.explain(error)}") from error
        values = parse_text(content, f"config {path}", is_json=path.suffix == ".json")
    for override in overrides or []:
        # these two are taken whole from a file; an override changes one key of what would be taken
        if (section := override.strip().partition(".")[0]) in ("augment", "loss"):
            values.setdefault(section, copy.deepcopy(getattr(Config(), section)))
        _apply_override(values, override)
    return parse_config(values, str(path) if path else "config")


def parse_text(content: bytes, origin: str, is_json: bool = False) -> dict[str, Any]:
    """The values of a TOML (or JSON) text, not yet checked against the types.

    Raises:
        InputError: too long, not UTF-8, not TOML (or a JSON object), nested too deep, a key twice.
    """
    if len(content) > MAX_BYTES:
        raise InputError(f"{origin}: over {MAX_BYTES // 1000} kB, more than a configuration can have")
    try:
        text = content.decode("utf-8")
        if is_json:
            values = json.loads(text, object_pairs_hook=files.unique_pairs)
        elif any(line.count(".") > MAX_KEY_PARTS and line.lstrip()[0] != "#" for line in text.split("\n")):
            raise InputError(f"{origin}: a key of more than {MAX_KEY_PARTS} parts: write section.key = value")
        else:
            values = tomllib.loads(text)
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{origin}: nested too deep: write sections with keys and values") from error
    except ValueError as error:
        form = "JSON" if is_json else "TOML"
        raise InputError(f"{origin}: not {form}: {error}: correct it there") from error
    if not isinstance(values, dict):
        raise InputError(f"{origin}: not sections with keys and values")
    return values


def parse_config(values: Any, origin: str) -> Config:
    """Checks values against the types; `origin` names the file in the error.

    Raises:
        InputError: one line, the dotted path of each fault and what is allowed.
    """
    try:
        # as JSON, because there strict means: a list may be a tuple and a string a path, but "30" is no number
        return Config.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        # a million faults would be a million dictionaries
        if error.error_count() > 100 * _SHOWN_FAULTS:
            raise InputError(f"{origin}: {error.error_count()} faults: this is no configuration") from error
        faults = [_describe_fault(dict(fault)) for fault in error.errors()]
        more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise InputError(f"{origin}: {'; '.join(faults[:_SHOWN_FAULTS])}{more}") from error
    except (TypeError, ValueError, RecursionError) as error:
        # a date, a number of 5,000 digits, a deep nest: TOML has them, no key takes them
        raise InputError(f"{origin}: a value that no key takes: {error}") from error


def _describe_fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "config"
    if fault["type"] == "extra_forbidden":
        section: Any = Config
        for part in fault["loc"][:-1]:
            section = section.model_fields[part].annotation
        return f"{where}: unknown key (known: {', '.join(section.model_fields)})"
    if not fault["loc"]:
        return str(fault["msg"])
    given = repr(fault["input"])
    return f"{where}: {fault['msg']} (given: {given if len(given) < 80 else given[:77] + '…'})"


def _apply_override(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}: write section.key=value")
    value = _override_value(text.strip(), override)
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override}: '{key}' is not a section")
    values[keys[-1]] = value


def _override_value(text: str, override: str) -> Any:
    """A value as TOML writes it; a string as JSON writes it (it escapes more than TOML knows); else the bare word.

    `null` is none, which TOML cannot write: it takes back what a file or an earlier override set.
    """
    if text == "null":
        return None
    try:
        # a second line would be a second key
        if "\n" not in text:
            return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        pass
    except (ValueError, RecursionError) as error:
        raise InputError(f"--set {override[:80]}: {error}") from error
    try:
        if text.startswith('"'):
            return json.loads(text)
    except (ValueError, RecursionError):
        pass
    return text
