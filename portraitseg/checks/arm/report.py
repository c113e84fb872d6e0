"""One report per file: what each core made of it, and where its instructions go."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from portraitseg import files, tables
from portraitseg.checks.arm.check import ArmRun, FileReport
from portraitseg.checks.arm.cores import CORES
from portraitseg.checks.arm.counts import Count, short_name
from portraitseg.errors import InputError

_NOTE = (
    "Emulated: masks and instructions are exact for the core, and tell nothing of latency, caches or clocks. "
    "No phone was measured."
)


def check_folder(folder: Path | None, paths: Sequence[Path]) -> None:
    """Makes sure that reports can be written.

    Raises:
        InputError: the folder is a file, or two files would get the same report.
    """
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"--report {folder}: is a file: name a folder")
    stems = Counter(path.stem for path in paths)
    if folder is not None and (doubled := [stem for stem, count in stems.items() if count > 1]):
        raise InputError(f"--report: {stems[doubled[0]]} files are called '{doubled[0]}': check them one by one")


def write(report: FileReport, folder: Path) -> None:
    """Writes `<file>.arm.json` and `<file>.arm.md` into a folder, atomically."""
    files.write_json(folder / f"{report.path.stem}.arm.json", to_json(report))
    files.write_text(folder / f"{report.path.stem}.arm.md", to_markdown(report))


def to_json(report: FileReport) -> dict[str, Any]:
    """The whole report as plain values."""
    return {
        "file": report.path.name,
        "sha256": files.sha256(report.path),
        "half_precision": report.is_half,
        "photos": report.photos,
        "reference": report.reference,
        "runs": [{**asdict(run), "describes": CORES[run.core].describes} for run in report.runs],
    }


def to_markdown(report: FileReport) -> str:
    """The whole report for people."""
    kind = "allows half precision" if report.is_half else "no half precision"
    lines = [f"# {report.path.name}", "", f"{kind}; {report.photos} photos, black, white, noise. {_NOTE}", ""]
    head = ["core", "verdict", "greatest", "mean", "bound", "mask IoU", "M instructions", "ratio"]
    head += ["MB loaded", "stored"]
    table = []
    for run in report.runs:
        count = run.count
        cells = [run.core, run.verdict, figure(run.max_abs, ".3g"), figure(run.mean_abs, ".3g")]
        cells += [figure(run.bound, ".3g"), figure(run.mask_iou, ".4f")]
        cells += [figure(count.instructions / 1e6 if count else None, ".2f"), figure(run.ratio, ".3f")]
        moved = (count.loaded, count.stored) if count else (None, None)
        cells += [figure(number / 1e6 if number is not None else None, ".1f") for number in moved]
        table.append(cells)
    lines += [*tables.markdown(head, table, texts=2), ""] + [
        f"- {run.core}: {run.reason}" for run in report.runs if run.reason
    ]
    if report.reference:
        lines += ["", f"Ratio: of the instructions, to {report.reference} on the same core."]
    for run in report.runs:
        if run.count is not None:
            lines += ["", *_core_lines(run, run.count)]
    return "\n".join(lines).rstrip() + "\n"


def _core_lines(run: ArmRun, count: Count) -> list[str]:
    lines = [f"## {run.core}: {CORES[run.core].describes}", ""]
    shares = [f"{name} {number / count.instructions:.1%}" for name, number in count.classes.items()]
    lines += [f"Instructions by class: {', '.join(shares)}.", ""]
    kernels = [(short_name(name), f"{number / count.instructions:.1%}") for name, number in count.kernels.items()]
    head = ("operator", "n", "share of instructions", "share of MACs", "instructions a MAC")
    operators = []
    for name, (number, instructions, macs) in by_operator(count).items():
        share = macs / max(1, sum(cost.macs for cost in count.operators))
        per = f"{instructions / macs:.3f}" if macs else "–"
        operators.append((name, str(number), f"{instructions / count.instructions:.1%}", f"{share:.1%}", per))
    return [*lines, *tables.markdown(("kernel", "share"), kernels), "", *tables.markdown(head, operators)]


def by_operator(count: Count) -> dict[str, tuple[int, int, int]]:
    """Operator → how many, their instructions, their multiply-accumulates; the most expensive first."""
    sums: dict[str, tuple[int, int, int]] = {}
    for cost in count.operators:
        number, instructions, macs = sums.get(cost.name, (0, 0, 0))
        sums[cost.name] = number + 1, instructions + cost.instructions, macs + cost.macs
    return dict(sorted(sums.items(), key=lambda item: -item[1][1]))


def main_kernel(count: Count | None) -> str:
    """The micro-kernel with the most instructions, without what all names have in common."""
    names = [name for name in count.kernels if "_ukernel_" in name] if count else []
    return short_name(names[0]) if names else "–"


def figure(value: float | None, form: str) -> str:
    """A number, or a dash."""
    return "–" if value is None else format(value, form)
