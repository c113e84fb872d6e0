"""One report per file: what the rules say for each delegate, and what each route did with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from portraitseg import files, tables
from portraitseg.checks.gpu.driver import Driver
from portraitseg.checks.gpu.result import TIME_LIMIT_S, GpuRun, Photos, Subject
from portraitseg.checks.gpu.routes import ALWAYS, DEFAULT, ROUTES
from portraitseg.checks.gpu.rules import DELEGATES, Judgement, judge
from portraitseg.checks.gpu.tolerance import arithmetic
from portraitseg.manifest import GpuCheck
from portraitseg.tflite.graph import Graph, read_graph

#: Photos for files that take one, when the caller has none: synthetic portraits of this size.
_PHOTO_SIZE = (256, 256)
_PHOTOS = 3


@dataclass(frozen=True)
class FileReport:
    """What is known of one file on phones' GPUs."""

    path: Path
    arithmetic: str
    operators: dict[str, int]
    judgements: tuple[Judgement, ...]
    runs: tuple[GpuRun, ...]

    @property
    def has_failed(self) -> bool:
        """Whether a delegate refuses the file or a driver failed on it."""
        return any(not judgement.is_taken for judgement in self.judgements) or any(
            run.verdict == "failed" for run in self.runs
        )


def examine(
    path: Path,
    photos: Photos | None = None,
    drivers: Sequence[Driver] | None = None,
    routes: Sequence[str] = DEFAULT,
    time_limit_s: float = TIME_LIMIT_S,
) -> FileReport:
    """Judges a .tflite by the rules of both delegates and runs it by every route.

    Args:
        path: any .tflite, ours or foreign.
        photos: RGB, of any size; default: synthetic portraits.
        drivers: for the routes over Vulkan; default: all that this machine has. An empty list runs nothing and says
            `not_run`.
        routes: keys of `ROUTES`.
        time_limit_s: for each run.

    Raises:
        InputError: no TFLite file, or a damaged one.
    """
    graph = read_graph(path)
    subject = Subject(path, graph, _portraits() if photos is None else photos, time_limit_s, drivers)
    return FileReport(
        path=path,
        arithmetic=arithmetic(graph),
        operators=_count(graph),
        judgements=tuple(judge(graph, delegate) for delegate in DELEGATES),
        runs=tuple(run for run_file in (*ALWAYS, *(ROUTES[name].run for name in routes)) for run in run_file(subject)),
    )


def check_gpu(path: Path, photos: Photos | None = None, drivers: Sequence[Driver] | None = None) -> list[GpuCheck]:
    """What `examine` found, as rows of the manifest: one for the rules of each delegate, one a driver.

    Raises:
        InputError: no TFLite file, or a damaged one.
    """
    return to_checks(examine(path, photos, drivers))


def to_checks(report: FileReport) -> list[GpuCheck]:
    """Rows of the manifest."""
    rules = [
        GpuCheck(
            route=f"rules_{judgement.delegate}",
            verdict="passed" if judgement.is_taken else "failed",
            nodes=judgement.partition.ops,
            delegated=len(judgement.partition.delegated),
            reason=_first_refusal(judgement),
            conditions="the delegate's own checks and what it was seen to compute wrong, as rules; nothing was run",
        )
        for judgement in report.judgements
    ]
    runs = [
        GpuCheck(
            route=run.route,
            verdict=run.verdict,
            nodes=run.nodes,
            delegated=run.delegated,
            max_abs=run.max_abs,
            mean_abs=run.mean_abs,
            mask_iou=run.mask_iou,
            precision=run.precision,
            adapter=run.adapter,
            # by its name: where it lies on this machine is nobody's business
            driver=Path(run.library).name if run.library else None,
            reason=run.reason,
            conditions=run.conditions,
            warnings=run.warnings,
        )
        for run in report.runs
    ]
    return [*rules, *runs]


