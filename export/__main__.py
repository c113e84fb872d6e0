"""`python -m export`: a trained run → files for phones, each compared with its Keras model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portraitseg import cli, options
from portraitseg.checks.arm import cli as arm_cli
from portraitseg.checks.gpu.cli import add_commands

if TYPE_CHECKING:
    from portraitseg.config import Config
    from portraitseg.runs import Run

app = cli.new_app("Export a trained run: quantize, convert, compare with the Keras model, write the manifest.")

SkipQatOption = Annotated[bool, typer.Option("--skip-qat", help="No QAT: int8 files post-training instead.")]


@app.callback()
def main() -> None:
    """Export a trained run."""


add_commands(app)
arm_cli.add_commands(app)


@app.command()
def android(
    of: options.OfRun,
    skip_qat: SkipQatOption = False,
) -> None:
    """TFLite files, after quantization-aware training, in android_assets/<RUN>/."""
    _export("android", of, skip_qat)


@app.command()
def ios(of: options.OfRun) -> None:
    """Core ML packages, from the float weights, in ios_assets/<RUN>/."""
    _export("ios", of, skip_qat=True)


@app.command()
def onnx(
    of: options.OfRun,
    skip_qat: SkipQatOption = False,
) -> None:
    """ONNX files, after quantization-aware training, in runs/<RUN>/onnx/."""
    _export("onnx", of, skip_qat)


@app.command()
def qat(
    of: options.OfRun,
    workers: options.Workers = None,
    task: options.Task = None,
    wait: options.Wait = 50.0,
    device: options.Device = "auto",
) -> None:
    """Quantization-aware training alone, on several machines or GPUs; the exports then take its network."""
    from train.machines.cluster import cluster_of

    cluster = cluster_of(workers, task)
    from export.stage import qat_run

    qat_run(*_opened(of), cluster, wait, device)


@app.command()
def release(
    run: options.Run = "default",
    commercial: Annotated[
        bool,
        typer.Option("--commercial", help="Refuse, unless all that the weights learnt from allows it."),
    ] = False,
) -> None:
    """Keep of an exported run what is committed: files for apps, their manifest, golden vectors, weights."""
    from export.release import release as reduce
    from portraitseg.runs import Run

    cli.say(f"to be committed: {' '.join(map(str, reduce(Run(run), commercial=commercial)))}")


@app.command("check-assets")
def check_assets(
    folder: Annotated[Path, typer.Argument(help="android_assets/<run> or ios_assets/<run>, or a copy of it.")],
) -> None:
    """Whether a folder of files is what was exported: hashes, golden masks on this machine, sources and constants."""
    from export.publishing import golden, handout

    masks, sources = golden.check(folder), handout.check(folder)
    cli.say(
        f"{folder}: hashes hold, {masks} golden masks in tolerance, "
        + (f"{sources} sources are those of apps/" if sources else "no sources")
    )


@app.command()
def handout(
    folders: Annotated[list[Path], typer.Argument(help="Released folders: android_assets/<run>, ios_assets/<run>.")],
) -> None:
    """Write anew what tells an app of released files: README.md, labels.txt, the sources of apps/, their constants."""
    from export.publishing.handout import rewrite

    for folder in folders:
        cli.say(f"{folder}: README.md" + (" and sources" if rewrite(folder) else "; it has not the files for sources"))


@app.command()
def matrix(of: options.OfRun) -> None:
    """Every exported file beside every other and beside Keras: runs/<RUN>/matrix.md, .csv and .png."""
    from export.analysis.matrix import matrix as compare

    compare(*_opened(of))


@app.command("check-qat")
def check_qat(
    model: Annotated[str | None, typer.Option("--model", help="Name of a network.")] = None,
    size: Annotated[tuple[int, int], typer.Option("--size", help="Height and width, with --model.")] = (256, 256),
    run: Annotated[str | None, typer.Option("--run", help="Name of a trained run.")] = None,
    h5: Annotated[Path | None, typer.Option("--h5", help="A float h5 that training wrote.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every network that there is, as a table.")] = False,
) -> None:
    """Lists the layers that quantization-aware training would refuse or leave float, before a minute is spent."""
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    if sum(given is not None for given in (model, run, h5)) + every != 1:
        raise InputError("check-qat: name one of --model, --run, --h5 and --all")
    if run is not None:
        h5 = Run(run).best
    from export.product.quiet import quiet
    from export.quantization.preflight import report, survey
    from portraitseg import models
    from portraitseg.models import checkpoint

    if every:
        survey(list(models.MODELS), size)
        return
    with quiet():
        if h5 is None:
            network = models.as_written(model or "", size)
        else:
            loaded = checkpoint.load(h5)
            network = models.as_written(loaded.name, loaded.input_shape[1:3])
    report(network, "" if h5 is None else str(h5))


@app.command("check-mediapipe")
def check_mediapipe(
    files: Annotated[list[Path] | None, typer.Argument(help="Any .tflite files, ours or foreign.")] = None,
    run: Annotated[str | None, typer.Option("--run", help="Name of an exported run, instead of files.")] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for the report, Markdown and JSON.")] = None,
) -> None:
    """Whether MediaPipe's ImageSegmenter and litert-benchmark open .tflite files, with the interpreter's mask."""
    from portraitseg.checks.mediapipe.command import check_mediapipe as check

    check(files or [], run, report)


@app.command()
def sensitivity(
    of: options.OfRun,
    recipe: Annotated[str, typer.Option("--recipe", help="Of the integer file.")] = "qat_wi8_ai8",
    photos: Annotated[int, typer.Option("--photos", min=1, help="Of the training split.")] = 8,
) -> None:
    """Signal-to-noise ratio of every layer, int8 against float, in runs/<RUN>/export/."""
    from export.analysis.sensitivity import run_sensitivity

    run_sensitivity(*_opened(of), recipe, photos)


def _opened(of: options.OfRun) -> tuple["Run", "Config"]:
    """A trained run, and its configuration with what may still change of it."""
    from export.stage import load_run_config
    from portraitseg.runs import Run

    run = Run(of.run)
    return run, load_run_config(run, of.set, of.data, of.format)


def _export(target: str, of: options.OfRun, skip_qat: bool) -> None:
    from export.stage import export_run

    export_run(*_opened(of), target, skip_qat)


if __name__ == "__main__":
    cli.run(app)
