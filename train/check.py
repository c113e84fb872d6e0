"""Looks at every photo before an hour is spent on them."""

from rich.progress import track

from portraitseg.cli import console, say, warn
from portraitseg.data import Dataset
from portraitseg.data.checking import DataCheck, check_splits
from portraitseg.errors import InputError


def check_data(dataset: Dataset, splits: tuple[str, ...], needs_masks: bool = False) -> None:
    """Reads every photo of the splits once and prints one warning a kind of oddity.

    Raises:
        InputError: an empty split, the first photo or mask that cannot be used, or, with `needs_masks`, a photo
            without a mask.
    """
    for split in dataset.splits:
        dataset.keys(split)
    result = DataCheck()
    steps = check_splits(dataset, splits)
    for seen in track(steps, "reading photos", console=console, transient=True, disable=not console.is_terminal):
        result = seen
    if needs_masks and result.unmasked is not None:
        raise InputError(
            f"photo '{result.unmasked}' has no mask, and training and validation need one: "
            "take its set out of data.train_split and data.val_split"
        )
    for line in (*dataset.warnings, *result.warnings()):
        warn(line)
    counts = ", ".join(f"{split} {len(dataset.keys(split))} ({dataset.split_hash(split)})" for split in splits)
    say(f"photos of {dataset.name}: {counts}")
