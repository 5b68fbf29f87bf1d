"""Gives the verdict on an image: its score and its map compared with the thresholds, its regions with the rules."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemish.calibration import Calibration
from blemish.camera.alignment import Placement
from blemish.camera.quality import ImageQuality, measure_quality
from blemish.inspection.result import Inspection
from blemish.messages import message
from blemish.reasons import Reason
from blemish.regions import Region, find_regions, highest_pixel
from blemish.rules.decision import decide
from blemish.rules.grade import Grade, Grader
from blemish.rules.measures import Measurer
from blemish.rules.record import Rules
from blemish.rules.zones import ZoneMaps
from blemish.types import Image, Map, Mask, Verdict


class Judged(NamedTuple):
    """What an inspection adds to an image's score and map."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    regions: tuple[Region, ...]
    grades: tuple[Grade, ...]
    mask: Mask
    decisive: float


@dataclass(slots=True)
class Judge:
    """Judges images by the thresholds of a calibration and, if there are any, by rules."""

    calibration: Calibration
    rules: Rules | None = None
    _zones: ZoneMaps | None = field(default=None, init=False, repr=False)
    """Those of the latest image's size."""

    def judge(
        self, score: float, anomaly_map: Map, image: Image, path: Path | None, previous: str | None = None
    ) -> Inspection:
        """The verdict on an image, whose score and map (H, W) are finite.

        An image that is REVIEW or NG always has a region: if no pixel is above the pixel threshold, the highest pixel.

        Args:
            score: Of the image.
            anomaly_map: (H, W).
            image: (H, W, 3).
            path: Its file.
            previous: Digest of the image before, of a camera's.
        """
        rules, digest = self.rules, None
        if rules is None:
            found = self._by_score(score, anomaly_map, image)
        else:
            quality = None if rules.gate is None else measure_quality(image)
            digest = None if quality is None else quality.digest
            placement = None if rules.alignment is None else rules.alignment.locate(image)
            faults = tuple(_faults(rules, quality, placement, previous))
            if faults:
                mask = np.zeros(anomaly_map.shape, np.bool_)
                found = Judged("INVALID", faults, (), (), mask, math.inf)
            else:
                zones = self._zones_of(rules, anomaly_map.shape, placement)
                found = self._by_rules(rules, zones, score, anomaly_map, image)
        return Inspection(
            path,
            score,
            found.verdict,
            found.regions,
            image,
            anomaly_map,
            found.mask,
            self.calibration,
            found.reasons,
            found.grades,
            found.decisive,
            digest,
        )

    def _by_score(self, score: float, anomaly_map: Map, image: Image) -> Judged:
        """NG if the score is above the image threshold, REVIEW if it is above the review threshold."""
        calibration = self.calibration
        mask, regions = self._regions(anomaly_map, image)
        verdict = calibration.verdict(score)
        if verdict != "OK" and not regions:
            regions = (highest_pixel(anomaly_map, image, calibration.region_threshold),)
        return Judged(verdict, _of_score(verdict, score, calibration), regions, (), mask, score)

    def _by_rules(
        self, rules: Rules, zones: ZoneMaps, score: float, anomaly_map: Map, image: Image
    ) -> Judged:
        """The verdict of the rules on all regions; without a region, REVIEW if the score is too high."""
        seen = anomaly_map if zones.ignored is None else np.where(zones.ignored, -np.inf, anomaly_map)
        mask, regions = self._regions(seen, image, rules.merge_px)
        grader = Grader(rules, zones, Measurer(self.calibration, rules.scale))
        if regions:
            grades = grader.grades(regions)
            verdict, reasons = decide(grades, rules)
            decisive = -math.inf if verdict == "OK" else math.inf
            return Judged(verdict, tuple(reasons), regions, grades, mask, decisive)
        decisive = self._score_of_the_rest(score, anomaly_map, seen)
        if self.calibration.verdict(decisive) == "OK":
            return Judged("OK", (), (), (), mask, decisive)
        pixel = highest_pixel(seen, image, self.calibration.region_threshold)
        reason = Reason(
            "no_region", lambda: message("the score is too high, but no pixel is above the pixel threshold")
        )
        return Judged("REVIEW", (reason,), (pixel,), (grader.unmeasured(pixel),), mask, decisive)

    def _score_of_the_rest(self, score: float, anomaly_map: Map, seen: Map) -> float:
        """The score without what is ignored.

        A score that stems from an ignored pixel is replaced by the highest other one, as high above its threshold.
        """
        highest = float(seen.max())
        if highest == anomaly_map.max():
            return score
        return self.calibration.score_at(self.calibration.relative_peak(highest))

    def _regions(self, anomaly_map: Map, image: Image, gap: int = 0) -> tuple[Mask, tuple[Region, ...]]:
        calibration = self.calibration
        return find_regions(
            anomaly_map, image, calibration.pixel_threshold, calibration.region_threshold, gap
        )

    def _zones_of(self, rules: Rules, size: tuple[int, ...], placement: Placement | None) -> ZoneMaps:
        if rules.scale is not None:
            rules.scale.require_plane((size[0], size[1]))
        if placement is not None:
            return ZoneMaps(rules.zones, (size[0], size[1]), placement.matrix)
        if self._zones is None or self._zones.size != size:
            self._zones = ZoneMaps(rules.zones, (size[0], size[1]))
        return self._zones


def _faults(
    rules: Rules, quality: ImageQuality | None, placement: Placement | None, previous: str | None
) -> Iterator[Reason]:
    """Why an image cannot be judged."""
    if rules.gate is not None and quality is not None:
        yield from rules.gate.faults(quality, previous)
    if rules.alignment is not None and placement is not None:
        yield from rules.alignment.faults(placement)


def _of_score(verdict: Verdict, score: float, calibration: Calibration) -> tuple[Reason, ...]:
    """Why the score alone gives this verdict."""
    if verdict == "NG":
        return (
            Reason(
                "score",
                lambda: message(
                    "the score {score:.4g} is above the image threshold {threshold:.4g}",
                    score=score,
                    threshold=calibration.image_threshold,
                ),
            ),
        )
    if verdict == "REVIEW":
        return (
            Reason(
                "review",
                lambda: message(
                    "the score {score:.4g} is above the review threshold {low:.4g} (NG above {high:.4g})",
                    score=score,
                    low=calibration.lowest_threshold,
                    high=calibration.image_threshold,
                ),
            ),
        )
    return ()
