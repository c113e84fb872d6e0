"""What was measured before: every benchmark of a run with its conditions, one JSON line each."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.tables.results import Results, as_dict
from benchmark.tables.rows import machine
from portraitseg import files, manifest
from portraitseg.errors import InputError

NAME = "history.jsonl"

#: Libraries whose version may move a figure.
TOOLS = ("ai-edge-litert", "onnxruntime", "opencv-python-headless", "numpy", "coremltools")

#: Rises when a key changes its meaning.
SCHEMA_VERSION = 1


def append(folder: Path, results: Results, **further: Any) -> None:
    """Adds one line to the history of a run; earlier lines stay as they are.

    Args:
        folder: `runs/<run>/benchmark`.
        results: rows, whose empty cells are left out, and conditions.
        further: what else a reader must know, such as the profile.
    """
    measured = [{name: value for name, value in as_dict(row).items() if value is not None} for row in results.rows]
    record = {
        "schema_version": SCHEMA_VERSION,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": manifest.git_commit(),
        "machine": machine(),
        # other work on the machine is what spoils a latency
        "load_1_min": round(os.getloadavg()[0], 2),
        "tools": manifest.tool_versions(*TOOLS),
        **further,
        "conditions": list(results.conditions),
        "rows": measured,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    # a line that a full disk cut short must not swallow the next one
    is_cut = path.exists() and path.stat().st_size > 0 and not _ends_with_newline(path)
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(("\n" if is_cut else "") + json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path}: {files.explain(error)}") from error


def read(folder: Path) -> list[dict[str, Any]]:
    """The history of a run, oldest first; lines that were cut short are left out.

    Returns:
        Empty where nothing was measured yet.
    """
    try:
        lines = (folder / NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("rows"), list):
            records.append(record)
    return records


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
