"""The command `check-arm` of `python -m export`."""

from pathlib import Path
from typing import Annotated

import typer

from portraitseg import options


def add_commands(app: typer.Typer) -> None:
    """Adds it to an app; nothing heavy is imported before it runs."""

    @app.command("check-arm")
    def check_arm(
        files: Annotated[list[Path], typer.Argument(help="Any .tflite files, ours or foreign.")],
        core: Annotated[list[str] | None, typer.Option(help="Such as cortex-a76; repeatable. Default: all.")] = None,
        reference: options.Reference = None,
        data: options.Data = None,
        data_format: options.Format = None,
        split: Annotated[str, typer.Option(help="Whose photos are run.")] = "val",
        photos: Annotated[int, typer.Option(min=1, help="How many, evenly over the split.")] = 4,
        report: Annotated[Path | None, typer.Option(help="Folder for a JSON and a Markdown report per file.")] = None,
        time_limit: Annotated[float, typer.Option(min=1, help="Seconds for each file on each core.")] = 600,
        fetch: Annotated[bool, typer.Option("--fetch/--no-fetch", help="First fetch the emulator.")] = True,
    ) -> None:
        """What phones' processors make of .tflite files: masks, kernels and instructions, emulated."""
        from portraitseg.checks.arm.command import check_arm_command

        check_arm_command(files, core, reference, data, data_format, split, photos, report, time_limit, fetch)
