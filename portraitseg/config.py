"""Typed configuration: TOML (or the JSON of a run) plus `--set section.key=value`; nothing is silently corrected."""

import copy
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from portraitseg import files
from portraitseg.errors import InputError
from portraitseg.manifest import Use

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
ScheduleName = Literal["cosine", "constant"]


#: Faults that one message lists.
_SHOWN_FAULTS = 5


#: What runs of before saved and nothing reads any more, with the values at which it decided nothing.
REMOVED: Mapping[str, Mapping[str, Any]] = {
    "model": {"prior": False},
    "train": {"unlabelled_per_batch": 0},
    "distill": {"teacher": None, "temperature": 2.0},
    "qat": {"distillation": 0.0},
}


def _none_as_word(value: object) -> object:
    """What runs of before saved as null."""
    return "none" if value is None else value


def _split_names(value: object) -> object:
    """`a,b` → ("a", "b"): what is typed on a command line."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(","))
    # strict, a tuple is not made of what JSON had as a list
    return tuple(value) if isinstance(value, list) else value


class Section(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Names = Annotated[tuple[str, ...], BeforeValidator(_split_names)]


def _known_masks(value: str | dict[str, str]) -> str | dict[str, str]:
    # the data package knows this one
    from portraitseg.mask_setting import parse_setting

    for setting in value.values() if isinstance(value, dict) else [value]:
        parse_setting(setting)
    return value


MaskSetting = Annotated[str | dict[str, str], AfterValidator(_known_masks)]


class SetConfig(Section):
    """One of several sets that are mixed; what is not named here is as in `data`."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    "First part of the keys of its photos, `<name>/…`."
    root: Path | None = None
    "Its folder, relative to `data.root` where that is given; None only for `synthetic`."
    format: str = "folder"
    weight: Positive = 1.0
    "How often each of its photos comes in an epoch of training: 2 is twice, 0.5 every other epoch."
    licence: str = "unknown"
    use: Use = "unknown"
    citation: str | None = None
    mask: MaskSetting = "auto"
    person_labels: Names = ()
    ignore_labels: Names = ()

    @model_validator(mode="after")
    def _root_where_needed(self) -> "SetConfig":
        if self.format != "synthetic" and self.root is None:
            raise ValueError(f"set '{self.name}' of format '{self.format}' needs a folder: root")
        return self


class DataConfig(Section):
    """Which photos, and how they are divided."""

    format: str = "synthetic"
    root: Path | None = None
    "Folder of the photos; None only for `synthetic`."
    sets: Annotated[tuple[SetConfig, ...], Field(strict=False)] = ()
    "Several sets, mixed; `format`, `mask`, `licence` and labels are then those of each."
    train_split: str = "train"
    val_split: str = "val"
    val_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.1
    "Share drawn as `val` where the data bring no splits of their own."
    blank_sets: tuple[str, ...] = ("blank",)
    "Sets without masks, of background-only photos."
    unlabelled_sets: tuple[str, ...] = ()
    "Sets whose masks are unknown: `python -m train label` draws them."
    mask: MaskSetting = "auto"
    "What the values of masks mean: auto, binary, alpha, or person:<ids>,ignore:<ids>; or that by set."
    person_labels: Names = ()
    "Of formats with labelled shapes: which labels are person; empty: `person`, or what the format calls it."
    ignore_labels: Names = ()
    "Of formats with labelled shapes: labels of what counts in no loss and no score."
    soft_masks: bool = False
    "True: values between 0 and 255 are alpha; False: > 127 is person."
    decisions: Path | None = None
    "Decisions about label faults (`python -m train audit`): photos to drop, or still to fix, are left out."
    held: Literal["person", "background"] = "person"
    "What held things are: in cut-outs that are pasted while training, and in the audit of masks."
    synthetic_photos: Annotated[int, Field(ge=8, le=500_000)] = 2048
    "Portraits in the synthetic `train` split; `val` and `test` are each an eighth of it, at most 128."
    licence: str = "unknown"
    "Licence of the photos, copied into every file made from them; unknown: as `terms.json` or the format says."
    use: Use = "unknown"
    "What they may be used for, where the licence's text does not say it: any (commercial too), or non-commercial."
    citation: str | None = None
    "How to cite them; copied into the manifest."

    @model_validator(mode="after")
    def _root_where_needed(self) -> "DataConfig":
        if self.format != "synthetic" and self.root is None and not self.sets:
            raise ValueError(f"format '{self.format}' needs a folder: give DATA=… or data.root")
        if len(names := [item.name for item in self.sets]) != len(set(names)):
            raise ValueError("sets: two of one name: name each differently")
        return self


class ModelConfig(Section):
    """Which network, at which size."""

    name: str = "contour_medium"
    size: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = (256, 256)
    "(height, width) of the network's input."
    pretrained: Annotated[Literal["auto", "imagenet", "none"], BeforeValidator(_none_as_word)] = "auto"
    "Where the encoder's weights come from; `auto`: ImageNet where there are weights for the network, contour_*."


