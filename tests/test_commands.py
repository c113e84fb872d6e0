"""The commands: documented by themselves, their shared options defined once, make thin."""

import re
from pathlib import Path

import pytest

from portraitseg import options
from tests.golden import commands

ROOT = Path(__file__).parents[1]


def test_the_page_of_commands_is_what_they_say() -> None:
    """Run `python -m tests.golden.write` where this fails."""
    assert (ROOT / "docs/commands.md").read_text(encoding="utf-8") == commands.document()


def test_every_option_says_what_it_is() -> None:
    known = commands.commands()
    assert len(known) > 20
    for name, command in known.items():
        assert command.help, name
        for param in command.params:
            assert param.help, f"{name} {param.opts[0]}"


def test_every_variable_of_make_is_an_option() -> None:
    used = set(re.findall(r"\$\(if \$\(([A-Z]+)\)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    # files and names of sets are arguments; GPU= chooses what the environment is built of
    assert used - {"FILES", "DATASET", "GPU"} <= set(options.VARIABLES)
    given = {name for command in commands.commands().values() for param in command.params for name in param.opts}
    assert {option for _, option in options.VARIABLES.values()} <= given


@pytest.mark.parametrize("option", ["--run", "--config", "--data", "--format", "--set", "--peers", "--reference"])
def test_a_shared_option_means_one_thing(option: str) -> None:
    texts = {
        param.help
        for command in commands.commands().values()
        for param in command.params
        # one that asks for a run in place of something else has no default
        if option in param.opts and (option != "--run" or param.default is not None)
    }
    assert len(texts) == 1, texts
