"""Whether normal test images score higher than the normal images that the thresholds rest on."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from blemish.messages import message
from blemish.metrics.effective import independent, normal_scores

FEWEST = 3
"""Smallest number of images, on each side, that are compared."""
LEVEL = 0.01
"""Probability by chance at which the thresholds are said not to hold."""


class Shift(NamedTuple):
    """The comparison of two sets of scores of normal images."""

    median: float
    """Of the test images."""
    learned_median: float
    """Of the images that the thresholds rest on."""
    p: float
    """Probability of scores so much higher if both sets are of one kind."""
    holds: bool
    """Whether no larger share of the test images is NG than the calibration promised."""

    @classmethod
    def of(cls, learned: ArrayLike, groups: int, test: ArrayLike, *, holds: bool) -> Self | None:
        """Compare the scores that thresholds rest on with those of normal test images; None if there are too few.

        It is Welch's test, one-sided, on the normal scores of the ranks of all images, so that outliers and the
        distribution do not matter. In it, the images of a group count as one.

        Args:
            learned: (n,).
            groups: Number of groups that these are of.
            test: (m,), in the order of the files: neighbours that resemble each other count less.
            holds: Whether no larger share of the test images is NG than promised.
        """
        from scipy.special import stdtr  # loads slowly

        first, second = np.asarray(learned, np.float64), np.asarray(test, np.float64)
        if min(len(first), len(second), groups) < FEWEST:
            return None
        scores = normal_scores(np.concatenate([first, second]))
        ours, theirs = scores[: len(first)], scores[len(first) :]
        sizes = groups, independent(theirs)
        parts = ours.var(ddof=1) / sizes[0], theirs.var(ddof=1) / sizes[1]
        error = sum(parts)
        if not error:
            return cls(float(np.median(second)), float(np.median(first)), 1.0, holds)
        freedom = error**2 / sum(
            part**2 / max(1.0, size - 1) for part, size in zip(parts, sizes, strict=True)
        )
        t = (theirs.mean() - ours.mean()) / np.sqrt(error)
        return cls(float(np.median(second)), float(np.median(first)), float(stdtr(freedom, -t)), holds)

    @property
    def is_clear(self) -> bool:
        """Whether the test images score higher not only by chance, and more of them are NG than promised."""
        return self.p <= LEVEL and not self.holds

    def __str__(self) -> str:
        """What a clear shift means and what to do."""
        return message(
            "Normal test images score higher than the normal images that the thresholds rest on: median {median:.4g} "
            "against {learned:.4g} (p = {p:.1g}), so the requested false-alarm rate will not hold. Likely causes: the "
            "test images are of another lot, light or camera, or images that set the thresholds resemble those "
            "learned from. Add images of all lots, and fit with --group-by and --calibrate cross.",
            median=self.median,
            learned=self.learned_median,
            p=self.p,
        )
