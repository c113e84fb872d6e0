"""Looks at every photo before an hour is spent on them."""

from rich.progress import track

from portraitseg.cli import console, warn
from portraitseg.data import Dataset
from portraitseg.data.checking import DataCheck, check_splits


def check_data(dataset: Dataset, splits: tuple[str, ...]) -> None:
    """Reads every photo of the splits once and prints one warning a kind of oddity.

    Raises:
        InputError: the first photo or mask that cannot be used.
    """
    result = DataCheck()
    steps = check_splits(dataset, splits)
    for seen in track(steps, "reading photos", console=console, transient=True, disable=not console.is_terminal):
        result = seen
    for line in (*dataset.warnings, *result.warnings()):
        warn(line)
    counts = ", ".join(f"{split} {len(dataset.keys(split))} ({dataset.split_hash(split)})" for split in splits)
    console.print(f"photos of {dataset.name}: {counts}")
