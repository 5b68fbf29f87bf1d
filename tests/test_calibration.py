import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from blemish.calibration import Calibration
from blemish.errors import DataError


def calibration_of(images: int, rate: float = 0.01) -> Calibration:
    """Scores 1, 2, …; peaks ten times, map medians a tenth of them."""
    scores = np.arange(1.0, images + 1)
    return Calibration.from_normal(scores[::-1], 10 * scores, scores / 10, rate)


@pytest.mark.parametrize(
    ("images", "rate", "rank"),
    [
        (1, 0.01, 1),
        (2, 0.01, 2),
        (98, 0.01, 98),
        (99, 0.01, 99),
        (100, 0.01, 100),
        (199, 0.01, 198),
        (19, 0.05, 19),
        (39, 0.05, 38),
        (9, 0.1, 9),
        (9, 0.5, 5),
        (10, 0.99, 1),
        (999, 0.001, 999),
        (5, 0.9999999999, 1),
    ],
)
def test_the_threshold_is_the_order_statistic(images: int, rate: float, rank: int) -> None:
    """rank = ceil((n + 1)(1 − rate)) in exact arithmetic, at most n."""
    calibration = calibration_of(images, rate)
    assert calibration.image_threshold == rank
    assert calibration.pixel_threshold == 10 * rank
    assert calibration.expected_false_alarm_rate == pytest.approx((images + 1 - rank) / (images + 1))
    assert calibration.false_alarm_bound == pytest.approx(stats.beta(images + 1 - rank, rank).ppf(0.95))
    assert calibration.map_typical == pytest.approx((images + 1) / 20)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 2000), st.floats(0.0005, 0.9))
def test_expected_rate_keeps_the_promise_when_there_are_enough(images: int, rate: float) -> None:
    calibration = calibration_of(images, rate)
    assert calibration.is_enough == (calibration.expected_false_alarm_rate <= rate * (1 + 1e-6))
    assert calibration.expected_false_alarm_rate < calibration.false_alarm_bound < 1


@pytest.mark.parametrize(("images", "rate"), [(5, 0.01), (40, 0.05), (150, 0.01)])
def test_the_finite_sample_law_holds_in_simulation(images: int, rate: float) -> None:
    """Many calibrations on exponential scores, whose true false-alarm rate is exp(−threshold)."""
    random = np.random.default_rng(0)
    draws, true_rates, covered = 2000, [], 0
    for scores in random.exponential(size=(draws, images)):
        calibration = Calibration.from_normal(scores, scores, scores, rate)
        true_rates.append(math.exp(-calibration.image_threshold))
        covered += true_rates[-1] <= calibration.false_alarm_bound
    expected = calibration.expected_false_alarm_rate
    assert np.mean(true_rates) == pytest.approx(
        expected, abs=4 * float(np.std(true_rates)) / math.sqrt(draws)
    )
    assert covered / draws == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / draws))
    if calibration.is_enough:
        assert expected <= rate


def test_ties_only_lower_the_false_alarm_rate() -> None:
    random = np.random.default_rng(0)
    rates = []
    for scores in random.integers(0, 5, (1000, 30)).astype(float):
        threshold = Calibration.from_normal(scores, scores, scores, 0.2).image_threshold
        rates.append((4 - threshold) / 5)
    assert np.mean(rates) <= 0.2


def test_changing_the_rate_later_equals_calibrating_with_it() -> None:
    changed = calibration_of(200, 0.01).with_false_alarm_rate(0.1)
    assert changed == calibration_of(200, 0.1)
    assert changed.image_threshold == 181


