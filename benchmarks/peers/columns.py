"""What stands in the columns of the comparison, from what both sides answered."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]
Side = Callable[..., Json]
"""Runs one row on one side; keyword arguments are further settings."""


def seconds(theirs: float, mine: float) -> Json:
    """The columns of time."""
    return {
        "anomalib_seconds": f"{theirs:.4f}",
        "blemish_seconds": f"{mine:.4f}",
        "seconds_ratio": f"{theirs / mine:.2f}",
    }


def memory(theirs: float, mine: float) -> Json:
    """The columns of memory; less than 1 MiB, which the smallest sizes may take, counts as 1."""
    return {
        "anomalib_mib": f"{theirs:.0f}",
        "blemish_mib": f"{mine:.0f}",
        "mib_ratio": f"{theirs / max(mine, 1):.2f}",
    }


def agreement(theirs: Json, mine: Json) -> str:
    """Whether both sides computed the same thing: how alike they order the same test images."""
    found = spearman(theirs["scores"], mine["scores"])
    return f"Spearman of both sides' scores of {len(mine['scores'])} test images {found:.3f}"


def learning(theirs: Json, mine: Json) -> str:
    """Whether both sides' training did something: their losses must have fallen below the first.

    Raises:
        SystemExit: If one has not.
    """
    shown = []
    for name, side in (("anomalib", theirs), ("blemish", mine)):
        first, last = side["losses"][0], min(side["losses"][1:], default=math.inf)
        if not (all(map(math.isfinite, side["losses"])) and last < first):
            raise SystemExit(
                f"{name}'s loss went from {first:.4g} to {last:.4g}; training that fails is not timed."
            )
        shown.append(f"{first:.4g} → {last:.4g}")
    return "loss " + " and ".join(shown)


def scoring(theirs: Json, mine: Json) -> str:
    """How many images were scored by networks that need not agree, since only their speed is of interest.

    Raises:
        SystemExit: If a score is missing, not a number, or the same for all images.
    """
    for name, side in (("anomalib", theirs), ("blemish", mine)):
        scores = side["scores"]
        if not all(map(math.isfinite, scores)) or len(set(scores)) < 2 or len(scores) != len(mine["scores"]):
            raise SystemExit(f"{name} gave the scores {scores}; such inference is not timed.")
    return f"median of {len(mine['scores'])} images"


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation of numbers that are all different; nan where there are fewer than two."""
    if len(a) != len(b):
        raise SystemExit(f"The sides scored {len(a)} and {len(b)} test images; they must score the same.")
    ranks = [[sorted(numbers).index(number) for number in numbers] for numbers in (a, b)]
    return statistics.correlation(*ranks) if len(a) > 1 else float("nan")


def versions(theirs: Json, mine: Json) -> str:
    """The packages of both sides."""
    return "; ".join(", ".join(f"{k} {v}" for k, v in side["versions"].items()) for side in (theirs, mine))
