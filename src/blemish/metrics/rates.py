"""Error rates that counts prove: exact binomial bounds, and the order statistics that keep a promised rate.

Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika,
1934; Wilks, "Determination of sample sizes for setting tolerance limits", 1941. Nothing is assumed about the scores but
that further units are like those tested; with ties every statement holds with more confidence.
"""

import math

_ROUNDING = 1e-12
"""Relative; probabilities at the limit itself must not fail by rounding."""


def upper_bound(errors: int, units: int, confidence: float) -> float:
    """Upper bound of an error rate of which `errors` were seen in `units`; 1 if there are no units or no successes."""
    from scipy.special import betaincinv  # loads slowly, and no inspection needs it

    return 1.0 if errors >= units else float(betaincinv(errors + 1, units - errors, confidence))


def units_needed(rate: float, confidence: float, errors: int = 0) -> int:
    """Smallest number of units of which `errors` may be wrong if the rate is to be proved to be at most `rate`."""
    low, high = errors, max(1, 2 * errors)
    while not _is_proved(errors, high, rate, confidence):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_proved(errors, middle, rate, confidence) else (middle, high)
    return high


def threshold_rank(units: int, rate: float, confidence: float) -> int | None:
    """The smallest rank k, from 1, such that at most `rate` of further units score above the k-th smallest of `units`.

    It holds with the given confidence: the rate above is not larger than `rate` unless fewer than k of the units are
    below the quantile 1 − rate. None: too few units, see `units_needed`.
    """
    found = (
        next((k for k in range(units, 0, -1) if not _is_proved(units - k, units, rate, confidence)), 0) + 1
    )
    return found if found <= units else None


def miss_rank(units: int, rate: float, confidence: float) -> int | None:
    """The largest rank j, from 1, such that at most `rate` of further units score below the j-th smallest of `units`.

    None: too few units.
    """
    found = (
        next((j for j in range(1, units + 1) if not _is_proved(j - 1, units, rate, confidence)), units + 1)
        - 1
    )
    return found or None


def spent(risk: float, use: int) -> float:
    """The part of a risk that the `use`-th test on the same data may take: all, then 6 / (π use)² of it.

    So whoever changes something and tests again, however often, runs at most 1.4 times the risk.
    """
    return risk if use == 1 else risk * 6 / (math.pi * use) ** 2


def _is_proved(errors: int, units: int, rate: float, confidence: float) -> bool:
    """Whether so few errors are that improbable at `rate`: P(at most `errors`) ≤ 1 − confidence."""
    from scipy.special import bdtr

    return errors < units and float(bdtr(errors, units, rate)) <= (1 - confidence) * (1 + _ROUNDING)
