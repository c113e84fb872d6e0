"""Interleaving by a clock of our own: nothing here depends on how fast the machine is."""

from itertools import count

from benchmark.measuring.latency import MAX_SLOWDOWN, MIN_ROUNDS, PROFILES, Latency, Profile, interleave, summarize


def fakes(names: str) -> tuple[dict, list[str]]:
    calls: list[str] = []
    return {name: (lambda name=name: calls.append(name)) for name in names}, calls


def test_each_round_runs_each_file_once_in_an_order_that_changes():
    runs, calls = fakes("abcd")
    rounds = list(interleave(runs, Profile(warmup=3, rounds=30, budget_s=1e9)))
    assert len(rounds) == 30 and all(times.keys() == runs.keys() for times in rounds)
    # the three rounds of warm-up ran, and were not counted
    orders = [tuple(calls[start : start + 4]) for start in range(0, len(calls), 4)]
    assert len(orders) == 33 and all(sorted(order) == list("abcd") for order in orders)
    assert len(set(orders)) > 10


def test_order_repeats_with_the_seed():
    first, second, other = (fakes("abcd") for _ in range(3))
    profile = Profile(warmup=0, rounds=10, budget_s=1e9)
    for (runs, _), seed in zip((first, second, other), (1, 1, 2), strict=True):
        list(interleave(runs, profile, seed))
    assert first[1] == second[1] != other[1]


def test_budget_ends_it_but_not_before_the_least_rounds():
    ticks = count()
    rounds = list(
        interleave(fakes("ab")[0], Profile(warmup=0, rounds=1000, budget_s=1.0), clock_s=lambda: float(next(ticks)))
    )
    assert len(rounds) == MIN_ROUNDS
    # each fake run takes one tick, which is a second
    assert rounds[0] == {"a": 1000.0, "b": 1000.0}


def test_summary_is_by_name_whatever_the_order_of_a_round():
    rounds = [{"a": 1.0, "b": 10.0}, {"b": 20.0, "a": 2.0}, {"a": 3.0, "b": 30.0}]
    assert summarize(rounds)["b"] == Latency(p50_ms=20.0, p90_ms=28.0, fastest_ms=10.0, rounds=3)
    assert summarize([]) == {}


def test_noise_makes_a_latency_invalid():
    assert Latency(p50_ms=1.2, p90_ms=9.0, fastest_ms=1.0, rounds=50).fault is None
    assert f"> {MAX_SLOWDOWN}" in str(Latency(p50_ms=1.4, p90_ms=1.4, fastest_ms=1.0, rounds=50).fault)
    assert "rounds" in str(Latency(p50_ms=1.0, p90_ms=1.0, fastest_ms=1.0, rounds=MIN_ROUNDS - 1).fault)


def test_profiles_measure_at_least_the_least_rounds():
    assert all(profile.rounds >= MIN_ROUNDS for profile in PROFILES.values())
