"""Geometry of the report's charts in units of their SVG view boxes, for the template."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.floating]

WIDE, TALL = 760.0, 200.0
"""Width and height of the plot area of the histogram and of the losses."""
SQUARE = 300.0
"""Side of the plot area of a curve."""
MAX_LINES = 6
"""Maximum number of losses in the chart; the template has as many colours."""
_BINS = 48
_MAX_POINTS = 300
_LOGARITHMIC_FROM = 30.0
_LARGEST, _SMALLEST = 1e300, 1e-300


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of the histogram, above the middle line for normal images, below it for anomalous ones."""

    x: float
    y: float
    width: float
    height: float
    is_anomalous: bool
    title: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Histogram of scores: normal images above the middle line, anomalous ones below."""

    bars: list[Bar]
    middle: float
    threshold_at: float
    ticks: list[Tick]
    tallest: tuple[int, int]
    """Number of images of the tallest bar above and below the middle line; each side has its own scale."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A line chart with y from 0 to 1 and x from 0 to `x_end`."""

    points: str
    """Points of an SVG polyline."""
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True, slots=True)
class LossLine:
    """One loss over the epochs."""

    name: str
    points: list[tuple[float, float]]
    """(x, y); a single point is drawn as a dot."""
    last: float
    """Value in the last epoch that has the loss."""


@dataclass(frozen=True, slots=True)
class LossChart:
    """The losses over the epochs, on one scale."""

    lines: list[LossLine]
    left_out: int
    """Number of losses beyond `MAX_LINES`, which are not drawn."""
    is_logarithmic: bool
    x_ticks: list[Tick]
    y_ticks: list[Tick]


@dataclass(frozen=True, slots=True)
class ScoreAxis:
    """An axis that is linear near the threshold and logarithmic far from it, so that all scores are legible."""

    threshold: float
    unit: float
    """Distance from the threshold up to which the axis is about linear."""

    def place(self, scores: Numbers) -> Numbers:
        """Places of scores; the threshold's is 0."""
        places: Numbers = np.arcsinh((scores - self.threshold) / self.unit)
        return places

    def score(self, place: float) -> float:
        """The score at a place."""
        return self.threshold + self.unit * math.sinh(place)


