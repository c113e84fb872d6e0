"""What `python -m export check-gpu` and `gpu-driver` do."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from portraitseg.checks.gpu import driver, report
from portraitseg.checks.gpu.routes import DEFAULT, ROUTES
from portraitseg.checks.record import record
from portraitseg.cli import say, table_console
from portraitseg.errors import CheckFailed, InputError
from portraitseg.tflite.graph import read_graph

_COLOURS = {"passed": "green", "failed": "red", "not_run": "yellow"}


def check_gpu_command(
    files: Sequence[Path],
    report_folder: Path | None = None,
    routes: Sequence[str] | None = None,
    driver_name: str | None = None,
    install: bool = False,
) -> None:
    """Judges and runs .tflite files, ours or foreign, prints a table, and notes the result in their manifests.

    Args:
        files: what to check.
        report_folder: where to write a JSON and a Markdown report for each file; None writes none.
        routes: keys of `ROUTES`; None takes the default.
        driver_name: of the routes over Vulkan, `swiftshader`, `lavapipe` or `vulkan`; None: all that are there.
        install: fetch into .cache/ what the routes need; where that fails they say `not_run`.

    Raises:
        InputError: no file was named, one is no TFLite file, an unknown route, a driver that is not there, a folder for
            reports that cannot be one.
        CheckFailed: a delegate refuses one of them, or a driver failed on it.
    """
    if not files:
        raise InputError("check-gpu: name .tflite files (make: FILES=, or RUN= of a run that was exported)")
    chosen = tuple(routes or DEFAULT)
    if unknown := [name for name in chosen if name not in ROUTES]:
        raise InputError(f"--route {unknown[0]}: there are {', '.join(ROUTES)}")
    # all that can be wrong with what was asked for, before minutes of runs
    for path in files:
        read_graph(path)
    if report_folder is not None:
        _check_reports(report_folder, files)
    drivers = None if driver_name is None else [driver.named(driver_name)]
    if install:
        _install(chosen)
    console = table_console()
    reports = [report.examine(path, drivers=drivers, routes=chosen) for path in files]
    console.print(_table(reports))
    for one in reports:
        for check in report.to_checks(one):
            notes = [f": {check.reason}"] if check.reason else []
            notes += [f" computed by {check.conditions}"] if check.adapter and check.conditions else []
            notes += [f", to be known: {warning}" for warning in check.warnings]
            for words in notes:
                console.print(f"{one.path.name}, {check.route}{words}", markup=False, soft_wrap=True)
        if report_folder is not None:
            report.write(one, report_folder)
        record(one.path, "gpu", report.to_checks(one))
    if failed := [one.path.name for one in reports if one.has_failed]:
        raise CheckFailed(f"refused, or computed wrong, by a GPU delegate: {', '.join(failed)}")


def _check_reports(folder: Path, files: Sequence[Path]) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--report {folder}: is a file: name a folder")
    stems = Counter(path.stem for path in files)
    if doubled := [stem for stem, count in stems.items() if count > 1]:
        raise InputError(f"--report: {stems[doubled[0]]} files are called '{doubled[0]}': check them one by one")


def _install(routes: Sequence[str]) -> None:
    for name in routes:
        try:
            ROUTES[name].install()
        except InputError as error:
            # the rules still judge, and the route says what it lacks
            say(f"route {name} not installed: {error}")


def _table(reports: list[report.FileReport]) -> Table:
    table = Table("file", "route", "verdict", "on the GPU", "greatest", "mean", "mask IoU", "s")
    for one in reports:
        runs = {run.route: run for run in one.runs}
        name = one.path.name
        for check in report.to_checks(one):
            run = runs.get(check.route)
            table.add_row(
                escape(name),
                check.route,
                f"[{_COLOURS[check.verdict]}]{check.verdict}[/]",
                f"{'–' if check.delegated is None else check.delegated} / {check.nodes}",
                _figure(check.max_abs, ".2g"),
                _figure(check.mean_abs, ".2g"),
                _figure(check.mask_iou, ".4f"),
                _figure(run.seconds if run else None, ".1f"),
            )
            name = ""
    return table


def _figure(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def gpu_driver_command() -> None:
    """Fetches SwiftShader where it is not there yet, and lists the drivers of this machine.

    Raises:
        InputError: it could not be fetched.
    """
    folder = driver.fetch()
    console = table_console()
    console.print(f"SwiftShader is in {folder}")
    for listed in driver.find_drivers():
        console.print(f"{listed.route}: {', '.join(str(icd) for icd in listed.icds)}")
