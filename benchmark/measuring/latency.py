"""How long files take, measured interleaved in one process, so that whatever slows the machine slows all of them."""

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: A p90 of fewer runs rests on a single value.
MIN_ROUNDS = 20

#: A p99 of fewer runs does too.
MIN_ROUNDS_P99 = 100

#: Greatest p50/fastest of a row that counts: the ratio of two such medians is off by no more than this factor.
#: Measured with MediaPipe's two models on two cores under a load of 10, 14 times 100 rounds. On one thread p50/fastest
#: stayed below 1.25 and the ratio of medians between 0.54 and 0.57, though p90/p50 went up to 2.7. On two threads, for
#: which no second core was free, p50/fastest was 1.6 and more, the ratio went from 0.59 to 1.05, and p90/p50 was mostly
#: below 1.3. So the distance to the fastest run tells what a median is worth; the distance to the p90 does not.
MAX_SLOWDOWN = 1.3

#: How the reason begins that such a latency is given.
TOO_NOISY = "latency too noisy"


@dataclass(frozen=True)
class Profile:
    """How much time to spend on one thread count.

    Attributes:
        warmup: rounds that are not counted: first touches of memory, packed weights, the clock of the cores.
        rounds: counted rounds.
        budget_s: after it no round is begun, unless fewer than MIN_ROUNDS were made.
        starts: how often each file is opened in a process of its own; 0: not, and then no first run is known.
    """

    warmup: int
    rounds: int
    budget_s: float
    starts: int = 0


#: quick: one thread, about a minute for a usual run; full: every thread count of the machine, ten times the rounds.
#: A published table names its profile.
PROFILES = {
    "quick": Profile(warmup=5, rounds=100, budget_s=20.0, starts=1),
    "full": Profile(warmup=20, rounds=1000, budget_s=300.0, starts=5),
}

#: The same files without XNNPACK, which makes float files several times slower: fewer rounds, of the same order.
WITHOUT_XNNPACK = {
    "quick": Profile(warmup=2, rounds=50, budget_s=8.0),
    "full": Profile(warmup=5, rounds=200, budget_s=120.0),
}


@dataclass(frozen=True)
class Latency:
    """Of one file on one thread count, in milliseconds for one run without pre- and postprocessing."""

    p50_ms: float
    p90_ms: float
    fastest_ms: float
    rounds: int
    p99_ms: float | None = None

    @property
    def fault(self) -> str | None:
        """Why the figures are too noisy to count, or None."""
        if self.rounds < MIN_ROUNDS:
            return f"latency of {self.rounds} rounds only, at least {MIN_ROUNDS} needed"
        return too_noisy(self.p50_ms, self.fastest_ms)


def too_noisy(p50_ms: float, fastest_ms: float) -> str | None:
    """Why a median does not count: something else ran meanwhile; None where it does."""
    slowdown = ratio(p50_ms, fastest_ms) or float("inf")
    return f"{TOO_NOISY}: p50/fastest {slowdown:.2f} > {MAX_SLOWDOWN}" if slowdown > MAX_SLOWDOWN else None


def ratio(p50_ms: float | None, other_ms: float | None) -> float | None:
    """How many times as long as another file's median; None where one of them is missing, or nothing."""
    return p50_ms / other_ms if p50_ms and other_ms else None


def interleave(
    runs: Mapping[str, Callable[[], object]],
    profile: Profile,
    seed: int = 7,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Iterator[dict[str, float]]:
    """Runs every file once a round, in an order shuffled anew each round.

    A fixed order would let each file always inherit the same neighbour's cache and heat.

    Args:
        runs: name → a call that runs the file once and returns when the result is there.
        profile: how often.
        seed: of the order.
        clock_s: monotonic seconds.

    Yields:
        Name → milliseconds, one dict for each counted round.
    """
    order = list(runs)
    shuffle = random.Random(seed).shuffle
    for _ in range(profile.warmup):
        shuffle(order)
        for name in order:
            runs[name]()
    begin_s = clock_s()
    for done in range(profile.rounds):
        if done >= MIN_ROUNDS and clock_s() - begin_s > profile.budget_s:
            return
        shuffle(order)
        yield _one_round(runs, order, clock_s)


def _one_round(
    runs: Mapping[str, Callable[[], object]], order: Sequence[str], clock_s: Callable[[], float]
) -> dict[str, float]:
    times_ms = {}
    # the collector would stop one file for the garbage of all
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for name in order:
            start_s = clock_s()
            runs[name]()
            times_ms[name] = (clock_s() - start_s) * 1000
    finally:
        if was_enabled:
            gc.enable()
    return times_ms


def summarize(rounds: Sequence[Mapping[str, float]]) -> dict[str, Latency]:
    """Name → median, 90th and 99th percentile and fastest run over complete rounds; empty without rounds.

    The 99th is left out where it would rest on a single value.
    """
    if not rounds:
        return {}
    latencies = {}
    for name in rounds[0]:
        times_ms = [times[name] for times in rounds]
        p50_ms, p90_ms, p99_ms = (float(value) for value in np.percentile(times_ms, [50, 90, 99]))
        tail_ms = p99_ms if len(rounds) >= MIN_ROUNDS_P99 else None
        latencies[name] = Latency(p50_ms, p90_ms, min(times_ms), len(rounds), tail_ms)
    return latencies
