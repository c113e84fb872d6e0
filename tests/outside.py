"""Photos and reference models, which lie outside the repository; where they are not, a skip that is not overlooked."""

import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared"

#: In the reason of a skip that the end of the run repeats.
_NOT_RUN = " NOT RUN: "


def photos(part: str = "splits.json") -> Path:
    """What is called `part` in the folder of photos: `PORTRAITSEG_DATA`, or `../shared/data`."""
    return _find("PORTRAITSEG_DATA", "data", part)


def peers(part: str = "") -> Path:
    """What is called `part` in the folder of MediaPipe's models: `PORTRAITSEG_PEERS`, or `../shared/models`."""
    return _find("PORTRAITSEG_PEERS", "models", part)


def mediapipe_models() -> list[Path]:
    """The two that interface.md has scores of."""
    return [peers(f"mediapipe_selfie_{name}.tflite") for name in ("general_256", "landscape_144x256")]


def skip_loudly(what: str, reason: str) -> NoReturn:
    """Skips a test, and says so at the end of the run."""
    pytest.skip(f"{what}{_NOT_RUN}{reason}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was skipped loudly, each reason once; in the process that reports, whoever ran the tests."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])}
    for reason in sorted(reason for reason in reasons if _NOT_RUN in reason):
        terminalreporter.write_line(reason.removeprefix("Skipped: "), yellow=True)


def _find(variable: str, default: str, part: str) -> Path:
    path = Path(os.environ.get(variable) or _BESIDE / default) / part
    if not path.exists():
        what = os.environ.get("PYTEST_CURRENT_TEST", "a test").partition(" ")[0]
        skip_loudly(what, f"no {path}: name the folder in {variable}")
    return path
