"""Every bad input that docs/interface.md lists, as files that a command is run on.

`tests/test_bad_input.py` runs the cases; `python -m tests.golden.write` writes docs/bad-input.md from the same list.
A new case is a line in `photos`, `splits`, `settings` or `stages`.
"""

from tests.data.bad_cases import photos, settings, splits, stages
from tests.data.bad_cases.case import Case, NobodyElseError, Outcome, run, run_case, run_process, table
from tests.data.bad_cases.spoil import SIZE, huge_png, portrait, write_h5, write_photos, write_splits

CASES = (*photos.cases(), *splits.cases(), *settings.cases(), *stages.cases())

__all__ = [
    "CASES",
    "SIZE",
    "Case",
    "NobodyElseError",
    "Outcome",
    "huge_png",
    "portrait",
    "run",
    "run_case",
    "run_process",
    "table",
    "write_h5",
    "write_photos",
    "write_splits",
]
