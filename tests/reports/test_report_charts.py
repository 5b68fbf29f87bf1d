"""Chart geometry: every image is in a bar, curves keep their shape, ticks are round and inside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.reports.charts import SQUARE, TALL, WIDE, draw_curve, draw_histogram, pick_ticks

finite = st.floats(-1e9, 1e9, allow_subnormal=False)


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
    assert chart.overflow == 0


def test_extreme_scores_share_the_last_bar() -> None:
    scores = np.array([1.0, 1.1, 1.2, 1.3, 500.0, 9000.0])
    chart = draw_histogram(scores, np.array([0, 0, 0, 0, 1, 1]), 1.4)
    assert chart.overflow == 2
    (bar,) = [bar for bar in chart.bars if bar.is_anomalous]
    assert bar.title.startswith("2 defective")
    assert bar.x + bar.width == pytest.approx(WIDE, abs=1)
    assert chart.threshold_at > WIDE / 8, "good images and the threshold must stay apart"


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