class TrainConfig(Section):
    """The optimisation."""

    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    "Over the training split; 0: the weights that it begins with are kept as they are, to be exported."
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 16
    blank_share: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    "Share of an epoch's photos that are of `data.blank_sets`, all background; they come on top of `data.train_split`."
    paste_share: Probability = 0.0
    "Probability that the person of a photo is put before a background-only one, where there are such, or another."
    shrink_share: Probability = 0.0
    "Of those so pasted, the share that is made small and far away, with up to two others, as small, behind."
    match_light: Probability = 0.0
    "How far light and colours of what is pasted move at most to those of the photo that it is put before."
    cutout_share: Probability = 0.0
    "Probability that a hand or thing is pasted, mostly onto the person, where it is what `data.held` says."
    cutouts: Path | None = None
    "Folder of cut-outs, PNG or WebP with alpha; None: drawn hands, phones, cups, books."
    learning_rate: Positive = 4e-3
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
    init_licence: str = "unknown"
    "Licence of the weights that it begins with (INIT), where the file does not say it."
    precision: Literal["float32", "bfloat16"] = "float32"
    "Of the arithmetic of float training; weights, losses and quantization-aware training are float32 always."


class DistillConfig(Section):
    """The networks that are learnt from."""

    files: Annotated[tuple[Path, ...], Field(strict=False)] = ()
    "Exported files of RGB photos, anybody's (.tflite, .onnx), that look at each augmented photo of training."
    blend: Probability = 0.5
    "Share of their mean in the masks."
    mixup: Probability = 0.0
    "Probability that a photo is mixed with another one; its mask is that of the files alone."
    licence: str = "unknown"
    "Licence of `distill.files` for which nothing else says it."


class QatConfig(Section):
    """Quantization-aware training; what is not named here is as in `train`."""

    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 2
    "0: the int8 file of the float weights, with the ranges of calibration."
    learning_rate: Positive = 1e-4
    schedule: ScheduleName | None = None
    "Of the learning rate; None: as in `train`."
    select: Literal["keras", "tflite", "last"] = "tflite"
    "What chooses the epoch: the Keras model's IoU on val, that of the converted int8 file, or neither: it is the last."
    freeze_bn_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    "Epochs at the end in which the statistics of batch norm no longer move."
    freeze_ranges_epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    "Epochs at the end in which the ranges of activations no longer move either; never more than `freeze_bn_epochs`."
    range_percentile: Annotated[float, Field(gt=50, lt=100)] | None = None
    "Ranges of activations end at this percentile of their values, at both ends, and never move; None: they hold all."
    teacher: Literal["float", "train"] = "train"
    "`float`: the float network's masks of each augmented photo are the only target; `train`: masks and `[distill]`."
    sharpen: Annotated[float, Field(ge=1, le=100)] = 1.0
    "The logits are multiplied by it first: the mask at 0.5 stays, its outline is steeper, and 8 bits tell its sides."


class ExportConfig(Section):
    """What the export stage needs beside the weights."""

    recipes: Annotated[tuple[str, ...], BeforeValidator(_split_names), Field(min_length=1)] = ("released",)
    "Which files are made: names of recipes, `released` (what a release keeps), `all` (for tables)."
    calibration_photos: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    "Photos of the training split that set the ranges of post-training quantization."
    parity_photos: Annotated[int, Field(ge=1, le=1_000_000)] = 16
    "Photos of the validation split on which each file is compared with the Keras model."


