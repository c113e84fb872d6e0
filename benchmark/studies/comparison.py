"""Measures the files of several networks in one process, and writes their table and its plots."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmark.measuring.paired import measure_together, open_measured
from benchmark.measuring.targets import choose_reference, collect_peers
from benchmark.studies import networks
from benchmark.tables import views
from benchmark.tables.results import Row, read
from portraitseg import cli, files
from portraitseg.config import Config
from portraitseg.errors import InputError
from portraitseg.plots import Point, scatter
from portraitseg.runs import Run


def compare_networks(
    runs: Sequence[Run],
    base: str | None,
    config: Config,
    splits: Sequence[str],
    peers: Path | None,
    reference: Path | None,
    threads: Sequence[int],
    profile: str,
    out: Path,
) -> None:
    """Measures, prints and plots; writes `out`, the same as .md, and two plots for each split.

    Args:
        runs: exported.
        base: run or network that the others are compared with; None: the first.
        config: with the photos.
        splits: to score on.
        peers, reference, threads, profile: as in `benchmark run`.
        out: the CSV.

    Raises:
        InputError: a run without the compared files, two networks of one name, no such base, split or profile.
        KeyboardInterrupt: Ctrl-C; nothing is written, as half a table ranks nothing.
    """
    dataset = open_measured(config, splits, profile)
    ours = networks.collect_networks(runs, dataset)
    others = networks.peer_networks(collect_peers(peers)) if peers else []
    targets = [target for network in (*ours, *others) for target in network.targets.values()]
    targets, reference_target = choose_reference(targets, reference)
    listed = [*ours, *others]
    known = {target.name for network in listed for target in network.targets.values()}
    listed += networks.peer_networks([target for target in targets if target.name not in known])
    chosen_base = (base or runs[0].name).removeprefix(networks.RUN_PREFIX)
    names = [network.name for network in listed]
    if chosen_base not in names:
        raise InputError(f"--base {base}: no such network (there are: {', '.join(names)})")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"two networks are called '{twice[0]}' (a run's name without '{networks.RUN_PREFIX}', a peer's file): "
            "rename one"
        )
    measurement = measure_together(
        targets, reference_target, dataset, splits, profile, threads, config.data.soft_masks, out
    )
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
