"""Ranking metrics of scores: AUROC, average precision and the best F1, exact.

Only the order of the scores matters; they are neither scaled nor clipped.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.messages import message

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class F1Max(NamedTuple):
    """The maximum F1 over all thresholds."""

    value: float
    threshold: float
    """Scores at or above it count as anomalous; of several with the same F1, the highest."""


class Curve(NamedTuple):
    """Points of a non-decreasing curve from (0, 0), in the order of `x`."""

    x: Floats
    y: Floats

    def thinned(self, points: int = 500) -> "Curve":
        """At most `points` of its points, evenly spaced along its length, with the first and the last."""
        if len(self.x) <= points:
            return self
        length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(self.x)) + np.abs(np.diff(self.y)))])
        kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], points - 1)))
        kept = np.union1d(kept[kept < len(length)], [len(length) - 1])
        return Curve(self.x[kept], self.y[kept])


class Counts(NamedTuple):
    """Numbers of negatives and positives with each distinct score, highest score first."""

    scores: Floats
    negatives: Integers
    positives: Integers

    def auroc(self) -> float:
        """Probability that a positive scores above a negative; a tie counts half."""
        self._need_both_classes()
        above = np.cumsum(self.positives) - 0.5 * self.positives
        pairs = float(self.positives.sum()) * float(self.negatives.sum())
        return float(np.dot(self.negatives.astype(np.float64), above) / pairs)

    def average_precision(self) -> float:
        """Precision at each distinct threshold, weighted by the increase of recall (steps, not trapezoids)."""
        self._need_both_classes()
        tp = np.cumsum(self.positives)
        called = tp + np.cumsum(self.negatives)
        return float(np.dot(self.positives, tp / called) / tp[-1])

    def f1_max(self) -> F1Max:
        """The maximum F1 over all thresholds."""
        self._need_both_classes()
        tp = np.cumsum(self.positives)
        f1 = 2 * tp / (tp + np.cumsum(self.negatives) + tp[-1])
        best = int(np.argmax(f1))
        return F1Max(float(f1[best]), float(self.scores[best]))

    def roc_curve(self) -> Curve:
        """False-positive rate (x) and true-positive rate (y)."""
        self._need_both_classes()
        return Curve(rising_share(self.negatives), rising_share(self.positives))

    def _need_both_classes(self) -> None:
        for column, word in ((self.positives, "anomalous"), (self.negatives, "normal")):
            if not column.any():
                raise ValueError(
                    message("A ranking metric needs both classes, but no label is {word}.", word=word)
                )


def rising_share(amounts: Integers | Floats) -> Floats:
    """Cumulative sum of `amounts` divided by their total, from 0 to 1."""
    total = np.concatenate([[0.0], np.cumsum(amounts, dtype=np.float64)])
    share: Floats = total / total[-1]
    return share


def count(labels: ArrayLike, scores: ArrayLike) -> Counts:
    """Count labels (0 normal, 1 anomalous), (n,), by distinct finite score, (n,)."""
    values = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels)
    if values.ndim != 1 or truth.shape != values.shape:
        raise ValueError(
            message(
                "Labels and scores must be two lists of equal length, got {shape} and {other}.",
                shape=truth.shape,
                other=values.shape,
            )
        )
    if not np.isfinite(values).all():
        raise ValueError(message("Scores must be finite numbers, but some are NaN or infinite."))
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(message("Labels must be 0 (normal) or 1 (anomalous)."))
    distinct, inverse = np.unique(values, return_inverse=True)
    totals = np.bincount(inverse, minlength=len(distinct))
    positives = np.bincount(inverse[truth == 1], minlength=len(distinct))
    return Counts(distinct[::-1], (totals - positives)[::-1], positives[::-1])


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, ties counted half; ValueError if a class is missing."""
    return count(labels, scores).auroc()


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Average precision in steps, as in scikit-learn; ValueError if a class is missing."""
    return count(labels, scores).average_precision()


def f1_max(labels: ArrayLike, scores: ArrayLike) -> F1Max:
    """The maximum F1 over all thresholds, and its threshold; ValueError if a class is missing."""
    return count(labels, scores).f1_max()


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> Curve:
    """False-positive rate (x) and true-positive rate (y) at every distinct threshold."""
    return count(labels, scores).roc_curve()
