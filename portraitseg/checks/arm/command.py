"""What `python -m export check-arm` does."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from portraitseg.checks.arm import check, fetch, report
from portraitseg.checks.arm.cores import CORES
from portraitseg.checks.gpu.result import Photos
from portraitseg.checks.record import record
from portraitseg.cli import say, table_console
from portraitseg.errors import CheckFailed, InputError
from portraitseg.tflite.graph import read_graph

_COLOURS = {"passed": "green", "failed": "red", "not_run": "yellow"}


def check_arm_command(
    paths: Sequence[Path],
    cores: Sequence[str] | None = None,
    reference: Path | None = None,
    data: Path | None = None,
    data_format: str | None = None,
    split: str = "val",
    photos: int = 4,
    report_folder: Path | None = None,
    time_limit_s: float = 600.0,
    is_fetched: bool = True,
) -> None:
    """Runs .tflite files on emulated cores, prints a table, and notes the result in their manifests.

    Args:
        paths: what to check, ours or foreign.
        cores: keys of `CORES`; None: all.
        reference: a file whose instructions are 1.
        data, data_format: a folder of photos; without one, synthetic portraits.
        split, photos: of these, and how many.
        report_folder: where to write a JSON and a Markdown report for each file; None writes none.
        time_limit_s: for each file on each core.
        is_fetched: fetch what is missing first; where that fails, every core says `not_run`.

    Raises:
        InputError: no file, no TFLite file, an unknown core, a folder for reports that cannot be one.
        CheckFailed: a core failed on one of them.
    """
    if not paths:
        raise InputError("check-arm: name at least one .tflite file")
    chosen = tuple(cores or CORES)
    if unknown := [name for name in chosen if name not in CORES]:
        raise InputError(f"--core {unknown[0]}: there are {', '.join(CORES)}")
    for path in [*paths, *([reference] if reference else [])]:
        read_graph(path)
    report.check_folder(report_folder, paths)
    if is_fetched:
        try:
            fetch.fetch()
        except InputError as error:
            say(str(error))
    reports = check.examine(paths, load_photos(data, data_format, split, photos), chosen, reference, time_limit_s)
    console = table_console()
    console.print(_table(reports))
    for one in reports:
        for run in one.runs:
            if run.reason:
                console.print(f"{one.path.name}, {run.core}: {run.reason}", markup=False, soft_wrap=True)
        if report_folder is not None:
            report.write(one, report_folder)
        record(one.path, "arm", check.to_checks(one))
    if failed := [one.path.name for one in reports if one.has_failed]:
        raise CheckFailed(f"a phone's processor makes something else of {', '.join(failed)}")


def load_photos(data: Path | None, data_format: str | None, split: str, count: int) -> Photos:
    """Photos of a split, evenly over it; without a folder, synthetic portraits.

    Raises:
        InputError: a folder that is none of photos, or without that split.
    """
    if data is None and data_format is None:
        from portraitseg.synthetic import portraits as synthetic

        return [synthetic.render(index, (256, 256), 0)[0] for index in range(count)]
    from portraitseg.config import data_overrides, load_config
    from portraitseg.data import open_dataset, spread

    config = load_config(None, data_overrides(None, data, data_format))
    dataset = open_dataset(config.data, config.seed)
    return [dataset.load(key).image for key in spread(dataset.keys(split), count)]


def _table(reports: list[check.FileReport]) -> Table:
    table = Table("file", "core", "verdict", "greatest", "mask IoU", "M instr.", "ratio", "MB loaded", "main kernel")
    for one in reports:
        name = one.path.name
        for run in one.runs:
            count = run.count
            table.add_row(
                escape(name),
                run.core,
                f"[{_COLOURS[run.verdict]}]{run.verdict}[/]",
                report.figure(run.max_abs, ".2g"),
                report.figure(run.mask_iou, ".4f"),
                report.figure(count.instructions / 1e6 if count else None, ".2f"),
                report.figure(run.ratio, ".2f"),
                report.figure(count.loaded / 1e6 if count else None, ".1f"),
                report.main_kernel(count),
            )
            name = ""
    return table