def draw_histogram(scores: Numbers, labels: NDArray[np.integer], threshold: float) -> Histogram:
    """Numbers of images per score, normal and anomalous ones each with their own scale.

    Args:
        scores: (N,) raw scores.
        labels: (N,) 0 normal, 1 anomalous.
        threshold: Image threshold.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
    axis = _score_axis(scores, labels, threshold)
    places = axis.place(scores)
    low, high = min(0.0, float(places.min())), max(0.0, float(places.max()))
    margin = max(0.02 * (high - low), 0.05)
    low, high = low - margin, high + margin
    counts = [np.histogram(places[labels == label], _BINS, (low, high))[0] for label in (0, 1)]
    tallest = max(1, int(counts[0].max())), max(1, int(counts[1].max()))
    middle, step = TALL / 2, WIDE / _BINS
    edges = [axis.score(edge) for edge in np.linspace(low, high, _BINS + 1).tolist()]
    bars = [
        Bar(
            x=round(place * step + 0.75, 2),
            y=round(middle if label else middle - count * middle / tallest[0], 2),
            width=round(step - 1.5, 2),
            height=round(count * middle / tallest[label], 2),
            is_anomalous=bool(label),
            title=f"{count} {('good', 'defective')[label]}: {edges[place]:.4g} to {edges[place + 1]:.4g}",
        )
        for label in (0, 1)
        for place, count in enumerate(counts[label].tolist())
        if count
    ]
    to_x = WIDE / (high - low)
    return Histogram(
        bars=bars,
        middle=middle,
        threshold_at=round(-low * to_x, 2),
        ticks=[Tick(round((at - low) * to_x, 2), label) for at, label in _score_ticks(axis, low, high)],
        tallest=tallest,
    )


def _score_axis(scores: Numbers, labels: NDArray[np.integer], threshold: float) -> ScoreAxis:
    """The axis whose unit is the distance of a typical normal image from the threshold."""
    normal = scores[labels == 0]
    largest = max(abs(threshold), float(np.abs(scores).max()))
    unit = abs(threshold - float(np.median(normal if normal.size else scores)))
    if unit < 1e-6 * largest:  # all alike
        unit = largest
    return ScoreAxis(threshold, unit if unit > _SMALLEST else 1.0)


def _score_ticks(axis: ScoreAxis, low: float, high: float) -> list[tuple[float, str]]:
    """Places and labels of up to eight round scores, far enough apart for their labels."""
    ticks: list[tuple[float, str]] = []
    step = (high - low) / 7
    for number in range(8):
        at = low + number * step
        distance = axis.score(at + step) - axis.score(at)
        places = -math.floor(math.log10(distance))
        score = round(axis.score(at), min(places, 300))
        at = math.asinh((score - axis.threshold) / axis.unit)
        if low <= at <= high and all(abs(at - other) > 0.6 * step for other, _ in ticks):
            ticks.append((at, f"{score:.6g}"))
    return ticks


def draw_curve(x: Numbers, y: Numbers, x_end: float = 1.0) -> Curve:
    """The curve through (x, y), both rising, cut at `x_end`."""
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


def draw_losses(losses: object) -> LossChart | None:
    """The losses of a training, on a logarithmic scale if all are positive and span a factor above 30.

    Args:
        losses: The losses of a model's manifest: per epoch, name → mean loss. They are not trusted: values that
            are not finite numbers are ignored.

    Returns:
        None if there is no finite number.
    """
    finite = _read_losses(losses)
    if not finite or not isinstance(losses, list):
        return None
    drawn = {name: np.array(finite[name]).T for name in list(finite)[:MAX_LINES]}
    values = np.concatenate([line[1] for line in drawn.values()])
    is_logarithmic = bool(values.min() > 0 and values.max() > _LOGARITHMIC_FROM * values.min())
    if is_logarithmic:
        values = np.log10(values)
    low, high = _widen(float(values.min()), float(values.max()))
    # A single epoch is in the middle.
    first, last = (1, len(losses)) if len(losses) > 1 else (0, 2)
    to_x, to_y = WIDE / (last - first), TALL / (high - low)
    lines = []
    for name, (epochs, line) in drawn.items():
        x, y = _thin((epochs - first) * to_x, (high - (np.log10(line) if is_logarithmic else line)) * to_y)
        points = list(zip(x.round(1).tolist(), y.round(1).tolist(), strict=True))
        lines.append(LossLine(name, points, float(line[-1])))
    y_ticks = pick_powers(low, high) if is_logarithmic else pick_ticks(low, high)
    return LossChart(
        lines=lines,
        left_out=len(finite) - len(lines),
        is_logarithmic=is_logarithmic,
        x_ticks=[Tick(round((at - first) * to_x, 2), label) for at, label in _pick_epochs(len(losses))],
        y_ticks=[Tick(round((high - at) * to_y, 2), label) for at, label in y_ticks],
    )


def pick_powers(low: float, high: float) -> list[tuple[float, str]]:
    """Exponents and labels of the powers of ten from 10**low to 10**high; if these are few, also of 2 and 5 times."""
    factors = (1, 2, 5) if high - low < 3 else (1,)
    stride = max(1, math.ceil((high - low) / 6))
    powers = range(math.floor(low / stride) * stride, math.floor(high) + 1, stride)
    return [
        (
            power + math.log10(factor),
            f"{factor * 10.0**power:g}" if abs(power) < 5 else f"{factor}e{power:+03}",
        )
        for power in powers
        for factor in factors
        if low <= power + math.log10(factor) <= high
    ]


def pick_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five round values in [low, high] and their labels."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min((factor for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999), default=10)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [index * step for index in range(first, last + 1)]
    largest = max(abs(low), abs(high))
    if largest < 1e6 and places <= 5:
        return [(value, f"{value:.{places}f}") for value in values]
    digits = max(3, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9) + 1)
    return [(value, f"{value:.{digits}g}") for value in values]


def _read_losses(losses: object) -> dict[str, list[tuple[int, float]]]:
    """(epoch, value) of every finite number under its name; epochs count from 1."""
    finite: dict[str, list[tuple[int, float]]] = {}
    for epoch, row in enumerate(losses if isinstance(losses, list) else (), 1):
        for name, value in row.items() if isinstance(row, Mapping) else ():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and abs(value) <= _LARGEST:  # false for NaN; large integers do not fit into a float
                finite.setdefault(name, []).append((epoch, float(value)))
    return finite


def _widen(low: float, high: float) -> tuple[float, float]:
    """The range with a margin, wide enough for distinct tick labels if the values hardly differ."""
    span = max(high - low, 1e-3 * max(abs(low), abs(high)))
    half = 0.54 * (span if span > _SMALLEST else 1.0)
    middle = (low + high) / 2
    return middle - half, middle + half


def _pick_epochs(count: int) -> list[tuple[float, str]]:
    """The first epoch and about five round ones."""
    ticks = [tick for tick in pick_ticks(1, max(count, 6)) if tick[0] <= count]
    return ticks if ticks and ticks[0][0] == 1 else [(1.0, "1"), *ticks]


def _thin(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """A few hundred of the points, evenly spaced along the curve, with both ends."""
    if len(x) <= _MAX_POINTS:
        return x, y
    lengths = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    spaced = np.linspace(0.0, lengths[-1], _MAX_POINTS)
    chosen = np.unique(np.searchsorted(lengths, spaced).clip(0, len(x) - 1))
    return x[chosen], y[chosen]
