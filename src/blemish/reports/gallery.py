"""Selects the test images of a report: the errors, worst first, and a random sample of the detections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.inspection.heatmap import draw_marker
from blemish.inspection.thumbnail import make_thumbnail, shrink_image, shrink_mask
from blemish.regions import Region
from blemish.types import Image, Map, Mask, Verdict

THUMBNAIL = 320
"""Longest side of an image in the report, in pixels."""


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """A test image in a report."""

    name: str
    """Path of the image, for display."""
    defect_type: str
    label: int
    score: float
    verdict: Verdict
    image: NDArray[np.uint8] = field(repr=False)
    """(H, W, 3) RGB."""
    overlay: NDArray[np.uint8] = field(repr=False)
    """(H, W, 3) RGB, from `heatmap.overlay`."""
    mask: Mask | None = field(repr=False)
    """(H, W) true mask, None if the image has none."""
    defect_mask: Mask = field(repr=False)
    """(H, W) pixels that the model calls defective."""
    zoom: NDArray[np.uint8] | None = field(default=None, repr=False)
    """(H, W, 3) RGB, the surroundings of the highest anomaly, enlarged."""
    reason: str | None = None
    """Why the verdict differs from the regions, if it does."""

    @property
    def is_miss(self) -> bool:
        """Whether it is an anomalous image called OK."""
        return self.label == 1 and self.verdict == "OK"

    @property
    def is_false_alarm(self) -> bool:
        """Whether it is a normal image called NG."""
        return self.label == 0 and self.verdict == "NG"


class NamedError(NamedTuple):
    """A miss or false alarm that is named without an image."""

    name: str
    defect_type: str
    score: float


class ImageArrays(NamedTuple):
    """What is shown of one test image; the first four arrays have the same height and width."""

    image: Image
    relative_map: Map
    """0 typical of normal pixels, 1 the pixel threshold."""
    defect_mask: Mask
    mask: Mask | None
    zoom: NDArray[np.uint8] | None = None
    """(H, W, 3) RGB, the surroundings of the highest anomaly, enlarged."""
    region: Region | None = None
    """The region that a marker is drawn around."""
    reason: str | None = None


class GalleryPicker:
    """Gets every test image once and keeps a bounded number of thumbnails.

    It keeps the misses with the lowest and the false alarms with the highest score, names the others, and keeps a
    random sample of the detections of each defect type, so that they are typical.

    Args:
        misses: Maximum number of misses with an image.
        false_alarms: Maximum number of false alarms with an image.
        detections: Maximum number of detections of each defect type.
        limit: Maximum number of images in total; errors come before detections.
        seed: Seed of the random sample.
    """

    def __init__(
        self,
        *,
        misses: int = 100,
        false_alarms: int = 100,
        detections: int = 2,
        limit: int = 224,
        seed: int = 0,
    ) -> None:
        self.misses, self.false_alarms, self.detections, self.limit = misses, false_alarms, detections, limit
        self._errors: dict[str, list[GalleryItem]] = {"miss": [], "false_alarm": []}
        self._named: dict[str, list[NamedError]] = {"miss": [], "false_alarm": []}
        self._detections: dict[str, list[GalleryItem]] = {}
        self._counts: dict[str, int] = {}
        self._rng = np.random.default_rng(seed)

    def offer(
        self,
        name: str,
        defect_type: str,
        label: int,
        score: float,
        verdict: Verdict,
        load_arrays: Callable[[], ImageArrays],
    ) -> None:
        """Take one test image.

        Args:
            name: Path for display.
            defect_type: "good" for normal images.
            label: 0 normal, 1 anomalous.
            score: Raw score.
            verdict: The model's verdict.
            load_arrays: Returns the image's arrays; called only if the image is kept.
        """
        if label == 1 and verdict != "OK":
            place = self._sample_place(defect_type)
            if place is not None:
                kept = self._detections.setdefault(defect_type, [])
                kept[place : place + 1] = [_shrink(name, defect_type, label, score, verdict, load_arrays())]
        elif label == 1 or verdict == "NG":
            self._keep_worst(name, defect_type, label, score, verdict, load_arrays)

    def items(self) -> list[GalleryItem]:
        """The selected images in the report's order: misses, false alarms, then detections by defect type."""
        chosen = (self._errors["miss"] + self._errors["false_alarm"])[: self.limit]
        room = self.limit - len(chosen)
        # The first detection of each type comes before the second of any type.
        ranked = [
            (place, defect_type)
            for defect_type, kept in self._detections.items()
            for place in range(len(kept))
        ]
        taken = sorted(sorted(ranked)[:room], key=lambda entry: (entry[1], entry[0]))
        return chosen + [self._detections[defect_type][place] for place, defect_type in taken]

    def others(self) -> dict[str, list[NamedError]]:
        """The errors without an image, under "miss" and "false_alarm", worst first."""
        found = {}
        for kind, sign, capacity in (("miss", 1.0, self.misses), ("false_alarm", -1.0, self.false_alarms)):
            ranked = sorted(self._named[kind], key=lambda error: sign * error.score)
            found[kind] = ranked[capacity:]
        return found

    def _sample_place(self, defect_type: str) -> int | None:
        """Index at which reservoir sampling puts this detection; None if it is not kept."""
        count = self._counts[defect_type] = self._counts.get(defect_type, 0) + 1
        place = count - 1 if count <= self.detections else int(self._rng.integers(count))
        return place if place < self.detections else None

    def _keep_worst(
        self,
        name: str,
        defect_type: str,
        label: int,
        score: float,
        verdict: Verdict,
        load_arrays: Callable[[], ImageArrays],
    ) -> None:
        kind, capacity = ("miss", self.misses) if label else ("false_alarm", self.false_alarms)
        kept = self._errors[kind]
        self._named[kind].append(NamedError(name, defect_type, score))
        sign = 1.0 if label else -1.0
        if len(kept) >= capacity and (not kept or sign * score >= sign * kept[-1].score):
            return
        kept.append(_shrink(name, defect_type, label, score, verdict, load_arrays()))
        kept.sort(key=lambda item: sign * item.score)
        del kept[capacity:]


def _shrink(
    name: str, defect_type: str, label: int, score: float, verdict: Verdict, arrays: ImageArrays
) -> GalleryItem:
    """The gallery item with thumbnails of its arrays."""
    small = make_thumbnail(arrays.image, arrays.relative_map, arrays.defect_mask, THUMBNAIL)
    if arrays.region is not None:
        scale = small.image.shape[1] / arrays.image.shape[1]
        box = (arrays.region.x, arrays.region.y, arrays.region.width, arrays.region.height)
        draw_marker(small.overlay, *(scale * side for side in box))
    return GalleryItem(
        name=name,
        defect_type=defect_type,
        label=label,
        score=score,
        verdict=verdict,
        image=small.image,
        overlay=small.overlay,
        mask=None if arrays.mask is None else shrink_mask(arrays.mask, THUMBNAIL),
        defect_mask=small.defect_mask,
        zoom=None if arrays.zoom is None else shrink_image(arrays.zoom, THUMBNAIL),
        reason=arrays.reason,
    )
