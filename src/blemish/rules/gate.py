"""What an image must be to be judged at all: fit by its quality, and aligned. Otherwise it is INVALID."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field

from blemish.camera.alignment import Method, Placement, Reference
from blemish.camera.quality import ImageQuality, QualityLimits, measure_quality
from blemish.data.find import find_images
from blemish.data.images import read_image
from blemish.data.loading import prefetch
from blemish.errors import DataError
from blemish.messages import message
from blemish.reasons import Reason
from blemish.records import UserRecord
from blemish.types import Image, Progress


class Gate(UserRecord):
    """Limits of the quality of images, learned from normal ones."""

    images: str | None = Field(default=None, description="the name of a folder of normal images")
    limits: QualityLimits | None = Field(default=None, description="an object")
    """What the images measure; it takes their place when the rules are read."""
    deviations: float = Field(default=8.0, gt=0, le=1e6, description="a number above 0")
    """Robust standard deviations by which focus, brightness and saturation may differ from the normal median."""
    frozen: bool = Field(default=True, description="true or false")
    """Whether an image that equals the one before, as of a camera that hangs, is invalid."""

    def learned(self, folder: Path, progress: Progress) -> Self:
        """The gate with the limits of its images, whose folder is relative to `folder`.

        Raises:
            DataError: If there is no image, or one cannot be read.
        """
        if self.images is None:
            return self
        paths = list(find_images([folder / self.images]))
        found: list[ImageQuality] = []
        for quality in prefetch(paths, lambda path: measure_quality(read_image(path))):
            found.append(quality)
            progress("measuring images", len(found), len(paths))
        if not found:
            raise DataError(
                "{folder} holds no images. Name a folder of normal images.", folder=folder / self.images
            )
        return self.changed(images=None, limits=QualityLimits.from_normal(found))

    def faults(self, quality: ImageQuality, previous: str | None) -> Iterable[Reason]:
        """Why an image cannot be judged; `previous` is the digest of the one before."""
        if self.limits is not None:
            yield from self.limits.faults(quality, self.deviations)
        if self.frozen and quality.digest == previous:
            yield Reason(
                "frozen", lambda: message("the image is the same as the one before: the camera may hang")
            )


class Alignment(UserRecord):
    """Where the part lies: zones are drawn on a reference image and follow the part."""

    image: str | None = Field(default=None, description="the name of an image file beside the rules")
    reference: Reference | None = Field(default=None, description="an object with height, width and png")
    """What the image shows; it takes its place when the rules are read."""
    method: Method = Field(default="features", description='"features" or "phase"')
    """"features": shift, rotation and scale; "phase": a shift, also of parts with few features."""
    largest_residual_px: float = Field(default=5.0, gt=0, le=1e4, description="a number above 0")

    def learned(self, folder: Path) -> Self:
        """The alignment with its reference, whose file is relative to `folder`.

        Raises:
            DataError: If the image cannot be read.
        """
        if self.image is None:
            return self
        return self.changed(image=None, reference=Reference.of(read_image(folder / self.image)))

    def locate(self, image: Image) -> Placement:
        """Where the part of the reference lies in an image of its size; otherwise the residual is ∞."""
        reference = self.reference
        if reference is None or (reference.height, reference.width) != image.shape[:2]:
            return Placement(np.eye(2, 3), np.inf)
        return reference.locate(image, self.method)

    def faults(self, placement: Placement) -> Sequence[Reason]:
        """Why an image cannot be judged."""
        if placement.residual <= self.largest_residual_px:
            return ()
        found = placement.residual

        def text() -> str:
            if np.isinf(found):
                return message("the part of the reference image was not found")
            return message(
                "the part lies {found:.3g} pixels off where it would fit the reference image", found=found
            )

        return (Reason("alignment", text),)
