"""The report of a search for dirty training data: suspected images beside their heat maps, copies side by side."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration
from blemish.data.images import read_image
from blemish.errors import BlemishWarning
from blemish.files import write_whole
from blemish.inspection.heatmap import colour_bar, overlay
from blemish.inspection.suspects import Suspects
from blemish.inspection.thumbnail import data_uri, eight_bit, shrink_image, shrink_map
from blemish.messages import message
from blemish.names import printable
from blemish.reports.gallery import THUMBNAIL
from blemish.reports.html import template_environment
from blemish.scoring import Scored
from blemish.types import Map, Sample

KEPT = 60
"""Maximum number of images of each fold that are kept with their maps, those of the highest scores."""
SHOWN = 100
"""Maximum number of suspected images, and of pairs of copies, that are shown."""
NORMAL_SHARE = 0.8
"""Share of each fold's images whose maps are taken to be normal for the scale of colours."""
CONTRAST = 0.5
"""Change of grey, of half the scale, for a difference of one local contrast."""


class Pair(NamedTuple):
    """Two near-copies."""

    first: Path
    second: Path
    difference: NDArray[np.float32]
    """(H, W) of their fine detail, after registration, in units of its local contrast."""


@dataclass(slots=True)
class _Fold:
    """The results of one fold."""

    scores: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    typical: list[float] = field(default_factory=list)
    kept: list[tuple[float, int, NDArray[np.uint8], Map]] = field(default_factory=list)
    """A heap of score, number, image and map, both at the size of a thumbnail."""

    def offer(self, number: int, scored: Scored) -> None:
        self.scores.append(scored.score)
        self.peaks.append(float(scored.anomaly_map.max()))
        self.typical.append(float(np.median(scored.anomaly_map)))
        if len(self.kept) == KEPT and scored.score <= self.kept[0][0]:
            return
        image = shrink_image(eight_bit(scored.image), THUMBNAIL)
        entry = scored.score, number, image, shrink_map(scored.anomaly_map, image.shape[:2])
        (heapq.heappush if len(self.kept) < KEPT else heapq.heapreplace)(self.kept, entry)

    def drawn(self) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
        """Number, image and heat map of what was kept."""
        scale = Calibration.from_normal(self.scores, self.peaks, self.typical, 1 - NORMAL_SHARE)
        for _, number, image, anomaly_map in self.kept:
            yield number, image, overlay(image, scale.relative_map(anomaly_map))


class SuspectsReport:
    """Collects images by `offer` while they are scored, then writes the report."""

    def __init__(self) -> None:
        self._folds: dict[int, _Fold] = {}

    def offer(self, fold: int, number: int, scored: Scored) -> None:
        """Take the result of image `number`; thumbnails of a few of each fold are kept."""
        self._folds.setdefault(fold, _Fold()).offer(number, scored)

    def write(self, path: Path, found: Suspects, numbers: dict[Path, int], pairs: Iterator[Pair]) -> Path:
        """Write the report as one HTML file.

        Args:
            path: The file; its folder must exist.
            found: What is reported.
            numbers: The number of each image, by its path.
            pairs: Near-copies; only as many are taken as are shown.
        """
        drawn = {
            number: (image, heat) for fold in self._folds.values() for number, image, heat in fold.drawn()
        }
        entries = [
            {
                "place": place,
                "name": printable(one.path),
                "one": one,
                "images": [data_uri(image) for image in drawn.get(numbers[one.path], ())]
                if place <= SHOWN
                else [],
            }
            for place, one in enumerate(found.listed, 1)
        ]
        html = (
            template_environment()
            .get_template("suspects.html.j2")
            .render(
                found=found,
                date=f"{datetime.now().astimezone():%Y-%m-%d %H:%M}",
                shown=[entry for entry in entries if entry["images"]],
                others=[entry for entry in entries if not entry["images"]],
                near=[group for group in found.copies if group.correlation is not None],
                same=[group for group in found.copies if group.correlation is None],
                pairs=[_drawn_pair(pair) for pair in islice(pairs, SHOWN)],
                colour_bar=data_uri(colour_bar(640, 20)),
                printable=printable,
            )
        )
        # Python represents file names that are not valid Unicode by lone surrogates, which UTF-8 cannot encode.
        write_whole(path, html.encode("utf-8", "replace"))
        return path


def write_suspects(
    drawn: SuspectsReport,
    path: Path,
    found: Suspects,
    samples: Sequence[Sample],
    pairs: Iterator[Pair] | None = None,
) -> Suspects:
    """Write the report on these samples, in the order of their numbers; the result names it. A failure is a warning."""
    numbers = {sample.path: number for number, sample in enumerate(samples)}
    try:
        return replace(found, report=drawn.write(path, found, numbers, pairs or iter(())))
    except OSError as error:
        warnings.warn(
            message(
                "The report was not written: {error}. Make room or name another file, and try again.",
                error=error,
            ),
            BlemishWarning,
            stacklevel=3,
        )
        return found


def _drawn_pair(pair: Pair) -> dict[str, Any]:
    images = [shrink_image(eight_bit(read_image(path)), THUMBNAIL) for path in (pair.first, pair.second)]
    grey = np.clip(127.5 * (1 + CONTRAST * pair.difference), 0, 255).astype(np.uint8)
    return {
        "first": printable(pair.first),
        "second": printable(pair.second),
        "images": [*map(data_uri, images), data_uri(np.repeat(grey[:, :, None], 3, 2))],
    }
