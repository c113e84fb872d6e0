"""`python -m train`: photos and masks → Keras h5."""

from pathlib import Path
from typing import Annotated

import typer

from portraitseg import cli, options

app = cli.new_app("Train a network on portraits with masks.")

#: Of a profile, kinds of operators below this share of the time are not printed.
_SHOWN_SHARE = 0.005


@app.callback()
def main() -> None:
    """Train a network on portraits with masks."""


@app.command()
def fit(
    settings: options.Settings,
    run: options.Run = "default",
    init: options.Init = None,
    overwrite: options.Overwrite = False,
    workers: options.Workers = None,
    task: options.Task = None,
    wait: options.Wait = 50.0,
    device: options.Device = "auto",
) -> None:
    """Train, or go on where a stopped training of the same run left off; on several machines, the same on each."""
    from portraitseg.runs import Run
    from train.machines.cluster import cluster_of

    folder, cluster = Run(run), cluster_of(workers, task)
    resolved = settings.resolve()
    from train.stage import train_run

    train_run(folder, resolved, init, overwrite, cluster, wait, device)


@app.command("data")
def get_data(
    name: Annotated[str | None, typer.Argument(help="A public set; without one: what there is.")] = None,
    folder: Annotated[Path | None, typer.Argument(help="Folder that it goes to, or lies in.")] = None,
) -> None:
    """Fetch a public set, resumed and checked, or say how to get it; its licence and citation go beside the photos."""
    from train.fetch import fetch, show_sets

    if name is None:
        show_sets()
        return
    fetch(name, folder)


@app.command("check-data")
def check_data(
    settings: options.Settings,
    fix: Annotated[
        Path | None, typer.Option(help="Write a corrected copy of the folder here; the original stays as it is.")
    ] = None,
    redrawn: Annotated[
        Path | None, typer.Option(help="With --fix and data.decisions: masks drawn anew, the folder of `train redraw`.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder for report.json and report.html: all photos, worst first.")
    ] = None,
) -> None:
    """Read every photo and mask once; count what is odd, stop at what cannot be used, unless a report is asked for."""
    resolved = settings.resolve()
    if fix is not None:
        from train.fix import write_fixed

        write_fixed(resolved, fix, redrawn)
        return
    from portraitseg.data import open_dataset

    if report is not None:
        from train.data_report import write_report

        write_report(open_dataset(resolved.data, resolved.seed), resolved.data.val_split, report)
        return
    from train.check import check_data

    dataset = open_dataset(resolved.data, resolved.seed)
    check_data(dataset, tuple(dataset.splits))


@app.command()
def split(
    settings: options.Settings,
    out: Annotated[Path | None, typer.Option(help="The file to write; default: splits.json in DATA.")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="Regular expression; photos of the same match (its first group) stay together."),
    ] = None,
    val: Annotated[float, typer.Option(min=0, max=0.5, help="Share for validation.")] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=0.5, help="Share for the test.")] = 0.1,
    check: Annotated[bool, typer.Option("--check", help="Write nothing: do the splits as they are leak?")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the file.")] = False,
) -> None:
    """Divide a folder so that nothing leaks: near-duplicates, and what a name tells, stay in one split."""
    resolved = settings.resolve()
    from train import split as splitting

    if check:
        splitting.check_leaks(resolved, by)
    else:
        splitting.split(
            resolved, out or (resolved.data.root or Path()) / splitting.SPLITS_NAME, by, val, test, overwrite
        )


@app.command("show-data")
def show_data(
    settings: options.Settings,
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")],
    split: Annotated[str | None, typer.Option(help="Default: the training split.")] = None,
    photos: Annotated[int, typer.Option(min=1, max=200, help="How many, evenly over the split.")] = 16,
    augmented: Annotated[
        bool, typer.Option("--augmented", help="As a batch of training has them: augmented, pasted, mixed.")
    ] = False,
) -> None:
    """Draw photos above their masks and the bands around their outlines, as they are or as training sees them."""
    resolved = settings.resolve()
    from portraitseg.data import open_dataset
    from train.show import check_out, write_samples

    check_out(out, resolved)
    dataset = open_dataset(resolved.data, resolved.seed)
    write_samples(out, dataset, resolved, split or resolved.data.train_split, photos, augmented)
    cli.say(f"{out} written")


@app.command("show-output")
def show_output(
    of: options.OfRun,
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")],
    weights: Annotated[
        Path | None, typer.Option(help="h5, .tflite or .onnx to look at; default: the run's best.h5.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Default: the validation split.")] = None,
    photos: Annotated[int, typer.Option(min=1, max=200, help="How many are shown, the worst.")] = 16,
) -> None:
    """Draw photo, truth, mask and difference of a trained run, the worst first."""
    from portraitseg.data import open_dataset
    from portraitseg.runs import Run
    from train.label import open_teacher
    from train.show import check_out, write_outputs

    chosen = Run(of.run)
    resolved = options.Settings(chosen.require_config(), of.data, of.format, of.set).resolve()
    check_out(out, resolved)
    dataset = open_dataset(resolved.data, resolved.seed)
    shown = write_outputs(out, dataset, split or resolved.data.val_split, open_teacher(weights or chosen.best), photos)
    cli.say(f"{out}: the worst has IoU {100 * shown[0][1]:.1f} ({shown[0][0]})")


