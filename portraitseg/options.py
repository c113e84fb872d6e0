"""The options that several commands share, each documented here and nowhere else (docs/commands.md is made of it)."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

if TYPE_CHECKING:
    from portraitseg import config as configuration

Run = Annotated[str, typer.Option("--run", help="Name of the run: its files go to runs/<RUN>/.")]
Runs = Annotated[str, typer.Option("--runs", help="Names of exported runs, with commas.")]
Config = Annotated[Path | None, typer.Option("--config", help="A .toml from train/configs/, or your own.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder of photos; default: as the configuration or the run says.")
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="Format of the photos; default: as the configuration or the run says, `folder` where that is `synthetic`.",
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.key=value of the configuration; repeatable.")]
Init = Annotated[Path | None, typer.Option("--init", help="h5 of the same network to start from.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Begin anew, whatever the run's folder holds.")]
Splits = Annotated[
    str | None, typer.Option("--splits", help="Splits to measure on, with commas; default: all that begin with `test`.")
]
#: Where something is chosen by the table, the test splits are asked for once, at the end.
ValSplits = Annotated[str, typer.Option("--splits", help="Splits, with commas; nothing is chosen on a test split.")]
Peers = Annotated[Path | None, typer.Option("--peers", help="Folder of .tflite files to measure beside ours.")]
Reference = Annotated[
    Path | None,
    typer.Option("--reference", help="File that is 1 in the ratio: of latencies; in check-arm, of instructions."),
]
Threads = Annotated[str, typer.Option("--threads", help="Thread counts, with commas, or `all` up to the cores.")]
Profile = Annotated[
    str, typer.Option("--profile", help="Of the latency: quick, about a minute; full, ten times the rounds.")
]
Base = Annotated[
    str | None, typer.Option("--base", help="The network that others are compared with; default: the first.")
]

Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        help="host:port of each machine, with commas, the same on all; the first alone writes. Default: TF_CONFIG.",
    ),
]
Task = Annotated[int | None, typer.Option("--task", help="Which of --workers this machine is, from 0.")]
Wait = Annotated[
    float, typer.Option("--wait", min=1, max=86400, help="Seconds for which workers wait for each other at the start.")
]
Device = Annotated[
    str, typer.Option("--device", help="auto: the GPUs that TensorFlow can use, else the processor; cpu; gpu.")
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard",
        help="i/n: this machine does one part of n; all write into one folder, and the last one to end completes it.",
    ),
]


@dataclass(frozen=True)
class Settings:
    """What is trained on, and how."""

    config: Config = None
    data: Data = None
    format: Format = None
    set: Set = None

    def resolve(self) -> "configuration.Config":
        """The configuration with `--data`, `--format` and `--set` applied, in this order."""
        from portraitseg.config import data_overrides, load_config

        return load_config(self.config, data_overrides(self.config, self.data, self.format) + (self.set or []))


@dataclass(frozen=True)
class Photos:
    """Photos to measure on, and settings of their configuration."""

    data: Data = None
    format: Format = None
    set: Set = None


@dataclass(frozen=True)
class OfRun:
    """A run, with the photos and settings that it gets instead of its own."""

    run: Run = "default"
    data: Data = None
    format: Format = None
    set: Set = None


@dataclass(frozen=True)
class Table(Photos):
    """What is measured beside what, and how."""

    peers: Peers = None
    threads: Threads = "1"
    profile: Profile = "quick"
    reference: Reference = None


def spread(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose parameters of the classes above are their options: Typer has no groups of options."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {}
    parts: list[inspect.Parameter] = []
    for name, part in signature.parameters.items():
        if is_dataclass(part.annotation):
            groups[name] = part.annotation
        else:
            parts.append(part.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    for group in groups.values():
        hints = get_type_hints(group, include_extras=True)
        parts += [
            inspect.Parameter(
                option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=hints[option.name]
            )
            for option in fields(group)
        ]

    @wraps(command)
    def call(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{option.name: values.pop(option.name) for option in fields(group)})
        return command(**values)

    call.__signature__ = signature.replace(parameters=parts)  # type: ignore[attr-defined]
    call.__annotations__ = {part.name: part.annotation for part in parts}
    return call


#: Variable of make → the option that it becomes, and a command that documents it.
VARIABLES: dict[str, tuple[str, str]] = {
    "RUN": ("train fit", "--run"),
    "DATA": ("train fit", "--data"),
    "FORMAT": ("train fit", "--format"),
    "CONFIG": ("train fit", "--config"),
    "INIT": ("train fit", "--init"),
    "SET": ("train fit", "--set"),
    "OVERWRITE": ("train fit", "--overwrite"),
    "WORKERS": ("train fit", "--workers"),
    "TASK": ("train fit", "--task"),
    "WAIT": ("train fit", "--wait"),
    "DEVICE": ("train fit", "--device"),
    "SPLITS": ("benchmark run", "--splits"),
    "PEERS": ("benchmark run", "--peers"),
    "REFERENCE": ("benchmark run", "--reference"),
    "THREADS": ("benchmark run", "--threads"),
    "PROFILE": ("benchmark run", "--profile"),
    "ROBUSTNESS": ("benchmark run", "--robustness"),
    "SHARD": ("benchmark run", "--shard"),
    "MODELS": ("benchmark contest", "--models"),
    "IMAGES": ("benchmark contest", "--images"),
    "RATES": ("benchmark contest", "--rates"),
    "BASE": ("benchmark contest", "--base"),
    "OUT": ("benchmark contest", "--out"),
    "REPORT": ("export check-gpu", "--report"),
    "DRIVER": ("export check-gpu", "--driver"),
    "COMMERCIAL": ("export release", "--commercial"),
    "PHOTOS": ("export check-arm", "--photos"),
    "MODEL": ("portraitseg segment", "--model"),
    "OUTPUT": ("portraitseg segment", "--output"),
    "BACKGROUND": ("portraitseg segment", "--background"),
}
