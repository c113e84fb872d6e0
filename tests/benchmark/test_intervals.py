"""The bootstrap against the normal approximation, and what it calls noise."""

import numpy as np
import pytest

from benchmark.measuring.intervals import bootstrap_interval, describe_difference, paired_difference


def test_bootstrap_interval():
    values = np.random.default_rng(0).normal(0.9, 0.05, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert low < values.mean() < high
    # the normal approximation, mean ± 1.96 standard errors; a tenth of the width for the resampling
    width = 2 * 1.96 * values.std() / 20
    assert high - low == pytest.approx(width, rel=0.1)
    assert bootstrap_interval(np.array([0.7])) == (pytest.approx(0.7), pytest.approx(0.7))


def test_bounds_are_where_they_should_be():
    # with 2000 resamples a bound has a standard error of 1.5 % of the interval's width (the binomial error of a 2.5 %
    # quantile over the normal density there): the mean over 30 sets of values is held to 1 %, each bound by itself
    off = []
    for seed in range(30):
        values = np.random.default_rng(seed).normal(0.9, 0.05, 400)
        error = values.std() / 20
        low, high = bootstrap_interval(values)
        width = 2 * 1.96 * error
        off.append([(low - values.mean() + 1.96 * error) / width, (high - values.mean() - 1.96 * error) / width])
    assert np.abs(np.mean(off, axis=0)).max() < 0.01
    assert np.abs(off).max() < 0.06


def test_pairs_find_what_separate_intervals_hide():
    generator = np.random.default_rng(1)
    hardness = generator.normal(0.9, 0.1, 200)
    a, b = hardness, hardness + generator.normal(0.005, 0.01, 200)
    difference = paired_difference(a, b)
    assert difference.low > 0 and not difference.is_noise
    # the separate intervals overlap by most of their width
    assert bootstrap_interval(b)[0] < bootstrap_interval(a)[1]
    # imported here: it takes a second
    from scipy import stats

    # SciPy's own bootstrap of the same mean; a fifth of the width for the resampling of both
    theirs = stats.bootstrap(((b - a),), np.mean, n_resamples=2000, method="percentile", rng=2).confidence_interval
    slack = 0.2 * (theirs.high - theirs.low)
    assert difference.low == pytest.approx(theirs.low, abs=slack) and difference.high == pytest.approx(
        theirs.high, abs=slack
    )


def test_a_difference_inside_the_noise_is_called_that():
    generator = np.random.default_rng(2)
    a = generator.normal(0.9, 0.05, 100)
    b = a + generator.normal(0, 0.02, 100)
    difference = paired_difference(a, b)
    assert difference.is_noise and "inside the noise" in describe_difference(difference)
    assert "noise" not in describe_difference(paired_difference(a, a + 0.01))
    # twice the same scores: nothing differs
    assert paired_difference(a, a) == (0, 0, 0) and paired_difference(a, a).is_noise


def test_intervals_hold_the_truth_as_often_as_they_say():
    # 95 %: of 100 repetitions 88 to 100 hold it, but for one time in two hundred
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(100):
        differences = generator.normal(0.01, 0.05, 60)
        _, low, high = paired_difference(np.zeros(60), differences)
        hits += low <= 0.01 <= high
    assert hits >= 88


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_refuses_what_is_no_pair(a, b):
    with pytest.raises(ValueError, match="scores"):
        paired_difference(a, b)