@app.command()
def label(
    settings: options.Settings,
    weights: Annotated[
        list[Path], typer.Option(help="h5, .tflite or .onnx that draws the masks; repeated: the mean of several.")
    ],
    out: Annotated[Path, typer.Option(help="New folder for photos and masks.")],
    blend: Annotated[float, typer.Option(min=0, max=1, help="Their share in masks that are there already.")] = 0.5,
    agreement: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Leave a network out of a photo where its IoU with the median of all masks is below."
        ),
    ] = 0.0,
    shard: options.Shard = "1/1",
) -> None:
    """Copy photos with soft masks of trained networks: alone where there were none, else blended into those."""
    resolved = settings.resolve()
    from portraitseg.data.base import parse_shard
    from train.label import label as write_labels

    write_labels(resolved, weights, out, blend, parse_shard(shard), agreement)


@app.command()
def audit(
    settings: options.Settings,
    out: Annotated[Path, typer.Option(help="Folder for audit.json and audit.html; a stopped audit goes on in it.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="A released name, .tflite or .onnx; repeated: the mean of several. Default: all released."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Splits whose masks are looked at; repeatable. Default: the training split."),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(help="Sets; repeatable. Default: all of the splits.")] = None,
    shown: Annotated[int, typer.Option(min=1, help="Photos on the page, the worst.")] = 200,
    plant: Annotated[
        int, typer.Option(min=0, help="Measure the audit instead: put this many faults of each kind in, find them.")
    ] = 0,
    photos: Annotated[int, typer.Option(min=20, help="With --plant: masks in all, evenly over the splits.")] = 500,
) -> None:
    """Rank label faults: where trained networks disagree with a mask in a way that looks like one."""
    resolved = settings.resolve()
    from train.audit import stage

    subject = stage.Subject(tuple(split or [resolved.data.train_split]), tuple(only or ()))
    if plant:
        stage.measure(resolved, out, model or [], subject, plant, photos)
    else:
        stage.audit(resolved, out, model or [], subject, shown)


@app.command()
def redraw(
    settings: options.Settings,
    out: Annotated[Path, typer.Option(help="New folder for photos, masks to draw over, and the networks' masks.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Networks whose masks are suggested, as in `audit`; repeatable.")
    ] = None,
) -> None:
    """Hand out the photos that `data.decisions` says to fix, for a drawing program."""
    from train.audit.redraw import hand_out

    hand_out(settings.resolve(), out, model or [])


@app.command()
def matte(
    settings: options.Settings,
    out: Annotated[Path | None, typer.Option(help="New folder: photos, soft masks, masks as they were.")] = None,
    method: Annotated[str, typer.Option(help="closed_form, knn, or guided, which needs no pymatting.")] = "closed_form",
    band: Annotated[
        float,
        typer.Option(min=0.001, max=0.3, help="Half the unknown band, as a share of the person's size."),
    ] = 0.015,
    measure: Annotated[
        int, typer.Option(min=0, help="Write nothing: compare all methods on this many portraits of known alpha.")
    ] = 0,
) -> None:
    """Make soft masks of hard ones: in a band around the outline alpha follows the photo's colours."""
    from train import matte as mattes

    if measure:
        for name, row in mattes.measure(measure, band).items():
            print(f"{name:20} MAD {row['mad']:.4f}  gradient {row['gradient']:.3f}  {row['seconds']:.3f} s")
        return
    mattes.write_mattes(settings.resolve(), out, mattes.method_of(method), band)


@app.command()
def pack(
    settings: options.Settings,
    out: Annotated[str, typer.Option(help="Folder, or prefix of an object store (s3://bucket/photos).")],
    photos: Annotated[int, typer.Option(min=1, max=100_000, help="In a shard.")] = 500,
) -> None:
    """Pack photos of any format into shards (tar files and an index), to be read with FORMAT=shards."""
    resolved = settings.resolve()
    from train.pack import pack as write_shards

    write_shards(resolved, out, photos)


@app.command()
def speed(
    settings: options.Settings,
    steps: Annotated[int, typer.Option(min=1, help="Batches per measurement.")] = 60,
    profile: Annotated[
        bool, typer.Option("--profile", help="Where the step's time goes, by kind of operator.")
    ] = False,
) -> None:
    """Measure images per second: the step alone, the input pipeline alone, both, both with checkpoints."""
    resolved = settings.resolve()
    from train.speed import measure_speed, profile_step

    if profile:
        for item in profile_step(resolved, steps):
            if item.share >= _SHOWN_SHARE:
                print(f"{item.kind:32} {item.milliseconds:8.1f} ms {item.share:6.1%} {item.count:6} in a step")
        return
    for name, rate in measure_speed(resolved, steps).items():
        print(f"{name:9} {rate:8.1f} images/s")


