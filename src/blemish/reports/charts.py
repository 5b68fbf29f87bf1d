"""Geometry of the report's charts, in units of their SVG view boxes; the template only draws it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]

WIDE, TALL = 760.0, 200.0
"""View box of the histogram's plot area."""
SQUARE = 300.0
"""View box of a curve's plot area."""
_BINS = 48
_MOST_POINTS = 300


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the histogram: normal images stand on the middle line, anomalous ones hang from it."""

    x: float
    y: float
    width: float
    height: float
    is_anomalous: bool
    title: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Scores of normal images above the middle line, of anomalous ones below."""

    bars: list[Bar]
    middle: float
    threshold_at: float
    ticks: list[Tick]
    overflow: int
    """Images beyond the right end, drawn in the last bar."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line chart of the unit square, stretched so that the x axis ends at `x_end`."""

    points: str
    """For an SVG polyline."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def draw_histogram(scores: Numbers, labels: NDArray[np.integer], threshold: float) -> Histogram:
    """Counts per score; few extreme scores do not squeeze the rest, they share the last bar.

    Args:
        scores: (N,) raw scores.
        labels: (N,) 0 normal, 1 anomalous.
        threshold: An image above is NG.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    low = min(float(scores.min()), threshold)
    normal_top = max([threshold, *scores[labels == 0].tolist()])
    high = max(
        threshold, min(float(scores.max()), low + 4 * (normal_top - low) if normal_top > low else math.inf)
    )
    margin = 0.02 * (high - low) or 0.5 * abs(threshold) or 0.5
    low, high = low - margin, high + margin
    counts = [
        np.histogram(np.minimum(scores[labels == label], high), bins=_BINS, range=(low, high))[0]
        for label in (0, 1)
    ]
    tallest = [max(1, int(count.max())) for count in counts]
    middle = TALL * tallest[0] / sum(tallest)
    unit, step = TALL / sum(tallest), WIDE / _BINS
    bars = [
        Bar(
            x=round(place * step + 0.75, 2),
            y=round(middle if label else middle - count * unit, 2),
            width=round(step - 1.5, 2),
            height=round(count * unit, 2),
            is_anomalous=bool(label),
            title=_describe_bar(int(count), bool(label), low, (high - low) / _BINS, place),
        )
        for label in (0, 1)
        for place, count in enumerate(counts[label])
        if count
    ]
    to_x = WIDE / (high - low)
    return Histogram(
        bars=bars,
        middle=round(middle, 2),
        threshold_at=round((threshold - low) * to_x, 2),
        ticks=[Tick(round((value - low) * to_x, 2), label) for value, label in pick_ticks(low, high)],
        overflow=int((scores > high).sum()),
    )


def draw_curve(x: Numbers, y: Numbers, x_end: float = 1.0) -> Curve:
    """A curve through (x, y), both rising, cut at `x_end`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    order = np.lexsort((y, x))
    x, y = x[order], y[order]
    if x[-1] > x_end:
        y = np.append(y[x <= x_end], np.interp(x_end, x, y))
        x = np.append(x[x <= x_end], x_end)
    x, y = _thin(x / x_end, y)
    return Curve(
        points=" ".join(f"{SQUARE * px:.1f},{SQUARE * (1 - py):.1f}" for px, py in zip(x, y, strict=True)),
        x_ticks=[Tick(round(SQUARE * value / x_end, 2), label) for value, label in pick_ticks(0.0, x_end)],
        y_ticks=[Tick(round(SQUARE * (1 - value), 2), label) for value, label in pick_ticks(0.0, 1.0)],
    )


def pick_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five round values in [low, high] with their labels."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999), default=10)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [index * step for index in range(first, last + 1)]
    large = max(abs(low), abs(high)) >= 1e6 or places > 5
    return [(value, f"{value:.3g}" if large else f"{value:.{places}f}") for value in values]


def _describe_bar(count: int, is_anomalous: bool, low: float, width: float, place: int) -> str:
    kind = "defective" if is_anomalous else "good"
    return f"{count} {kind}: {low + place * width:.4g} to {low + (place + 1) * width:.4g}"


def _thin(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """At most a few hundred of the points, evenly spaced along the curve, both ends included."""
    if len(x) <= _MOST_POINTS:
        return x, y
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    wanted = np.linspace(0.0, travelled[-1], _MOST_POINTS)
    chosen = np.unique(np.searchsorted(travelled, wanted).clip(0, len(x) - 1))
    return x[chosen], y[chosen]
