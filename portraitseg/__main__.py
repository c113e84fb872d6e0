"""`portraitseg …`, the same as `python -m portraitseg …`: photos and videos to masks, mattes and cut-outs."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from portraitseg import cli

app = cli.new_app("Finds the person in photos and videos: masks, mattes, cut-outs, other backgrounds.")

ModelHelp = "A released name, or an exported file: .tflite, .onnx, .mlpackage, .mlmodel."


@app.callback()
def callback() -> None:
    """Finds the person in photos and videos."""


@app.command()
def segment(
    inputs: Annotated[list[str], typer.Argument(metavar="IN…", help="Photos, videos, folders of them, patterns.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; or a file, for a single photo or video.")],
    model: Annotated[str, typer.Option(help=ModelHelp)] = "contour_medium",
    output: Annotated[
        str, typer.Option(help="mask, alpha, cutout, blur (of the background) or replace (it).")
    ] = "mask",
    background: Annotated[str | None, typer.Option(help="For replace: a picture, or a colour such as #00ff00.")] = None,
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Edges that follow the photo's own.")] = True,
    smooth: Annotated[
        bool | None, typer.Option("--smooth/--no-smooth", help="Steadier masks of videos; default: yes.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders with the folders in them; OUT gets the same folders.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, max=256, help="Photos at a time, or of a video's network; default: the cores.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make anew what is there already.")] = False,
) -> None:
    """Makes a mask, a matte, a cut-out or a picture with another background of each photo and video."""
    from portraitseg.errors import InputError
    from portraitseg.segment.batch import Batch, plan
    from portraitseg.segment.pictures import OUTPUTS, parse_background
    from portraitseg.segment.segmenter import Segmenter
    from portraitseg.workers import cores

    kind = next((known for known in OUTPUTS if known == output), None)
    if kind is None:
        raise InputError(f"--output {output}: choose one of {', '.join(OUTPUTS)}")
    if (background is None) == (kind == "replace"):
        remedy = "name one with --background" if background is None else "leave it out, or add --output replace"
        raise InputError(f"--output {kind} {'needs a' if background is None else 'takes no'} background: {remedy}")
    jobs = plan(inputs, out, kind, recursive)
    if smooth and not any(job.is_video for job in jobs):
        raise InputError("--smooth: photos follow from nothing: it is for videos")
    batch = Batch(
        lambda count: Segmenter(model, count, refine),
        kind,
        parse_background(background) if background else None,
        overwrite,
        smooth,
        threads or cores(),
    )
    done = batch.run(jobs)
    cli.say(f"{done} of {len(jobs)} made: {out}")


@app.command()
def sheet(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO…", help="Photos.")],
    models: Annotated[list[str], typer.Option("--model", help=f"{ModelHelp} Repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The picture, .png or .jpg.")] = Path("sheet.png"),
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="As in `segment`.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make it anew if it is there.")] = False,
) -> None:
    """Draws photos, what each model makes of them, and where the models differ, side by side."""
    from portraitseg.segment.sheet import draw_sheet

    draw_sheet(photos, models, out, refine, overwrite)
    cli.say(f"{out} written")


@app.command()
def info(model: Annotated[str, typer.Argument(metavar="MODEL", help=ModelHelp)]) -> None:
    """What is known of a model: tensors, operators, metadata, scores, parameters, licence; nothing in it is run."""
    from rich.table import Table
    from rich.text import Text

    from portraitseg.segment.info import describe

    # a stranger's texts: neither markup nor terminal codes in them count
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for what, value in describe(model):
        table.add_row(Text(what, style="bold"), Text(cli.one_line(value)))
    cli.table_console().print(table)


@app.command()
def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="On this machine; 0: any that is free.")] = 8765,
    models: Annotated[
        list[Path] | None,
        typer.Option("--model", help="A .tflite to choose from beside the released ones. Repeatable."),
    ] = None,
    build: Annotated[
        Path | None, typer.Option("--build", help="Write the page as static files into this folder, and serve nothing.")
    ] = None,
) -> None:
    """Serves the page that segments photos and the camera's picture in the browser; no photo leaves this machine."""
    from portraitseg import web as page

    page.check_sources()
    from portraitseg.checks.gpu import web as packages

    packages.install()
    site = page.collect(packages.FOLDER, models or ())
    if build is not None:
        page.build(build, site)
        cli.say(f"{build} written: {len(site)} files")
        return
    with page.make_server(site, port) as server:
        cli.say(f"http://{page.HOST}:{server.server_port}/ (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def main() -> None:
    """The console script."""
    cli.run(app)


if __name__ == "__main__":
    main()
