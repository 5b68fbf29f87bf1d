"""Calibration on images in groups: what it promises holds for new groups, and it says what it rests on."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from blemish.calibration import Calibration
from blemish.calibration.order_statistics import expected_rate, place, rank, rate_bound
from blemish.metrics.effective import effective_number

DRAWS = 5000
DISTRIBUTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[float], float]]] = {
    "normal": (lambda z: z, stats.norm.sf),
    "lognormal": (np.exp, lambda t: stats.norm.sf(np.log(t))),
    "tied": (lambda z: np.round(2 * z), lambda t: stats.norm.sf((t + 0.5) / 2)),
}
"""Scores from standard normal numbers, and the share of scores above a threshold."""


def draw(rng: np.random.Generator, groups: NDArray[np.int64], correlation: float) -> NDArray[np.float64]:
    shared, own = rng.standard_normal(groups.max() + 1), rng.standard_normal(len(groups))
    return np.asarray(math.sqrt(correlation) * shared[groups] + math.sqrt(1 - correlation) * own)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize(
    ("sizes", "correlation", "rate"),
    [
        ([1] * 60, 0.0, 0.05),
        ([5] * 8, 0.3, 0.05),
        ([10] * 9, 0.9, 0.01),
        ([2, 30, 7, 1, 12, 5, 20, 3, 9, 4], 0.5, 0.1),
    ],
    ids=["single", "loose groups", "near-copies", "unequal groups"],
)
def test_the_promised_rates_hold_for_new_groups(
    distribution: str, sizes: list[int], correlation: float, rate: float
) -> None:
    """By simulation: the expected rate on average, and the bound in 95 % of the calibrations, each within 3 errors."""
    scores_of, share_above = DISTRIBUTIONS[distribution]
    rng, groups = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    excess, violations = np.empty(DRAWS), 0
    for number in range(DRAWS):
        scores = scores_of(draw(rng, groups, correlation))
        effective = effective_number(scores, groups)
        threshold = np.sort(scores)[place(len(scores), effective, rate) - 1]
        below, true = rank(effective, rate), share_above(threshold)
        excess[number] = true - expected_rate(effective, below)
        violations += true > rate_bound(effective, below)
    assert excess.mean() <= 3 * excess.std() / math.sqrt(DRAWS)
    assert violations / DRAWS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / DRAWS)


def calibration_of(groups: list[int], held_out: bool = False) -> Calibration:
    scores = np.arange(1.0, len(groups) + 1)
    return Calibration.from_normal(scores, scores, scores, 0.2, groups=groups, held_out=held_out)


def test_groups_are_sorted_with_their_scores() -> None:
    calibration = Calibration.from_normal([3, 1, 2], [1, 1, 1], [0, 0, 0], groups=[7, 8, 9])
    assert (calibration.normal_scores, calibration.groups) == ((1, 2, 3), (8, 9, 7))


def test_the_threshold_is_at_the_same_share_of_all_scores_as_of_the_independent_ones() -> None:
    calibration = calibration_of([0] * 5 + [1] * 5 + [2] * 5 + [3] * 5)
    assert calibration.effective_images == 4
    assert calibration.image_threshold == 20, "the 4th of 4"
    assert calibration.expected_false_alarm_rate == pytest.approx(1 / 5)
    single = calibration_of(list(range(20)))
    assert (single.effective_images, single.image_threshold) == (20, 17)


def test_it_says_how_images_were_scored_and_what_they_are_worth() -> None:
    text = calibration_of([0] * 5 + [1] * 5 + [2] * 5 + [3] * 5).summary()
    assert text.startswith(
        "Thresholds rest on 20 normal images, each scored as if it had not been learned (in 4 groups, worth 4 "
        "independent images): expect up to 20 % of normal images called NG"
    )
    assert "held-out normal images" in calibration_of([0, 1, 2], held_out=True).summary()


def test_few_groups_are_a_caution() -> None:
    text = calibration_of([0] * 10 + [1] * 10).summary()
    assert "The images are of 2 lots or runs only, so the thresholds may not hold for the next one." in text
    assert "lots or runs only" not in calibration_of([0, 1]).summary()


def test_a_threshold_that_rests_on_one_image_says_so() -> None:
    scores = [*np.linspace(1, 2, 20), 9.0]
    calibration = Calibration.from_normal(scores, scores, scores)
    assert calibration.rests_on_one
    assert (
        "The image threshold rests on one image, which scores 9; the next lower score is 2. Look"
        in calibration.summary()
    )
    assert not calibration.with_false_alarm_rate(0.2).rests_on_one
    assert not calibration.with_thresholds(image=9.5).rests_on_one
    even = np.linspace(1, 2, 20)
    assert not Calibration.from_normal(even, even, even).rests_on_one
    assert not Calibration.from_normal([1.0], [1.0], [1.0]).rests_on_one


def test_new_images_are_groups_of_their_own() -> None:
    more = calibration_of([0] * 5 + [3] * 5).with_more_normal([100.0, 101.0], [100.0, 101.0])
    assert more.groups == (*[0] * 5, *[3] * 5, 4, 5)
    assert not more.held_out
