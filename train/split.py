"""Divides a folder of photos so that nothing leaks: what belongs together stays in one split."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt64
from rich.progress import track

from portraitseg import files
from portraitseg.cli import console, say
from portraitseg.config import Config
from portraitseg.data import reading, twins
from portraitseg.data.base import hash_keys, is_test_split, set_of
from portraitseg.data.folder import SPLITS_NAME, FolderDataset, open_folder, require_folder
from portraitseg.errors import CheckFailed, InputError
from portraitseg.workers import cores

#: Pairs that a message names.
_NAMED = 8


def split(config: Config, out: Path, by: str | None, val: float, test: float, overwrite: bool = False) -> None:
    """Writes splits.json: groups of near-duplicates, and of what `by` names, go to one split as a whole.

    Which one follows from a hash of the seed and the group's first key, so that the same photos are divided alike
    everywhere. Photos of blank and unlabelled sets are in splits of their own.

    Args:
        config: with a folder of photos.
        out: the file; `splits.json` in DATA is what training reads.
        by: a regular expression; keys whose first group (or whole match) is the same belong together.
        val, test: shares of the photos.
        overwrite: replace `out`.

    Raises:
        InputError: no folder of photos, `out` exists, no valid expression or one that matches no key, or a split that
            would be empty.
    """
    dataset = _open(config)
    if out.exists() and not overwrite:
        raise InputError(f"--out {out}: exists: name another file, or pass --overwrite")
    mask_free = {*config.data.blank_sets, *config.data.unlabelled_sets}
    keys = sorted(key for key in dataset.suffixes if set_of(key) not in mask_free)
    labels = label_keys(keys, by) if by else {}
    pairs = [(one, other) for one, other, _ in find_pairs(dataset, keys)]
    groups = twins.group(keys, pairs, labels)
    splits = divide(groups, {"val": val, "test": test}, config.seed)
    for name, split_keys in splits.items():
        if not split_keys:
            raise InputError(f"split '{name}' would be empty: {len(set(groups.values()))} groups are too few for it")
    for name in sorted(mask_free):
        if keys_of_set := sorted(key for key in dataset.suffixes if set_of(key) == name):
            splits[name] = keys_of_set
    files.write_json(
        out, {"splits": splits, "sha256_16": {name: hash_keys(split_keys) for name, split_keys in splits.items()}}
    )
    counts = ", ".join(f"{name} {len(split_keys)} ({hash_keys(split_keys)})" for name, split_keys in splits.items())
    sizes = Counter(groups.values())
    say(
        f"{out}: {counts}; {len(sizes)} groups, the largest of {max(sizes.values())}, "
        f"{len(pairs)} pairs of near-duplicates"
    )


def check_leaks(config: Config, by: str | None) -> None:
    """Refuses splits that part what belongs together, where one of them is measured on.

    Raises:
        InputError: no folder of photos.
        CheckFailed: a leak, naming the pairs.
    """
    dataset = _open(config)
    of_key: dict[str, str] = {}
    # sub-lists of a split share its photos: what a photo is used for is its first use
    for name, members in sorted(dataset.splits.items(), key=lambda item: _rank(item[0], config)):
        for key in members:
            of_key.setdefault(key, name)
    keys = sorted(of_key)
    groups = twins.group(keys, [], label_keys(keys, by) if by else {})
    by_group: dict[str, list[str]] = {}
    for key, first in groups.items():
        by_group.setdefault(first, []).append(key)
    together = [(members[0], other, "the same group") for members in by_group.values() for other in members[1:]]
    alike = [(one, other, f"{bits} of 256 bits differ") for one, other, bits in find_pairs(dataset, keys)]
    leaks = [
        f"{one} ({of_key[one]}) and {other} ({of_key[other]}): {why}"
        for one, other, why in [*together, *alike]
        if _is_leak(of_key[one], of_key[other], config)
    ]
    if leaks:
        shown = "; ".join(leaks[:_NAMED]) + (f"; and {len(leaks) - _NAMED} more" if len(leaks) > _NAMED else "")
        raise CheckFailed(f"{dataset.name}: {len(leaks)} pairs are in two splits: {shown}: `train split` divides anew")
    say(f"{dataset.name}: no near-duplicates between the splits {', '.join(dataset.splits)}")


def label_keys(keys: Sequence[str], by: str) -> dict[str, str]:
    """Key → its group by a regular expression; keys that it does not match stand alone.

    Raises:
        InputError: not a regular expression, or one that matches nothing.
    """
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise InputError(f"--by {by}: not a regular expression: {error}") from error
    matches = {key: match for key in keys if (match := pattern.search(key))}
    if not matches:
        raise InputError(f"--by {by}: matches no key, such as '{keys[0]}'" if keys else "--by: there are no photos")
    return {key: match[1] or "" if pattern.groups else match[0] for key, match in matches.items()}


def divide(groups: Mapping[str, str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Split → sorted keys; what no share takes is `train`."""
    splits: dict[str, list[str]] = {"train": [], **{name: [] for name, share in shares.items() if share}}
    for key, first in sorted(groups.items()):
        digest = hashlib.sha256(f"{seed}:{first}".encode()).digest()
        position = int.from_bytes(digest[:8]) / 2**64
        for name, share in shares.items():
            if position < share:
                splits[name].append(key)
                break
            position -= share
        else:
            splits["train"].append(key)
    return splits


def find_pairs(dataset: FolderDataset, keys: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Pairs of keys whose photos are nearly the same, and how many of 256 bits differ."""
    for one, other, bits in twins.near_pairs(hash_photos(dataset, keys)):
        yield keys[one], keys[other], bits


def hash_photos(dataset: FolderDataset, keys: Sequence[str]) -> UInt64[np.ndarray, "n 2 4"]:
    """`twins.hashes` of each photo, read in parallel.

    Raises:
        InputError: a photo that cannot be read.
    """

    def one(key: str) -> np.ndarray:
        return twins.hashes(reading.read_image(dataset.files(key)[0])[0])

    hashes = np.zeros((len(keys), 2, 4), np.uint64)
    with ThreadPoolExecutor(cores()) as pool:
        steps = enumerate(pool.map(one, keys))
        total, quiet = len(keys), not console.is_terminal
        for index, values in track(steps, "hashing", total, console=console, transient=True, disable=quiet):
            hashes[index] = values
    return hashes


def _open(config: Config) -> FolderDataset:
    require_folder(config.data, "split: divides a folder of photos")
    return open_folder(config.data, config.seed)


def _rank(name: str, config: Config) -> int:
    return 0 if is_test_split(name) else 1 if name == config.data.val_split else 2 if name == "train" else 3


def _is_leak(one: str, other: str, config: Config) -> bool:
    """Whether photos that are alike may not lie in these two splits: one is measured on, and not both are tests."""
    is_measured = [is_test_split(name) or name == config.data.val_split for name in (one, other)]
    return one != other and any(is_measured) and not (is_test_split(one) and is_test_split(other))


__all__ = ["SPLITS_NAME", "check_leaks", "divide", "find_pairs", "hash_photos", "label_keys", "split"]