class Config(Section):
    """Everything that decides a run; the defaults are what we recommend, train/configs/contour_medium.toml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 7
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: dict[str, dict[str, float]] = {
        "horizontal_flip": {"p": 0.5},
        "vertical_flip": {"p": 0.02},
        "quarter_turn": {"p": 0.04},
        "rotate_scale": {"p": 0.7},
        "crop_stretch": {"p": 0.3},
        "add": {"p": 0.2},
        "add_per_channel": {"p": 0.2},
        "gamma": {"p": 0.3},
        "colour_jitter": {"p": 0.3},
        "grayscale": {"p": 0.05},
        "low_light": {"p": 0.05},
        "backlight": {"p": 0.05},
        "occlusion_patches": {"p": 0.05},
        "mean_blur": {"p": 0.03},
        "median_blur": {"p": 0.03},
        "gaussian_blur": {"p": 0.08},
        "motion_blur": {"p": 0.08},
        "jpeg": {"p": 0.1},
        "add_per_element": {"p": 0.1},
        "gaussian_noise": {"p": 0.0},
    }
    "Augmentations in the order in which they are applied: name → its probability `p` and its own parameters."
    loss: dict[str, Annotated[float, Field(ge=0)]] = {"edge_weighted_bce": 1.0, "dice": 1.0}
    "Loss terms: name → weight in the sum."
    distill: DistillConfig = DistillConfig()
    qat: QatConfig = QatConfig()
    export: ExportConfig = ExportConfig()


def load_config(path: Path | None, overrides: list[str] | None = None) -> Config:
    """Reads a configuration.

    Args:
        path: `.toml`, or the `.json` that a run saved; None: the defaults.
        overrides: `section.key=value`, the value as TOML writes it (a bare word is a string, null is none).

    Raises:
        InputError: unreadable file, unknown key, wrong type or impossible value, with the dotted path.
    """
    values = {} if path is None else read_values(path)
    for override in overrides or []:
        # these two are taken whole from a file; an override changes one key of what would be taken
        if (section := override.strip().partition(".")[0]) in ("augment", "loss"):
            values.setdefault(section, copy.deepcopy(getattr(Config(), section)))
        _apply_override(values, override)
    return parse_config(values, str(path) if path else "config")


def data_overrides(path: Path | None, data: Path | None, format: str | None) -> list[str]:
    """What `--data` and `--format` override: photos that lie elsewhere are of the format that the configuration names.

    Portraits that are drawn lie nowhere: a folder in their place is of format `folder`.

    Args:
        path: of the configuration, as for `load_config`; one that does not exist says nothing.
        data: folder of photos, if one is named.
        format: of the photos, if it is named.

    Raises:
        InputError: a configuration that cannot be read.
    """
    overrides = []
    if data is not None:
        overrides.append(f"data.root={json.dumps(str(data))}")
        if format is None:
            section = read_values(path).get("data") if path is not None and path.is_file() else None
            stated = section.get("format", "synthetic") if isinstance(section, dict) else "synthetic"
            format = "folder" if stated == "synthetic" else str(stated)
    return overrides if format is None else [*overrides, f"data.format={json.dumps(format)}"]


def read_values(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a file, and of what it extends, not yet checked against the types.

    Args:
        path: a .toml, or the .json of a run, which extends nothing.
        seen: the files that extend it.

    Raises:
        InputError: unreadable, not TOML or JSON, or a setting that was used and is no longer there.
    """
    try:
        if not path.is_file():
            raise InputError(f"config {path}: no such file: name a .toml, such as those in train/configs/")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"config {path}: {files.explain(error)}") from error
    values = parse_text(content, f"config {path}", is_json=path.suffix == ".json")
    if path.suffix == ".json":
        _forget_removed(values, f"config {path}")
        return values
    return _extended(values, path, seen)


def _extended(values: dict[str, Any], path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The values over those of the file that `extend` names; of `augment` and `loss` the later one is taken whole."""
    if (name := values.pop("extend", None)) is None:
        return values
    if not isinstance(name, str):
        raise InputError(f'config {path}: extend: name one file, such as extend = "contour_medium.toml"')
    base = path.parent / name
    if (seen := (*seen, path.resolve())) and base.resolve() in seen:
        raise InputError(f"config {path}: extend: {base} extends this file in turn: take one of the two out")
    merged = read_values(base, seen)
    for key, value in values.items():
        is_merged = key not in ("augment", "loss") and isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if is_merged else value
    return merged


def _forget_removed(values: dict[str, Any], origin: str) -> None:
    """Takes out of a saved configuration what is no longer there, where it decided nothing."""
    for section, keys in REMOVED.items():
        settings = values.get(section)
        if not isinstance(settings, dict):
            continue
        for key, value in keys.items():
            if settings.pop(key, value) != value:
                raise InputError(
                    f"{origin}: {section}.{key} was used and is no longer there (CHANGELOG.md): train anew without it, "
                    "or take the commit that the run's artifact.json names"
                )


def parse_text(content: bytes, origin: str, is_json: bool = False) -> dict[str, Any]:
    """The values of a TOML (or JSON) text, not yet checked against the types.

    Raises:
        InputError: not UTF-8, not TOML (or a JSON object), nested too deep, a key twice.
    """
    try:
        # some editors put a byte order mark before it
        text = content.decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=files.unique_pairs) if is_json else tomllib.loads(text)
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
        faults = [_describe_fault(dict(fault)) for fault in error.errors()]
        more = f"; and {len(faults) - _SHOWN_FAULTS} more" if len(faults) > _SHOWN_FAULTS else ""
        raise InputError(f"{origin}: {'; '.join(faults[:_SHOWN_FAULTS])}{more}") from error
    except (TypeError, ValueError, RecursionError) as error:
        # a date, a number of 5,000 digits, a deep nest: TOML has them, no key takes them
        raise InputError(f"{origin}: a value that no key takes: {error}") from error


def _describe_fault(fault: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "config"
    if fault["type"] == "extra_forbidden":
        *sections, key = fault["loc"]
        if key in REMOVED.get(".".join(map(str, sections)), ()):
            return f"{where}: no longer there (CHANGELOG.md): take it out"
        section: Any = Config
        for part in sections:
            # a list's places are numbers
            section = get_args(section)[0] if isinstance(part, int) else section.model_fields[part].annotation
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
