"""Chart geometry: every image is in a bar, curves keep their shape, ticks are round and inside."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.reports.charts import (
    MAX_LINES,
    SQUARE,
    TALL,
    WIDE,
    draw_curve,
    draw_histogram,
    draw_losses,
    pick_powers,
    pick_ticks,
)

finite = st.floats(-1e9, 1e9)


@settings(deadline=None, max_examples=60)
@given(
    images=st.lists(st.tuples(finite, st.integers(0, 1)), min_size=1, max_size=50),
    threshold=finite,
)
def test_every_image_is_in_a_bar(images: list[tuple[float, int]], threshold: float) -> None:
    scores, labels = np.array([score for score, _ in images]), np.array([label for _, label in images])
    chart = draw_histogram(scores, labels, threshold)
    for label in (0, 1):
        bars = [bar for bar in chart.bars if bar.is_anomalous == bool(label)]
        assert sum(int(bar.title.split()[0]) for bar in bars) == (labels == label).sum()
        for bar in bars:
            assert 0 <= bar.x <= bar.x + bar.width <= WIDE + 0.01
            assert -0.01 <= bar.y <= bar.y + bar.height <= TALL + 0.02
            assert (bar.y >= chart.middle - 0.01) if label else (bar.y + bar.height <= chart.middle + 0.02)
    assert 0 <= chart.threshold_at <= WIDE
    assert all(-0.01 <= tick.at <= WIDE + 0.01 for tick in chart.ticks)


def test_bars_lie_on_their_side_of_the_threshold() -> None:
    scores = np.array([1.0, 1.1, 1.2, 1.9, 3.0, 3.1, 3.1])
    chart = draw_histogram(scores, np.array([0, 0, 0, 1, 1, 1, 1]), 2.5)
    below = [bar for bar in chart.bars if bar.x + bar.width < chart.threshold_at]
    above = [bar for bar in chart.bars if bar.x > chart.threshold_at]
    assert sum(int(bar.title.split()[0]) for bar in below) == 4
    assert sum(int(bar.title.split()[0]) for bar in above) == 3


def test_extreme_scores_leave_the_others_legible() -> None:
    scores = np.array([1.0, 1.1, 1.2, 1.3, 1.6, 500.0, 9000.0])
    chart = draw_histogram(scores, np.array([0, 0, 0, 0, 1, 1, 1]), 1.4)
    assert len({bar.x for bar in chart.bars if bar.is_anomalous}) == 3
    assert chart.threshold_at > WIDE / 12, "good images and the threshold must stay apart"
    assert len({bar.x for bar in chart.bars if not bar.is_anomalous}) >= 3
    assert len({tick.label for tick in chart.ticks}) == len(chart.ticks) >= 5


def test_labels_of_scores_do_not_overlap() -> None:
    scores = np.array([0.004804, 0.004921, 0.005149, 0.067589, 0.070177, 0.073473])
    chart = draw_histogram(scores, np.array([0, 0, 0, 1, 1, 1]), 0.0046926)
    places = sorted(tick.at for tick in chart.ticks)
    assert len(places) >= 4
    assert min(np.diff(places)) > WIDE / 14


def test_each_kind_has_its_own_scale() -> None:
    scores = np.concatenate([np.linspace(1, 2, 500), [3.0, 4.0]])
    chart = draw_histogram(scores, np.array([0] * 500 + [1, 1]), 2.5)
    for is_anomalous in (False, True):
        assert max(bar.height for bar in chart.bars if bar.is_anomalous == is_anomalous) == TALL / 2
    assert chart.tallest[1] == 1 < chart.tallest[0]


@pytest.mark.parametrize("values", [[2.2e-308], [0.0], [5e-324, -5e-324], [1e9, 1e9 + 1e-6], [-1e9, 1e-300]])
@pytest.mark.parametrize("threshold", [0.0, 2.2e-308, 1e9])
def test_scores_that_hardly_differ_are_drawn(values: list[float], threshold: float) -> None:
    chart = draw_histogram(np.array(values), np.zeros(len(values), int), threshold)
    assert sum(int(bar.title.split()[0]) for bar in chart.bars) == len(values)
    assert 0 <= chart.threshold_at <= WIDE


def points(text: str) -> np.ndarray:
    return np.array([[float(number) for number in point.split(",")] for point in text.split()])


def test_a_curve_keeps_its_points() -> None:
    curve = draw_curve(np.array([0.0, 0.0, 0.5, 1.0]), np.array([0.0, 0.8, 0.9, 1.0]))
    expected = [[0, SQUARE], [0, 0.2 * SQUARE], [0.5 * SQUARE, 0.1 * SQUARE], [SQUARE, 0]]
    np.testing.assert_allclose(points(curve.points), expected, atol=0.06)


def test_a_curve_is_cut_at_its_end_by_interpolation() -> None:
    curve = draw_curve(np.array([0.0, 0.2, 0.4, 1.0]), np.array([0.0, 0.5, 0.7, 1.0]), x_end=0.3)
    np.testing.assert_allclose(points(curve.points)[-1], [SQUARE, 0.4 * SQUARE], atol=0.06)
    assert [tick.label for tick in curve.x_ticks] == ["0.0", "0.1", "0.2", "0.3"]


def test_a_long_curve_is_thinned_without_changing_shape() -> None:
    x = np.linspace(0, 1, 50_000)
    y = x**0.1
    drawn = points(draw_curve(x, y).points)
    assert len(drawn) <= 300
    np.testing.assert_allclose(drawn[[0, -1]], [[0, SQUARE], [SQUARE, 0]], atol=0.06)
    drawn_y = np.interp(x, drawn[:, 0] / SQUARE, 1 - drawn[:, 1] / SQUARE)
    assert np.abs(drawn_y - y)[100:].max() < 0.02


@settings(deadline=None, max_examples=60)
@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6))
def test_ticks_are_few_even_and_inside(low: float, span: float) -> None:
    ticks = pick_ticks(low, low + span)
    values = np.array([value for value, _ in ticks])
    assert 2 <= len(ticks) <= 7
    assert (values >= low - 1e-6 * span).all()
    assert (values <= low + span * (1 + 1e-6)).all()
    np.testing.assert_allclose(np.diff(values), np.diff(values)[0], rtol=1e-3)


def test_tick_labels() -> None:
    values, labels = zip(*pick_ticks(0.0, 1.0), strict=True)
    assert values == pytest.approx((0, 0.2, 0.4, 0.6, 0.8, 1))
    assert labels == ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0")
    assert [label for _, label in pick_ticks(3, 31)] == ["10", "20", "30"]


def test_large_numbers_that_hardly_differ_have_different_labels() -> None:
    labels = [label for _, label in pick_ticks(-1_204_000.0, -1_200_000.0)]
    assert labels == ["-1.204e+06", "-1.203e+06", "-1.202e+06", "-1.201e+06", "-1.2e+06"]


def test_losses_lie_where_their_numbers_say() -> None:
    # From -1 to 3, with 4 % of the span as margin at both ends: 4.32 units over 200.
    chart = draw_losses([{"loss": 3, "held_out": 2.0}, {"loss": 1.0}, {"loss": -1.0, "held_out": 1.0}])
    assert chart is not None
    loss, held_out = chart.lines
    assert (loss.name, loss.last, held_out.name, held_out.last) == ("loss", -1, "held_out", 1)
    assert loss.points == [(0, 7.4), (380, 100), (760, 192.6)]
    assert held_out.points == [(0, 53.7), (760, 100)]
    assert [(tick.at, tick.label) for tick in chart.x_ticks] == [(0, "1"), (380, "2"), (760, "3")]
    assert [(tick.at, tick.label) for tick in chart.y_ticks] == [
        (192.59, "-1"),
        (146.3, "0"),
        (100, "1"),
        (53.7, "2"),
        (7.41, "3"),
    ]
    assert not chart.is_logarithmic
    assert chart.left_out == 0


def test_losses_falling_far_lie_on_a_logarithmic_scale() -> None:
    # Four decades and the margin: 4.32 over 200.
    chart = draw_losses([{"a": 100.0}, {"a": 1.0, "b": 0.01}])
    assert chart is not None
    assert chart.is_logarithmic
    assert chart.lines[0].points == [(0, 7.4), (760, 100)]
    assert chart.lines[1].points == [(760, 192.6)]
    assert [tick.label for tick in chart.y_ticks] == ["0.01", "0.1", "1", "10", "100"]
    assert [tick.at for tick in chart.y_ticks] == [192.59, 146.3, 100, 53.7, 7.41]


@pytest.mark.parametrize(
    ("values", "expected"), [((1, 30), False), ((1, 31), True), ((0, 31), False), ((-1, 31), False)]
)
def test_the_scale_is_logarithmic_only_for_positive_numbers_far_apart(
    values: tuple[float, float], expected: bool
) -> None:
    chart = draw_losses([{"a": value} for value in values])
    assert chart is not None
    assert chart.is_logarithmic == expected


def test_a_single_epoch_is_a_dot_in_the_middle() -> None:
    chart = draw_losses([{"loss": 0.25}])
    assert chart is not None
    assert chart.lines[0].points == [(WIDE / 2, TALL / 2)]
    assert [(tick.at, tick.label) for tick in chart.x_ticks] == [(WIDE / 2, "1")]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, ["1", "2"]),
        (6, ["1", "2", "3", "4", "5", "6"]),
        (7, ["1", "2", "4", "6"]),
        (50, ["1", "10", "20", "30", "40", "50"]),
        (100_000, ["1", "20000", "40000", "60000", "80000", "100000"]),
    ],
)
def test_epochs_are_whole_numbers_from_one(count: int, expected: list[str]) -> None:
    chart = draw_losses([{"loss": 1.0}] * count)
    assert chart is not None
    assert [tick.label for tick in chart.x_ticks] == expected
    assert len({tick.at for tick in chart.x_ticks}) == len(expected)


def test_long_training_is_thinned_without_changing_shape() -> None:
    epochs = np.arange(100_000)
    values = 20 * np.exp(-epochs / 5000) - 3
    chart = draw_losses([{"loss": value} for value in values.tolist()])
    assert chart is not None
    x, y = np.array(chart.lines[0].points).T
    assert 250 <= len(x) <= 300
    half = 0.54 * (values.max() - values.min())
    expected = ((values.max() + values.min()) / 2 + half - values) * TALL / (2 * half)
    np.testing.assert_allclose(np.interp(epochs * WIDE / 99_999, x, y), expected, atol=0.3)


def test_further_losses_are_counted() -> None:
    chart = draw_losses([{f"loss {number}": number for number in range(MAX_LINES + 3)}])
    assert chart is not None
    assert [line.name for line in chart.lines] == [f"loss {number}" for number in range(MAX_LINES)]
    assert chart.left_out == 3


@pytest.mark.parametrize(
    "losses",
    [None, [], {}, 7, "loss", {"loss": [1.0]}, [[1.0]], [None, 1], [{}], [{"loss": "1"}], [{"loss": True}],
     [{"loss": math.nan}, {"loss": -math.inf}], [{"loss": 10**400}, {"loss": None}, {"loss": [{}]}]],
)  # fmt: skip
def test_without_a_number_there_is_no_chart(losses: object) -> None:
    assert draw_losses(losses) is None


numbers = (
    st.floats() | st.floats(1e-9, 1e9) | st.integers() | st.sampled_from([10**400, 5e-324, 1e300, -1e300])
)
junk = st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
rows = st.dictionaries(st.sampled_from("abcdefgh"), numbers | junk, max_size=8) | junk


@settings(deadline=None, max_examples=200)
@given(losses=st.lists(rows, max_size=12), repeats=st.sampled_from([1, 1, 1, 60]))
def test_whatever_a_stranger_wrote_is_drawn_inside(losses: list[Any], repeats: int) -> None:
    losses = losses * repeats
    chart = draw_losses(losses)
    values = [
        [v for v in row.values() if type(v) in (int, float) and abs(v) <= 1e300]
        for row in losses
        if isinstance(row, dict)
    ]
    assert (chart is None) == (not any(values))
    if chart is None:
        return
    assert 1 <= len(chart.lines) <= MAX_LINES
    assert len(chart.lines) + chart.left_out <= 8
    for line in chart.lines:
        assert 1 <= len(line.points) <= 300
        assert all(0 <= x <= WIDE and 0 <= y <= TALL for x, y in line.points)
        assert math.isfinite(line.last)
    places = [x for x, _ in chart.lines[0].points]
    assert places == sorted(places)
    for ticks, end in ((chart.x_ticks, WIDE), (chart.y_ticks, TALL)):
        assert 1 <= len(ticks) <= 9
        assert len({tick.label for tick in ticks}) == len(ticks), ticks
        assert all(-0.01 <= tick.at <= end + 0.01 for tick in ticks)


@settings(deadline=None, max_examples=60)
@given(low=st.floats(-323, 300), span=st.floats(1.47, 600))
def test_powers_of_ten_are_few_and_inside(low: float, span: float) -> None:
    ticks = pick_powers(low, low + span)
    assert 3 <= len(ticks) <= 9
    assert all(low <= value <= low + span for value, _ in ticks)
    for value, label in ticks:
        if -300 < value < 300:
            assert math.log10(float(label)) == pytest.approx(value, abs=1e-9)


def test_labels_of_powers() -> None:
    assert [label for _, label in pick_powers(-0.4, 1.4)] == ["0.5", "1", "2", "5", "10", "20"]
    assert [label for _, label in pick_powers(-7.0, 5.0)] == [
        "1e-06", "0.0001", "0.01", "1", "100", "10000",
    ]  # fmt: skip
    assert [label for _, label in pick_powers(4.5, 5.5)] == ["50000", "1e+05", "2e+05"]
