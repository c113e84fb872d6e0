"""Latency on a phone: TFLite's own benchmark_model on its CPU, GPU and NPU, into the columns of our table."""

import random
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.measuring.latency import ratio, too_noisy
from benchmark.measuring.model_files import ModelFile
from benchmark.phone.adb import Phone
from benchmark.tables.results import Row
from portraitseg.errors import InputError

#: Every backend and file is measured so often, in a new order each time: a phone grows hot and slows down.
PASSES = 3

#: In place of a path: the benchmark_model that LiteRT's own command-line tool has downloaded.
LITERT_CLI = Path("litert-cli")

#: Runs of a pass that count, and those before them that do not.
RUNS, WARMUP = 50, 5


@dataclass(frozen=True)
class Backend:
    """Where on the phone a file runs.

    Attributes:
        name: for the column `delegate`.
        flags: of benchmark_model.
        log_name: what benchmark_model calls the delegate; None for the CPU, which needs none.
        threads: of the CPU; None where they do not matter.
    """

    name: str
    flags: str
    log_name: str | None = None
    threads: int | None = None


def backends(threads: Sequence[int]) -> list[Backend]:
    """The CPU with each thread count, the GPU, and the NPU by way of NNAPI."""
    cpu = [Backend("xnnpack", f"--use_xnnpack=true --num_threads={count}", threads=count) for count in threads]
    return [*cpu, Backend("gpu", "--use_gpu=true", "GPU"), Backend("npu", "--use_nnapi=true", "NNAPI")]


@dataclass(frozen=True)
class Timing:
    """What one call of benchmark_model said; times in milliseconds.

    Attributes:
        median_ms, fastest_ms, count: over the counted runs; the median is None from versions that print none.
        mean_ms: over the same runs.
        first_ms, init_ms: of the first run, and of loading the file.
        peak_mb: greatest memory, where it was printed.
        delegated: `all`, `part` or `none` of the network by the delegate that was asked for.
    """

    median_ms: float | None
    fastest_ms: float
    mean_ms: float
    count: int
    first_ms: float
    init_ms: float
    peak_mb: float | None
    delegated: str


_NUMBER = r"([0-9.]+(?:e[+-]?\d+)?)"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, Warmup \(avg\): {_NUMBER},"
    rf" Inference \(avg\): {_NUMBER}"
)
_COUNTS = re.compile(r"^.*\bcount=(\d+)\b(.*)$", re.MULTILINE)
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")


def parse(text: str, backend: Backend) -> Timing | None:
    """Reads what benchmark_model prints; None where it came to no result."""
    timings, counts, peak = _TIMINGS.search(text), _COUNTS.findall(text), _PEAK.search(text)
    if timings is None or not counts:
        return None
    # the warm-up has a line of its own before
    count, rest = counts[-1]
    values = {name: float(value) / 1000 for name, value in re.findall(rf"(\w+)={_NUMBER}", rest)}
    init_us, first_us, _, mean_us = (float(value) for value in timings.groups())
    return Timing(
        median_ms=values.get("median"),
        # a single run prints only itself
        fastest_ms=values.get("min", mean_us / 1000),
        mean_ms=mean_us / 1000,
        count=int(count),
        first_ms=first_us / 1000,
        init_ms=init_us / 1000,
        peak_mb=float(peak[1]) if peak else None,
        delegated=_delegated(text, backend),
    )


def _delegated(text: str, backend: Backend) -> str:
    """How much the delegate really took: it may be created, fall back on the CPU, and look fast all the same."""
    if backend.log_name is None:
        return "all"
    applied = f"Explicitly applied {backend.log_name} delegate, and the model graph will be"
    if f"{applied} completely executed" in text:
        return "all"
    return "part" if f"{applied} partially executed" in text else "none"


