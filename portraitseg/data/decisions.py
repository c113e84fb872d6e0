"""What a person decided about photos whose masks look wrong: keep, fix or drop (`python -m train audit`)."""

import json
from collections import Counter
from collections.abc import Mapping
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
    found = value.get("decisions") if isinstance(value, dict) and value.get("schema_version") == 1 else None
    if not isinstance(found, dict):
        raise InputError(f"data.decisions {path}: {_FORM}")
    for key, decision in found.items():
        if decision not in DECISIONS:
            raise InputError(f"data.decisions {path}: '{key}' is {str(decision)[:40]!r}: {_FORM}")
    return found


def apply(dataset: _AnyDataset, path: Path) -> _AnyDataset:
    """The data without the photos that were decided against: dropped ones, and those still to be drawn anew.

    Test splits stay as they are: what a network is reported on is not chosen here.

    Raises:
        InputError: as `read`, none of the photos is there, or a split has no photo left.
    """
    decided = read(path)
    _check_known(decided, dataset, path)
    left_out = {key for key, decision in decided.items() if decision != "keep"}
    splits, lost = {}, Counter[str]()
    for name, keys in dataset.splits.items():
        kept = keys if is_test_split(name) else tuple(key for key in keys if key not in left_out)
        if not kept and keys:
            raise InputError(f"data.decisions {path}: leaves no photo of split '{name}': keep some")
        splits[name] = kept
        lost[name] = len(keys) - len(kept)
    said = ", ".join(f"{count} of {name}" for name, count in lost.items() if count) or "none of these splits"
    tests = sum(key in left_out for name, keys in dataset.splits.items() if is_test_split(name) for key in keys)
    kept_tests = f"; {tests} of test splits stay" if tests else ""
    remark = f"left out by {path.name} (drop, and fix until it is done): {said}{kept_tests}"
    return replace(dataset, splits=splits, remarks=(*dataset.remarks, remark))


def _check_known(decided: Mapping[str, Decision], dataset: Dataset, path: Path) -> None:
    known = {key for keys in dataset.splits.values() for key in keys}
    if decided and not known & decided.keys():
        raise InputError(
            f"data.decisions {path}: none of its {len(decided)} photos is here (first: '{next(iter(decided))}'): "
            "is it of other photos?"
        )
