"""`python -m train audit`: label faults, ranked, as JSON and as a page; and what share of planted ones it finds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from portraitseg import files
from portraitseg.cli import say, table_console, warn
from portraitseg.config import Config
from portraitseg.data import Dataset, hash_keys, open_dataset, spread
from portraitseg.data.base import set_of
from portraitseg.errors import InputError
from portraitseg.segment import released
from portraitseg.segment.segmenter import find_model
from train.audit import page, planting
from train.audit.faults import USUAL, WORDS, Finding
from train.audit.planting import NAMES, Planting
from train.audit.survey import Job, Seen, survey, unpack
from train.function_matching import SUFFIXES, open_file

JSON_NAME, PAGE_NAME, LOG_NAME, PLANTED_NAME = "audit.json", "audit.html", "photos.jsonl", "planted.json"

#: A mask whose small form agrees this much with what the networks see in another photo, and this much better than with
#: its own, is that photo's; only masks that fit their own photo worse than `_MISFIT` are asked about.
_SWAP_IOU, _SWAP_GAIN, _MISFIT = 0.93, 0.1, 0.85

#: Share of the ranking's top in which planted faults are looked for, one kind at a time.
TOP_SHARE = 0.05

#: Resamplings of photos for an interval of 95 %.
_RESAMPLINGS = 2000


@dataclass(frozen=True)
class Subject:
    """Which masks are audited: those of some splits, and of some sets of them (none named: all)."""

    splits: tuple[str, ...]
    sets: tuple[str, ...] = ()

    def keys(self, dataset: Dataset) -> tuple[str, ...]:
        """The keys of the photos.

        Raises:
            InputError: no such split, or none of the sets is in it.
        """
        listed = tuple(dict.fromkeys(key for split in self.splits for key in dataset.keys(split)))
        kept = tuple(key for key in listed if not self.sets or set_of(key) in self.sets)
        if not kept:
            there = ", ".join(sorted({set_of(key) for key in listed}))
            raise InputError(
                f"--only {', '.join(self.sets)}: no such set in {', '.join(self.splits)} (there are: {there})"
            )
        return kept


def audit(config: Config, out: Path, models: Sequence[str], subject: Subject, shown: int) -> list[Seen]:
    """Audits the masks of some splits; writes `audit.json`, `audit.html` and, as it goes, `photos.jsonl`.

    Args:
        config: photos, `data.held` and `train.workers`.
        out: folder; one that the same call has begun is gone on with.
        models: released names, or .tflite and .onnx files; their mean is the consensus.
        subject: which masks.
        shown: photos on the page.

    Returns:
        Of each photo what was seen, the worst first.

    Raises:
        InputError: no such split or network, photos without masks, `out` is of another audit.
    """
    dataset, paths = open_dataset(config.data, config.seed), open_models(models)
    keys = subject.keys(dataset)
    job = Job(dataset, paths, config.data.held)
    origin = origin_of(job, keys)
    ranked = rank(survey(job, keys, out / LOG_NAME, origin, config.train.workers))
    errors = [seen for seen in ranked if seen.error is not None]
    for seen in errors:
        warn(f"not audited: {seen.error}")
    if len(errors) == len(ranked):
        raise InputError("audit: no photo could be looked at")
    sets = _sets(ranked, config.seed)
    files.write_json(
        out / JSON_NAME, {**origin, "splits": list(subject.splits), "sets": sets, "photos": [_row(s) for s in ranked]}
    )
    suspects = [seen for seen in ranked if severity(seen) >= 1]
    page.write(out / PAGE_NAME, dataset.name, job, suspects[:shown], len(ranked), config.train.workers)
    _say_result(ranked, suspects, sets, out)
    return ranked


def measure(
    config: Config, out: Path, models: Sequence[str], subject: Subject, count: int, photos: int
) -> dict[str, Any]:
    """Plants faults into masks and measures what share of them the ranking's top holds; writes `planted.json`.

    Two measures for each kind: in the top 5 % when it is the only one planted, and in the top n with all n planted at
    once. Faults that the masks have of themselves compete with them.

    Args:
        config, out, models, subject: as in `audit`.
        count: masks of each kind of fault.
        photos: masks in all, evenly over the splits.

    Raises:
        InputError: as `audit`, or too few photos.
    """
    dataset, paths = open_dataset(config.data, config.seed), open_models(models)
    keys = spread(subject.keys(dataset), photos)
    planted = plan(dataset, keys, count, config.seed)
    job = Job(dataset, paths, config.data.held, planted)
    origin = {**origin_of(job, keys), "planted": {key: asdict(item) for key, item in sorted(planted.items())}}
    ranked = rank(survey(job, keys, out / LOG_NAME, origin, config.train.workers))
    result = recall(ranked, planted)
    files.write_json(out / PLANTED_NAME, {**origin, "photos": len(keys), "recall": result})
    table = Table("planted", "of", "in the top 5 %, alone", "in the top n, all at once", "kind named")
    for kind, row in result.items():
        table.add_row(kind, str(row["planted"]), *(f"{row[name]:.0%}" for name in ("top_5_percent", "top_n", "named")))
    table_console().print(table)
    return result


def open_models(names: Sequence[str]) -> tuple[Path, ...]:
    """The files of the networks, each run once in a process of its own; none named: all that are released.

    Raises:
        InputError: no such network, or one that workers cannot run.
    """
    paths = tuple(find_model(name) for name in names or released.names())
    for path in paths:
        if path.suffix not in SUFFIXES:
            raise InputError(f"--model {path}: not {' or '.join(SUFFIXES)}: export the network first")
        open_file(path)
    return paths


def origin_of(job: Job, keys: Sequence[str]) -> dict[str, Any]:
    """What makes one audit another."""
    return {
        "schema_version": 1,
        "data": job.dataset.name,
        "photos_sha256_16": hash_keys(keys),
        "models": [{"path": str(path), "sha256": files.sha256_with_spec(path)} for path in job.models],
        "held": job.held,
    }


def severity(seen: Seen) -> float:
    """Of the worst fault; 1 is what few masks exceed."""
    return seen.faults[0].severity if seen.faults else 0.0


def rank(photos: Sequence[Seen]) -> list[Seen]:
    """The worst first; masks of other photos are recognised by those."""
    swapped = _swaps(photos)
    named = [_swapped(seen, swapped[seen.key]) if seen.key in swapped else seen for seen in photos]
    return sorted(named, key=lambda seen: (-severity(seen), seen.iou, seen.key))


def recall(ranked: Sequence[Seen], planted: Mapping[str, Planting]) -> dict[str, dict[str, int | float]]:
    """Of each kind planted: how many, the shares found, and the share of all whose kind was named first."""
    top = {seen.key for seen in ranked[: len(planted)]}
    by_key = {seen.key: seen for seen in ranked}
    result: dict[str, Any] = {}
    for kind in dict.fromkeys(item.plant for item in planted.values()):
        of_kind = {key for key, item in planted.items() if item.plant == kind}
        # without the others, which would fill the top
        alone = [seen.key for seen in ranked if seen.key in of_kind or seen.key not in planted]
        best = set(alone[: max(len(of_kind), round(TOP_SHARE * len(alone)))])
        first = [by_key[key].faults[0].kind if by_key[key].faults else "" for key in of_kind]
        result[kind] = {
            "planted": len(of_kind),
            "top_5_percent": len(of_kind & best) / len(of_kind),
            "top_n": len(of_kind & top) / len(of_kind),
            "named": sum(name in NAMES[kind] for name in first) / len(of_kind),
        }
    return result


def plan(dataset: Dataset, keys: Sequence[str], count: int, seed: int) -> dict[str, Planting]:
    """Draws which photos get which fault; a photo that lends itself to none of a kind is passed over.

    Raises:
        InputError: too few photos.
    """
    rng = np.random.default_rng(seed)
    free = [keys[index] for index in rng.permutation(len(keys))]
    planted: dict[str, Planting] = {}
    for kind in NAMES:
        chosen: dict[str, Planting] = {}
        for key in [key for key in free if key not in planted]:
            drawn = Planting(kind, keys[int(rng.integers(len(keys)))], int(rng.integers(2**31)))
            if drawn.partner == key:
                continue
            if planting.plant(dataset.load(key), dataset.load(drawn.partner), drawn) is not None:
                chosen[key] = drawn
            if len(chosen) == count:
                break
        if len(chosen) < count:
            raise InputError(f"--plant {count}: only {len(chosen)} photos lend themselves to '{kind}': more --photos")
        planted |= chosen
    return planted


def _swaps(photos: Sequence[Seen]) -> dict[str, str]:
    """Photo → the photo whose mask it has."""
    whole = [seen for seen in photos if seen.error is None]
    suspects = [seen for seen in whole if seen.iou < _MISFIT and severity(seen) >= 1]
    if not suspects or len(whole) < 2:
        return {}
    consensus = unpack([seen.signatures[1] for seen in whole])
    index_of = {seen.key: index for index, seen in enumerate(whole)}
    swaps = {}
    for seen in suspects:
        mask = unpack([seen.signatures[0]])[0]
        both = consensus @ mask
        iou = both / np.maximum(consensus.sum(axis=1) + mask.sum() - both, 1)
        with_own, iou[index_of[seen.key]] = iou[index_of[seen.key]], 0.0
        best = int(np.argmax(iou))
        if iou[best] > max(_SWAP_IOU, with_own + _SWAP_GAIN):
            swaps[seen.key] = whole[best].key
    return swaps


def _swapped(seen: Seen, other: str) -> Seen:
    weight = max(severity(seen), (1 - seen.iou) / USUAL["swapped"])
    return replace(seen, faults=(Finding("swapped", weight, (0.0, 0.0, 1.0, 1.0), other=other), *seen.faults))


def _sets(photos: Sequence[Seen], seed: int) -> dict[str, Any]:
    """Of each set how far masks and consensus agree: means with intervals of 95 %."""
    groups: dict[str, list[Seen]] = {}
    for seen in photos:
        if seen.error is None:
            groups.setdefault(set_of(seen.key), []).append(seen)
    rng = np.random.default_rng(seed)
    result: dict[str, Any] = {}
    for name, group in sorted(groups.items()):
        values = np.array([(seen.iou, seen.boundary_iou) for seen in group])
        means = np.mean(values[rng.integers(len(group), size=(_RESAMPLINGS, len(group)))], axis=1)
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        result[name] = {"photos": len(group)} | {
            measure: {
                "mean": round(float(values[:, at].mean()), 4),
                "low": round(float(low[at]), 4),
                "high": round(float(high[at]), 4),
            }
            for at, measure in enumerate(("iou", "boundary_iou"))
        }
    return result


def _row(seen: Seen) -> dict[str, Any]:
    faults = [
        {**asdict(item), "severity": round(item.severity, 2), "box": [round(v, 3) for v in item.box]}
        for item in seen.faults
    ]
    row: dict[str, Any] = {"key": seen.key, "severity": round(severity(seen), 2)}
    if seen.error is not None:
        return {**row, "error": seen.error}
    return {**row, "iou": seen.iou, "boundary_iou": seen.boundary_iou, "agreement": seen.agreement, "faults": faults}


def _say_result(ranked: Sequence[Seen], suspects: Sequence[Seen], sets: Mapping[str, Any], out: Path) -> None:
    counts = Counter(seen.faults[0].kind for seen in suspects)
    for kind, count in counts.most_common():
        say(f"{WORDS[kind]}: {count}")
    for name, row in sets.items():
        iou, boundary = row["iou"], row["boundary_iou"]
        say(
            f"{name or 'photos'}: masks and consensus agree to IoU {100 * iou['mean']:.2f} ({100 * iou['low']:.2f} to "
            f"{100 * iou['high']:.2f}), boundary IoU {100 * boundary['mean']:.1f} ({row['photos']} photos)"
        )
    say(f"{out / PAGE_NAME}: {len(suspects)} of {len(ranked)} masks to look at; open it, decide, save decisions.json")
