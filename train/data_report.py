"""What is odd about a folder of photos, as JSON and as a page with pictures, worst first."""

import base64
import html
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from rich.progress import track

from portraitseg import contract, files
from portraitseg.cli import console, say
from portraitseg.data import Dataset, twins
from portraitseg.data.base import Sample, is_measured
from portraitseg.errors import InputError
from portraitseg.workers import cores
from train.show import tint

JSON_NAME, PAGE_NAME = "report.json", "report.html"

#: Photos with a picture on the page: 200 of 160 px are two megabytes.
SHOWN = 200
_SIDE_PX = 160

#: Near-duplicates that are named with a photo, and pairs that are listed: of a video each frame is all others'.
_NAMED, LISTED = 5, 10_000

#: Photos in memory at once, for each thread.
_AHEAD = 4

#: Side to which a photo is reduced before its blur is measured, so that photos of all sizes compare.
_BLUR_SIDE_PX = 256

#: What makes a photo one to look at, and how badly: files that cannot be used first, then what spoils a score or a
#: training, then what is merely unusual. The limits are chosen by eye: of a share of person, a mean brightness (0..255)
#: and a variance of the Laplacian; what lies beyond is looked at, not refused.
_ERROR, _LEAK, _MASK, _TWIN, _ODD, _CONVERTED = 100.0, 50.0, 20.0, 10.0, 5.0, 1.0
_LEAST_PERSON, _MOST_PERSON = 0.02, 0.95
_DARKEST, _BRIGHTEST = 25.0, 235.0
_LEAST_SHARP = 15.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What was seen of a photo; small, since all of a hundred thousand are in memory.

    Attributes:
        key: of the photo.
        splits: that it is in.
        size: (height, width); None where it cannot be read, as `error` says.
        person: share of the known pixels that is person; None without a mask.
        brightness: mean of all bytes.
        sharpness: variance of the Laplacian, at 256 px.
        notes: oddities; of photos that are nearly the same `_NAMED` are named.
        twins: how many are nearly the same.
        first_twin: the first of them by name, itself included: equally bad ones stand beside each other.
        twins_weigh: what they add to `severity`, the worst of them.
        severity: sum of what all weighs; the worst are first.
    """

    key: str
    splits: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    person: float | None = None
    brightness: float = 0.0
    sharpness: float = 0.0
    notes: tuple[str, ...] = ()
    twins: int = 0
    first_twin: str = ""
    twins_weigh: float = 0.0
    severity: float = 0.0
    error: str | None = None


def write_report(dataset: Dataset, val_split: str, folder: Path) -> list[Facts]:
    """Reads every photo once, the worst twice, and writes `report.json` and `report.html`.

    Args:
        dataset: the photos; those in no split are not looked at.
        val_split: of validation, for what is a leak.
        folder: of the two files; made where it is not there.

    Returns:
        Of each photo what was seen, the worst first.

    Raises:
        InputError: the disk refuses.
    """
    of_key: dict[str, tuple[str, ...]] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name, split_keys in dataset.splits.items():
        for key in split_keys:
            splits = (*of_key.get(key, ()), name)
            of_key[key] = shared.setdefault(splits, splits)
    keys = sorted(of_key)
    facts: dict[str, Facts] = {}
    hashes = np.zeros((len(keys), 2, 4), np.uint64)
    readable = np.zeros(len(keys), bool)
    for index, (fact, values) in enumerate(_look_at_all(dataset, keys)):
        facts[fact.key] = replace(fact, splits=of_key.pop(fact.key))
        if values is not None:
            hashes[index], readable[index] = values, True
    hashes[~readable] = 0
    count, pairs = 0, []
    for index, twin, bits in twins.near_pairs(hashes):
        _note_twins(facts, keys[index], keys[twin], bits, val_split)
        count += 1
        if count <= LISTED:
            pairs.append({"photos": [keys[index], keys[twin]], "bits": bits})
    ordered = sorted(facts.values(), key=lambda item: (-item.severity, item.first_twin or item.key, item.key))
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "data": dataset.name,
        "remarks": [*dataset.warnings, *dataset.remarks],
        "splits": {
            name: {"photos": len(split_keys), "sha256_16": dataset.split_hash(name)}
            for name, split_keys in dataset.splits.items()
        },
        "notes": dict(_counts(ordered).most_common()),
        "pairs_of_near_duplicates": count,
        "near_duplicates": pairs,
    }
    with files.replacing(folder / JSON_NAME) as scratch, scratch.open("w", encoding="utf-8") as file:
        # a photo a line: as one text it would be in memory several times
        file.write(json.dumps(content, indent=2, ensure_ascii=False).removesuffix("\n}") + ',\n  "photos": [')
        for index, item in enumerate(ordered):
            file.write(f"{',' if index else ''}\n    {json.dumps(asdict(item), ensure_ascii=False)}")
        file.write("\n  ]\n}\n")
    with files.replacing(folder / PAGE_NAME) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.writelines(_page(dataset, ordered))
    odd = sum(bool(item.severity) for item in ordered)
    say(f"{folder / PAGE_NAME}: {odd} of {len(ordered)} photos to look at, {count} pairs of near-duplicates")
    return ordered


def _look_at_all(dataset: Dataset, keys: Sequence[str]) -> Iterator[tuple[Facts, np.ndarray | None]]:
    workers = cores()
    starts, quiet = range(0, len(keys), _AHEAD * workers), not console.is_terminal
    # threads: decoding leaves Python's lock; a few at a time, so that phone photos do not pile up
    with ThreadPoolExecutor(workers) as pool:
        for start in track(starts, "reading photos", console=console, transient=True, disable=quiet):
            yield from pool.map(lambda key: _look(dataset, key), keys[start : start + _AHEAD * workers])


def _look(dataset: Dataset, key: str) -> tuple[Facts, np.ndarray | None]:
    try:
        sample = dataset.load(key)
    except InputError as error:
        return Facts(key, severity=_ERROR, error=str(error)), None
    return describe(sample), twins.hashes(sample.image)


def describe(sample: Sample) -> Facts:
    """What one photo and its mask tell by themselves."""
    height, width = sample.image.shape[:2]
    scale = _BLUR_SIDE_PX / max(height, width)
    reduced = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = cv2.resize(cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY), reduced, interpolation=cv2.INTER_AREA)
    sharpness, brightness = float(cv2.Laplacian(grey, cv2.CV_64F).var()), float(np.mean(cv2.mean(sample.image)[:3]))
    person = None
    notes: list[tuple[str, float]] = [
        (note, _MASK if note in ("mask: all black", "mask: all white") else _CONVERTED) for note in sample.notes
    ]
    if sample.mask is not None:
        known = slice(None) if sample.ignore is None else ~sample.ignore
        pixels = contract.truth_to_mask(sample.mask)[known]
        person = float(np.count_nonzero(pixels) / pixels.size) if pixels.size else 0.0
        if 0 < person < _LEAST_PERSON:
            notes.append((f"mask: under {_LEAST_PERSON:.0%} of the photo is person", _MASK))
        if _MOST_PERSON < person < 1:
            notes.append((f"mask: over {_MOST_PERSON:.0%} of the photo is person", _MASK))
    if not _DARKEST <= brightness <= _BRIGHTEST:
        notes.append(("photo: very dark" if brightness < _DARKEST else "photo: very bright", _ODD))
    if sharpness < _LEAST_SHARP:
        notes.append(("photo: blurred", _ODD))
    if max(height, width) > 3 * min(height, width):
        notes.append(("photo: more than three times as long as wide", _ODD))
    return Facts(
        key=sample.key,
        size=(height, width),
        person=person,
        brightness=round(brightness, 1),
        sharpness=round(sharpness, 1),
        notes=tuple(note for note, _ in notes),
        severity=math.fsum(weight for _, weight in notes),
    )


def _note_twins(facts: dict[str, Facts], one: str, other: str, bits: int, val_split: str) -> None:
    apart = set(facts[one].splits) ^ set(facts[other].splits)
    leaks = bool(apart) and any(is_measured(name, val_split) for name in apart)
    for key, twin in ((one, other), (other, one)):
        where = f" in {', '.join(facts[twin].splits)}" if leaks else ""
        note = f"nearly the same as {twin}{where} ({bits} of 256 bits differ)"
        weight = _LEAK if leaks else _TWIN
        fact = facts[key]
        # a leak is named beside those of the same split
        named = fact.twins if not leaks else sum(" in " in known for known in fact.notes)
        facts[key] = replace(
            fact,
            notes=fact.notes if named >= _NAMED else (*fact.notes, note),
            twins=fact.twins + 1,
            first_twin=min(fact.first_twin or key, twin),
            twins_weigh=max(fact.twins_weigh, weight),
            # once, however many there are: a burst is no worse than a file that cannot be read
            severity=fact.severity + max(0.0, weight - fact.twins_weigh),
        )


def _counts(ordered: Sequence[Facts]) -> Counter[str]:
    """Kinds of notes; twins name each other, and are one kind."""
    counts: Counter[str] = Counter()
    for item in ordered:
        counts.update(note for note in item.notes if not note.startswith("nearly the same as "))
        counts.update(["nearly the same as another"] if item.twins else [])
        counts.update(["cannot be used"] if item.error else [])
    return counts


def _page(dataset: Dataset, ordered: Sequence[Facts]) -> Iterator[str]:
    """The page, piece by piece; nothing is fetched or executed, as its policy says."""
    text = html.escape
    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Photos</title>'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        'style-src \'unsafe-inline\'"><meta name="viewport" content="width=device-width">'
        "<style>body{font:15px system-ui;margin:2em;max-width:80em}figure{display:inline-block;width:340px;"
        "vertical-align:top;margin:0 1em 1.5em 0}img{max-height:160px}td{padding:.1em 1em .1em 0}"
        "td+td{text-align:right}ul{margin:.3em 0}"
        "figcaption{overflow-wrap:anywhere}li{margin-left:-1.5em}@media(prefers-color-scheme:dark)"
        "{body{background:#111;color:#ddd}}</style>"
    )
    yield f"<h1>{text(dataset.name)}</h1>"
    yield "".join(f"<p>{text(line)}</p>" for line in (*dataset.warnings, *dataset.remarks))
    splits = "".join(f"<tr><td>{text(name)}<td>{len(keys)}" for name, keys in dataset.splits.items())
    counts = "".join(f"<tr><td>{text(note)}<td>{count}" for note, count in _counts(ordered).most_common())
    yield f"<h2>Splits</h2><table>{splits}</table><h2>What was found</h2><table>{counts}</table>"
    odd = sum(bool(item.severity) for item in ordered)
    worst = ordered[: min(odd, SHOWN)]
    if not worst:
        yield "<p>Nothing odd."
        return
    shown = f"{odd} photos" if odd == len(worst) else f"The worst {len(worst)} of {odd} photos; {JSON_NAME} has all"
    yield f"<h2>Worst first</h2><p>{shown}. Each beside itself with all but the person shaded.</p>"
    with ThreadPoolExecutor(cores()) as pool:
        for item, picture in zip(worst, pool.map(lambda item: _picture(dataset, item), worst), strict=True):
            notes = "".join(f"<li>{text(note)}" for note in ([item.error] if item.error else item.notes))
            share = "" if item.person is None else f", person {item.person:.0%}"
            size = "" if item.size is None else f"{item.size[1]}×{item.size[0]}{share}"
            image = f'<img alt="" src="{picture}">' if picture else ""
            where = ", ".join(item.splits)
            caption = f"<b>{text(item.key)}</b> ({text(where)}) {size}<ul>{notes}</ul>"
            yield f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _picture(dataset: Dataset, item: Facts) -> str:
    if item.error is not None:
        return ""
    sample = dataset.load(item.key)
    image = _reduce(sample.image)
    panels: list[Any] = [image]
    if sample.mask is not None:
        mask = _reduce(np.where(contract.truth_to_mask(sample.mask), np.uint8(255), np.uint8(0))[..., None])
        panels.append(tint(image, mask.reshape(image.shape[:2]) > contract.MASK_THRESHOLD))
    packed = cv2.imencode(".jpg", np.concatenate(panels, axis=1)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(packed.tobytes()).decode()}"


def _reduce(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h2 w2 c"]:
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE_PX / max(height, width))
    return contract.resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))))
