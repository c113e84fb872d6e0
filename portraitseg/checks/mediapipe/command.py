"""What `python -m export check-mediapipe` does."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from portraitseg import files, manifest, tables
from portraitseg.checks.mediapipe import check
from portraitseg.checks.mediapipe.check import Result
from portraitseg.cli import console, say, table_console
from portraitseg.errors import CheckFailed, InputError
from portraitseg.runs import Run

_COLOURS = {"passed": "green", "failed": "red", "not_run": "yellow"}


def check_mediapipe(paths: Sequence[Path], run_name: str | None, report: Path | None) -> None:
    """Opens .tflite files with MediaPipe and with LiteRT's benchmark tool; prints a table and writes a report.

    Args:
        paths: any .tflite files; none: those of the run.
        run_name: whose exported files are taken, and in whose folder the report then lies.
        report: folder of the report; None: `runs/<run>/export` of a run, else none is written.

    Raises:
        InputError: nothing named, or no .tflite.
        CheckFailed: a file that a client cannot open, or whose mask is another there.
    """
    if not paths and run_name is None:
        raise InputError("check-mediapipe: name .tflite files, or a run with --run")
    if not paths:
        run = Run(run_name or "")
        paths, report = run_files(run), report or run.folder / "export"
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"{missing[0]}: no such file")
    if not check.environment.is_installed(check.FOLDER, check.LOCK):
        say(f"building {check.FOLDER.parent.name}/{check.FOLDER.name} from its lock (0.5 GB)")
    check.install()
    results = [check.examine(path) for path in paths]
    table_console().print(_table(results))
    for result in results:
        for reason in result.reasons:
            say(f"{result.path}: {reason}")
    if report is not None:
        written = write_report(results, report)
        console.print(f"written: {', '.join(str(path) for path in written)}", markup=False, soft_wrap=True)
    if failed := [result.path for result in results if result.has_failed]:
        raise CheckFailed(f"{len(failed)} of {len(results)} files do not open as they should: {', '.join(failed)}")


def run_files(run: Run) -> list[Path]:
    """The .tflite files of a run's manifest, once their hashes are known to be right.

    Raises:
        InputError: not exported yet, or a file that differs from the manifest.
    """
    path = run.android / manifest.MANIFEST_NAME
    if not path.exists():
        raise InputError(f"{path}: no such file: run `make export-android RUN={run.name}` first")
    listed = manifest.read(manifest.Manifest, path)
    manifest.verify(listed, run.android)
    return [run.android / entry.path for entry in listed.files]


def write_report(results: Sequence[Result], folder: Path) -> list[Path]:
    """Writes `mediapipe.md` and `mediapipe.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "mediapipe.md", folder / "mediapipe.json"]
    files.write_text(paths[0], to_markdown(results))
    files.write_json(paths[1], {"mediapipe": version(), "files": [asdict(result) for result in results]})
    return paths


def version() -> str:
    """Of mediapipe, by the lock."""
    lines = check.LOCK.read_text(encoding="utf-8").splitlines()
    return next(line.split("==")[1].split()[0] for line in lines if line.startswith("mediapipe=="))


def to_markdown(results: Sequence[Result]) -> str:
    """One line a file."""
    lines = [
        f"# Files in MediaPipe {version()} and litert-benchmark",
        "",
        "The confidence mask of the Python ImageSegmenter on the CPU beside that of the interpreter, on portraits and "
        "noise. Milliseconds are only a sign of life.",
        "",
    ]
    head = ("file", "segmenter", "greatest", "mean", "mask IoU", "benchmark", "ms", "reason")
    table = []
    for result in results:
        milliseconds = _text(result.benchmark.median_ms, ".1f")
        cells = [result.path, result.segmenter.verdict, *_figures(result), result.benchmark.verdict, milliseconds]
        table.append([*cells, "; ".join(result.reasons)])
    return "\n".join([*lines, *tables.markdown(head, table, ("file", "segmenter", "benchmark", "reason")), ""])


def _table(results: Sequence[Result]) -> Table:
    table = Table("file", "segmenter", "greatest", "mean", "mask IoU", "litert-benchmark")
    for result in results:
        verdicts = [
            f"[{_COLOURS[verdict]}]{verdict}[/]" for verdict in (result.segmenter.verdict, result.benchmark.verdict)
        ]
        table.add_row(escape(result.path), verdicts[0], *_figures(result), verdicts[1])
    return table


def _figures(result: Result) -> list[str]:
    segmented = result.segmenter
    return [_text(segmented.max_abs, ".2g"), _text(segmented.mean_abs, ".2g"), _text(segmented.mask_iou, ".4f")]


def _text(figure: float | None, form: str) -> str:
    return "–" if figure is None else format(figure, form)
