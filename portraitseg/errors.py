"""The two failures that a command reports: bad input (exit 2) and a check that failed (exit 1)."""


class InputError(ValueError):
    """What the user gave cannot be used: one line that names the thing and the remedy. Exit code 2."""


class CheckFailed(Exception):
    """A check that the pipeline makes of its own work did not hold. Exit code 1."""