@dataclass
class DeviceMeasurement:
    """What was measured on a phone so far.

    Attributes:
        phone, model_files, reference, backends: what, and where.
        machine: the phone in words.
        timings: (file name, backend) → one timing a pass.
        failures: (file name, backend) → why there is none.
    """

    phone: Phone
    model_files: Sequence[ModelFile]
    reference: ModelFile | None
    backends: Sequence[Backend]
    machine: str = ""
    timings: dict[tuple[str, Backend], list[Timing]] = field(default_factory=dict)
    failures: dict[tuple[str, Backend], str] = field(default_factory=dict)

    def run(self, benchmark_model: Path, passes: int = PASSES, seed: int = 7) -> Iterator[str]:
        """Pushes everything, measures it and clears up; what was measured stays when the phone vanishes.

        Args:
            benchmark_model: as in `find_benchmark_model`.
            passes: how often each file is measured on each backend.
            seed: of their order.

        Yields:
            What is being measured.

        Raises:
            InputError: no such program, one that does not run on the phone, or no room there.
            Vanished: the phone is gone.
        """
        program_here = find_benchmark_model(benchmark_model, self.phone)
        folder = f"/data/local/tmp/portraitseg-{secrets.token_hex(4)}"
        self.machine = describe(self.phone)
        self._check(self.phone.shell(f"mkdir -p {folder}"), "no folder could be made on the phone")
        try:
            program = f"{folder}/benchmark_model"
            self.phone.push(program_here, program)
            self._check(self.phone.shell(f"chmod 755 {program}"), "benchmark_model could not be made runnable")
            # names of ours: whatever the user's files are called, a shell reads these
            paths = {model_file.name: f"{folder}/{index}.tflite" for index, model_file in enumerate(self.model_files)}
            for model_file in self.model_files:
                self.phone.push(model_file.path, paths[model_file.name])
            yield from self._passes(program, paths, passes, random.Random(seed))
        finally:
            self._clear(folder)

    def rows(self) -> list[Row]:
        """One row for each file and backend; scores are none of the phone's business and stay empty."""
        rows = []
        for model_file in self.model_files:
            for backend in self.backends:
                key = (model_file.name, backend)
                if key in self.timings:
                    rows.append(self._row(model_file, backend, **self._figures(model_file, backend)))
                elif key in self.failures:
                    reason = f"not_run: {self.failures[key]}"
                    rows.append(self._row(model_file, backend, valid=False, reason=reason))
        return rows

    def _figures(self, model_file: ModelFile, backend: Backend) -> dict[str, Any]:
        timings = self.timings[model_file.name, backend]
        reference = self.timings.get((self.reference.name, backend), []) if self.reference else []
        p50_ms, reference_ms = _median(timings), _median(reference)
        faults = [fault] if (fault := _fault(timings)) else []
        if reference and model_file is not self.reference and (fault := _fault(reference)):
            faults.append(f"reference: {fault}")
        note = ["part of it runs on the CPU"] if any(timing.delegated == "part" for timing in timings) else []
        return {
            "p50_ms": p50_ms,
            "fastest_ms": min(timing.fastest_ms for timing in timings),
            "ratio_to_reference": ratio(p50_ms, reference_ms),
            "reference": self.reference.path.name if self.reference and reference_ms else None,
            "rounds": sum(timing.count for timing in timings),
            "valid": not faults,
            "latency_valid": not faults,
            "reason": "; ".join([*faults, *note]),
            "first_ms": float(np.median([timing.first_ms for timing in timings])),
            "init_ms": float(np.median([timing.init_ms for timing in timings])),
            "peak_mb": max((timing.peak_mb for timing in timings if timing.peak_mb is not None), default=None),
        }

    def _passes(self, program: str, paths: dict[str, str], passes: int, order: random.Random) -> Iterator[str]:
        jobs = [(model_file, backend) for model_file in self.model_files for backend in self.backends]
        for _ in range(passes):
            order.shuffle(jobs)
            for model_file, backend in jobs:
                key = (model_file.name, backend)
                if key in self.failures:
                    continue
                yield f"{model_file.path.name} on {backend.name}"
                flags = f"--graph={paths[model_file.name]} {backend.flags} --num_runs={RUNS} --warmup_runs={WARMUP}"
                # min_secs would add runs to fast files: all get as many
                code, text = self.phone.shell(f"{program} {flags} --min_secs=0 --report_peak_memory_footprint=true")
                timing = parse(text, backend)
                if timing is None or code:
                    self.failures[key] = _why(text, code)
                    self.timings.pop(key, None)
                elif timing.delegated == "none":
                    self.failures[key] = f"the {backend.name} takes no part of it: it would run on the CPU"
                else:
                    self.timings.setdefault(key, []).append(timing)

    def _row(self, model_file: ModelFile, backend: Backend, **values: Any) -> Row:
        return Row(
            file=model_file.name,
            model=model_file.model,
            recipe=model_file.recipe,
            channels=model_file.channels,
            bytes=model_file.bytes,
            runtime="benchmark_model",
            delegate=backend.name,
            threads=backend.threads,
            machine=self.machine,
            **values,
        )

    @staticmethod
    def _check(answer: tuple[int, str], what: str) -> None:
        code, text = answer
        if code:
            raise InputError(f"{what}: {text.strip()[-200:]}")

    def _clear(self, folder: str) -> None:
        try:
            self.phone.shell(f"rm -rf {folder}", timeout_s=30.0)
        except InputError:
            # it is gone, and so is our way to its disk; /data/local/tmp is cleared by hand
            return


