"""Rates that counts prove: golden numbers, brute force, and Monte Carlo over continuous, tied and clustered scores."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import beta, binom, norm

from blemish.metrics.effective import effective_number
from blemish.metrics.rates import miss_rank, spent, threshold_rank, units_needed, upper_bound

Floats = NDArray[np.float64]
DRAWS = 5000
RISK = 0.05
ROUNDING = 1 + 1e-12


@pytest.mark.parametrize(
    ("rate", "units"), [(0.05, 59), (0.02, 149), (0.01, 299), (0.005, 598), (0.001, 2995)]
)
def test_units_without_an_error(rate: float, units: int) -> None:
    assert units_needed(rate, 0.95) == units == math.ceil(math.log(0.05) / math.log(1 - rate))
    assert (threshold_rank(units - 1, rate, 0.95), threshold_rank(units, rate, 0.95)) == (None, units)
    assert (miss_rank(units - 1, rate, 0.95), miss_rank(units, rate, 0.95)) == (None, 1)
    assert threshold_rank(units + 1, rate, 0.95) == units + 1
    assert miss_rank(units + 1, rate, 0.95) == 1


def test_units_with_errors() -> None:
    """Those of the gauge study at 2 %; for 4 errors tables round up to 500."""
    assert [units_needed(0.02, 0.95, errors) for errors in range(5)] == [149, 236, 313, 386, 456]
    for errors, units in enumerate((149, 236, 313, 386, 456)):
        assert upper_bound(errors, units, 0.95) <= 0.02 < upper_bound(errors, units - 1, 0.95)
    assert upper_bound(4, 500, 0.95) < 0.02


@pytest.mark.parametrize(
    ("units", "percent"),
    [(12, 22.1), (30, 9.5), (60, 4.9), (150, 2.0), (300, 0.99), (1000, 0.30), (3000, 0.10)],
)
def test_bounds_without_an_error(units: int, percent: float) -> None:
    assert 100 * upper_bound(0, units, 0.95) == pytest.approx(percent, abs=0.05 if percent > 1 else 0.005)
    assert upper_bound(0, units, 0.95) == pytest.approx(1 - 0.05 ** (1 / units))


def test_nothing_is_proved_by_nothing() -> None:
    assert upper_bound(0, 0, 0.95) == upper_bound(3, 3, 0.95) == upper_bound(4, 3, 0.95) == 1.0


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 400), st.floats(0.002, 0.6), st.floats(0.5, 0.99))
def test_ranks_and_bounds_equal_sums_of_probabilities(units: int, rate: float, confidence: float) -> None:
    ranks = range(1, units + 1)
    above = next((k for k in ranks if binom.sf(k - 1, units, 1 - rate) <= (1 - confidence) * ROUNDING), None)
    below = max(
        (j for j in ranks if binom.cdf(j - 1, units, rate) <= (1 - confidence) * ROUNDING), default=None
    )
    assert threshold_rank(units, rate, confidence) == above
    assert miss_rank(units, rate, confidence) == below
    for errors in {0, units // 3, units - 1}:
        bound = upper_bound(errors, units, confidence)
        assert bound == pytest.approx(beta.ppf(confidence, errors + 1, units - errors))


def test_the_parts_of_a_risk() -> None:
    assert spent(0.05, 1) == 0.05
    assert spent(0.05, 2) == pytest.approx(0.05 * 6 / math.pi**2 / 4)
    assert sum(spent(0.05, use) for use in range(1, 100_000)) < 1.4 * 0.05


def same(values: Floats) -> Floats:
    return values


def rounded(values: Floats) -> Floats:
    """With many ties."""
    return np.floor(4 * values)


Change = Callable[[Floats], Floats]
DISTRIBUTIONS = [
    pytest.param(same, norm.sf, lambda t: norm.cdf(t), id="normal"),
    pytest.param(np.exp, lambda t: norm.sf(np.log(t)), lambda t: norm.cdf(np.log(t)), id="lognormal"),
    pytest.param(rounded, lambda t: norm.sf((t + 1) / 4), lambda t: norm.cdf(t / 4), id="tied"),
]
"""How normal numbers become scores, the true rate above a threshold, and that below it."""
LIMIT = RISK + 3 * math.sqrt(RISK * (1 - RISK) / DRAWS)


@pytest.mark.parametrize(("change", "above", "_below"), DISTRIBUTIONS)
@pytest.mark.parametrize(("units", "rate"), [(299, 0.01), (120, 0.05), (400, 0.02)])
def test_a_threshold_keeps_the_rate_above_it(
    change: Change, above: Change, _below: Change, units: int, rate: float
) -> None:
    rank = threshold_rank(units, rate, 1 - RISK)
    assert rank is not None
    scores = change(np.random.default_rng(units).standard_normal((DRAWS, units)))
    assert (above(np.sort(scores, axis=1)[:, rank - 1]) > rate).mean() <= LIMIT


@pytest.mark.parametrize(("change", "_above", "below"), DISTRIBUTIONS)
@pytest.mark.parametrize(("units", "rate"), [(59, 0.05), (149, 0.02), (200, 0.05)])
def test_a_threshold_keeps_the_rate_below_it(
    change: Change, _above: Change, below: Change, units: int, rate: float
) -> None:
    rank = miss_rank(units, rate, 1 - RISK)
    assert rank is not None
    scores = change(np.random.default_rng(units).standard_normal((DRAWS, units)))
    assert (below(np.sort(scores, axis=1)[:, rank - 1]) > rate).mean() <= LIMIT


@pytest.mark.parametrize(("units", "rate"), [(60, 0.03), (300, 0.01), (30, 0.2)])
def test_the_bound_covers_the_rate(units: int, rate: float) -> None:
    errors = np.random.default_rng(1).binomial(units, rate, DRAWS)
    bounds = np.array([upper_bound(int(count), units, 1 - RISK) for count in range(units + 1)])
    assert (bounds[errors] < rate).mean() <= LIMIT


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("per_group", [4, 10])
def test_clustered_scores_count_as_fewer(share: float, per_group: int) -> None:
    """Scores of one lot share part of their variance: ranks at the number that they are worth keep the rate."""
    random = np.random.default_rng(per_group)
    groups, rate, broken = 60, 0.1, 0
    numbers = np.repeat(np.arange(groups), per_group)
    for _ in range(DRAWS):
        lots = random.standard_normal(groups)[numbers]
        scores = math.sqrt(share) * lots + math.sqrt(1 - share) * random.standard_normal(len(numbers))
        worth = effective_number(scores, numbers)
        rank = miss_rank(worth, rate, 1 - RISK)
        if rank is not None:
            place = max(1, math.floor(rank * len(scores) / worth))
            broken += norm.cdf(np.sort(scores)[place - 1]) > rate
    assert broken / DRAWS <= LIMIT
