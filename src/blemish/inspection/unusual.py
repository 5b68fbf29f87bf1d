"""The most unusual images of a set, for the user to look at before they count as normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from blemish.messages import lines, message
from blemish.metrics.outliers import q_values, robust_z, tail_probability
from blemish.names import printable

LISTED = 5
"""Number of images that are listed, or more if more are suspected."""
MOST = 20
"""Maximum number of images that are listed."""
FEWEST = 10
"""Smallest number of images of which any is suspected."""
RATE = 0.1
"""Rate of false discoveries among suspected images."""


class UnusualImage(NamedTuple):
    """An image with a high score."""

    path: Path
    score: float
    is_suspected: bool
    """Whether the score is too high to be that of a normal image among the others."""


@dataclass(frozen=True, slots=True)
class Unusual:
    """The images with the highest scores, highest first."""

    images: tuple[UnusualImage, ...] = ()

    @classmethod
    def of(cls, paths: Sequence[Path], scores: Sequence[float]) -> Self:
        """The images with the highest scores among these."""
        suspected = (q_values(tail_probability(robust_z(scores))) <= RATE) & (len(scores) >= FEWEST)
        ranked = sorted(
            zip(paths, map(float, scores), suspected.tolist(), strict=True), key=lambda row: -row[1]
        )
        count = min(MOST, max(LISTED, int(suspected.sum())))
        return cls(tuple(UnusualImage(*row) for row in ranked[:count]))

    def __str__(self) -> str:
        texts = (
            message("{path} ({score:.4g}, suspected of a defect)", path=image.path, score=image.score)
            if image.is_suspected
            else f"{printable(image.path)} ({image.score:.4g})"
            for image in self.images
        )
        return "; ".join(texts)

    def summary(self) -> str:
        """The images, and what to do if some are suspected."""
        text = message("Highest scores among these images: {unusual}", unusual=self)
        suspected = sum(image.is_suspected for image in self.images)
        if not suspected:
            return text
        advice = message(
            "{count} of them are suspected of a defect, so the thresholds may be too high and defects missed. Look at "
            "them, for example in the report of `blemish suspects`, and leave defects out by --exclude.",
            count=suspected,
        )
        return lines([text, advice])
