"""What changed between two tables, and whether it is a regression beyond noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.measuring.intervals import Difference, describe_difference, paired_difference
from benchmark.measuring.model_files import FOREIGN
from benchmark.tables.results import Row, read
from portraitseg import tables
from portraitseg.errors import InputError

#: A paired test finds any steady difference, however small; below this one it is no regression: kernels and JPEG
#: decoders differ by as much between machines (the bound of the self-test against docs/interface.md).
LEAST_SCORE_CHANGE = 0.0002

#: Greatest factor between two valid latency ratios of the same file that is still called noise. Fourteen measurements
#: of MediaPipe's two models under load gave ratios from 0.54 to 0.57, a factor of 1.06 (see latency.MAX_SLOWDOWN).
LATENCY_NOISE = 1.15

SCORES = ("iou", "boundary_iou")

Photos = dict[tuple[str, str], dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Change:
    """One line of the comparison.

    Attributes:
        file: name without folders.
        what: split and measure, or thread count.
        before, after, change: as shown.
        is_regression: True where it is worse beyond noise.
    """

    file: str
    what: str
    before: str
    after: str
    change: str
    is_regression: bool = False


def compare(new: Path, base: Path) -> list[Change]:
    """Compares two tables file by file; files are the same if their names are.

    Scores are compared photo by photo where both tables have their photos beside them (`photos.csv`, or
    `<stem>-photos.csv`), else by whether the intervals overlap; latencies by their ratio to the same reference.

    Args:
        new: the table to judge.
        base: the earlier one.

    Raises:
        InputError: tables that cannot be read, or have no file in common.
    """
    new_rows, base_rows = read(new).rows, read(base).rows
    new_photos, base_photos = read_photos(new), read_photos(base)
    names = [name for name in dict.fromkeys(row.name for row in base_rows) if any(row.name == name for row in new_rows)]
    if not names:
        raise InputError(f"{new} and {base}: no file name in common: there is nothing to compare")
    changes = []
    for name in names:
        after = [row for row in new_rows if row.name == name]
        before = [row for row in base_rows if row.name == name]
        changes += _compare_size(after[0], before[0])
        for split in dict.fromkeys(row.split for row in before if row.split):
            changes += _compare_split(after, before, split, new_photos, base_photos)
        for threads in dict.fromkeys(row.threads for row in before if row.threads is not None):
            changes += _compare_latency(after, before, threads)
    return changes + _only_in_one(new_rows, base_rows)


def read_photos(results: Path) -> Photos:
    """The scores by photo that lie beside a table: (file name, split) → key → measure → score; empty without them.

    `photos.csv` is of `results.csv` alone: beside a copy of an earlier table lie the photos of a later one.

    Raises:
        InputError: a file that is no such list.
    """
    path = results.with_name("photos.csv" if results.name == "results.csv" else f"{results.stem}-photos.csv")
    photos: Photos = {}
    for number, line in enumerate(tables.read_csv(path) if path.exists() else [], 2):
        try:
            scores = {name: float(line[name]) for name in SCORES}
            photos.setdefault((Path(line["file"]).name, line["split"]), {})[line["key"]] = scores
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: line {number}: not the scores of a photo: {error}") from error
    return photos


def print_changes(changes: Sequence[Change]) -> None:
    """Prints the comparison to stdout."""
    header = ("File", "What", "Before", "After", "Change")
    cells = [(change.file, change.what, change.before, change.after, change.change) for change in changes]
    styles = ["red" if change.is_regression else None for change in changes]
    tables.show(header, cells, len(header), styles=styles)


def _compare_size(new: Row, old: Row) -> list[Change]:
    if new.bytes == old.bytes or new.bytes is None or old.bytes is None:
        return []
    before, after = (f"{row.bytes / 1e6:.2f} MB" for row in (old, new) if row.bytes is not None)
    return [Change(new.name, "size", before, after, f"{100 * (new.bytes / old.bytes - 1):+.1f} %")]


def _compare_split(
    after_rows: Sequence[Row], before_rows: Sequence[Row], split: str, new_photos: Photos, base_photos: Photos
) -> list[Change]:
    before = next((row for row in before_rows if row.split == split and row.quality_valid), None)
    after = next((row for row in after_rows if row.split == split), None)
    if before is None:
        return []
    if after is None:
        # a file that does not run any more has one row, of no split, with the reason
        refusal = next((row for row in after_rows if row.split is None and not row.valid), None)
        text = refusal.reason if refusal else "the split is not in the new table"
        return [Change(before.name, split, "good scores", "none", text, is_regression=refusal is not None)]
    name = after.name
    if not after.quality_valid:
        return [Change(name, split, "good scores", "none", after.reason or "invalid", is_regression=True)]
    if before.split_sha256_16 != after.split_sha256_16:
        return [Change(name, split, f"list {before.split_sha256_16}", f"list {after.split_sha256_16}", "other photos")]
    old, new = base_photos.get((name, split), {}), new_photos.get((name, split), {})
    # the split's hash says nothing of photos.csv, which is a file of its own
    is_paired = bool(old) and old.keys() == new.keys()
    changes = []
    for score in SCORES:
        values = [getattr(row, score) for row in (before, after)]
        if None in values:
            continue
        shown = (f"{100 * values[0]:.2f}", f"{100 * values[1]:.2f}")
        if is_paired:
            difference = paired_difference([old[key][score] for key in old], [new[key][score] for key in old])
            text = describe_difference(difference)
            is_worse = is_regression(difference)
        else:
            text, is_worse = _compare_intervals(before, after, score)
        changes.append(Change(name, f"{split} {score}", *shown, text, is_worse))
    return changes


def is_regression(difference: Difference) -> bool:
    """True where the scores fell beyond noise, and by more than another machine alone would do."""
    return difference.high < 0 and difference.mean < -LEAST_SCORE_CHANGE


def _compare_intervals(before: Row, after: Row, score: str) -> tuple[str, bool]:
    text = f"{100 * (getattr(after, score) - getattr(before, score)):+.2f}, no photos to pair"
    if score != "iou" or before.iou_low is None or after.iou_high is None:
        # a table has no interval of boundary IoU
        return f"{text}: not judged", False
    # two separate intervals overlap long after a paired test would have told them apart: this finds the gross ones
    is_worse = after.iou_high < before.iou_low
    return f"{text}, intervals {'apart' if is_worse else 'overlap'}", is_worse


def _compare_latency(new: Sequence[Row], old: Sequence[Row], threads: int) -> list[Change]:
    before = next((row for row in old if row.threads == threads and row.latency_valid), None)
    after = next((row for row in new if row.threads == threads and row.latency_valid), None)
    if before is None or before.ratio_to_reference is None:
        return []
    what = f"latency ratio, {threads} thread{'s' * (threads != 1)}"
    if after is None or after.ratio_to_reference is None:
        why = next((row.reason for row in new if row.threads == threads and row.reason), "") or "not measured"
        return [Change(before.name, what, f"{before.ratio_to_reference:.3f}", "none", f"not judged: {why}")]
    shown = (f"{before.ratio_to_reference:.3f}", f"{after.ratio_to_reference:.3f}")
    if before.reference != after.reference:
        return [Change(after.name, what, *shown, f"other reference: {before.reference} → {after.reference}")]
    factor = after.ratio_to_reference / before.ratio_to_reference
    if before.machine != after.machine:
        return [Change(after.name, what, *shown, f"× {factor:.2f} on another machine: not judged")]
    is_noise = 1 / LATENCY_NOISE <= factor <= LATENCY_NOISE
    text = f"× {factor:.2f}{' inside the noise' * is_noise}"
    return [Change(after.name, what, *shown, text, factor > LATENCY_NOISE)]


def _only_in_one(new_rows: Sequence[Row], base_rows: Sequence[Row]) -> list[Change]:
    new, base = {row.name for row in new_rows}, {row.name for row in base_rows}
    # other people's files come and go with PEERS; a file of ours that had good scores is missed
    ours = {row.name for row in base_rows if row.recipe != FOREIGN and row.quality_valid}
    gone = [Change(name, "file", "there", "not measured", "", name in ours) for name in sorted(base - new)]
    return gone + [Change(name, "file", "not measured", "there", "") for name in sorted(new - base)]
