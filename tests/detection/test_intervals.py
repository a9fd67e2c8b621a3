"""Intervals against simulations, analysis of variance and scipy's bootstrap; Holm against its definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from detection.statistics.bootstrap import draw_units
from detection.statistics.intervals import Estimate, Part, estimate, holm


def part(values: np.ndarray, rng: np.random.Generator, draws: int = 400) -> Part:
    """The mean over wells of (S, W) values."""
    units = values.shape[1]
    counts = draw_units(units, draws, rng)
    return Part(values.mean(axis=1), counts @ values.T / (units - 1), units)


def effects(rng: np.random.Generator, seeds: int, wells: int, spread: tuple[float, float, float]) -> np.ndarray:
    """(S, W) of a true effect of 0: spread between seeds, between wells, and of what is left."""
    a, b, e = spread
    return a * rng.normal(size=(seeds, 1)) + b * rng.normal(size=(1, wells)) + e * rng.normal(size=(seeds, wells))


def percentiles(values: np.ndarray, rng: np.random.Generator, less: int, draws: int = 600) -> tuple[float, float]:
    """The plain bootstrap: seeds and wells drawn with replacement, n - `less` of n."""
    shares = [rng.multinomial(n - less, np.full(n, 1 / n), size=draws) / (n - less) for n in values.shape]
    return tuple(np.quantile(np.einsum("bs,sw,bw->b", shares[0], values, shares[1]), [0.025, 0.975]))


# Which of the three spreads is largest decides what is hard.
@pytest.mark.parametrize("spread", [(1, 0.3, 0.3), (0.1, 1, 0.3), (0.3, 1, 1), (1, 1.7, 1), (0, 0, 1)])
def test_coverage_is_nominal_with_three_seeds_and_twelve_wells(spread):
    rng = np.random.default_rng(0)
    held, times = 0, 1000
    for _ in range(times):
        found = estimate([part(effects(rng, 3, 12, spread), rng)], (0, 1, 2), 0.95)
        held += found.low <= 0 <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert 0.91 <= held / times <= 0.985


def test_coverage_of_a_mean_gain_over_types_with_few_wells():
    """Seven types, of which seeds move all together; some have two wells only."""
    rng = np.random.default_rng(1)
    held, times = 0, 600
    for _ in range(times):
        common = rng.normal(size=(3, 1))
        parts = [part(common + effects(rng, 3, wells, (0.5, 2, 1)), rng) for wells in (2, 2, 3, 3, 4, 6, 12)]
        found = estimate(parts, (0, 1, 2), 0.95)
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / times <= 0.985


def test_percentiles_of_three_seeds_hold_the_truth_too_rarely():
    """Why `estimate` is not a bootstrap of seeds."""
    held = {0: 0, 1: 0}
    rng, times = np.random.default_rng(2), 400
    for _ in range(times):
        values = effects(rng, 3, 12, (1, 0.3, 0.3))
        for less in held:
            low, high = percentiles(values, rng, less)
            held[less] += low <= 0 <= high
    assert held[0] / times < 0.80
    assert held[0] < held[1]
    assert held[1] / times < 0.85


def test_one_seed_is_the_interval_of_a_mean_of_wells():
    rng = np.random.default_rng(3)
    values = rng.normal(0.3, 1, size=(1, 12))
    found = estimate([part(values, rng, 100_000)], (7,), 0.95)
    classic = stats.ttest_1samp(values[0], 0)
    interval = classic.confidence_interval(0.95)
    assert found.value == pytest.approx(values.mean())
    assert found.df == pytest.approx(11)
    assert (found.low, found.high) == (pytest.approx(interval.low, abs=0.01), pytest.approx(interval.high, abs=0.01))
    assert found.p == pytest.approx(classic.pvalue, rel=0.03)
    # Of the order of scipy's bootstrap, which is narrower with few wells.
    plain = stats.bootstrap((values[0],), np.mean, rng=4, n_resamples=5000).confidence_interval
    assert 1 < (found.high - found.low) / (plain.high - plain.low) < 1.3


def test_one_image_is_the_interval_of_a_mean_of_seeds():
    points = np.array([0.01, 0.04, 0.03])
    found = estimate([Part(points, None, 1)], (0, 1, 2), 0.9)
    classic = stats.ttest_1samp(points, 0)
    interval = classic.confidence_interval(0.9)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p == pytest.approx(classic.pvalue)
    assert found.df == pytest.approx(2)


def test_seeds_and_wells_together_are_the_analysis_of_variance():
    """(MS_seeds + MS_wells - MS_rest) / SW, the unbiased variance of the mean of a two-way table."""
    rng = np.random.default_rng(5)
    values = effects(rng, 4, 6, (1, 1.5, 1))
    found = estimate([part(values, rng, 200_000)], (0, 1, 2, 3), 0.95)
    rest = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    ms_seeds, ms_wells, ms_rest = 6 * values.mean(1).var(ddof=1), 4 * values.mean(0).var(ddof=1), (rest**2).sum() / 15
    variance = (ms_seeds + ms_wells - ms_rest) / 24
    df = (ms_seeds + ms_wells) ** 2 / (ms_seeds**2 / 3 + ms_wells**2 / 5)
    assert found.df == pytest.approx(df, rel=0.02)
    half = stats.t.ppf(0.975, df) * np.sqrt(variance)
    assert found.high - found.value == pytest.approx(half, rel=0.01)
    assert found.value - found.low == pytest.approx(half, rel=0.01)


def test_types_have_wells_of_their_own_and_share_the_seeds():
    rng = np.random.default_rng(6)
    tables = [effects(rng, 3, wells, (0, 1, 0)) for wells in (4, 9)]
    shift = np.array([[-1.0], [0.0], [1.0]])
    apart = estimate([part(t, rng, 100_000) for t in tables], (0, 1, 2), 0.95)
    own = [t.mean(0).var(ddof=1) / t.shape[1] for t in tables]
    expected = sum(own) / 4
    assert _variance(apart) == pytest.approx(expected, rel=0.02)
    df = sum(own) ** 2 / (own[0] ** 2 / 3 + own[1] ** 2 / 8)
    assert apart.df == pytest.approx(df, rel=0.03)
    # A seed that is good on both types is no average of two independent ones.
    together = estimate([part(t + shift, rng, 100_000) for t in tables], (0, 1, 2), 0.95)
    assert _variance(together) == pytest.approx(expected + 1 / 3, rel=0.02)


def _variance(found: Estimate) -> float:
    return ((found.high - found.value) / stats.t.ppf(0.975, found.df)) ** 2


def test_rest_is_never_taken_away_beyond_what_seeds_or_wells_show_alone():
    """A table whose rows and columns all have one mean, but for a little: the plain difference would be negative."""
    values = np.array([[1.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]]) + 0.01 * np.arange(3)[:, None]
    found = estimate([part(values, np.random.default_rng(7), 50_000)], (0, 1, 2), 0.95)
    assert _variance(found) == pytest.approx(values.mean(1).var(ddof=1) / 3, rel=0.02)


def test_no_interval_where_nothing_can_be_known():
    rng = np.random.default_rng(8)
    one = Part(np.array([0.1]), None, 1)
    assert estimate([one], (0,), 0.95) == Estimate(0.1, None, None, None, None, (0,))
    # One type of two has an image only: leaving its spread out would be too narrow.
    mixed = estimate([one, part(np.array([[0.2, 0.3, 0.4]]), rng)], (0,), 0.95)
    assert (mixed.value, mixed.low, mixed.p) == (pytest.approx(0.2), None, None)
    # The same policy twice, and two wells that agree by chance.
    for values in (np.zeros((3, 4)), np.full((1, 2), 0.1)):
        same = estimate([part(values, rng)], tuple(range(len(values))), 0.95)
        assert (same.value, same.low, same.p) == (pytest.approx(values.mean()), None, None)


def test_holm_by_hand():
    # Sorted .01, .02, .03, .04: times 4, 3, 2, 1, and never less than one before.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02, None, 0.04]) == [pytest.approx(0.04), None, pytest.approx(0.04)]
    assert holm([]) == []


def test_holm_rejects_what_the_closed_procedure_rejects():
    """A hypothesis is rejected where Bonferroni rejects every intersection that it is part of."""
    rng = np.random.default_rng(9)
    for _ in range(50):
        values = list(rng.beta(0.3, 3, size=5))
        adjusted = holm(values)
        for i in range(5):
            sets = [s for n in range(1, 6) for s in itertools.combinations(range(5), n) if i in s]
            closed = max(min(1.0, len(s) * min(values[k] for k in s)) for s in sets)
            assert adjusted[i] == pytest.approx(closed)


def test_clear_is_after_the_correction():
    found = Estimate(0.1, 0.05, 0.15, 0.01, 3.0, (0, 1, 2), adjusted=0.06)
    assert not found.clear(0.95)
    assert found.clear(0.9)
    assert not found._replace(adjusted=None).clear(0.95)
