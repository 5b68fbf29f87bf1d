"""The most unusual images of a set, for the user to look at before they count as normal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blemish.names import printable

LISTED = 5
"""Maximum number of images."""


@dataclass(frozen=True, slots=True)
class Unusual:
    """The images with the highest scores, highest first."""

    images: tuple[tuple[Path, float], ...] = ()
    """Path and score."""

    @classmethod
    def of(cls, paths: Sequence[Path], scores: Sequence[float]) -> Self:
        """The images with the highest scores among these."""
        ranked = sorted(zip(paths, scores, strict=True), key=lambda image: -image[1])
        return cls(tuple((path, float(score)) for path, score in ranked[:LISTED]))

    def __str__(self) -> str:
        return "; ".join(f"{printable(path)} ({score:.4g})" for path, score in self.images)
