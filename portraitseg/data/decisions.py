"""What a person decided about photos whose masks look wrong: keep, fix or drop (`python -m train audit`)."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from portraitseg import files
from portraitseg.data.base import Dataset, is_test_split
from portraitseg.errors import InputError

Decision = Literal["keep", "fix", "drop"]
DECISIONS: tuple[Decision, ...] = ("keep", "fix", "drop")

_FORM = 'write {"schema_version": 1, "decisions": {"<set>/<stem>": "keep" | "fix" | "drop"}}'

#: A million photos; more is not a person's work.
_MAX_BYTES = 100_000_000

_AnyDataset = TypeVar("_AnyDataset", bound=Dataset)


def read(path: Path) -> dict[str, Decision]:
    """Reads a file of decisions, as the audit's page saves it.

    Raises:
        InputError: missing, unreadable, or not of the documented form.
    """
    try:
        if not path.is_file():
            raise InputError(f"data.decisions {path}: no such file: save it from the page of `python -m train audit`")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"data.decisions {path}: over {_MAX_BYTES // 10**6} MB: is it the file that was saved?")
        value: Any = json.loads(path.read_bytes(), object_pairs_hook=files.unique_pairs)
    except OSError as error:
        raise InputError(f"data.decisions {path}: {files.explain(error)}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"data.decisions {path}: not JSON ({error}): {_FORM}") from error
    decisions = value.get("decisions") if isinstance(value, dict) and value.get("schema_version") == 1 else None
    if not isinstance(decisions, dict):
        raise InputError(f"data.decisions {path}: {_FORM}")
    for key, decision in decisions.items():
        if decision not in DECISIONS:
            raise InputError(f"data.decisions {path}: '{key}' is {str(decision)[:40]!r}: {_FORM}")
    return decisions


def left_out(dataset: Dataset, path: Path) -> dict[str, Decision]:
    """The photos that were decided against: dropped ones, and those still to be drawn anew.

    Those of test splits are not among them: what a network is reported on is not chosen here.

    Raises:
        InputError: as `read`, or none of the photos is there.
    """
    decided = read(path)
    known = {key for keys in dataset.splits.values() for key in keys}
    if decided and not known & decided.keys():
        raise InputError(
            f"data.decisions {path}: none of its {len(decided)} photos is here (first: '{next(iter(decided))}'): "
            "is it of other photos?"
        )
    tests = {key for name, keys in dataset.splits.items() if is_test_split(name) for key in keys}
    return {key: decision for key, decision in decided.items() if decision != "keep" and key not in tests}


def apply(dataset: _AnyDataset, path: Path | None) -> _AnyDataset:
    """The data without the photos that were decided against; None: the data as they are.

    Raises:
        InputError: as `left_out`, or a split has no photo left.
    """
    if path is None:
        return dataset
    left = left_out(dataset, path)
    splits, lost = {}, Counter[str]()
    for name, keys in dataset.splits.items():
        splits[name] = tuple(key for key in keys if key not in left)
        lost[name] = len(keys) - len(splits[name])
        if lost[name] and not splits[name]:
            raise InputError(f"data.decisions {path}: leaves no photo of split '{name}': keep some")
    counts = ", ".join(f"{count} of {name}" for name, count in lost.items() if count) or "none"
    remark = f"left out by {path.name} (dropped, or still to fix; never of test splits): {counts}"
    return replace(dataset, splits=splits, remarks=(*dataset.remarks, remark))
