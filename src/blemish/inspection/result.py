"""The verdict on one image, with its heat map and its display in notebooks."""

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration
from blemish.data.images import write_image
from blemish.errors import BlemishError
from blemish.inspection.heatmap import overlay
from blemish.inspection.heatmap_files import MARK
from blemish.inspection.thumbnail import data_uri, make_thumbnail
from blemish.messages import message
from blemish.names import printable
from blemish.reasons import Reason
from blemish.regions import Region
from blemish.rules.grade import Grade, highest
from blemish.rules.record import Severity
from blemish.types import Image, Map, Mask, Verdict

COLOURS: Mapping[Verdict, tuple[int, int, int]] = {
    "OK": (47, 125, 91),
    "REVIEW": (156, 111, 12),
    "NG": (194, 80, 28),
    "INVALID": (110, 84, 140),
}
"""RGB of each verdict on white ground."""
NOTEBOOK_SIDE = 480
"""Longest side of the images in a notebook, in pixels."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inspection:
    """The verdict on one image."""

    path: Path | None
    """None if the image was given as an array."""
    score: float
    verdict: Verdict
    regions: tuple[Region, ...]
    """Largest peak first."""
    image: Image
    """(H, W, 3) RGB, the inspected image."""
    anomaly_map: Map
    """(H, W) at the original image's size."""
    defect_mask: Mask
    """(H, W): the pixels of the regions, found by hysteresis (`blemish.regions`)."""
    calibration: Calibration
    """Thresholds and score scale of the verdict."""
    reasons: tuple[Reason, ...] = ()
    """Why the verdict is not OK."""
    grades: tuple[Grade, ...] = ()
    """By the model's rules, of each region; empty without rules."""
    decisive: float = math.nan
    """The image is not OK if this is above the review threshold: its score, or ∞ or −∞ if rules have decided."""
    digest: str | None = None
    """Of the image's pixels, if the rules have a gate, to tell whether the next image is the same."""

    @property
    def threshold(self) -> float:
        """Image threshold: the verdict is NG if the score is above it."""
        return self.calibration.image_threshold

    @property
    def severity(self) -> Severity | None:
        """The highest severity of a region; None without rules or regions."""
        return highest([grade.severity for grade in self.grades]) if self.grades else None

    @property
    def reason(self) -> str | None:
        """Why the rules or the review threshold decided so, or why verdict and defect mask differ; else None."""
        if self.grades or self.verdict in ("REVIEW", "INVALID"):
            return message("; ").join(reason.text for reason in self.reasons) or None
        has_defect = bool(self.regions) and self.regions[0].peak > self.calibration.pixel_threshold
        if has_defect == (self.verdict == "NG"):
            return None
        threshold = self.calibration.pixel_threshold
        if has_defect:
            return message(
                "pixels are above the pixel threshold {threshold:.4g}, but the score is not above the image threshold",
                threshold=threshold,
            )
        return message(
            "no pixel is above the pixel threshold {threshold:.4g}; the region is the highest one, {peak:.4g}",
            threshold=threshold,
            peak=self.regions[0].peak,
        )

    def overlay(self) -> NDArray[np.uint8]:
        """The image under the colours of its heat map, with the defect mask outlined; (H, W, 3) RGB.

        The scale is the same for every image. On a scale where a typical normal pixel is 0 and the pixel threshold
        is 1, values up to 0.5 are transparent and those from 2 have the strongest colour.
        """
        relative = self.calibration.relative_map(self.anomaly_map)
        return overlay(self.image, relative, defect_mask=self.defect_mask)

    def save(self, path: Path | str) -> Path:
        """Write an annotated image, in the format of the suffix; a missing folder is created.

        It shows the verdict, the heat map and the highest anomaly enlarged, at a size for screens; `overlay` gives the
        heat map at the image's size.

        Raises:
            DataError: If the format cannot hold it.
            OSError: If the disk fails.
        """
        from blemish.inspection.annotated import draw_annotated  # knows this module

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, draw_annotated(self), comment=MARK)
        return path

    def to_dict(self) -> dict[str, Any]:
        """The verdict without its arrays, as values that JSON can hold."""
        return {
            "path": None if self.path is None else printable(self.path),
            "score": self.score,
            "verdict": self.verdict,
            "threshold": self.threshold,
            "review_threshold": self.calibration.review_threshold,
            "severity": self.severity,
            "reason": self.reason,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "regions": [
                region.to_dict() | ({} if grade is None else {"grade": grade.to_dict()})
                for region, grade in zip_longest(self.regions, self.grades)
            ],
        }

    def __repr__(self) -> str:
        height, width = self.anomaly_map.shape
        path = None if self.path is None else str(self.path)
        return (
            f"Inspection({self.verdict}, score={self.score:.4g}, threshold={self.threshold:.4g}, "
            f"regions={len(self.regions)}, size={height}×{width}, path={path!r})"
        )

    def _repr_html_(self) -> str:
        """HTML for a notebook: verdict, score, threshold, and image and heat map side by side."""
        relative = self.calibration.relative_map(self.anomaly_map)
        small = make_thumbnail(self.image, relative, self.defect_mask, NOTEBOOK_SIDE)
        colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[self.verdict])
        name = "" if self.path is None else f"<br>{html.escape(printable(self.path))}"
        images = "".join(
            f'<img src="{data_uri(pixels)}" alt="{alt}" style="display:inline-block; margin:4px 4px 0 0">'
            for pixels, alt in ((small.image, "image"), (small.overlay, "heat map"))
        )
        return (
            f'<div><b style="color:{colour}">{self.verdict}</b> score {self.score:.4g}, '
            f"threshold {self.threshold:.4g}, regions {len(self.regions)}{name}<br>{images}</div>"
        )


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The result for an image that could not be read or scored, in place of an inspection."""

    path: Path | None
    """None if the image was given as an array."""
    error: BlemishError
    """Its text names the file, the problem and what to do."""

    def to_dict(self) -> dict[str, Any]:
        """Path and error, as values that JSON can hold."""
        return {"path": None if self.path is None else printable(self.path), "error": str(self.error)}
