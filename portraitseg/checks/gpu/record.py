"""Writes what was found of a file into the manifest that lists it."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from portraitseg import files, manifest
from portraitseg.checks.gpu.report import FileReport, to_checks
from portraitseg.manifest import GpuCheck, Manifest
from portraitseg.runs import Run


def record(report: FileReport) -> bool:
    """Puts the checks of a file into the manifest beside it; those of routes that did not run now stay.

    Returns:
        Whether there is a manifest that lists the file with these very bytes.

    Raises:
        InputError: a damaged manifest, or a run that another process is writing to.
    """
    path = report.path.parent / manifest.MANIFEST_NAME
    if not path.is_file():
        return False
    with locked(report.path.parent):
        listed = manifest.read(Manifest, path)
        digest = files.sha256(report.path)
        entries = [
            entry.model_copy(update={"gpu": merged(entry.gpu, to_checks(report))})
            if entry.path == report.path.name and entry.sha256 == digest
            else entry
            for entry in listed.files
        ]
        if entries == list(listed.files):
            return any(entry.path == report.path.name and entry.sha256 == digest for entry in entries)
        manifest.write(path, listed.model_copy(update={"files": tuple(entries)}))
    return True


def merged(old: tuple[GpuCheck, ...], new: list[GpuCheck]) -> tuple[GpuCheck, ...]:
    """Old checks, replaced by new ones of the same route; a route that did not run replaces none that did."""
    checks = {check.route: check for check in old}
    for check in new:
        if check.verdict != "not_run" or check.route not in checks:
            checks[check.route] = check
    return tuple(checks.values())


def locked(folder: Path) -> AbstractContextManager[None]:
    """Holds the run that a folder of assets belongs to; another folder is the caller's own."""
    run = Run(folder.name) if folder.parent.name == "android_assets" else None
    is_runs = run is not None and run.android.resolve() == folder.resolve()
    return run.locked() if run is not None and is_runs else nullcontext()
