"""The calibration of a model: thresholds and score scale, and the scores of normal images that they rest on."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AfterValidator, Field, model_validator

from blemish.calibration.columns import checked_columns
from blemish.calibration.description import describe, summary
from blemish.calibration.order_statistics import (
    SMALLEST_RATE,
    expected_rate,
    images_needed,
    place,
    rank,
    rate_bound,
    require_rate,
    require_threshold,
)
from blemish.messages import message
from blemish.metrics.effective import effective_number
from blemish.metrics.outliers import stands_alone
from blemish.records import Record
from blemish.types import Map, Verdict

GROWN = 0.9
"""How far regions grow down from the pixel threshold, on the scale where it is 1 and a typical normal pixel is 0.

Down to the highest tenth of a percent of normal pixels, regions would be far larger than the defects."""


def _rising(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values or any(later < earlier for earlier, later in pairwise(values)):
        raise ValueError
    return values


Finite = Annotated[float, Field(description="a finite number")]
Rising = Annotated[
    tuple[float, ...],
    AfterValidator(_rising),
    Field(description="a list of at least one finite number, from small to large"),
]


class Calibration(Record):
    """Thresholds and scale of scores; an image is NG if its score is strictly above the threshold."""

    normal_scores: Rising
    """Scores of normal images; stored so that thresholds can be changed later."""
    normal_peaks: Rising
    """The largest value of each of their anomaly maps, from small to large."""
    groups: tuple[int, ...] = Field(description="a list of whole numbers")
    """The group of each score, by its number: images of one part, lot or run."""
    held_out: bool = Field(description="true or false")
    """Whether the images were not learned from; otherwise each was scored as if its group had not been."""
    false_alarm_rate: float = Field(
        ge=SMALLEST_RATE, lt=1, description=f"a number from {SMALLEST_RATE:g} to below 1"
    )
    """Requested share of normal images that may be called NG."""
    confidence: float | None = Field(default=None, gt=0, lt=1, description="null or a number between 0 and 1")
    """With which the rate is kept; None: it is the expected one."""
    image_threshold: Finite
    pixel_threshold: Finite
    """The peak of the same rank among the normal maps as the image threshold has among the scores."""
    review_threshold: float | None = Field(default=None, description="null or a finite number")
    """An image with a score above it and not above the image threshold is for review; None: no image is."""
    map_typical: Finite
    """Median over the images of the median of the anomaly map."""
    outdated: bool = Field(default=False, description="true or false")
    """Whether normal images may score higher than here, since something was removed from the model afterwards."""

    @model_validator(mode="after")
    def _require_equal_lengths(self) -> Self:
        if not len(self.normal_scores) == len(self.normal_peaks) == len(self.groups):
            raise ValueError(message("normal_scores, normal_peaks and groups must be of equal length"))
        if self.confidence is not None:
            place(self.images, self.effective_images, self.false_alarm_rate, self.confidence)
        return self

    @classmethod
    def from_normal(
        cls,
        scores: ArrayLike,
        map_peaks: ArrayLike,
        map_typical: ArrayLike,
        false_alarm_rate: float = 0.01,
        *,
        groups: Sequence[int] | None = None,
        held_out: bool = True,
    ) -> Self:
        """Calibrate on normal images.

        Args:
            scores: (n,) image scores.
            map_peaks: (n,) maximum of each anomaly map.
            map_typical: (n,) median of each anomaly map.
            false_alarm_rate: Share of normal images that may be called NG, in (0, 1).
            groups: (n,) number of each image's group; default every image by itself.
            held_out: Whether the images were not learned from.

        Raises:
            DataError: There is no image, or a number is not finite.
        """
        require_rate(false_alarm_rate)
        columns = checked_columns(scores, map_peaks, map_typical)
        order = np.argsort(columns[0], kind="stable").tolist()
        numbers = range(len(order)) if groups is None else groups
        calibration = cls(
            normal_scores=tuple(columns[0][order].tolist()),
            normal_peaks=tuple(np.sort(columns[1]).tolist()),
            groups=tuple(int(numbers[index]) for index in order),
            held_out=held_out,
            false_alarm_rate=false_alarm_rate,
            image_threshold=0.0,
            pixel_threshold=0.0,
            map_typical=float(np.median(columns[2])),
        )
        return calibration.with_false_alarm_rate(false_alarm_rate)

    def with_false_alarm_rate(self, rate: float, confidence: float | None = None) -> Self:
        """A copy with the thresholds of another false-alarm rate in (0, 1), expected or kept with a confidence.

        Raises:
            ValueError: If a number is out of range, or there are too few images for this confidence.
        """
        require_rate(rate)
        index = place(self.images, self.effective_images, rate, confidence) - 1
        return self.changed(
            false_alarm_rate=rate,
            confidence=confidence,
            image_threshold=self.normal_scores[index],
            pixel_threshold=self.normal_peaks[index],
        )

    def with_review_share(self, share: float) -> Self:
        """A copy by which an expected share of normal images, 0 to below 1, is for review or NG; 0: no review."""
        if share == 0:
            return self.changed(review_threshold=None)
        require_rate(share)
        index = place(self.images, self.effective_images, share) - 1
        return self.changed(review_threshold=self.normal_scores[index])

    def with_more_normal(self, scores: Sequence[float], map_peaks: Sequence[float]) -> Self:
        """A copy that rests on more normal images, (n,) each; thresholds set by hand stay, others are recomputed.

        Each of the new images counts as a group of its own.
        """
        first = max(self.groups) + 1
        more = self.from_normal(
            [*self.normal_scores, *scores],
            [*self.normal_peaks, *map_peaks],
            [self.map_typical] * (self.images + len(scores)),
            self.false_alarm_rate,
            groups=[*self.groups, *range(first, first + len(scores))],
            held_out=self.held_out,
        ).with_false_alarm_rate(self.false_alarm_rate, self.confidence)
        return more.changed(outdated=self.outdated, review_threshold=self.review_threshold).with_thresholds(
            image=self.image_threshold if self.image_is_by_hand else None,
            pixel=self.pixel_threshold if self.pixel_is_by_hand else None,
        )

    def with_thresholds(self, *, image: float | None = None, pixel: float | None = None) -> Self:
        """A copy with one or both thresholds set by hand.

        Raises:
            ValueError: If one is not a number up to `order_statistics.LARGEST_SCORE`.
        """
        given = {"image_threshold": image, "pixel_threshold": pixel}
        return self.changed(
            **{name: require_threshold(value) for name, value in given.items() if value is not None}
        )

    @property
    def region_threshold(self) -> float:
        """Value down to which regions grow from a pixel above the pixel threshold."""
        return self.pixel_threshold - (1 - GROWN) * self.map_span

    @property
    def lowest_threshold(self) -> float:
        """Score up to which an image is OK."""
        low = self.image_threshold if self.review_threshold is None else self.review_threshold
        return min(low, self.image_threshold)

    def verdict(self, score: float) -> Verdict:
        """What the score says by itself."""
        if score > self.image_threshold:
            return "NG"
        return "REVIEW" if score > self.lowest_threshold else "OK"

    @property
    def images(self) -> int:
        """Number of normal images that the thresholds rest on."""
        return len(self.normal_scores)

    @property
    def effective_images(self) -> int:
        """Number of independent images that they are worth, since images of one group resemble each other."""
        return effective_number(self.normal_scores, self.groups)

    @property
    def image_is_by_hand(self) -> bool:
        """Whether the image threshold was set by hand: it differs from that of the requested false-alarm rate."""
        return self.image_threshold != self.normal_scores[self._index]

    @property
    def pixel_is_by_hand(self) -> bool:
        """Whether the pixel threshold was set by hand: it differs from that of the requested false-alarm rate."""
        return self.pixel_threshold != self.normal_peaks[self._index]

    @property
    def is_enough(self) -> bool:
        """Whether there are enough images for the requested false-alarm rate."""
        return self.effective_images >= images_needed(self.false_alarm_rate)

    @property
    def rests_on_one(self) -> bool:
        """Whether the image threshold is the score of one image, far above that of all others."""
        is_highest = not self.image_is_by_hand and self.image_threshold == self.normal_scores[-1]
        return is_highest and stands_alone(self.normal_scores)

    @property
    def expected_false_alarm_rate(self) -> float:
        """Expected false-alarm rate on new normal images."""
        return expected_rate(self.effective_images, self._effective_below)

    @property
    def false_alarm_bound(self) -> float:
        """Upper bound of the false-alarm rate on new normal images, with 95 % confidence."""
        return rate_bound(self.effective_images, self._effective_below)

    @property
    def _index(self) -> int:
        """Place, from 0, of the thresholds of the requested false-alarm rate among the scores."""
        return place(self.images, self.effective_images, self.false_alarm_rate, self.confidence) - 1

    @property
    def _effective_below(self) -> int:
        """Number of independent images at or below the threshold, by its rank or, if set by hand, by counting."""
        effective = self.effective_images
        if not self.image_is_by_hand and self.confidence is None:
            return rank(effective, self.false_alarm_rate)
        below = int(np.searchsorted(self.normal_scores, self.image_threshold, side="right"))
        return below * effective // self.images

    def relative(self, score: float) -> float:
        """The score on a scale where the median normal image has 0 and the image threshold is 1."""
        typical = float(np.median(self.normal_scores))
        return 1 + (score - self.image_threshold) / _span(typical, self.image_threshold)

    def score_at(self, relative: float) -> float:
        """The score that has a place on the scale of `relative`."""
        typical = float(np.median(self.normal_scores))
        return self.image_threshold + (relative - 1) * _span(typical, self.image_threshold)

    def relative_map(self, anomaly_map: Map) -> Map:
        """The map on a scale where a typical normal pixel has 0 and the pixel threshold is 1."""
        return (1 + (anomaly_map - self.pixel_threshold) / self.map_span).astype(np.float32)

    def relative_peak(self, value: float) -> float:
        """One value of a map on the scale of `relative_map`."""
        return 1 + (value - self.pixel_threshold) / self.map_span

    @property
    def map_span(self) -> float:
        """Difference of the pixel threshold to a typical normal pixel."""
        return _span(self.map_typical, self.pixel_threshold)

    def summary(self) -> str:
        """What the thresholds rest on and the false-alarm rate to expect, and cautions."""
        return summary(self)

    def describe(self) -> str:
        """Both thresholds, which of them were set by hand, and the sentences of `summary`."""
        return describe(self)

    def __repr__(self) -> str:
        return (
            f"Calibration(images={self.images}, false_alarm_rate={self.false_alarm_rate:g}, "
            f"image_threshold={self.image_threshold:.6g}, pixel_threshold={self.pixel_threshold:.6g})"
        )


def _span(typical: float, threshold: float) -> float:
    """Width of the scale; the threshold's absolute value if it is not clearly above the typical value."""
    span = threshold - typical
    return span if span > 1e-6 * abs(threshold) else abs(threshold) or 1.0
