"""Thresholds and score scale, computed from held-out normal images, which the method has not learned from.

The threshold is the k-th smallest score of n held-out normal images, k = ⌈(n + 1)(1 − rate)⌉. The
false-alarm rate on further images of the same kind then has the distribution Beta(n + 1 − k, k) for any
continuous distribution of the scores; with ties it is lower. With k > n the threshold is the largest
score, and the requested rate cannot be reached.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import AfterValidator, Field, model_validator

from blemish.errors import DataError
from blemish.messages import message
from blemish.records import Record
from blemish.types import Map

_ROUNDING = 1e-9  # (n + 1) × (1 − rate) may miss a whole number by this much

LARGEST_SCORE = 1e30
"""Maximum of a threshold that is set by hand; scores are float32."""
SMALLEST_RATE = 1e-6
"""Smallest false-alarm rate; it already needs a million held-out images."""


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
    """Scores of the held-out normal images; stored so that thresholds can be changed later."""
    normal_peaks: Rising
    """The largest value of each of their anomaly maps."""
    false_alarm_rate: float = Field(
        ge=SMALLEST_RATE, lt=1, description=f"a number from {SMALLEST_RATE:g} to below 1"
    )
    """Requested share of normal images that may be called NG."""
    image_threshold: Finite
    pixel_threshold: Finite
    """The peak of the same rank among the normal maps as the image threshold has among the scores."""
    map_typical: Finite
    """Median over the images of the median of the anomaly map."""
    outdated: bool = Field(default=False, description="true or false")
    """Whether normal images may score higher than here, since something was removed from the model afterwards."""

    @model_validator(mode="after")
    def _require_equal_lengths(self) -> Self:
        if len(self.normal_scores) != len(self.normal_peaks):
            raise ValueError(message("normal_scores and normal_peaks must be of equal length"))
        return self

    @classmethod
    def from_normal(
        cls, scores: ArrayLike, map_peaks: ArrayLike, map_typical: ArrayLike, false_alarm_rate: float = 0.01
    ) -> Self:
        """Calibrate on held-out normal images.

        Args:
            scores: (n,) image scores.
            map_peaks: (n,) maximum of each anomaly map.
            map_typical: (n,) median of each anomaly map.
            false_alarm_rate: Share of normal images that may be called NG, in (0, 1).

        Raises:
            DataError: There is no image, or a number is not finite.
        """
        require_rate(false_alarm_rate)
        columns = [np.asarray(column, dtype=np.float64) for column in (scores, map_peaks, map_typical)]
        if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
            raise ValueError(
                message("Scores, map peaks and map medians must be three lists of equal length.")
            )
        if not len(columns[0]):
            raise DataError(
                "Calibration needs at least one held-out normal image, got none. Hold out more normal images."
            )
        if not np.isfinite(columns).all():
            raise DataError(
                "A held-out normal image has a score or an anomaly map that is NaN or infinite, so no "
                "threshold can be set. Check the normal images and fit again."
            )
        normal_scores, normal_peaks = (tuple(np.sort(column).tolist()) for column in columns[:2])
        place = _rank(len(normal_scores), false_alarm_rate) - 1
        return cls(
            normal_scores=normal_scores,
            normal_peaks=normal_peaks,
            false_alarm_rate=false_alarm_rate,
            image_threshold=normal_scores[place],
            pixel_threshold=normal_peaks[place],
            map_typical=float(np.median(columns[2])),
        )

    def with_false_alarm_rate(self, rate: float) -> Self:
        """A copy with the thresholds of another false-alarm rate in (0, 1)."""
        require_rate(rate)
        place = _rank(self.images, rate) - 1
        return self.changed(
            false_alarm_rate=rate,
            image_threshold=self.normal_scores[place],
            pixel_threshold=self.normal_peaks[place],
        )

    def with_more_normal(self, scores: Sequence[float], map_peaks: Sequence[float]) -> Self:
        """A copy that rests on more normal images, (n,) each; thresholds set by hand stay, others are recomputed."""
        more = self.from_normal(
            [*self.normal_scores, *scores],
            [*self.normal_peaks, *map_peaks],
            [self.map_typical] * (self.images + len(scores)),
            self.false_alarm_rate,
        )
        return more.changed(outdated=self.outdated).with_thresholds(
            image=self.image_threshold if self.image_is_by_hand else None,
            pixel=self.pixel_threshold if self.pixel_is_by_hand else None,
        )

    def with_thresholds(self, *, image: float | None = None, pixel: float | None = None) -> Self:
        """A copy with one or both thresholds set by hand.

        Raises:
            ValueError: If one is not a number up to `LARGEST_SCORE`.
        """
        given = {"image_threshold": image, "pixel_threshold": pixel}
        return self.changed(**{name: _threshold(value) for name, value in given.items() if value is not None})

    @property
    def images(self) -> int:
        """Number of held-out normal images that the thresholds rest on."""
        return len(self.normal_scores)

    @property
    def image_is_by_hand(self) -> bool:
        """Whether the image threshold was set by hand: it differs from that of the requested false-alarm rate."""
        return self.image_threshold != self.normal_scores[_rank(self.images, self.false_alarm_rate) - 1]

    @property
    def pixel_is_by_hand(self) -> bool:
        """Whether the pixel threshold was set by hand: it differs from that of the requested false-alarm rate."""
        return self.pixel_threshold != self.normal_peaks[_rank(self.images, self.false_alarm_rate) - 1]

    @property
    def is_enough(self) -> bool:
        """Whether there are enough images for the requested false-alarm rate."""
        return self.images >= _images_needed(self.false_alarm_rate)

    @property
    def expected_false_alarm_rate(self) -> float:
        """Expected false-alarm rate on new normal images."""
        return (self.images + 1 - self._images_below) / (self.images + 1)

    @property
    def false_alarm_bound(self) -> float:
        """Upper bound of the false-alarm rate on new normal images, with 95 % confidence."""
        from scipy.special import betaincinv  # loads slowly, and no inspection needs it

        below = self._images_below
        return float(betaincinv(self.images + 1 - below, below, 0.95)) if below else 1.0

    @property
    def _images_below(self) -> int:
        """Number of normal images at or below the threshold, by its rank or, if set by hand, by counting."""
        if self.image_is_by_hand:
            return int(np.searchsorted(self.normal_scores, self.image_threshold, side="right"))
        return _rank(self.images, self.false_alarm_rate)

    def relative(self, score: float) -> float:
        """The score on a scale where the median normal image has 0 and the image threshold is 1."""
        typical = float(np.median(self.normal_scores))
        return 1 + (score - self.image_threshold) / _span(typical, self.image_threshold)

    def relative_map(self, anomaly_map: Map) -> Map:
        """The map on a scale where a typical normal pixel has 0 and the pixel threshold is 1."""
        relative = (anomaly_map - self.pixel_threshold) / _span(self.map_typical, self.pixel_threshold) + 1
        return relative.astype(np.float32)

    def summary(self) -> str:
        """One sentence: the number of images that the thresholds rest on and the false-alarm rate to expect."""
        given = {
            "images": message(
                "{count} held-out normal image" if self.images == 1 else "{count} held-out normal images",
                count=self.images,
            ),
            "expected": _percent(self.expected_false_alarm_rate),
            "bound": _percent(self.false_alarm_bound),
        }
        if self.outdated:
            return message(
                "Thresholds rest on {images}, scored before something was removed from the model: how many normal "
                "images are called NG is no longer known. Evaluate the model, or fit it again.",
                images=given["images"],
            )
        if self.image_is_by_hand:
            return message(
                "The image threshold was set by hand; from {images}, expect about {expected} of "
                "normal images called NG (below {bound} with 95 % confidence).",
                **given,
            )
        if self.is_enough:
            return message(
                "Thresholds rest on {images}: expect up to {expected} of normal images called NG "
                "(below {bound} with 95 % confidence).",
                **given,
            )
        return message(
            "Thresholds rest on {images}, too few for the requested false-alarm rate of {rate}; "
            "expect up to {expected} of normal images called NG (below {bound} with 95 % confidence); hold out at "
            "least {needed} images to reach it.",
            rate=_percent(self.false_alarm_rate),
            needed=_images_needed(self.false_alarm_rate),
            **given,
        )

    def describe(self) -> str:
        """Both thresholds, which of them were set by hand, and the sentence of `summary`."""
        return message(
            "Image threshold {image:.4g}{image_by_hand}, pixel threshold {pixel:.4g}{pixel_by_hand}.\n{summary}",
            image=self.image_threshold,
            image_by_hand=by_hand(self.image_is_by_hand),
            pixel=self.pixel_threshold,
            pixel_by_hand=by_hand(self.pixel_is_by_hand),
            summary=self.summary(),
        )

    def __repr__(self) -> str:
        return (
            f"Calibration(images={self.images}, false_alarm_rate={self.false_alarm_rate:g}, "
            f"image_threshold={self.image_threshold:.6g}, pixel_threshold={self.pixel_threshold:.6g})"
        )


def by_hand(is_by_hand: bool) -> str:
    """The words that follow a threshold which was set by hand; none for others."""
    return message(" (set by hand)") if is_by_hand else ""


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


def _threshold(value: Any) -> float:
    if isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= LARGEST_SCORE:
        return float(value)
    raise ValueError(
        message(
            "A threshold must be a number up to {largest:g}, got {value!r:.40}.",
            largest=LARGEST_SCORE,
            value=value,
        )
    )


def _rank(images: int, rate: float) -> int:
    """Rank of the score that is the threshold: 1 is the smallest."""
    return max(1, min(math.ceil((images + 1) * (1 - rate) - _ROUNDING), images))


def _images_needed(rate: float) -> int:
    return math.ceil(1 / rate - _ROUNDING) - 1


def _span(typical: float, threshold: float) -> float:
    """Width of the scale; the threshold's absolute value if it is not clearly above the typical value."""
    span = threshold - typical
    return span if span > 1e-6 * abs(threshold) else abs(threshold) or 1.0


def _percent(rate: float) -> str:
    return f"{100 * rate:.2g} %" if rate < 0.995 else "100 %"
