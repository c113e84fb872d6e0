"""Writes what was found of a file into the manifest that lists it."""

from portraitseg import files, manifest
from portraitseg.checks.arm.check import FileReport, to_checks
from portraitseg.checks.gpu.record import locked
from portraitseg.manifest import ArmCheck, Manifest


def record(report: FileReport) -> bool:
    """Puts the checks of a file into the manifest beside it; those of cores that did not run now stay.

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
        index = next((n for n, e in enumerate(listed.files) if (e.path, e.sha256) == (report.path.name, digest)), None)
        if index is None:
            return False
        entries = list(listed.files)
        checks = merged(entries[index].arm, to_checks(report))
        entries[index] = entries[index].model_copy(update={"arm": checks})
        manifest.write(path, listed.model_copy(update={"files": tuple(entries)}))
    return True


def merged(old: tuple[ArmCheck, ...], new: list[ArmCheck]) -> tuple[ArmCheck, ...]:
    """Old checks, replaced by new ones of the same core; one that did not run replaces none that did."""
    checks = {check.core: check for check in old}
    for check in new:
        if check.verdict != "not_run" or check.core not in checks:
            checks[check.core] = check
    return tuple(checks.values())
