"""`python -m benchmark …`: the table over all exported files of a run, and what is made of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portraitseg import cli, options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmark.measuring.paired import Study
    from portraitseg.config import Config
    from portraitseg.data.base import Dataset
    from portraitseg.runs import Run

app = cli.new_app("Measures exported files: quality, latency and size in one table.")


@app.command()
def run(
    run_name: options.Run = "default",
    data: options.Data = None,
    data_format: options.Format = None,
    splits: options.Splits = None,
    peers: options.Peers = None,
    threads: Annotated[
        str | None,
        typer.Option(help="Thread counts, with commas, or `all` up to the cores; default: quick 1, full all."),
    ] = None,
    profile: options.Profile = "quick",
    reference: options.Reference = None,
    with_robustness: Annotated[
        bool, typer.Option("--robustness", help="Also under what a phone does to a photo; takes eight times as long.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that score photos; default: one for each core.")
    ] = None,
    shard: options.Shard = "1/1",
    overrides: options.Set = None,
) -> None:
    """Scores and times every file of a run; writes runs/<run>/benchmark/ and the quality in the manifests."""
    from benchmark.measuring.latency import PROFILES
    from benchmark.measuring.measure import Plan
    from benchmark.measuring.model_files import choose_reference, collect_files
    from benchmark.stage import measure_run, measure_shard
    from portraitseg.data import open_dataset
    from portraitseg.data.base import parse_shard
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    if profile not in PROFILES:
        raise InputError(f"--profile {profile}: choose one of {', '.join(PROFILES)}")
    thread_counts = _host_threads(threads or ("1" if profile == "quick" else "all"))
    chosen, part = Run(run_name), parse_shard(shard)
    model_files, reference_file = choose_reference(collect_files(chosen, peers), reference)
    config = _read_config(chosen, options.Photos(data, data_format, overrides))
    dataset = open_dataset(config.data, config.seed)
    plan = Plan(
        model_files,
        reference_file,
        profile,
        thread_counts,
        is_soft=config.data.soft_masks,
        journal=chosen.benchmark / "journal",
        workers=workers,
        with_robustness=with_robustness,
    )
    chosen_splits = _choose_splits(dataset, splits, config)
    if part.parts > 1:
        measure_shard(chosen, plan, dataset, chosen_splits, part)
        return
    # until all is written: an export would replace the files that are being measured
    with chosen.locked():
        measure_run(chosen, plan, dataset, chosen_splits)


@app.command()
def operators(
    files_named: Annotated[list[Path], typer.Argument(metavar="FILE…", help=".tflite files, ours or anybody's.")],
    threads: Annotated[int, typer.Option(min=1, max=256, help="Of the runtime.")] = 1,
    runs: Annotated[int, typer.Option(min=1, max=10_000, help="Whose median is taken.")] = 100,
    out: Annotated[Path, typer.Option(help="Folder for the tables (.csv) and plots (.png).")] = Path("runs/operators"),
) -> None:
    """Time per operator of .tflite files on this CPU, by the profilers of LiteRT and XNNPACK."""
    from benchmark.profiling import operators as profiler
    from portraitseg import files, tables

    for path in files_named:
        rows = profiler.profile(path, threads, runs)
        profiler.show(path, rows)
        tables.write_csv(out / f"{path.stem}-operators.csv", tables.names_of(profiler.OperatorTime), rows)
        files.write_bytes(out / f"{path.stem}-operators.png", profiler.plot(path, rows))
        cli.say(f"{out / path.stem}-operators.csv and .png written")


@app.command()
def speed(
    settings: options.Settings,
    run_name: Annotated[str | None, typer.Option("--run", help="A trained run, to time its export.")] = None,
    file: Annotated[Path | None, typer.Option(help="A .tflite, to measure the memory of scoring.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Batches of each training measurement.")] = 30,
    photos: Annotated[str, typer.Option(help="Numbers of photos to measure memory with.")] = "100,1000,10000",
) -> None:
    """Our own speed, as Markdown: training against cores, export by file, memory against the number of photos."""
    from benchmark.studies import speed as study
    from portraitseg import tables
    from portraitseg.runs import EXPORTS, Run

    counts, sizes = _host_threads("all"), _parse_threads(photos, "--photos")
    chosen = [] if settings.config is None else ["--config", str(settings.config)]
    sets = [part for override in settings.set or [] for part in ("--set", override)]
    rows = []
    for count, rates in study.training_rates([*chosen, *_location(settings), *sets], counts, steps):
        cli.say(f"training on {count} cores: {rates}")
        rows.append([str(count), *(str(rates.get(name, "")) for name in ("step", "pipeline", "both"))])
    shown = [tables.markdown(("Cores", "step, images/s", "input pipeline, images/s", "both, images/s"), rows)]
    if run_name is not None:
        made = study.export_seconds(Run(run_name), tuple(EXPORTS))
        rows = [[export, str(count), f"{seconds:.1f}"] for export, count, seconds in made]
        shown.append(tables.markdown(("Target", "Files", "s by file"), rows))
    trained = study.training_memory([*chosen, *sets], [max(8, size) for size in sizes])
    memory = [[f"{count:,}", "training", f"{peak or 0:.0f}", ""] for count, peak in trained]
    if file is not None:
        scored = study.scoring_memory(file, sizes, counts[-1])
        memory += [[f"{count:,}", "scoring", f"{peak or 0:.0f}", f"{seconds:.0f}"] for count, peak, seconds in scored]
    shown.append(tables.markdown(("Photos", "What", "MB, all processes", "s"), memory))
    typer.echo("\n\n".join("\n".join(lines) for lines in shown))


@app.command()
def networks(
    table: options.Table,
    runs: options.Runs,
    base: options.Base = None,
    splits: options.ValSplits = "val",
    out: Annotated[Path, typer.Option(help="The table; .md and plots come beside it.")] = Path(
        "benchmark/results/networks.csv"
    ),
) -> None:
    """Several networks in one table: size, quality and latency of float and int8 files, differences to a base."""
    from benchmark.studies.network_table import write_network_table
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    names = [name.strip() for name in runs.split(",") if name.strip()]
    if not names:
        raise InputError("--runs: name the runs, with commas between them")
    named = [Run(name) for name in dict.fromkeys(names)]
    config = _read_config(named[0], table)
    chosen = tuple(dict.fromkeys(part.strip() for part in splits.split(",")))
    write_network_table(named, base, _study(config, chosen, table, out))


@app.command()
def quantization(
    table: options.Table,
    runs: options.Runs,
    recipes: Annotated[
        str, typer.Option(help="Beside fp32, with commas; what a run does not have is left out.")
    ] = "static_wi8_ai8,qat_wi8_ai8",
    splits: options.Splits = None,
    out: Annotated[Path, typer.Option(help="The table; .md comes beside it.")] = Path("runs/quantization.csv"),
) -> None:
    """What integers cost: each recipe beside its run's float file, paired by photo, and their latencies."""
    from benchmark.studies.quantization import write_recipe_table
    from portraitseg.data import open_dataset
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    named = [Run(name) for part in runs.split(",") if (name := part.strip())]
    if not named:
        raise InputError("--runs: name the runs, with commas between them")
    config = _read_config(named[0], table)
    chosen = _choose_splits(open_dataset(config.data, config.seed), splits, config)
    recipe_names = [name for part in recipes.split(",") if (name := part.strip())]
    write_recipe_table(named, recipe_names, _study(config, chosen, table, out))