def find_benchmark_model(given: Path, phone: Phone) -> Path:
    """The program to push: the path itself, or for `litert-cli` what that tool has downloaded for this phone's ABI.

    litert-cli (0.2.1) keeps it in ~/.cache/litert-cli/binaries/<abi>/; nothing is downloaded here.

    Raises:
        InputError: no such file.
    """
    if given != LITERT_CLI:
        if not given.is_file():
            raise InputError(
                f"--benchmark-model {given}: no such file: download or build TFLite's for Android, or write litert-cli"
            )
        return given
    abi = phone.property("ro.product.cpu.abi")
    path = Path.home() / ".cache" / "litert-cli" / "binaries" / abi / "benchmark_model"
    if not path.is_file():
        raise InputError(
            f"--benchmark-model litert-cli: no {path}: run `pip install litert-cli` in an environment of its own and "
            "`litert benchmark <a .tflite> --android` once with this phone, which downloads it"
        )
    return path


def describe(phone: Phone) -> str:
    """The phone in words: maker, model, chip, Android, instruction set."""
    names = ("ro.product.manufacturer", "ro.product.model", "ro.soc.model", "ro.build.version.release")
    maker, model, chip, android = (phone.property(name) for name in names)
    isa = phone.property("ro.product.cpu.abi")
    parts = [f"{maker} {model}".strip(), chip, f"Android {android}" if android else "", isa]
    return files_safe(", ".join(part for part in parts if part)) or phone.serial


def files_safe(text: str) -> str:
    """What a phone says of itself, as one line."""
    return " ".join(text.split())[:200]


def _median(timings: Sequence[Timing]) -> float | None:
    """Median of the passes' medians; None without passes, or where one has none."""
    medians = [timing.median_ms for timing in timings if timing.median_ms is not None]
    return float(np.median(medians)) if medians and len(medians) == len(timings) else None


def _fault(timings: Sequence[Timing]) -> str | None:
    """Why the timings do not count, or None."""
    p50_ms, fastest_ms = _median(timings), min(timing.fastest_ms for timing in timings)
    if p50_ms is None:
        mean_ms = float(np.mean([timing.mean_ms for timing in timings]))
        return f"this benchmark_model prints no median (mean {mean_ms:.2f} ms): take a newer one"
    return too_noisy(p50_ms, fastest_ms)


def _why(text: str, code: int) -> str:
    """The line of a failure that says most."""
    lines = [files_safe(line) for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fail|not found|denied|unsupported|abort", line, re.I)]
    return (telling or lines or ["benchmark_model said nothing"])[-1] + (f" (exit code {code})" if code else "")
