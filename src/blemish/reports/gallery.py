"""Which test images a report shows: the worst mistakes and an even sample of what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.inspection.thumbnail import make_thumbnail, shrink_mask
from blemish.types import Image, Map, Mask, Verdict

THUMBNAIL = 320
"""Longest side of a picture in the report, pixels."""


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """One test image as a report shows it."""

    name: str
    """Path of the image, to be read by people."""
    defect_type: str
    label: int
    score: float
    verdict: Verdict
    image: NDArray[np.uint8] = field(repr=False)
    """(H, W, 3) RGB."""
    overlay: NDArray[np.uint8] = field(repr=False)
    """(H, W, 3) RGB, from `heatmap.overlay`."""
    mask: Mask | None = field(repr=False)
    """(H, W) true defect, None where nobody marked it."""
    defect_mask: Mask = field(repr=False)
    """(H, W) what the model calls defective."""

    @property
    def is_miss(self) -> bool:
        """A defective image called OK."""
        return self.label == 1 and self.verdict == "OK"

    @property
    def is_false_alarm(self) -> bool:
        """A normal image called NG."""
        return self.label == 0 and self.verdict == "NG"


class Pictures(NamedTuple):
    """The arrays of one test image, all (H, W)."""

    image: Image
    relative_map: Map
    """0 typical of normal pixels, 1 the pixel threshold."""
    defect_mask: Mask
    mask: Mask | None


class GalleryPicker:
    """Sees every test image once and keeps thumbnails of a few, so memory does not grow with the test set.

    It keeps the misses with the lowest and the false alarms with the highest score, and of each defect
    type a random sample of the detections: typical ones, not the best.

    Args:
        misses: How many misses to keep at most.
        false_alarms: How many false alarms to keep at most.
        detections: How many detections of each defect type to keep at most.
        limit: How many images to hand out at most; detections give way to mistakes.
        seed: Of the random sample.
    """

    def __init__(
        self, *, misses: int = 8, false_alarms: int = 8, detections: int = 2, limit: int = 24, seed: int = 0
    ) -> None:
        self.misses, self.false_alarms, self.detections, self.limit = misses, false_alarms, detections, limit
        self._mistakes: dict[str, list[GalleryItem]] = {"miss": [], "false_alarm": []}
        self._found: dict[str, list[GalleryItem]] = {}
        self._seen: dict[str, int] = {}
        self._rng = np.random.default_rng(seed)

    def offer(
        self,
        name: str,
        defect_type: str,
        label: int,
        score: float,
        verdict: Verdict,
        pictures: Callable[[], Pictures],
    ) -> None:
        """Tells of one test image.

        Args:
            name: Path to show.
            defect_type: "good" for normal images.
            label: 0 normal, 1 anomalous.
            score: Raw score.
            verdict: The model's.
            pictures: Called only if the image is kept for now.
        """
        if label == 1 and verdict == "NG":
            place = self._sample_place(defect_type)
            if place is not None:
                kept = self._found.setdefault(defect_type, [])
                kept[place : place + 1] = [_shrink(name, defect_type, label, score, verdict, pictures())]
        elif (label == 1) != (verdict == "NG"):
            self._keep_worst(name, defect_type, label, score, verdict, pictures)

    def items(self) -> list[GalleryItem]:
        """The images kept, in the order to show: misses, false alarms, then detections type by type."""
        chosen = (self._mistakes["miss"] + self._mistakes["false_alarm"])[: self.limit]
        room = self.limit - len(chosen)
        # One of each type before the second of any.
        ranked = [
            (place, defect_type) for defect_type, kept in self._found.items() for place in range(len(kept))
        ]
        taken = sorted(sorted(ranked)[:room], key=lambda entry: (entry[1], entry[0]))
        return chosen + [self._found[defect_type][place] for place, defect_type in taken]

    def _sample_place(self, defect_type: str) -> int | None:
        """Where reservoir sampling puts this detection; None if it is passed over."""
        seen = self._seen[defect_type] = self._seen.get(defect_type, 0) + 1
        place = seen - 1 if seen <= self.detections else int(self._rng.integers(seen))
        return place if place < self.detections else None

    def _keep_worst(
        self,
        name: str,
        defect_type: str,
        label: int,
        score: float,
        verdict: Verdict,
        pictures: Callable[[], Pictures],
    ) -> None:
        kind, capacity = ("miss", self.misses) if label else ("false_alarm", self.false_alarms)
        kept = self._mistakes[kind]
        sign = 1.0 if label else -1.0
        if len(kept) >= capacity and (not kept or sign * score >= sign * kept[-1].score):
            return
        kept.append(_shrink(name, defect_type, label, score, verdict, pictures()))
        kept.sort(key=lambda item: sign * item.score)
        del kept[capacity:]


def _shrink(
    name: str, defect_type: str, label: int, score: float, verdict: Verdict, pictures: Pictures
) -> GalleryItem:
    """The item with its arrays made small."""
    small = make_thumbnail(pictures.image, pictures.relative_map, pictures.defect_mask, THUMBNAIL)
    return GalleryItem(
        name=name,
        defect_type=defect_type,
        label=label,
        score=score,
        verdict=verdict,
        image=small.image,
        overlay=small.overlay,
        mask=None if pictures.mask is None else shrink_mask(pictures.mask, THUMBNAIL),
        defect_mask=small.defect_mask,
    )