def test_thresholds_by_hand() -> None:
    calibration = calibration_of(99, 0.1)
    by_hand = calibration.with_thresholds(image=80.5)
    assert (by_hand.image_threshold, by_hand.pixel_threshold) == (80.5, calibration.pixel_threshold)
    assert (calibration.image_is_by_hand, by_hand.image_is_by_hand) == (False, True)
    assert by_hand.expected_false_alarm_rate == pytest.approx(0.2)
    clopper_pearson = stats.binomtest(19, 99, alternative="less").proportion_ci(0.95, method="exact")
    assert by_hand.false_alarm_bound == pytest.approx(clopper_pearson.high)
    assert calibration.with_thresholds(image=-5).false_alarm_bound == 1.0
    assert calibration.with_thresholds(pixel=7).pixel_threshold == 7.0
    assert not calibration.with_thresholds(pixel=7).image_is_by_hand
    assert calibration.with_thresholds(pixel=7).pixel_is_by_hand
    assert by_hand.with_false_alarm_rate(0.1) == calibration
    with pytest.raises(ValueError, match=r"^A threshold must be a number up to 1e.30, got nan\.$"):
        calibration.with_thresholds(image=math.nan)


def test_the_scale_has_the_typical_image_at_0_and_the_threshold_at_1() -> None:
    calibration = Calibration.from_normal([1, 2, 4], [30, 10, 20], [2, 4, 3])
    assert [calibration.relative(score) for score in (0, 2, 3, 4, 8)] == pytest.approx([-1, 0, 0.5, 1, 3])
    anomaly_map = np.array([[3, 16.5], [30, 57]], dtype=np.float32)
    relative = calibration.relative_map(anomaly_map)
    assert relative.dtype == np.float32
    assert relative.ravel() == pytest.approx([0, 0.5, 1, 2])


@pytest.mark.parametrize("value", [0.0, 7.0, -7.0, 1e6])
def test_equal_scores_still_give_a_rising_scale_with_the_threshold_at_1(value: float) -> None:
    calibration = Calibration.from_normal([value] * 3, [value] * 3, [value] * 3)
    assert calibration.relative(value) == 1.0
    assert calibration.relative(value + 1) > 1 > calibration.relative(value - 1)
    relative = calibration.relative_map(np.array([[value - 1, value, value + 1]], dtype=np.float32))
    assert relative[0, 0] < relative[0, 1] == 1.0 < relative[0, 2]


def test_a_threshold_by_hand_below_typical_keeps_the_scale_rising() -> None:
    calibration = calibration_of(9).with_thresholds(image=2)
    assert calibration.relative(1) < calibration.relative(2) == 1.0 < calibration.relative(3)


@pytest.mark.parametrize(
    ("calibration", "text"),
    [
        (
            calibration_of(2),
            "Thresholds rest on 2 held-out normal images, too few for the requested false-alarm rate of 1 %; "
            "expect up to 33 % of normal images called NG (below 78 % with 95 % confidence). "
            "It takes at least 99 independent images to reach it.",
        ),
        (
            calibration_of(1, 0.05),
            "Thresholds rest on 1 held-out normal image, too few for the requested false-alarm rate of 5 %; "
            "expect up to 50 % of normal images called NG (below 95 % with 95 % confidence). "
            "It takes at least 19 independent images to reach it.",
        ),
        (
            calibration_of(199),
            "Thresholds rest on 199 held-out normal images: expect up to 1 % of normal images called NG "
            "(below 2.4 % with 95 % confidence).",
        ),
        (
            calibration_of(99).with_thresholds(image=80),
            "The image threshold was set by hand; from 99 held-out normal images, expect about 20 % of normal "
            "images called NG (below 27 % with 95 % confidence).",
        ),
    ],
    ids=["too few", "one", "enough", "by hand"],
)
def test_the_summary_is_one_honest_sentence(calibration: Calibration, text: str) -> None:
    assert calibration.summary() == text


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_a_rate_outside_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        calibration_of(3, rate)
    with pytest.raises(ValueError, match="must be between 0 and 1"):
        calibration_of(3).with_false_alarm_rate(rate)


def test_unusable_scores_are_refused() -> None:
    with pytest.raises(DataError, match=r"at least one held-out normal image, got none\. Hold out more"):
        Calibration.from_normal([], [], [])
    with pytest.raises(DataError, match="NaN or infinite, so no threshold can be set"):
        Calibration.from_normal([1, math.nan], [1, 2], [1, 2])
    with pytest.raises(ValueError, match="must be lists of equal length"):
        Calibration.from_normal([1, 2], [1, 2], [1])


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=20), st.floats(0.001, 0.9))
def test_json_gives_an_equal_calibration_back(rows: list[tuple[float, float, float]], rate: float) -> None:
    scores, peaks, medians = np.array(rows).T
    calibration = Calibration.from_normal(scores, peaks, medians, rate)
    assert Calibration.from_json(json.dumps(calibration.to_dict())) == calibration


