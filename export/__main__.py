"""`python -m export`: a trained run → files for phones, each compared with its Keras model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from portraitseg import cli

app = cli.new_app("Export a trained run: quantize, convert, compare with the Keras model, write the manifest.")

RunOption = Annotated[str, typer.Option("--run", help="Name of the run, as given to training.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the photos, where they have moved since.")]
FormatOption = Annotated[str | None, typer.Option("--format", help="folder, eg1800 or synthetic.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="qat.key=value, export.key=value; repeatable.")]
SkipQatOption = Annotated[bool, typer.Option("--skip-qat", help="Leave out the files that need QAT.")]


@app.callback()
def main() -> None:
    """Export a trained run."""


@app.command()
def android(
    run: RunOption = "default",
    data: DataOption = None,
    format: FormatOption = None,
    set: SetOption = None,
    skip_qat: SkipQatOption = False,
) -> None:
    """TFLite files, after quantization-aware training, in android_assets/<RUN>/."""
    _export("android", run, data, format, set, skip_qat)


@app.command()
def ios(
    run: RunOption = "default", data: DataOption = None, format: FormatOption = None, set: SetOption = None
) -> None:
    """Core ML packages, from the float weights, in ios_assets/<RUN>/."""
    _export("ios", run, data, format, set, skip_qat=True)


@app.command()
def onnx(
    run: RunOption = "default",
    data: DataOption = None,
    format: FormatOption = None,
    set: SetOption = None,
    skip_qat: SkipQatOption = False,
) -> None:
    """ONNX files, after quantization-aware training, in runs/<RUN>/onnx/."""
    _export("onnx", run, data, format, set, skip_qat)


def _export(
    target: str, run: str, data: Path | None, format: str | None, overrides: list[str] | None, skip_qat: bool
) -> None:
    from portraitseg.runs import Run

    place = Run(run)
    moved = []
    if data is not None:
        moved += [f"data.root={json.dumps(str(data))}", f"data.format={format or 'folder'}"]
    elif format is not None:
        moved += [f"data.format={format}"]
    from export.stage import export_run, load_run_config

    config = load_run_config(place, moved + (overrides or []))
    export_run(place, config, target, skip_qat)


if __name__ == "__main__":
    cli.run(app)
