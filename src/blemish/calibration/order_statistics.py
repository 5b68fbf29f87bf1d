"""Ranks of scores that serve as thresholds, and the rates that follow from them.

With the k-th smallest of n independent scores as the threshold, the rate of further scores above it has the
distribution Beta(n + 1 − k, k), whatever the continuous distribution of the scores; with ties it is lower.
"""

import math
from numbers import Real

from blemish.messages import message

_ROUNDING = 1e-9  # (n + 1) × (1 − rate) may miss a whole number by this much

SMALLEST_RATE = 1e-6
"""Smallest false-alarm rate; it already needs a million images."""
CONFIDENCE = 0.95


def rank(count: int, rate: float) -> int:
    """The rank k of `count` scores at which the expected rate above is at most `rate`; 1 is the smallest.

    k = ⌈(n + 1)(1 − rate)⌉, or n if that is larger: then the requested rate cannot be reached.
    """
    return max(1, min(math.ceil((count + 1) * (1 - rate) - _ROUNDING), count))


def place(count: int, effective: int, rate: float) -> int:
    """The rank among `count` scores that are worth `effective` independent ones: at the same share of them."""
    return math.ceil(count * rank(effective, rate) / effective - _ROUNDING)


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
