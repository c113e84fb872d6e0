"""From what was measured to the rows of the table: which figures count, and why others do not."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.measuring.cold import ColdStart
from benchmark.measuring.flicker import FRAMES
from benchmark.measuring.intervals import bootstrap_interval, paired_difference
from benchmark.measuring.latency import Latency, ratio, summarize
from benchmark.measuring.measure import REFERENCE, Measurement
from benchmark.measuring.model_files import ModelFile
from benchmark.measuring.quality import FileScores, SplitScores
from benchmark.measuring.robustness import CLEAN, CONDITIONS
from benchmark.tables.results import Row


def make_rows(measurement: Measurement) -> list[Row]:
    """The table: file × thread count × split; one row for a file that could not be run.

    A file that can be scored but not timed has one row a split, without a thread count. After an interruption only rows
    with good scores are left.
    """
    rows: list[Row] = []
    latencies = {threads: summarize(measurement.rounds.get(threads, ())) for threads in measurement.plan.threads}
    for model_file in measurement.plan.model_files:
        if model_file.name in measurement.refused:
            rows.append(_row(model_file, valid=False, reason=measurement.refused[model_file.name]))
            continue
        if model_file.name not in measurement.facts:
            # Ctrl-C came before it was opened
            continue
        quality = {split.split: _quality_figures(split.files[model_file.name]) for split in measurement.splits}
        for threads in _thread_counts(measurement, model_file):
            for split in measurement.splits:
                timed = {} if threads is None else latencies[threads]
                rows.append(_measured_row(measurement, model_file, split, quality[split.split], threads, timed))
    return [row for row in rows if row.quality_valid] if measurement.is_interrupted else rows


def robustness_rows(measurement: Measurement) -> list[Row]:
    """File × split × condition, beginning with the clean photos; what was not measured is left out."""
    rows = []
    for model_file in measurement.plan.model_files:
        for split in (split for split in measurement.splits if model_file.name in split.files):
            clean = split.files[model_file.name]
            for condition in (CLEAN, *CONDITIONS):
                scored = split.files if condition == CLEAN else measurement.robustness.get((split.split, condition), {})
                if scores := scored.get(model_file.name):
                    fault = scores.fault or clean.fault
                    change = paired_difference(clean.values("iou"), scores.values("iou"))
                    row = _row(
                        model_file,
                        condition=condition,
                        change=change.mean,
                        change_low=change.low,
                        change_high=change.high,
                        channels=measurement.facts[model_file.name].channels,
                        split=split.split,
                        split_sha256_16=split.sha256_16,
                        photos=len(scores.keys),
                        valid=fault is None,
                        reason=fault or "",
                        **{name: value for name, value in _quality_figures(scores).items() if name != "fault"},
                    )
                    rows.append(row)
    return rows


def flicker_rows(measurement: Measurement) -> list[Row]:
    """File × split; means over clips, `dtssd` with its 95 % interval."""
    rows = []
    for model_file in measurement.plan.model_files:
        for (split, name), values in measurement.flicker.done.items():
            if name == model_file.name:
                low, high = bootstrap_interval(np.array(values["dtssd"]))
                means = {measure: float(np.mean(values[measure])) for measure in ("dtssd", "flipped_share")}
                counts = {"clips": len(values["dtssd"]), "frames": FRAMES}
                rows.append(_row(model_file, split=split, **counts, **means, dtssd_low=low, dtssd_high=high))
    return rows


_CPU_NUMBERS = ("cpu family", "model", "stepping")


def machine() -> str:
    """The processor and its core count, for the reader of a latency.

    Clouds call every processor of a maker by one name, hence the numbers of family, model and stepping.
    """
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        pairs = (line.partition(":") for line in info.read_text(errors="replace").splitlines())
        # the first of each name: of the first core
        cpu = {name.strip(): value.strip() for name, _, value in reversed(list(pairs))}
        model = cpu.get("model name", model)
        if numbers := [f"{name.split()[-1]} {cpu[name]}" for name in _CPU_NUMBERS if name in cpu]:
            model += f" ({', '.join(numbers)})"
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def _thread_counts(measurement: Measurement, model_file: ModelFile) -> tuple[int | None, ...]:
    facts = measurement.facts[model_file.name]
    if facts.latency_reason:
        return (None,)
    # another count would be the same measurement again
    return tuple(measurement.plan.threads[:1] if facts.chooses_threads else measurement.plan.threads)


def _measured_row(
    measurement: Measurement,
    model_file: ModelFile,
    split: SplitScores,
    quality: Mapping[str, Any],
    threads: int | None,
    latencies: Mapping[str, Latency],
) -> Row:
    facts, fault = measurement.facts[model_file.name], quality["fault"]
    latency = latencies.get(model_file.name)
    reference = latencies.get(measurement.plan.reference.name) if measurement.plan.reference else None
    if measurement.is_interrupted:
        # the scores are complete: they stay, without a latency that does not count
        latency = latency if latency and not latency.fault else None
        reference = reference if reference and not reference.fault else None
    is_reference = model_file is measurement.plan.reference
    faults = _latency_faults(facts.latency_reason, latency, None if is_reference else reference)
    reasons = ([fault] if fault else []) + faults
    note = "" if latency else "interrupted before the latency was measured"
    return _row(
        model_file,
        channels=facts.channels,
        runtime=facts.runtime,
        delegate=facts.delegate,
        threads=0 if facts.chooses_threads and threads is not None else threads,
        split=split.split,
        split_sha256_16=split.sha256_16,
        photos=len(split.files[model_file.name].keys),
        valid=not reasons,
        reason="; ".join(reasons) or note,
        quality_valid=fault is None,
        latency_valid=latency is not None and not faults,
        reference=measurement.plan.reference.path.name if measurement.plan.reference and reference else None,
        profile=measurement.plan.profile if latency else None,
        **{name: value for name, value in quality.items() if name != "fault"},
        **_latency_figures(latency, reference),
        **({} if threads is None else _further_figures(measurement, model_file, threads)),
    )


def _latency_faults(not_timed: str | None, latency: Latency | None, reference: Latency | None) -> list[str]:
    if not_timed:
        return [f"latency not_run: {not_timed.removeprefix('latency ').removeprefix('not_run: ')}"]
    faults = [latency.fault] if latency and latency.fault else []
    if latency and reference and reference.fault:
        faults.append(f"reference: {reference.fault}")
    return faults


def _quality_figures(scores: FileScores) -> dict[str, Any]:
    means = {name: scores.mean(name) for name in scores.measures}
    low, high = scores.interval("iou")
    fixed: dict[str, Any] = {name: value for name, value in means.items() if name in Row.__dataclass_fields__}
    further = {name: value for name, value in means.items() if name not in fixed}
    return {
        **fixed,
        "iou_low": low,
        "iou_high": high,
        "iou_p10": scores.percentile("iou", 10.0),
        "both_empty": scores.both_empty,
        "fault": scores.fault,
        "further_scores": further,
    }


def _latency_figures(latency: Latency | None, reference: Latency | None) -> dict[str, Any]:
    if latency is None:
        return {}
    return {
        "p50_ms": latency.p50_ms,
        "p90_ms": latency.p90_ms,
        "p99_ms": latency.p99_ms,
        "fastest_ms": latency.fastest_ms,
        "rounds": latency.rounds,
        "ratio_to_reference": ratio(latency.p50_ms, reference.p50_ms if reference else None),
    }


def _further_figures(measurement: Measurement, model_file: ModelFile, threads: int) -> dict[str, Any]:
    """What is measured apart from the interleaved rounds: first runs, and the file without XNNPACK."""
    return _start_figures(measurement.starts.get((model_file.name, threads), ())) | _plain_figures(
        summarize(measurement.plain_rounds.get(threads, ())), model_file, measurement.plain_refused.get(model_file.name)
    )


def _start_figures(starts: Sequence[ColdStart]) -> dict[str, Any]:
    if not starts:
        return {}
    memory = [start.peak_mb for start in starts if start.peak_mb is not None]
    return {
        "init_ms": float(np.median([start.init_ms for start in starts])),
        "first_ms": float(np.median([start.first_ms for start in starts])),
        "peak_mb": max(memory, default=None),
    }


def _plain_figures(latencies: Mapping[str, Latency], model_file: ModelFile, refused: str | None) -> dict[str, Any]:
    """Without XNNPACK: a figure that is too noisy to count is no figure; the reason stands in its place."""
    latency, reference = latencies.get(model_file.name), latencies.get(REFERENCE)
    if refused or latency is None:
        return {"no_xnnpack_reason": refused}
    if fault := latency.fault or (f"reference: {reference.fault}" if reference and reference.fault else None):
        return {"no_xnnpack_reason": fault}
    against = ratio(latency.p50_ms, reference.p50_ms if reference else None)
    return {"no_xnnpack_p50_ms": latency.p50_ms, "no_xnnpack_ratio_to_reference": against}


def _row(model_file: ModelFile, **values: Any) -> Row:
    given: dict[str, Any] = {"channels": model_file.channels, "gpu": model_file.gpu, "arm": model_file.arm, **values}
    return Row(
        file=model_file.name,
        model=model_file.model,
        recipe=model_file.recipe,
        bytes=model_file.bytes,
        machine=machine(),
        **given,
    )
