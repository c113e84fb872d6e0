"""Writes what a check said of a file into the manifest that lists it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

from portraitseg import files, manifest
from portraitseg.manifest import ArmCheck, GpuCheck, Manifest
from portraitseg.runs import Run

Check = TypeVar("Check", GpuCheck, ArmCheck)


def record(path: Path, kind: Literal["gpu", "arm"], checks: Sequence[GpuCheck] | Sequence[ArmCheck]) -> bool:
    """Puts the checks of a file into the manifest beside it; those of routes or cores that did not run now stay.

    Returns:
        Whether there is a manifest that lists the file with these very bytes.

    Raises:
        InputError: a damaged manifest, or a run that another process is writing to.
    """
    index = path.parent / manifest.MANIFEST_NAME
    if not index.is_file():
        return False
    with _locked(path.parent):
        listed, digest = manifest.read(Manifest, index), files.sha256(path)
        entries = list(listed.files)
        number = next((n for n, e in enumerate(entries) if (e.path, e.sha256) == (path.name, digest)), None)
        if number is None:
            return False
        update: dict[str, Any] = {kind: merged(getattr(entries[number], kind), checks)}
        entries[number] = entries[number].model_copy(update=update)
        if entries != list(listed.files):
            manifest.write(index, listed.model_copy(update={"files": tuple(entries)}))
    return True


def merged(old: Sequence[Check], new: Sequence[Check]) -> tuple[Check, ...]:
    """Old checks, replaced by new ones of the same route or core; one that did not run replaces none that did."""
    known = {_name(check): check for check in old}
    known |= {_name(check): check for check in new if check.verdict != "not_run" or _name(check) not in known}
    return tuple(known.values())


def _name(check: GpuCheck | ArmCheck) -> str:
    return check.route if isinstance(check, GpuCheck) else check.core


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Holds the run that a folder of assets belongs to; another folder is the caller's own."""
    run = Run(folder.name) if folder.parent.name == "android_assets" else None
    is_runs = run is not None and run.android.resolve() == folder.resolve()
    return run.locked() if run is not None and is_runs else nullcontext()