@app.command()
def average(
    weights: Annotated[list[Path], typer.Option(help="A float h5; repeated, of one network, of any of its sizes.")],
    out: Annotated[Path, typer.Option(help="The h5 to write, for INIT= or --init.")],
    share: Annotated[
        list[float] | None,
        typer.Option(
            help="Of each h5, in their order; or, once, of the second of two, after fine-tuning: the first, its start, "
            "has the rest (WiSE-FT)."
        ),
    ] = None,
    size: Annotated[
        tuple[int, int] | None, typer.Option(help="Height and width of the new network's input; else the first's.")
    ] = None,
) -> None:
    """Average the weights of trainings that began alike (a model soup), or of a fine-tuning's start and end."""
    from train.weights.average import average

    shares = average(weights, out, share or (), size)
    if shares is not None:
        cli.say(f"{out}: {', '.join(f'{one:g} of {path}' for one, path in zip(shares, weights, strict=True))}")
        return
    cli.say(f"{out}: the mean of {len(weights)}; its batch norm and outline want a last short training (--init {out})")


@app.command("import-origin")
def import_origin(
    source: Annotated[
        Path, typer.Option("--from", help="A Keras h5: of the original repository, of another size of ours, …")
    ],
    model: Annotated[str, typer.Option(help="Our network, such as mattingnet_big.")],
    out: Annotated[Path, typer.Option(help="The h5 to write, for INIT= or --init.")],
    imagenet: Annotated[bool, typer.Option("--imagenet", help="Begin with ImageNet weights (contour_* only).")] = False,
) -> None:
    """Take from a foreign h5 the weights of the layers that correspond; nothing in it is executed."""
    from rich.table import Table
    from rich.text import Text

    from portraitseg.errors import CheckFailed
    from train.weights import origin
    from train.weights.pretrained import load_imagenet

    report = origin.import_h5(source, model, out, load_imagenet if imagenet else None)
    table = Table("layer", "of the file", "why not")
    rows = [*((ours, theirs, "") for ours, theirs in report.loaded), *((ours, "", why) for ours, why in report.missing)]
    for row in [*rows, *(("", theirs, why) for theirs, why in report.unused)]:
        table.add_row(*(Text(cli.one_line(cell)) for cell in row))
    cli.table_console().print(table)
    count = len(report.loaded)
    share = report.loaded_weights / report.weights
    if report.is_hollow:
        raise CheckFailed(
            f"{source}: {count} of {count + len(report.missing)} convolutions of {model} correspond, {share:.1%} of "
            f"the weights: {out} is not written; is it of another network? (--model)"
        )
    cli.say(f"{out}: {count} of {count + len(report.missing)} convolutions loaded, {share:.0%} of their weights")


@app.command("import-tflite")
def import_tflite(
    file: Annotated[Path, typer.Argument(help="MediaPipe's selfie segmentation, general or landscape (.tflite).")],
    out: Annotated[Path, typer.Option(help="The h5 to write, for INIT= or --init.")],
    model: Annotated[
        str | None,
        typer.Option(help="Our network; default: the file's own. selfie_swish and wider ones begin with its weights."),
    ] = None,
    divide_logits: Annotated[
        float,
        typer.Option(help="So that training has gradients; the 0.5 contour stays. 1: probabilities as the file's."),
    ] = 20.0,
) -> None:
    """Rebuild a known network of others from its .tflite, weights and all; nothing in it is executed to read it."""
    from rich.table import Table
    from rich.text import Text

    from train.weights.foreign import import_tflite

    report = import_tflite(file, out, model, divide_logits)
    table = Table("layer", "of the file", "kernel")
    for match in report.matches:
        kernel = "x".join(map(str, match.kernel))
        table.add_row(*(Text(cli.one_line(cell)) for cell in (match.layer, match.operator, kernel)))
    cli.table_console().print(table)
    height, width = report.size
    cli.say(
        f"{out}: {report.network} at {height}x{width}; all {len(report.matches)} convolutions have the file's weights; "
        f"rebuilt, it differs from the file by at most {report.difference:.1e} in probability; "
        f"logits divided by {divide_logits:g}"
    )
    if not report.is_equal_form:
        cli.say(f"{report.network} has x·sigmoid(x) where the file has h-swish: nearly its masks, until it is trained")
    cli.say("derived from MediaPipe Selfie Segmentation (Google, Apache-2.0): keep this notice with the weights")


@app.command()
def widen(
    weights: Annotated[Path, typer.Option(help="Float h5 of the narrower network.")],
    model: Annotated[str, typer.Option(help="A wider variant of it, such as selfie_swish_d200.")],
    out: Annotated[Path, typer.Option(help="The h5 to write, for INIT= or --init.")],
) -> None:
    """Begin a wider network with a narrower one's function (Net2Net)."""
    from train.weights.widen import widen

    difference = widen(weights, model, out)
    cli.say(f"{out}: {model}; differs by at most {difference:.1e} in probability from {weights}")


if __name__ == "__main__":
    cli.run(app)
