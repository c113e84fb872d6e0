"""Looks at every photo before an hour is spent on them."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from rich.progress import track

from portraitseg.cli import console, say, warn
from portraitseg.data import Dataset
from portraitseg.data.checking import DataCheck, check_splits
from portraitseg.data.survey import LEAST_PEOPLED
from portraitseg.errors import InputError

_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def check_data(
    dataset: Dataset,
    splits: tuple[str, ...],
    needs_masks: bool = False,
    mask_free: Mapping[str, tuple[str, ...]] = _NONE,
    most: int | None = None,
) -> DataCheck:
    """Reads the photos of the splits once and prints one warning a kind of oddity.

    Args:
        dataset: the photos.
        splits: to read.
        needs_masks: whether each photo of the splits has to have one.
        mask_free: further photos, by what to call them.
        most: of each split; None: all.

    Returns:
        What was seen.

    Raises:
        InputError: an empty split, one of (nearly) nobody to train on, the first photo or mask that cannot be used, or
            a photo without the mask that it needs.
    """
    for split in dataset.splits:
        dataset.keys(split)
    named = splits
    in_splits = {key for split in splits for key in dataset.keys(split)}
    dataset = replace(dataset, splits={**dataset.splits, **mask_free})
    splits = (*splits, *mask_free)
    result = DataCheck()
    steps = check_splits(dataset, splits, most)
    for seen in track(steps, "reading photos", console=console, transient=True, disable=not console.is_terminal):
        result = seen
    # the splits come first, so the first of all is the first of theirs
    if needs_masks and result.unmasked in in_splits:
        raise InputError(
            f"photo '{result.unmasked}' has no mask, and training and validation need one: "
            "take its set out of data.train_split and data.val_split"
        )
    if needs_masks:
        _check_peopled(result, named, dataset.name)
    for line in (*dataset.warnings, *result.warnings()):
        warn(line)
    for line in dataset.remarks:
        say(line)
    counts = ", ".join(f"{split} {len(dataset.keys(split))} ({dataset.split_hash(split)})" for split in splits)
    say(f"photos of {dataset.name}: {counts}")
    if (whole := sum(len(dataset.keys(split)) for split in splits)) > result.photos:
        say(f"looked at {result.photos} of {whole}, evenly taken: all were read when they were packed")
    return result


def _check_peopled(result: DataCheck, splits: tuple[str, ...], name: str) -> None:
    """Refuses to train or to choose a checkpoint on (nearly all) background-only photos: any network is right on them.

    Raises:
        InputError: so it is.
    """
    for split in splits:
        peopled, count = result.peopled[split], result.looked[split]
        if peopled < max(1, LEAST_PEOPLED * count):
            raise InputError(
                f"{name}: split '{split}': {count - peopled} of {count} masks show nobody: an empty mask would "
                "be right on them: add photos of people, or put background-only ones into a set of data.blank_sets"
            )
