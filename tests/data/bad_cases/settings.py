"""Configurations, checkpoints to start from, names of runs."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.data.bad_cases import spoil
from tests.data.bad_cases.case import CHECK, FIT, Case
from tests.data.bad_cases.spoil import write_h5


def _moved(folder: Path) -> None:
    """The configuration that a run saved, whose photos are no longer where they were."""
    from portraitseg.config import Config, DataConfig

    saved = Config(data=DataConfig(format="folder", root=Path("moved/away")))
    spoil.write("runs/old/config.json", saved.model_dump_json().encode(), folder)


def _config(text: str) -> Callable[[Path], object]:
    return partial(spoil.write, "my.toml", text.encode())


def _init(folder: Path, **facts: object) -> None:
    write_h5(folder / "other.h5", **facts)  # type: ignore[arg-type]


def _set(*pairs: str) -> tuple[str, ...]:
    return (*CHECK, *(part for pair in pairs for part in ("--set", pair)))


_NAMES = "error: RUN="
_WITH_CONFIG = ("check-data", "--config", "my.toml")
_WITH_INIT = (*FIT, "--init", "other.h5")


def cases() -> Iterator[Case]:
    yield Case("no such config", 2, ("my.toml", "no such file", "train/configs"), arguments=_WITH_CONFIG)
    yield Case("config that is not TOML", 2, ("my.toml", "not TOML", "correct"), _config("seed 7"), _WITH_CONFIG)
    yield Case(
        "config that is not text",
        2,
        ("my.toml", "not TOML", "correct"),
        partial(spoil.write, "my.toml", b"\xff\xd8\xff"),
        _WITH_CONFIG,
    )
    yield Case(
        "config with 10,000 brackets",
        2,
        ("my.toml", "nested too deep", "write"),
        _config("seed = " + "[" * 10_000),
        _WITH_CONFIG,
    )
    yield Case(
        "unknown key", 2, ("my.toml", "train.epoch:", "known: epochs"), _config("[train]\nepoch = 3"), _WITH_CONFIG
    )
    yield Case(
        "unknown section", 2, ("my.toml", "training:", "known: seed"), _config("[training]\nepochs = 3"), _WITH_CONFIG
    )
    yield Case(
        "wrong type", 2, ("my.toml", "train.epochs:", "integer", "'3'"), _config('[train]\nepochs = "3"'), _WITH_CONFIG
    )
    yield Case("true for a number", 2, ("train.epochs:", "integer", "True"), arguments=_set("train.epochs=true"))
    yield Case(
        "impossible value",
        2,
        ("train.learning_rate:", "greater than 0", "-1"),
        arguments=_set("train.learning_rate=-1"),
    )
    yield Case(
        "value that is not finite", 2, ("train.learning_rate:", "finite"), arguments=_set("train.learning_rate=nan")
    )
    yield Case("seed beyond 32 bits", 2, ("seed:", "less than 4294967296"), arguments=_set("seed=99999999999"))
    yield Case("date for a number", 2, ("date", "no key takes"), arguments=_set("seed=2026-01-01"))
    yield Case(
        "unknown format",
        2,
        ("data.format:", "(there are: folder, "),
        arguments=(*CHECK, "--format", "tiff"),
    )
    yield Case("--set without a value", 2, ("--set seed", "section.key=value"), arguments=_set("seed"))
    yield Case(
        "data that moved since training",
        2,
        ("DATA moved/away", "DATA="),
        _moved,
        ("check-data", "--config", "runs/old/config.json"),
    )
    yield Case("unknown augmentation", 2, ("augment.twirl", "known:"), arguments=(*FIT, "--set", "augment.twirl.p=1"))
    yield Case("unknown loss", 2, ("loss.hinge", "known:"), arguments=(*FIT, "--set", "loss.hinge=1"))
    yield Case("unknown network", 2, ("model.name", "there are:"), arguments=(*FIT, "--set", "model.name=resnet"))
    # checkpoints
    yield Case("INIT that is not there", 2, ("other.h5", "no such file", "best.h5"), arguments=_WITH_INIT)
    yield Case(
        "INIT that is no h5",
        2,
        ("other.h5", "not a Keras h5", "best.h5"),
        partial(spoil.write, "other.h5", b"hello"),
        _WITH_INIT,
    )
    yield Case(
        "INIT of another network", 2, ("other.h5", "'unet'", "same network"), partial(_init, name="unet"), _WITH_INIT
    )
    yield Case(
        "INIT with a Lambda", 2, ("other.h5", "Lambda", "foreign code"), partial(_init, layer="Lambda"), _WITH_INIT
    )
    yield Case(
        "INIT with a link to another file",
        2,
        ("other.h5", "'conv' is a link", "best.h5"),
        lambda f: spoil.write_linked_h5(f / "other.h5"),
        _WITH_INIT,
    )
    yield Case(
        "INIT that is a pickle",
        2,
        ("other.h5", "not a Keras h5", "best.h5"),
        lambda f: spoil.write("other.h5", spoil.pickled(), f),
        _WITH_INIT,
    )
    yield Case("INIT whose weights are missing", 2, ("other.h5", "do not fit", "same network"), _init, _WITH_INIT)
    # names of runs
    for what, name, shown in (
        ("spaces", "my run", "'my run'"),
        ("a line break", "my\nrun", "'my\\nrun'"),
        ("unicode", "läuft", "'läuft'"),
        ("`../`", "../up", "'../up'"),
        ("nothing in it", "", "''"),
    ):
        yield Case(f"RUN with {what}", 2, (_NAMES + shown, "use letters"), arguments=("fit", "--run", name))