@app.command()
def refine(
    given: options.Photos,
    runs: Annotated[
        str, typer.Option("--runs", help="Released or exported runs, with commas.")
    ] = "contour_small,contour_medium,contour_large",
    is_choosing: Annotated[
        bool, typer.Option("--choose", help="Choose the parameters on the validation split; write the manifests.")
    ] = False,
    splits: options.Splits = None,
    peers: options.Peers = None,
    with_clips: Annotated[
        bool, typer.Option("--clips/--no-clips", help="Also clips: flicker, lag, ghost; takes four times as long.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Beginning of the tables' names.")] = Path("runs/refine"),
) -> None:
    """Edge refinement and smoothing over time: what they change on photos and clips, or (--choose) their parameters."""
    from benchmark.studies import refine_command
    from portraitseg.data import open_dataset
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    names = [name for part in runs.split(",") if (name := part.strip())]
    if not names:
        raise InputError("--runs: name the runs, with commas between them")
    config = _read_config(Run(names[0]), given)
    dataset = open_dataset(config.data, config.seed)
    if is_choosing:
        refine_command.choose(names, dataset, config.data.val_split)
    else:
        chosen = _choose_splits(dataset, splits, config)
        refine_command.measure(names, peers, dataset, chosen, out, None if with_clips else ())


