"""Robust z by hand, probabilities against scipy's Gumbel distribution, q-values against the step-up procedure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blemish.metrics.outliers import q_values, robust_z, tail_probability

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_z_is_the_distance_from_the_median_in_scaled_median_deviations() -> None:
    # median 3, deviations 2 1 0 1 97, their median 1
    assert robust_z([1, 2, 3, 4, 100]) == pytest.approx(np.array([-2, -1, 0, 1, 97]) / 1.4826)


def test_without_median_deviation_the_mean_deviation_is_the_scale() -> None:
    # median 1, deviations 0 0 0 0 4, their median 0, their mean 0.8
    assert robust_z([1, 1, 1, 1, 5]) == pytest.approx([0, 0, 0, 0, 4 / (1.2533 * 0.8)])


def test_equal_scores_are_not_unusual() -> None:
    assert robust_z([2.5, 2.5, 2.5]).tolist() == [0, 0, 0]
    assert robust_z([]).tolist() == []


def test_a_reference_gives_median_and_deviation() -> None:
    assert robust_z([7.0], [1, 2, 3, 4, 5]) == pytest.approx([4 / 1.4826])  # median 3, deviations 2 1 0 1 2
    assert robust_z([7.0], []).tolist() == [0]


def test_z_of_normal_numbers_is_their_own() -> None:
    numbers = np.random.default_rng(0).normal(5, 2, 20_000)
    assert robust_z(numbers) == pytest.approx((numbers - 5) / 2, abs=0.15)


@pytest.mark.parametrize("p", [0.9, 0.5, 0.1, 1e-3, 1e-9])
def test_probabilities_are_those_of_the_gumbel_distribution(p: float) -> None:
    gumbel = stats.gumbel_r
    deviations = np.abs(gumbel.rvs(size=400_000, random_state=0) - gumbel.median())
    z = (gumbel.isf(p) - gumbel.median()) / (1.4826 * np.median(deviations))
    assert tail_probability(z) == pytest.approx(p, rel=0.02 * max(1, -np.log(p)))


def test_half_of_the_images_score_above_the_median() -> None:
    assert tail_probability(0) == pytest.approx(0.5, abs=1e-5)
    assert tail_probability([1e3, -1e3]) == pytest.approx([0, 1])


@given(PROBABILITIES)
def test_q_values_are_those_of_scipy(probabilities: list[float]) -> None:
    assert q_values(probabilities) == pytest.approx(stats.false_discovery_control(probabilities))


@given(PROBABILITIES, st.floats(0.01, 0.99))
def test_the_same_are_rejected_as_by_the_step_up_procedure(probabilities: list[float], rate: float) -> None:
    count = len(probabilities)
    limits = [sorted(probabilities)[k - 1] for k in range(1, count + 1)]
    passed = [limit for k, limit in enumerate(limits, 1) if limit * count / k <= rate]
    largest = max(passed, default=-1.0)
    assert (q_values(probabilities) <= rate).tolist() == [p <= largest for p in probabilities]


@given(PROBABILITIES)
def test_q_values_keep_the_order_and_are_no_smaller_than_the_probabilities(
    probabilities: list[float],
) -> None:
    p, q = np.array(probabilities), q_values(probabilities)
    assert ((q >= p - 1e-12) & (q <= 1)).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(q[order]) >= 0).all()
    assert all(np.ptp(q[p == value]) < 1e-12 for value in set(probabilities))


def test_no_hypothesis_has_no_q_value() -> None:
    assert q_values([]).tolist() == []
