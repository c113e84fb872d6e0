"""docs/commands.md: every command and every option, from what the commands themselves say."""

import importlib
from typing import Any

import typer.main

from portraitseg import options

STAGES = ("portraitseg", "train", "export", "benchmark")

_HEAD = """# Commands

Every command is `python -m <stage> <command>`; `--help` behind it lists its options. The main ones are `make` targets
too (`make help`). Once installed, `portraitseg <command>` is the same as `python -m portraitseg <command>`.
Written by `python -m tests.golden.write` from what the commands say of themselves.

**Photos.** Without `--data` they are those of the configuration, or of the run. With `--data` and without `--format`
their format is the one that the configuration or the run names. Where that is `synthetic`, whose portraits are drawn,
it is `folder`.

## Variables of make
"""


def commands() -> dict[str, Any]:
    """`<stage> <command>` → click's command, in the order of the help."""
    by_name: dict[str, Any] = {}
    for stage in STAGES:
        group = typer.main.get_command(importlib.import_module(f"{stage}.__main__").app)
        by_name |= {f"{stage} {name}": command for name, command in group.commands.items()}  # type: ignore[attr-defined]
    return by_name


def document() -> str:
    """Variables, commands, and the options of each."""
    known = commands()
    rows = ["| variable | option | |", "|---|---|---|"]
    for variable, (name, option) in options.VARIABLES.items():
        (text,) = [param.help for param in known[name].params if option in param.opts]
        rows.append(f"| `{variable}=` | `{option}` | {_first_line(text)} |")
    lines = [_HEAD, *rows, "", "## Commands", "", "| command | does | options |", "|---|---|---|"]
    for name, command in known.items():
        names = ", ".join(f"`{param.opts[0]}`" for param in command.params if param.opts[0].startswith("--"))
        lines.append(f"| `python -m {name}` | {_first_line(command.help)} | {names} |")
    return "\n".join(lines) + "\n"


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0].replace("|", "\\|")
