"""Ranks of scores that serve as thresholds, and the rates that follow from them.

With the k-th smallest of n independent scores as the threshold, the rate of further scores above it has the
distribution Beta(n + 1 − k, k), whatever the continuous distribution of the scores; with ties it is lower.
"""

import math
from numbers import Real
from typing import Any

from blemish.messages import message
from blemish.metrics.rates import threshold_rank, units_needed

_ROUNDING = 1e-9  # (n + 1) × (1 − rate) may miss a whole number by this much

SMALLEST_RATE = 1e-6
"""Smallest false-alarm rate; it already needs a million images."""
CONFIDENCE = 0.95
LARGEST_SCORE = 1e30
"""Maximum of a threshold that is set by hand; scores are float32."""


def rank(count: int, rate: float) -> int:
    """The rank k of `count` scores at which the expected rate above is at most `rate`; 1 is the smallest.

    k = ⌈(n + 1)(1 − rate)⌉, or n if that is larger: then the requested rate cannot be reached.
    """
    return max(1, min(math.ceil((count + 1) * (1 - rate) - _ROUNDING), count))


def place(count: int, effective: int, rate: float, confidence: float | None = None) -> int:
    """The rank among `count` scores that are worth `effective` independent ones: at the same share of them.

    Args:
        count: Number of scores.
        effective: Number of independent ones.
        rate: Share of further scores that may be above.
        confidence: With which the share is kept; None: it is kept in expectation.

    Raises:
        ValueError: If there are too few scores for this confidence.
    """
    chosen = rank(effective, rate) if confidence is None else threshold_rank(effective, rate, confidence)
    if chosen is None:
        raise ValueError(
            message(
                "{needed} independent normal images are needed to keep a rate of {rate:.3g} with a confidence of "
                "{confidence:.3g}, and these are worth {effective}. Take more images or a higher rate.",
                needed=units_needed(rate, confidence or 0, 0),
                rate=rate,
                confidence=confidence,
                effective=effective,
            )
        )
    return math.ceil(count * chosen / effective - _ROUNDING)


def expected_rate(count: int, below: int) -> float:
    """Expected rate above a threshold at or above which `below` of `count` scores lie: the mean of the Beta law."""
    return (count + 1 - below) / (count + 1)


def rate_bound(count: int, below: int) -> float:
    """Upper bound of that rate with 95 % confidence."""
    from scipy.special import betaincinv  # loads slowly, and no inspection needs it

    return float(betaincinv(count + 1 - below, below, CONFIDENCE)) if below else 1.0


def images_needed(rate: float) -> int:
    """Smallest number of independent scores with which the rate can be reached."""
    return math.ceil(1 / rate - _ROUNDING) - 1


def require_rate(rate: float) -> None:
    """Check a false-alarm rate.

    Raises:
        ValueError: If it is not between `SMALLEST_RATE` and 1.
    """
    if not isinstance(rate, Real) or not SMALLEST_RATE <= rate < 1:
        raise ValueError(
            message(
                "A false-alarm rate must be between 0 and 1 (0.01 is 1 %) and at least {smallest:g}, got {rate!r}.",
                smallest=SMALLEST_RATE,
                rate=rate,
            )
        )


def require_threshold(value: Any) -> float:
    """A threshold set by hand, checked.

    Raises:
        ValueError: If it is not a number up to `LARGEST_SCORE`.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= LARGEST_SCORE:
        return float(value)
    raise ValueError(
        message(
            "A threshold must be a number up to {largest:g}, got {value!r:.40}.",
            largest=LARGEST_SCORE,
            value=value,
        )
    )
