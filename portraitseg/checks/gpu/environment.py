"""Environments of the routes' own, in .cache/: what is installed there, and by which lock."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from portraitseg import files
from portraitseg.errors import InputError

#: Of this checkout; `make clean` takes it away.
CACHE = Path(__file__).resolve().parents[3] / ".cache"

#: Written last, so that an installation that broke off does not count.
RECORD = "portraitseg.json"

#: Seconds for one installation: 150 MB over a slow line.
INSTALL_S = 900


def is_installed(folder: Path, lock: Path) -> bool:
    """Whether a folder holds what a lock file says."""
    try:
        return bool(json.loads((folder / RECORD).read_text())["lock_sha256"] == files.sha256(lock))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def record(folder: Path, lock: Path) -> None:
    """Notes that a folder holds what a lock file says."""
    files.write_json(folder / RECORD, {"lock_sha256": files.sha256(lock)})


def call(command: Sequence[str], folder: Path | None = None) -> str:
    """Runs an installer.

    Returns:
        What it printed.

    Raises:
        InputError: it failed, or took too long.
    """
    try:
        result = subprocess.run(
            list(command), cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{command[0]}: {(str(error).splitlines() or ['failed'])[0][:200]}") from error
    if result.returncode:
        lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        # pip and npm say the reason first and advice last, behind warnings that say nothing
        shown = [line for line in lines if "warn" not in line.lower()] or lines
        raise InputError(f"{Path(command[0]).name}: exit {result.returncode}: {' '.join(shown[:2])[:300]}")
    return result.stdout
