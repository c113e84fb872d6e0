"""What `python -m export check-gpu` and `gpu-driver` do."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from export.gpu import driver, report
from portraitseg.cli import table_console
from portraitseg.errors import CheckFailed, InputError

_COLOURS = {"passed": "green", "failed": "red", "not_run": "yellow"}


def check_gpu_command(files: list[Path], report_folder: Path | None = None) -> None:
    """Judges and runs .tflite files, ours or foreign, and prints a table.

    Args:
        files: what to check.
        report_folder: where to write a JSON and a Markdown report for each file; None writes none.

    Raises:
        InputError: no file was named, or one is no TFLite file.
        CheckFailed: a delegate refuses one of them, or a driver failed on it.
    """
    if not files:
        raise InputError("check-gpu: name at least one .tflite file")
    console = table_console()
    found = [report.examine(path) for path in files]
    console.print(_table(found))
    for one in found:
        for check in report.to_checks(one):
            if check.reason:
                console.print(f"{one.path.name}, {check.route}: {check.reason}", markup=False, soft_wrap=True)
        if report_folder is not None:
            report.write(one, report_folder)
    if failed := [one.path.name for one in found if one.has_failed]:
        raise CheckFailed(f"a phone's GPU does not take {', '.join(failed)}")


def _table(found: list[report.FileReport]) -> Table:
    table = Table("file", "route", "verdict", "on the GPU", "greatest", "mask IoU", "s")
    for one in found:
        runs = {run.route: run for run in one.runs}
        name = one.path.name
        for check in report.to_checks(one):
            run = runs.get(check.route)
            table.add_row(
                escape(name),
                check.route,
                f"[{_COLOURS[check.verdict]}]{check.verdict}[/]",
                f"{'–' if check.delegated is None else check.delegated} / {check.nodes}",
                "–" if check.max_abs is None else f"{check.max_abs:.2g}",
                "–" if run is None or run.mask_iou is None else f"{run.mask_iou:.4f}",
                "–" if run is None or run.seconds is None else f"{run.seconds:.1f}",
            )
            name = ""
    return table


def gpu_driver_command() -> None:
    """Fetches SwiftShader where it is not there yet, and lists the drivers of this machine.

    Raises:
        InputError: it could not be fetched.
    """
    folder = driver.fetch()
    console = table_console()
    console.print(f"SwiftShader is in {folder}")
    for found in driver.find_drivers():
        console.print(f"{found.route}: {', '.join(str(icd) for icd in found.icds)}")
