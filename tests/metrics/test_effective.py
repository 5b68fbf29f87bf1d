"""The number of independent images that grouped scores are worth, against simulation and an analysis of variance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from blemish.metrics.effective import effective_number, independent, intraclass_correlation, normal_scores


def clustered(rng: np.random.Generator, sizes: list[int], rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores with intraclass correlation rho, and their groups."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    shared, own = rng.standard_normal(len(sizes)), rng.standard_normal(len(groups))
    return np.sqrt(rho) * shared[groups] + np.sqrt(1 - rho) * own, groups


def test_without_groups_every_image_counts() -> None:
    assert effective_number([3.0, 1.0, 2.0], [5, 7, 6]) == 3
    assert intraclass_correlation([3.0, 1.0, 2.0], [5, 7, 6]) == 0


def test_images_of_one_group_or_equal_within_groups_count_as_their_groups() -> None:
    assert effective_number([3.0, 1.0, 2.0], [4, 4, 4]) == 1
    assert effective_number([1.0, 1.0, 2.0, 2.0, 3.0, 3.0], [0, 0, 1, 1, 2, 2]) == 3
    assert effective_number([1.0, 1.0, 1.0, 1.0], [0, 0, 1, 1]) == 2, "equal scores say nothing"


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_the_correlation_is_that_of_the_simulation(rho: float) -> None:
    rng = np.random.default_rng(0)
    found = [intraclass_correlation(*clustered(rng, [6] * 200, rho)) for _ in range(20)]
    assert np.mean(found) == pytest.approx(rho, abs=0.03)


def test_the_correlation_is_that_of_the_mean_squares_of_a_one_way_analysis_of_variance() -> None:
    values, groups = clustered(np.random.default_rng(1), [3, 5, 2, 7, 4], 0.5)
    normal = normal_scores(values)
    parts = [normal[groups == group] for group in range(5)]
    ratio = stats.f_oneway(*parts).statistic  # between over within
    sizes = np.array([3, 5, 2, 7, 4])
    size = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / 4
    assert intraclass_correlation(values, groups) == pytest.approx((ratio - 1) / (ratio + size - 1))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=1, max_size=30))
def test_it_lies_between_one_and_all_and_does_not_depend_on_the_scale(rows: list[tuple[float, int]]) -> None:
    scores, groups = (list(column) for column in zip(*rows, strict=True))
    number = effective_number(scores, groups)
    assert 1 <= number <= len(rows)
    ranks = stats.rankdata(scores)
    assert effective_number(np.exp(ranks), groups) == number


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_normal_scores_are_quantiles_of_mean_ranks(values: list[float]) -> None:
    expected = stats.norm.ppf((stats.rankdata([*values, *values]) - 0.5) / (2 * len(values)))
    np.testing.assert_allclose(normal_scores(np.array([*values, *values])), expected, atol=1e-12)


def test_a_sequence_is_worth_less_if_neighbours_are_alike() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([independent(rng.standard_normal(100)) for _ in range(50)]) > 70
    runs = np.repeat(rng.standard_normal(10), 10)
    assert 3 < independent(runs) < 20
    assert independent(np.ones(5)) == 5