@app.command()
def contest(
    table: options.Table,
    models: Annotated[
        str,
        typer.Option(
            "--models",
            help="Configurations of train/configs or widths of them (fast_scnn_w050), with spaces or commas.",
        ),
    ],
    images: Annotated[int, typer.Option(min=1, help="Photos that float training of each sees.")] = 30_000,
    rates: Annotated[
        str | None, typer.Option(help="Learning rates to try first; default: the configuration's.")
    ] = None,
    rate_images: Annotated[int, typer.Option(min=1, help="Photos that each of these trials sees.")] = 3_500,
    base: options.Base = None,
    splits: options.ValSplits = "val",
    out: Annotated[Path, typer.Option(help="The table; .md and plots come beside it.")] = Path(
        "benchmark/results/networks.csv"
    ),
    overwrite: options.Overwrite = False,
) -> None:
    """Trains and exports several networks on the same photos, as many of them, and makes their table; resumable."""
    from benchmark.studies import contest as training
    from benchmark.studies import tuning
    from benchmark.studies.network_table import write_network_table
    from portraitseg.errors import CheckFailed

    location = _location(table)
    entries = training.plan(models.replace(",", " ").split(), images, table.data, table.format, table.set or [])
    untuned: dict[str, str] = {}
    count = len(entries)
    if rates is not None:
        trials = out.with_name(f"{out.stem}-rates.csv")
        entries, untuned = tuning.tune(entries, tuning.parse_rates(rates), rate_images, location, overwrite, trials)
    failures = untuned | training.run_entries(entries, location, overwrite)
    done = [entry for entry in entries if entry.run.name not in failures]
    if done:
        chosen = tuple(dict.fromkeys(part.strip() for part in splits.split(",")))
        named = [entry.run for entry in done]
        write_network_table(named, base, _study(done[0].config, chosen, table, out))
    if failures:
        listed = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise CheckFailed(f"{len(failures)} of {count} networks are not in the table: {listed}")


