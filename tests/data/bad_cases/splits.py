"""splits.json."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.data.bad_cases import spoil
from tests.data.bad_cases.case import FIT, Case


def _missed_in_unlabelled(folder: Path) -> None:
    spoil.unlabelled(folder, train=["people/b"], unlabelled=["street/s", "people/c"])
    spoil.remove("DATA/people/masks/c.png", folder)


def cases() -> Iterator[Case]:
    yield Case("one photo, so that `val` is empty", 2, ("DATA", "'val' is empty", "add photos"), spoil.alone)
    yield Case(
        "empty split", 2, ("splits.json", "'val' is empty", "add photos"), spoil.splits({"train": ["a"], "val": []})
    )
    yield Case(
        "the same photo in two splits",
        2,
        ("splits.json", "'a'", "one of them"),
        spoil.splits({"train": ["a", "b"], "val": ["a"]}),
    )
    yield Case(
        "the same photo twice in a split",
        2,
        ("splits.json", "'a' twice", "take one out"),
        spoil.splits({"train": ["a", "a"], "val": ["d"]}),
    )
    yield Case(
        "splits.json with a hash that differs",
        2,
        ("splits.json", "7ae1bd", "restore"),
        spoil.splits({"train": ["a"], "val": ["d"]}, sha256_16={"train": "7ae1bd0000000000"}),
    )
    yield Case(
        "splits.json with a hash of no split",
        2,
        ("splits.json", "'tset'", "correct"),
        spoil.splits({"train": ["a"]}, sha256_16={"tset": "0" * 16}),
    )
    yield Case(
        "splits.json with a number for a list", 2, ("splits.json", "'train'", "write"), spoil.splits({"train": 7})
    )
    yield Case(
        "splits.json with numbers for keys", 2, ("splits.json", "'train'", "write"), spoil.splits({"train": [1, 2]})
    )
    yield Case(
        "splits.json with an unknown key",
        2,
        ("splits.json", "'version'", "write"),
        spoil.splits({"train": ["a"]}, version=1),
    )
    yield Case(
        "splits.json with a split twice",
        2,
        ("splits.json", "'train'", "twice"),
        partial(spoil.write, "DATA/splits.json", b'{"splits": {"train": ["a"], "train": ["b"]}}'),
    )
    yield Case(
        "splits.json with `../` in a key",
        2,
        ("splits.json", "'../a'", "use <set>/<stem>"),
        spoil.splits({"train": ["../a"]}),
    )
    yield Case(
        "splits.json that is not JSON",
        2,
        ("splits.json", "not JSON", "write"),
        partial(spoil.write, "DATA/splits.json", b"train: a"),
    )
    yield Case(
        "splits.json with 100,000 brackets",
        2,
        ("splits.json", "nested too deep", "write"),
        partial(spoil.write, "DATA/splits.json", b"[" * 100_000),
    )
    yield Case(
        "splits.json without permission to read it",
        2,
        ("error: DATA/splits.json: no permission", "change its permissions"),
        barred="DATA/splits.json",
    )
    # photos without masks
    yield Case(
        "split `unlabelled`, whose set is not declared",
        0,
        ("split 'unlabelled'", "data.unlabelled_sets", "1 of 1 (first: street/s)"),
        spoil.unlabelled,
    )
    yield Case(
        "split `unlabelled`, to train on",
        2,
        ("'street/s' has no mask", "data.train_split"),
        spoil.unlabelled,
        (*FIT, "--data", "DATA", "--set", 'data.train_split="unlabelled"'),
    )
    yield Case(
        "split `unlabelled`, with a photo that is in `train` too",
        2,
        ("images/s.png (split 'train') has no mask", "declare"),
        partial(spoil.unlabelled, train=["people/b", "street/s"]),
    )
    yield Case(
        "split `unlabelled`, with a photo of a set that has masks",
        2,
        ("people/images/c.png (split 'unlabelled') has no mask", "add masks/c.png"),
        _missed_in_unlabelled,
    )
    yield Case(
        "mask whose name is misspelt, of a photo in `train`",
        2,
        ("masks/aa.png", "no photo of this name", "add it or take the mask out"),
        lambda f: (f / "DATA/masks/a.png").rename(f / "DATA/masks/aa.png"),
    )
