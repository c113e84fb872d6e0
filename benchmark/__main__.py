"""`python -m benchmark run`: the table over all exported files of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portraitseg import cli

if TYPE_CHECKING:
    from portraitseg.config import Config
    from portraitseg.data.base import Dataset
    from portraitseg.runs import Run

app = cli.new_app("Measures exported files: quality, latency and size in one table.")


@app.callback()
def benchmark() -> None:
    """Measures exported files: quality, latency and size in one table."""
    # with a single command and no callback, Typer would drop the word `run` from the command line


@app.command()
def run(
    run_name: Annotated[str, typer.Option("--run", help="Name of the run.")] = "default",
    data: Annotated[Path | None, typer.Option(help="Folder of photos; default: the data of the run.")] = None,
    data_format: Annotated[str | None, typer.Option("--format", help="Format of the data.")] = None,
    splits: Annotated[
        str | None, typer.Option(help="Splits, with commas; default: all that begin with `test`.")
    ] = None,
    peers: Annotated[Path | None, typer.Option(help="Folder of .tflite files to measure beside ours.")] = None,
    threads: Annotated[str, typer.Option(help="Thread counts, with commas.")] = "1",
    profile: Annotated[str, typer.Option(help="quick: a minute; full: for published figures.")] = "quick",
    reference: Annotated[Path | None, typer.Option(help="File whose latency is 1 in the ratio.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value of the configuration.")
    ] = None,
) -> None:
    """Scores and times every file of a run; writes runs/<run>/benchmark/ and the quality in the manifests."""
    from benchmark import report
    from benchmark.latency import PROFILES
    from benchmark.measure import Measurement
    from benchmark.targets import choose_reference, collect_targets
    from portraitseg.data import open_dataset
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    if profile not in PROFILES:
        raise InputError(f"--profile {profile}: choose one of {', '.join(PROFILES)}")
    thread_counts = _parse_threads(threads)
    chosen = Run(run_name)
    targets, reference_target = choose_reference(collect_targets(chosen, peers), reference)
    config = _read_config(chosen, data, data_format, overrides or [])
    dataset = open_dataset(config.data, config.seed)
    measurement = Measurement(targets, reference_target, profile, thread_counts)
    measurement.run(dataset, _choose_splits(dataset, splits, config))
    if measurement.is_interrupted and not measurement.splits:
        # nothing was measured: an earlier table stays
        raise KeyboardInterrupt
    report.record_quality(measurement)
    rows = measurement.rows()
    report.write_results(chosen.benchmark, rows, measurement)
    report.print_table(rows, measurement)
    if measurement.is_interrupted:
        raise KeyboardInterrupt


def _parse_threads(text: str) -> tuple[int, ...]:
    """`1,2` → (1, 2)."""
    from portraitseg.errors import InputError

    counts = [part.strip() for part in text.split(",")]
    if not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise InputError(f"--threads {text}: write counts from 1 up with commas between them, such as 1,2")
    return tuple(dict.fromkeys(int(count) for count in counts))


def _read_config(run: "Run", data: Path | None, data_format: str | None, overrides: list[str]) -> "Config":
    """The run's configuration with the data of the command line; the defaults where a released run has no own one."""
    import json

    from portraitseg.config import load_config

    own = run.config if run.config.exists() or (data is None and data_format is None) else None
    if data is not None and data_format is None:
        # a folder cannot be meant for the portraits that are drawn
        run_format = load_config(own, overrides=None).data.format if own else "folder"
        data_format = "folder" if run_format == "synthetic" else run_format
    given = [] if data is None else [f"data.root={json.dumps(str(data), ensure_ascii=False)}"]
    given += [] if data_format is None else [f"data.format={json.dumps(data_format, ensure_ascii=False)}"]
    return load_config(own, [*given, *overrides])


def _choose_splits(dataset: "Dataset", named: str | None, config: "Config") -> tuple[str, ...]:
    """The splits to measure on, each of which exists and has photos."""
    if named is not None:
        splits = tuple(dict.fromkeys(part.strip() for part in named.split(",")))
    else:
        splits = tuple(name for name in dataset.splits if name.startswith("test"))
    if not splits:
        splits = (config.data.val_split,)
        cli.warn(f"no split begins with 'test': measuring on '{splits[0]}', on which the weights were chosen")
    for split in splits:
        dataset.keys(split)
    return splits


if __name__ == "__main__":
    cli.run(app)
