"""Measures the files of several networks in one process, and writes their table and its plots."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmark.measuring.model_files import choose_reference, collect_peers
from benchmark.measuring.paired import Study
from benchmark.studies import networks
from benchmark.tables import views
from benchmark.tables.results import Row, read
from portraitseg import cli, files
from portraitseg.errors import InputError
from portraitseg.plots import Point, scatter
from portraitseg.runs import Run


def write_network_table(runs: Sequence[Run], base: str | None, study: Study) -> None:
    """Measures, prints and plots; writes `study.out`, the same as .md, and two plots for each split.

    Args:
        runs: exported.
        base: run or network that the others are compared with; None: the first.
        study: how, and where to.

    Raises:
        InputError: a run without the compared files, two networks of one name, no such base, split or profile.
        KeyboardInterrupt: Ctrl-C; nothing is written, as half a table ranks nothing.
    """
    dataset, out = study.open_dataset(), study.out
    ours = networks.collect_networks(runs, dataset)
    others = networks.peer_networks(collect_peers(study.peers)) if study.peers else []
    model_files = [model_file for network in (*ours, *others) for model_file in network.model_files.values()]
    model_files, reference_file = choose_reference(model_files, study.reference)
    listed = [*ours, *others]
    known = {model_file.name for network in listed for model_file in network.model_files.values()}
    listed += networks.peer_networks([model_file for model_file in model_files if model_file.name not in known])
    chosen_base = (base or runs[0].name).removeprefix(networks.RUN_PREFIX)
    names = [network.name for network in listed]
    if chosen_base not in names:
        raise InputError(f"--base {base}: no such network (there are: {', '.join(names)})")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"two networks are called '{twice[0]}' (a run's name without '{networks.RUN_PREFIX}', a peer's file): "
            "rename one"
        )
    measurement = study.measure(model_files, reference_file, dataset)
    networks.make_network_rows(listed, chosen_base, measurement).write(out)
    # as the file has them: what is committed gives the same tables
    rows = read(out).rows
    files.write_text(out.with_suffix(".md"), views.NETWORKS.to_markdown(rows))
    for path, content in plots(rows, out).items():
        files.write_bytes(path, content)
    shutil.rmtree(measurement.plan.journal)
    views.NETWORKS.show(rows)
    cli.say(f"{out}, {out.with_suffix('.md').name} and plots written")


def plots(rows: Sequence[Row], out: Path) -> dict[Path, bytes]:
    """Accuracy against latency and against size, for each split: path → PNG."""
    content = {}
    for split in dict.fromkeys(row.split for row in rows if row.split):
        good = [row for row in rows if row.split == split and row.iou is not None]
        for threads in sorted({row.threads for row in good if row.threads is not None}):
            timed = [row for row in good if row.threads == threads and row.latency_valid and row.ratio_to_reference]
            if timed:
                name = f"p50 latency / that of {timed[0].reference}, {threads} thread{'s' * (threads > 1)}"
                points = [_point(row, row.ratio_to_reference) for row in timed]
                path = out.with_name(f"{out.stem}-{split}-latency{f'-{threads}' * (threads > 1)}.png")
                content[path] = scatter(points, f"{split}: IoU against latency", name, "IoU %").to_png()
        sized = {(row.network or "", row.recipe): row for row in good}.values()
        points = [_point(row, row.bytes / 1e6) for row in sized if row.bytes is not None]
        if points:
            path = out.with_name(f"{out.stem}-{split}-size.png")
            content[path] = scatter(points, f"{split}: IoU against size", "MB", "IoU %").to_png()
    return content


def _point(row: Row, cost: float | None) -> Point:
    assert cost is not None
    assert row.iou is not None
    return Point(cost, 100 * row.iou, row.network or "", row.recipe)