def _first_refusal(judgement: Judgement) -> str | None:
    if judgement.is_taken:
        return None
    first, more = judgement.refusals[0], len(judgement.refusals) - 1
    text = f"operator {first.op} {first.name} of layer '{first.layer}': {first.reason}; {first.remedy}"
    return text + (f" (and {more} more)" if more else "")


def to_json(report: FileReport) -> dict[str, Any]:
    """The whole report as plain values."""
    return {
        "file": report.path.name,
        "sha256": files.sha256(report.path),
        "arithmetic": report.arithmetic,
        "operators": report.operators,
        "rules": [
            {
                "delegate": judgement.delegate,
                "taken": judgement.is_taken,
                "nodes": judgement.partition.ops,
                "delegated": len(judgement.partition.delegated),
                "fallback": list(judgement.partition.fallback),
                "macs": judgement.partition.macs,
                "delegated_macs": judgement.partition.delegated_macs,
                "refusals": [asdict(refusal) for refusal in judgement.refusals],
            }
            for judgement in report.judgements
        ],
        "runs": [{**asdict(run), "conditions": run.conditions} for run in report.runs],
    }


def to_markdown(report: FileReport) -> str:
    """The whole report for people."""
    counted = ", ".join(f"{count} {name}" for name, count in report.operators.items())
    lines = [f"# {report.path.name}", "", f"{report.arithmetic}; {counted}.", "", "## By the rules", ""]
    table = []
    for judgement in report.judgements:
        cut = judgement.partition
        share = f"{cut.delegated_macs / cut.macs:.0%} of {cut.macs / 1e6:.1f} M" if cut.macs else "–"
        verdict = "taken" if judgement.is_taken else "refused"
        table.append((judgement.delegate, f"{len(cut.delegated)} / {cut.ops}", share, verdict))
    lines += tables.markdown(("delegate", "operators on the GPU", "MACs on the GPU", "verdict"), table, texts=4)
    lines += [""] + [line for judgement in report.judgements for line in _refusal_lines(judgement)]
    lines += ["## By running it", ""]
    head = ["route", "on the GPU", "adapter", "driver", "precision", "greatest", "mean", "bound", "mask IoU", "s"]
    runs = []
    for run in report.runs:
        driver = Path(run.library).name if run.library else "–"
        cells = [run.route, _nodes(run), run.adapter or "–", driver, run.precision or "–", _number(run.max_abs)]
        cells += [_number(run.mean_abs), _number(run.bound), _number(run.mask_iou), _number(run.seconds)]
        runs.append([*cells, run.verdict])
    lines += tables.markdown([*head, "verdict"], runs, texts=5)
    lines += [""] + [f"- {run.route}: {run.reason}" for run in report.runs if run.reason]
    lines += [f"- {run.route}: {run.conditions}" for run in report.runs if run.conditions]
    lines += [f"- {run.route}, to be known: {warning}" for run in report.runs for warning in run.warnings]
    return "\n".join(lines).rstrip() + "\n"


def _refusal_lines(judgement: Judgement) -> list[str]:
    if judgement.is_taken:
        return []
    rows = [
        f"- {judgement.delegate}: operator {refusal.op}, {refusal.name}, layer `{refusal.layer}`: {refusal.reason}. "
        f"Remedy: {refusal.remedy}. ({refusal.source})"
        for refusal in judgement.refusals
    ]
    return [*rows, ""]


def write(report: FileReport, folder: Path) -> None:
    """Writes `<file>.gpu.json` and `<file>.gpu.md` into a folder, atomically."""
    files.write_json(folder / f"{report.path.stem}.gpu.json", to_json(report))
    files.write_text(folder / f"{report.path.stem}.gpu.md", to_markdown(report))


def _nodes(run: GpuRun) -> str:
    return f"{'–' if run.delegated is None else run.delegated} / {'–' if run.nodes is None else run.nodes}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _count(graph: Graph) -> dict[str, int]:
    return dict(Counter(op.name for op in graph.ops).most_common())


def _portraits() -> Photos:
    from portraitseg.synthetic import portraits as synthetic

    return [synthetic.render(index, _PHOTO_SIZE, 0)[0] for index in range(_PHOTOS)]
