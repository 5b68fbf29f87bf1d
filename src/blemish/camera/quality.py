"""The image gate: whether an image is fit to be judged, by limits learned from normal images."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from pydantic import Field

from blemish.messages import message
from blemish.opencv import cv2
from blemish.reasons import Reason
from blemish.records import Record
from blemish.types import Image

ROW_STEP = 8
"""Every so many rows are compared to tell whether an image is the previous one; noise differs in all rows."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
LEAST_FOCUS, LEAST_BRIGHTNESS, LEAST_SATURATION = 0.05, 0.01, 0.005
"""Smallest standard deviations, so that nearly identical normal images do not forbid all others."""

Size = tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
Finite = Annotated[float, Field(description="a finite number")]
Spread = Annotated[float, Field(gt=0, description="a number above 0")]


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """What the gate measures of an image."""

    size: tuple[int, int]
    """(height, width)."""
    bits: int
    """8 or 16 per channel."""
    focus: float
    """Logarithm of the variance of the Laplacian, in grey levels of 8 bits: sharp images have more."""
    brightness: float
    """Mean grey value as a share of the range."""
    saturated: float
    """Share of the pixels that are black or white."""
    digest: str
    """Of its pixels; two images with the same one are the same frame."""


def measure_quality(image: Image) -> ImageQuality:
    """Measure an image (H, W, 3)."""
    deep = image.dtype == np.uint16
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    shallow = np.right_shift(grey, 8).astype(np.uint8) if deep else np.asarray(grey, np.uint8)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(shallow, cv2.CV_16S))
    extreme = shallow.size - cv2.countNonZero(cv2.inRange(shallow, np.array(1), np.array(254)))
    return ImageQuality(
        size=(image.shape[0], image.shape[1]),
        bits=16 if deep else 8,
        focus=float(np.log(deviation[0, 0] ** 2 + 1e-3)),
        brightness=cv2.mean(grey)[0] / np.iinfo(image.dtype).max,
        saturated=extreme / shallow.size,
        digest=hashlib.blake2b(image[::ROW_STEP].tobytes(), digest_size=16).hexdigest(),
    )


class QualityLimits(Record):
    """Medians and robust standard deviations of what normal images measure."""

    sizes: tuple[Size, ...] = Field(min_length=1, description="a list of [height, width]")
    bits: tuple[int, ...] = Field(min_length=1, description="a list of 8 and 16")
    focus: Finite
    focus_spread: Spread
    brightness: Finite
    brightness_spread: Spread
    saturated: Finite
    saturated_spread: Spread

    @classmethod
    def from_normal(cls, qualities: Iterable[ImageQuality]) -> Self:
        """The limits of at least one normal image."""
        seen = list(qualities)
        focus, brightness, saturated = (
            _median_and_spread([getattr(one, name) for one in seen], least)
            for name, least in (
                ("focus", LEAST_FOCUS),
                ("brightness", LEAST_BRIGHTNESS),
                ("saturated", LEAST_SATURATION),
            )
        )
        return cls(
            sizes=tuple(sorted({one.size for one in seen})),
            bits=tuple(sorted({one.bits for one in seen})),
            focus=focus[0],
            focus_spread=focus[1],
            brightness=brightness[0],
            brightness_spread=brightness[1],
            saturated=saturated[0],
            saturated_spread=saturated[1],
        )

    def faults(self, found: ImageQuality, deviations: float) -> Iterator[Reason]:
        """Why an image is not fit to be judged, if it is more than so many standard deviations off."""
        if found.size not in self.sizes:
            yield Reason(
                "size",
                lambda: message(
                    "the image has {height} × {width} pixels (height × width), which no normal image has",
                    height=found.size[0],
                    width=found.size[1],
                ),
            )
        if found.bits not in self.bits:
            yield Reason(
                "bit_depth", lambda: message("the image has {bits} bits per channel", bits=found.bits)
            )
        if found.focus < self.focus - deviations * self.focus_spread:
            yield Reason("focus", lambda: message("the image is blurred: check focus, motion and the lens"))
        if abs(found.brightness - self.brightness) > deviations * self.brightness_spread:
            yield Reason(
                "exposure",
                lambda: message(
                    "the image is too dark or too bright: a mean of {found:.0%}, normal is {normal:.0%}",
                    found=found.brightness,
                    normal=self.brightness,
                ),
            )
        if found.saturated > self.saturated + deviations * self.saturated_spread:
            yield Reason(
                "saturation",
                lambda: message("{share:.0%} of the pixels are black or white", share=found.saturated),
            )


def _median_and_spread(values: list[float], least: float) -> tuple[float, float]:
    median = float(np.median(values))
    deviation = NORMAL_MAD * float(np.median(np.abs(np.array(values) - median)))
    return median, max(deviation, least)