def test_to_dict_is_what_the_model_folder_stores() -> None:
    assert Calibration.from_normal([2, 1], [5, 6], [0, 1]).to_dict() == {
        "normal_scores": [1.0, 2.0],
        "normal_peaks": [5.0, 6.0],
        "groups": [1, 0],
        "held_out": True,
        "false_alarm_rate": 0.01,
        "confidence": None,
        "image_threshold": 2.0,
        "pixel_threshold": 6.0,
        "review_threshold": None,
        "map_typical": 0.5,
        "outdated": False,
    }


RISING = "a list of at least one finite number, from small to large"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("image_threshold", math.nan, "image_threshold must be a finite number, got nan"),
        ("pixel_threshold", "12", "pixel_threshold must be a finite number, got '12'"),
        ("map_typical", True, "map_typical must be a finite number, got True"),
        ("map_typical", None, "map_typical must be a finite number, got None"),
        pytest.param("map_typical", 10**400, "map_typical must be a finite number, got 10{39}", id="huge"),
        ("false_alarm_rate", 1.0, "false_alarm_rate must be a number from 1e-06 to below 1, got 1.0"),
        ("normal_scores", [], f"normal_scores must be {RISING}, got "),
        ("normal_scores", "123", f"normal_scores must be {RISING}, got "),
        ("normal_scores", {"0": 1.0}, f"normal_scores must be {RISING}, got "),
        ("normal_scores", [1.0, math.inf, 3.0], f"normal_scores must be {RISING}, got inf"),
        ("normal_scores", [1.0, [2.0], 3.0], rf"normal_scores must be {RISING}, got \[2.0\]"),
        ("normal_peaks", [3.0, 2.0, 1.0], f"normal_peaks must be {RISING}, got "),
        ("normal_peaks", [1.0, 2.0], "normal_scores, normal_peaks and groups must be of equal length"),
        ("surprise", 1.0, "surprise is unknown"),
    ],
)
def test_a_damaged_calibration_is_refused(name: str, value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        Calibration.from_json(json.dumps(calibration_of(3).to_dict() | {name: value}))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (None, "it must be a JSON object, got None."),
        ([], "it must be a JSON object, got []."),
        ("calibration", "it must be a JSON object, got 'calibration'."),
        (
            {},
            "normal_scores is missing; normal_peaks is missing; groups is missing; and 5 more.",
        ),
        (
            {"normal_scores": [1.0]},
            "normal_peaks is missing; groups is missing; held_out is missing; and 4 more.",
        ),
    ],
)
def test_what_is_no_calibration_is_refused(values: object, text: str) -> None:
    with pytest.raises(ValueError) as error:
        Calibration.from_json(json.dumps(values))
    assert str(error.value) == text


def test_each_threshold_set_by_hand_stays_with_more_normal_images() -> None:
    calibration = calibration_of(99, 0.1)
    for by_hand in (
        calibration.with_thresholds(image=500.5),
        calibration.with_thresholds(pixel=500.5),
        calibration.with_thresholds(image=500.5, pixel=600.5),
    ):
        more = by_hand.with_more_normal([1000.0] * 50, [1000.0] * 50)
        expected = calibration.with_more_normal([1000.0] * 50, [1000.0] * 50)
        if by_hand.image_is_by_hand:
            expected = expected.with_thresholds(image=500.5)
        if by_hand.pixel_is_by_hand:
            expected = expected.with_thresholds(pixel=by_hand.pixel_threshold)
        assert more == expected
        assert (more.image_is_by_hand, more.pixel_is_by_hand) == (
            by_hand.image_is_by_hand,
            by_hand.pixel_is_by_hand,
        )