@app.command()
def readme(
    results: Annotated[
        list[Path] | None, typer.Option(help="A committed table; default: all in benchmark/results.")
    ] = None,
    documents: Annotated[
        list[Path] | None,
        typer.Option("--readme", help="The files with the markers; default: README.md and both results.md of docs."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 where a table differs.")] = False,
) -> None:
    """Puts the tables of committed results between their markers in the documents, or checks that they are there."""
    from benchmark.studies import readme as tables

    # the scores by photo may be committed beside their table: they are no table
    chosen = results or [path for path in sorted(tables.RESULTS.glob("*.csv")) if tables.is_table(path)]
    named = documents or [path for path in tables.DOCUMENTS if path.exists()] or [tables.DOCUMENTS[0]]
    missing = [set(tables.update(document, chosen, is_check=check)) for document in named]
    for path in chosen:
        if not check and all(path.stem in names for names in missing):
            cli.warn(f"{', '.join(map(str, named))}: no place for {path}: put this where you want it")
            content = tables.tables_of(path)[path.stem]
            typer.echo(f"<!-- results:begin {path.stem} -->\n{content}<!-- results:end {path.stem} -->")


@app.command()
def compare(
    base: Annotated[Path, typer.Option(help="The earlier results.csv; its photos.csv beside it makes it exact.")],
    run_name: options.Run = "default",
) -> None:
    """Prints what changed since an earlier table; exit 1 where something got worse beyond noise."""
    from benchmark.tables import compare as comparison
    from portraitseg.errors import CheckFailed, InputError
    from portraitseg.runs import Run

    results = Run(run_name).benchmark / "results.csv"
    if not results.is_file():
        raise InputError(f"{results}: run '{run_name}' has not been measured: make benchmark RUN={run_name}")
    if not base.is_file():
        raise InputError(f"--base {base}: no such file: name the earlier results.csv (make: BASE=…)")
    changes = comparison.compare(results, base)
    comparison.print_changes(changes)
    if worse := [change for change in changes if change.is_regression]:
        listed = "; ".join(f"{change.file} {change.what}: {change.change}" for change in worse)
        raise CheckFailed(f"{len(worse)} regression{'s' * (len(worse) > 1)} beyond noise: {listed}")


@app.command()
def report(
    of: options.OfRun,
    photos: Annotated[int, typer.Option(min=0, max=100, help="Photos of each split, worst first; 0: none.")] = 8,
) -> None:
    """Writes runs/<run>/benchmark/report.html: one page that works offline. It holds photos: keep it to yourself."""
    from benchmark.pages.collect import collect
    from benchmark.pages.page import build
    from portraitseg import files
    from portraitseg.data import open_dataset
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    chosen = Run(of.run)
    dataset, missing = None, "No photos were asked for (--photos 0)."
    if photos:
        try:
            config = _read_config(chosen, of)
            dataset = open_dataset(config.data, config.seed)
        except InputError as error:
            if of.data is not None:
                raise
            # the figures of a released run can be looked at without its photos
            missing = f"The photos of the run are not here: {error}"
            cli.warn(missing)
    path = chosen.benchmark / "report.html"
    files.write_text(path, build(collect(chosen, dataset, photos, missing)))
    cli.say(f"{path}: open it in a browser")


@app.command()
def device(
    run_name: options.Run = "default",
    adb: Annotated[Path, typer.Option(help="Android's adb: a path, or a name on PATH.")] = Path("adb"),
    benchmark_model: Annotated[
        Path, typer.Option(help="TFLite's benchmark_model for the phone, or litert-cli: what that tool has downloaded.")
    ] = Path("benchmark_model"),
    serial: Annotated[str | None, typer.Option(help="Which phone, where there are several.")] = None,
    peers: options.Peers = None,
    reference: options.Reference = None,
    threads: options.Threads = "1,4",
    passes: Annotated[int, typer.Option(min=1, max=100, help="How often each file is measured.")] = 3,
) -> None:
    """Times the .tflite files on a phone's CPU, GPU and NPU; writes runs/<run>/benchmark/device.csv."""
    from benchmark.measuring.model_files import choose_reference, collect_files
    from benchmark.phone import device as phone_benchmark
    from benchmark.phone.adb import connect
    from benchmark.tables import history, report
    from benchmark.tables.results import Results
    from portraitseg.errors import InputError
    from portraitseg.runs import Run

    chosen = Run(run_name)
    counts = _parse_threads(threads)
    model_files, reference_file = choose_reference(collect_files(chosen, peers), reference)
    model_files = [model_file for model_file in model_files if model_file.path.suffix == ".tflite"]
    if not model_files:
        raise InputError(f"run '{run_name}': no .tflite file: export it first (make export-android)")
    phone = connect(adb, serial)
    measured = phone_benchmark.DeviceMeasurement(phone, model_files, reference_file, phone_benchmark.backends(counts))
    # as in `run`: an export would replace the files that are being measured
    with chosen.locked():
        try:
            for step in measured.run(benchmark_model, passes):
                cli.say(step)
        finally:
            # a phone that vanished, or Ctrl-C: what was measured until then is kept
            if rows := measured.rows():
                path = chosen.benchmark / "device.csv"
                results = Results(rows, conditions=[f"phone: {measured.machine}", f"{path}"])
                results.write(path)
                history.append(
                    chosen.benchmark, results, kind="device", phone=measured.machine, profile=f"{passes} passes"
                )
                report.print_results(results)


def _parse_threads(text: str, option: str = "--threads") -> tuple[int, ...]:
    """`1,2` → (1, 2)."""
    from portraitseg.errors import InputError

    counts = [part.strip() for part in text.split(",")]
    if not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise InputError(f"{option} {text}: write counts from 1 up with commas between them, such as 1,2")
    return tuple(dict.fromkeys(int(count) for count in counts))


def _host_threads(text: str) -> tuple[int, ...]:
    """As `_parse_threads`; `all` → the powers of two up to the cores that this process may use, and their number."""
    from portraitseg.workers import cores

    count = cores()
    if text.strip() == "all":
        return tuple(sorted({*(2**power for power in range(count.bit_length())), count}))
    counts = _parse_threads(text)
    if max(counts) > count:
        cli.warn(f"--threads {text}: this process may use {count} cores: latencies on more threads are its scheduler's")
    return counts


def _location(photos: options.Table | options.Settings) -> list[str]:
    """`--data` and `--format` as typed, for a stage that is called."""
    named = (("--data", photos.data), ("--format", photos.format))
    return [part for name, value in named if value is not None for part in (name, str(value))]


def _study(config: "Config", splits: "Sequence[str]", table: options.Table, out: Path) -> "Study":
    from benchmark.measuring.paired import Study

    return Study(config, splits, table.peers, table.reference, _host_threads(table.threads), table.profile, out)


def _read_config(run: "Run", given: options.Photos | options.OfRun) -> "Config":
    """The run's configuration with the data of the command line; the defaults where a released run has no own one."""
    from portraitseg.errors import InputError

    if not run.config.exists() and given.data is None and given.format is None and not given.set:
        raise InputError(
            f"run '{run.name}': no {run.config}, so its data are not known: name a folder with --data (DATA=)"
        )
    config = run.config if run.config.exists() else None
    return options.Settings(config, given.data, given.format, given.set).resolve()


def _choose_splits(dataset: "Dataset", named: str | None, config: "Config") -> tuple[str, ...]:
    """The splits to measure on, each of which exists and has photos."""
    if named is not None:
        splits = tuple(dict.fromkeys(part.strip() for part in named.split(",")))
    else:
        from portraitseg.data.base import is_test_split

        splits = tuple(name for name in dataset.splits if is_test_split(name))
    if not splits:
        splits = (config.data.val_split,)
        cli.warn(f"no split begins with 'test': measuring on '{splits[0]}', on which the weights were chosen")
    for split in splits:
        dataset.keys(split)
    return splits


if __name__ == "__main__":
    cli.run(app)
