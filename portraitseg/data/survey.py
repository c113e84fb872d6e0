"""Decides what the masks of a set mean, from what they hold; what could mean two things is refused, never guessed."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from portraitseg.contract import MASK_THRESHOLD
from portraitseg.data import masks
from portraitseg.data.base import spread
from portraitseg.data.masks import IGNORE_COLOUR, IGNORE_ID, Form, MaskFile, Meaning, list_values, remedy
from portraitseg.errors import InputError
from portraitseg.mask_setting import parse_setting

#: Masks of a folder that are looked at before the first is used, in equal parts of its sets, and the least part; each
#: of the others is compared when it is read.
MOST_LOOKED_AT, LEAST_LOOKED_AT = 1000, 64

#: A set in which fewer of its photos than this share have a person is not one of portraits.
LEAST_PEOPLED = 0.05

#: A person reaches the bottom of a photo, and rarely its top: where the top row of most masks is person, black is.
_INVERTED_TOP, _INVERTED_AREA, _INVERTED_MASKS = 0.75, 0.3, 4

#: Values between 0 and 255 that make a mask an alpha.
_LEAST_GRADES = 8

#: Colours of a file beyond which it is a picture, not a mask.
_MOST_COLOURS = 64


@dataclass(frozen=True)
class Look:
    """What one mask holds.

    Attributes:
        path: of the file.
        form: of its brightness or indices.
        values, top: pixels by value, of all rows and of the first.
        alpha, alpha_top: the same of the fourth channel, where it tells two parts of the photo apart.
        agrees: whether that channel and the brightness say the same.
        colours: pixels by colour; None where all is grey.
        is_indexed: whether `values` are the indices of a palette.
    """

    path: Path
    form: Form
    values: np.ndarray
    top: np.ndarray
    alpha: np.ndarray | None
    alpha_top: np.ndarray | None
    agrees: bool
    colours: dict[int, int] | None
    is_indexed: bool

    @property
    def is_grey(self) -> bool:
        """Whether brightness, or the index, is all there is to it."""
        return self.is_indexed or self.colours is None or masks.is_black_and_white(self.values)


def look(path: Path) -> Look:
    """Reads one mask and keeps its counts.

    Raises:
        InputError: as `masks.open_mask`.
    """
    file = masks.open_mask(path)
    alpha = alpha_top = None
    if file.has_cutout:
        assert file.alpha is not None
        alpha, alpha_top = _count(file.alpha), _count(file.alpha[:1])
    return Look(
        path=path,
        form=masks.form_of_histogram(file.histogram, file.is_jpeg),
        values=file.histogram,
        top=_count(file.values[:1]),
        alpha=alpha,
        alpha_top=alpha_top,
        agrees=file.agrees,
        colours=_count_colours(file),
        is_indexed=file.is_indexed,
    )


def _look_if_readable(path: Path) -> Look | None:
    try:
        return look(path)
    except InputError:
        return None


def survey(paths: Sequence[Path], where: str, setting: str, is_soft: bool, count: int) -> tuple[Meaning, str]:
    """Decides what the masks of a set mean.

    Args:
        paths: of all of them.
        where: the set, for messages.
        setting: of `data.mask`, for this set.
        is_soft: True where values between 0 and 255 are alpha.
        count: how many are looked at, at most.

    Returns:
        The meaning, and it in words with the values seen.

    Raises:
        InputError: no mask that can be read, a meaning that is not clear, or no mask with a person. One that cannot be
            read is an error where it is used.
    """
    meaning = parse_setting(setting)
    chosen = spread(paths, count)
    # decoding leaves Python's lock; no more at once than cores: a mask of a phone's size is 50 MB
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = [item for item in pool.map(_look_if_readable, chosen) if item is not None]
    if not looks:
        # says why
        look(chosen[0])
    is_stated = meaning is not None
    if meaning is None:
        meaning = decide(looks, where, is_soft)
    _check_peopled(looks, meaning, where, is_stated)
    return meaning, _describe(looks, meaning, is_stated)


def decide(looks: Sequence[Look], where: str, is_soft: bool = False) -> Meaning:
    """What the masks mean, where all of them together say it.

    Raises:
        InputError: they do not, with the settings that would.
    """
    if cutouts := [item for item in looks if item.alpha is not None]:
        return _decide_alpha(looks, cutouts, where)
    if coloured := [item for item in looks if not item.is_grey]:
        return _decide_colours(looks, coloured, where)
    forms = {item.form for item in looks} - {"empty"}
    if is_soft and forms & {"binary", "class map"}:
        return Meaning(is_strict=False)
    is_graded = _is_graded(looks)
    if is_graded:
        forms = {item.form for item in looks if not masks.is_unsure(item.form, item.values)} - {"empty"}
    if forms <= {"binary", "zero-one"}:
        return Meaning(is_graded=is_graded)
    if forms <= {"ids", "zero-one"}:
        return _decide_ids(looks, where)
    if "ids and 255" in forms and forms <= {"ids and 255", "ids", "zero-one", "binary"}:
        return _decide_ids_and_255(looks, where)
    if forms == {"three levels"} and (levels := _seen(looks) - {0, 255}) and len(levels) == 1:
        level = next(iter(levels))
        raise InputError(
            f"masks of {where}: of 0, {level} and 255: is {level} unknown, or a class of its own? "
            + remedy(f"person:255,ignore:{level}", f"person:{level},ignore:255", f"person:{level}+255", "binary")
        )
    if forms == {"dim"}:
        greatest = max(int(np.flatnonzero(item.values)[-1]) for item in looks)
        raise InputError(
            f"masks of {where}: no value above {greatest}, so nothing is person, which is above {MASK_THRESHOLD}: "
            "write 255 where the person is, or say which values are: --set data.mask=person:<ids>"
        )
    if len(forms) == 1:
        raise _unclear_ids(looks, where)
    raise _of_two_kinds(looks, where)


def _is_graded(looks: Sequence[Look]) -> bool:
    """Whether alphas are the rule, as in soft, smooth and JPEG masks."""
    graded = sum(item.form == "binary" and int(np.count_nonzero(item.values[1:255])) >= _LEAST_GRADES for item in looks)
    return 2 * graded > len(looks)


def _decide_alpha(looks: Sequence[Look], cutouts: Sequence[Look], where: str) -> Meaning:
    plain = [item for item in looks if item.alpha is None and item.is_grey and item.form != "empty"]
    if plain:
        raise InputError(
            f"masks of {where}: {len(cutouts)} cut the person out by a fourth channel (first: {cutouts[0].path.name}), "
            f"{len(plain)} do not (first: {plain[0].path.name}): make them of one kind, or say which: "
            + remedy("alpha", "binary")
        )
    black_and_white = [item for item in cutouts if item.form == "binary" and masks.is_black_and_white(item.values)]
    doubtful = [item for item in black_and_white if item.values[0] and item.values[255] and not item.agrees]
    if doubtful:
        raise InputError(
            f"masks of {where}: brightness says one thing and the fourth channel another (first: "
            f"{doubtful[0].path.name}): say which is meant: " + remedy("alpha", "binary")
        )
    return Meaning("alpha")


def _decide_colours(looks: Sequence[Look], coloured: Sequence[Look], where: str) -> Meaning:
    seen: Counter[int] = Counter()
    for item in looks:
        grey = {value * 0x10101: int(count) for value, count in enumerate(item.values) if count}
        seen.update(grey if item.colours is None else item.colours)
    plain = [item for item in looks if item.colours is None and item.form != "empty"]
    others = set(seen) - {0, IGNORE_COLOUR}
    if plain:
        raise InputError(
            f"masks of {where}: {len(coloured)} have colours (first: {coloured[0].path.name}), {len(plain)} are grey "
            f"(first: {plain[0].path.name}): make them of one kind"
        )
    if 0 in seen and len(others) == 1:
        ignore = frozenset({IGNORE_COLOUR} & set(seen))
        return Meaning("colours", frozenset(others), ignore, frozenset(seen))
    if len(seen) > _MOST_COLOURS:
        raise InputError(
            f"masks of {where}: pictures of {len(seen)} colours and more, no masks (first: {coloured[0].path.name}): "
            "give masks of 0 and 255, or say which colours are person: --set data.mask=person:#rrggbb"
        )
    first = f"#{max(others, key=lambda value: seen[value]):06x}" if others else "#rrggbb"
    raise InputError(
        f"masks of {where}: of the colours {list_values(set(seen), True)}: say which are person: "
        + remedy(f"person:{first}", f"person:{first},ignore:#rrggbb")
    )


def _decide_ids(looks: Sequence[Look], where: str) -> Meaning:
    seen = _seen(looks)
    if 0 not in seen or len(seen) != 2:
        raise _unclear_ids(looks, where)
    return Meaning("ids", frozenset(seen - {0}), seen=frozenset(seen))


def _decide_ids_and_255(looks: Sequence[Look], where: str) -> Meaning:
    seen = _seen(looks)
    classes = seen - {IGNORE_ID}
    if 0 not in classes or len(classes) != 2:
        if any(value > masks.GREATEST_ID for value in classes):
            raise _of_two_kinds(looks, where)
        raise _unclear_ids(looks, where)
    # twice: another photo's outline may be wider
    most = 2 * max(_thickness(item) for item in looks if item.form == "ids and 255")
    if any(_thickness(item) > most for item in looks if item.form == "binary"):
        raise _of_two_kinds(looks, where)
    return Meaning("ids", frozenset(classes - {0}), frozenset({IGNORE_ID}), frozenset(seen), most_ignored=most)


def _thickness(item: Look) -> float:
    return masks.thickness(masks.open_mask(item.path).values == IGNORE_ID)


def _unclear_ids(looks: Sequence[Look], where: str) -> InputError:
    seen = _seen(looks)
    ignore = f",ignore:{IGNORE_ID}" if IGNORE_ID in seen else ""
    classes = sorted(seen - {IGNORE_ID}) if ignore else sorted(seen)
    settings = [f"person:{value}{ignore}" for value in reversed(classes) if value][:2] if len(classes) <= 3 else []
    if not settings:
        settings = [f"person:15{ignore}"] if 15 in seen else [f"person:<ids>{ignore}"]
    top = sum(item.top for item in looks)
    common = int(np.argmax(top))
    hint = "" if 0 in seen else f"; none is 0, and {common} is what most of the photos' top rows are"
    return InputError(
        f"masks of {where}: classes, of values {list_values(seen)}{hint}: say which are person: {remedy(*settings)}"
    )


def _of_two_kinds(looks: Sequence[Look], where: str) -> InputError:
    kinds: dict[Form, list[Look]] = {}
    for item in looks:
        if item.form != "empty":
            kinds.setdefault(item.form, []).append(item)
    parts = [
        f"{len(items)} of values {list_values(_seen(items))} (first: {items[0].path.name})"
        for items in sorted(kinds.values(), key=len, reverse=True)
    ]
    return InputError(
        f"masks of {where} are of {len(parts)} kinds: {'; '.join(parts)}: make them of one kind, or say what values "
        "mean: --set data.mask=person:<ids>,ignore:<ids>"
    )


def _check_peopled(looks: Sequence[Look], meaning: Meaning, where: str, is_stated: bool) -> None:
    shares = np.array([_share(item, meaning) for item in looks])
    peopled = int(np.count_nonzero(shares))
    if peopled == 0 or peopled < LEAST_PEOPLED * len(looks):
        seen = sorted(value for value in _seen(looks))
        setting = f" as {remedy(meaning.setting)} says" if is_stated else ""
        raise InputError(
            f"masks of {where}: {len(looks) - peopled} of {len(looks)} show nobody{setting} (values "
            f"{list_values(seen)}): background-only photos belong into a set of data.blank_sets; if persons are there, "
            "say which values they have: --set data.mask=person:<ids>"
        )
    if is_stated or len(looks) < _INVERTED_MASKS:
        return
    tops = np.array([_share(item, meaning, is_top=True) for item in looks])
    if tops.mean() > _INVERTED_TOP and shares.mean() > _INVERTED_AREA and (shares < 1).mean() > 0.5:
        other = "person:0" if meaning.kind in ("binary", "ids") else "binary"
        raise InputError(
            f"masks of {where}: look inverted: {100 * tops.mean():.0f} % of the photos' top rows would be person: say "
            "which it is: " + remedy(other, meaning.setting)
        )


def _share(item: Look, meaning: Meaning, is_top: bool = False) -> float:
    """Of a photo's pixels (or its first row's), those that are person."""
    if meaning.kind == "alpha":
        counts = item.alpha_top if is_top else item.alpha
        if counts is None:
            return float(item.form != "empty")
        return float(counts[MASK_THRESHOLD + 1 :].sum() / counts.sum())
    if meaning.kind == "colours":
        colours = item.colours or {value * 0x10101: int(count) for value, count in enumerate(item.values)}
        return sum(colours.get(value, 0) for value in meaning.person) / max(1, sum(colours.values()))
    counts = item.top if is_top else item.values
    if meaning.kind == "ids":
        return float(counts[list(meaning.person)].sum() / counts.sum())
    least = 1 if item.form == "zero-one" else MASK_THRESHOLD + 1
    return float(counts[least:].sum() / counts.sum())


def _describe(looks: Sequence[Look], meaning: Meaning, is_stated: bool) -> str:
    if meaning.kind == "alpha":
        text = "the fourth channel, above half, is person"
    elif meaning.kind == "colours":
        text = f"colours {_colours(looks)}: {list_values(meaning.person, True)} is person"
    else:
        seen = list_values(_seen(looks))
        is_01 = meaning.kind == "binary" and all(item.form in ("zero-one", "empty") for item in looks)
        what = "1" if is_01 else f"above {MASK_THRESHOLD}" if meaning.kind == "binary" else list_values(meaning.person)
        text = f"values {seen}: {what} is person"
    if meaning.ignore:
        text += f", {list_values(meaning.ignore, meaning.kind == 'colours')} is ignored in loss and scores"
    return text + (" (data.mask)" if is_stated else "")


def _colours(looks: Sequence[Look]) -> str:
    return list_values({colour for item in looks for colour in item.colours or {}}, True)


def _seen(looks: Iterable[Look]) -> set[int]:
    return {int(value) for item in looks for value in np.flatnonzero(item.values)}


def _count(values: np.ndarray) -> np.ndarray:
    return np.bincount(values.ravel(), minlength=256)


def _count_colours(file: MaskFile) -> dict[int, int] | None:
    if file.colours is None:
        return None
    rgb = file.colours.astype(np.int32)
    colours, counts = np.unique(rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2], return_counts=True)
    # one more than is allowed tells that there are too many; a photo has a million
    return {int(value): int(count) for value, count in zip(colours[:1000], counts[:1000], strict=True)}
