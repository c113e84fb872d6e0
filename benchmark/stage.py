"""One benchmark of a run: measures, then writes and prints all that is made of it."""

import shutil
from collections.abc import Sequence

from benchmark.measuring.measure import Plan, measure, score_shard
from benchmark.measuring.scoring import shard_name
from benchmark.tables import history, report
from benchmark.tables.results import Results
from benchmark.tables.rows import make_rows
from portraitseg.cli import say
from portraitseg.data.base import Dataset, Shard
from portraitseg.runs import Run


def measure_shard(run: Run, plan: Plan, dataset: Dataset, splits: Sequence[str], shard: Shard) -> None:
    """Scores one part of the photos; where that of all others is there too, measures the run with it.

    Raises:
        InputError: as `measure_run`; or another shard was scored on other photos or files.
        KeyboardInterrupt: after Ctrl-C; what was scored is kept.
    """
    with run.locked(is_shared=True):
        missing = score_shard(plan, dataset, splits, shard)
    if missing:
        listed = ", ".join(f"{other} ({photos} photos)" for other, photos in missing.items())
        say(f"shard {shard} is scored; of others this is not there yet: {listed}")
        return
    # where two end at once, the second waits, and finds that the first has put all together
    with run.locked(waits=True):
        if (plan.journal / shard_name(shard)).exists():
            measure_run(run, plan, dataset, splits)
        else:
            say(f"shard {shard} is scored; another machine has written the tables")


def measure_run(run: Run, plan: Plan, dataset: Dataset, splits: Sequence[str]) -> None:
    """Measures a run; writes its tables, its history, and the quality in its manifests.

    Raises:
        InputError: data that cannot be read, a file of ours that does not open, a full disk.
        KeyboardInterrupt: after Ctrl-C; what was measured until then is written, and its journals are kept.
    """
    measurement = measure(plan, dataset, splits)
    if measurement.is_interrupted and not measurement.splits:
        # nothing was measured to its end: an earlier table stays
        raise KeyboardInterrupt
    report.record_quality(measurement)
    results = Results(make_rows(measurement), conditions=report.conditions(measurement))
    report.write_results(run.benchmark, results, measurement)
    report.print_results(results)
    report.write_robustness(run.benchmark, measurement)
    history.append(
        run.benchmark,
        results,
        kind="host",
        profile=plan.profile,
        is_interrupted=measurement.is_interrupted,
    )
    if measurement.is_interrupted:
        raise KeyboardInterrupt
    # the tables hold what the journals did
    shutil.rmtree(plan.journal)
