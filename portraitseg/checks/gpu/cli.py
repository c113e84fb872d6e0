"""The commands `check-gpu` and `gpu-driver` of `python -m export`."""

from pathlib import Path
from typing import Annotated

import typer


def add_commands(app: typer.Typer) -> None:
    """Adds both to an app; nothing heavy is imported before one of them runs."""

    @app.command("check-gpu")
    def check_gpu(
        files: Annotated[list[Path] | None, typer.Argument(help="Any .tflite files, ours or foreign.")] = None,
        report: Annotated[Path | None, typer.Option(help="Folder for a JSON and a Markdown report per file.")] = None,
        route: Annotated[list[str] | None, typer.Option(help="litert, classic or web; repeatable.")] = None,
        driver: Annotated[str | None, typer.Option(help="Of litert: swiftshader, lavapipe or vulkan.")] = None,
        install: Annotated[bool, typer.Option("--install", help="First fetch what a route needs.")] = False,
    ) -> None:
        """Whether phones' GPUs take .tflite files: by the delegates' rules, and by running them."""
        from portraitseg.checks.gpu.command import check_gpu_command

        check_gpu_command(files or [], report, route, driver, install)

    @app.command("gpu-driver")
    def gpu_driver() -> None:
        """Fetch SwiftShader, a Vulkan driver in software, into .cache/gpu-driver/, without root."""
        from portraitseg.checks.gpu.command import gpu_driver_command

        gpu_driver_command()
