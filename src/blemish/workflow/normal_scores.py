"""Scores normal images by models that did not learn from their groups: the scores that thresholds rest on.

Images that were held out are scored by the model itself. Of a model that learned from all images, each is scored either
by the same model without what it learned from the image's group, or by a model that was fitted to other folds. Such
thresholds are as in cross-conformal prediction (Vovk, "Cross-conformal predictors", 2015; Barber et al., "Predictive
inference with the jackknife+", 2021): for exchangeable groups at most about twice the requested rate is exceeded, and
in practice the rate itself is kept, since a model that learned from more images scores normal ones lower.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Calibration
from blemish.data.images import image_size
from blemish.data.loading import decoded_bytes, prefetch
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishWarning
from blemish.inspection.suspects import Suspects
from blemish.inspection.unusual import Unusual
from blemish.messages import message
from blemish.reports.suspects import SuspectsReport, write_suspects
from blemish.scoring import Decoded, Scored, Scorer, require_finite
from blemish.types import Progress, Sample, no_progress
from blemish.workflow.cross_scores import (
    FOLDS,
    CrossScores,
    assign_folds,
    no_take,
    ranked,
    read,
    standardised,
)
from blemish.workflow.learning import Learning
from blemish.workflow.normal_images import NormalImages

if TYPE_CHECKING:
    from blemish.methods.base import Method
    from blemish.training.leave_out import LeftOut

SUSPECTED_RATE = 0.1
"""Rate of false discoveries among the images that are suspected of a defect."""
Result = tuple[int, int, Scored]
"""The fold that the scoring model left out, the number of the image, and its score with the map."""


def calibrated(
    learning: Learning,
    scorer: Scorer,
    normal: NormalImages,
    left_out: "Iterator[LeftOut] | None",
    rate: float,
    report: Path | str | None,
    progress: Progress,
) -> tuple[Calibration, Unusual]:
    """Thresholds from the scores of normal images by models without their groups, and the most unusual images.

    Args:
        learning: How the model learned.
        scorer: Scores with it.
        normal: The images.
        left_out: What the model itself predicts for each image without its group, if it can leave images out.
        rate: Share of normal images that may be called NG.
        report: File for a report on these images, which shows those that are suspected of a defect.
        progress: Called with the number of images scored.
    """
    samples = normal.held_out or normal.learned
    groups = normal.groups_of(samples)
    if normal.held_out:
        results = _held_out(scorer, samples)
    elif left_out is not None:
        results = _left_out(learning.preprocess, samples, left_out, shown=report is not None)
    else:
        results = _of_folds(learning, samples, groups)
    rows = np.empty((len(samples), 3))  # score, the map's largest value and its median
    folds = np.zeros(len(samples), np.int64)
    drawn = SuspectsReport()
    take = no_take if report is None else drawn.offer
    progress("calibrating", 0, len(samples))
    for done, (fold, number, scored) in enumerate(results, 1):
        take(fold, number, scored)
        rows[number] = scored.score, scored.anomaly_map.max(), np.median(scored.anomaly_map)
        folds[number] = fold
        progress("calibrating", done, len(samples))
    calibration = Calibration.from_normal(
        rows[:, 0],
        rows[:, 1],
        rows[:, 2],
        rate,
        groups=groups,
        held_out=bool(normal.held_out),
    )
    if report is not None:
        scores = CrossScores(rows[:, 0], standardised(rows[:, 0], folds))
        how = message("Every image was scored by a model that had not learned from its group.")
        found = Suspects(ranking=ranked(samples, scores), how=how, rate=SUSPECTED_RATE, copies_sought=False)
        write_suspects(drawn, Path(report), found, samples)
    return calibration, Unusual.of([sample.path for sample in samples], rows[:, 0].tolist())


def _held_out(
    scorer: Scorer, samples: Sequence[Sample], numbers: Sequence[int] = (), fold: int = 0
) -> Iterator[Result]:
    """Scores as in an inspection, at the images' own resolution, of all samples or of those with these numbers."""
    chosen = numbers or range(len(samples))
    scored = scorer.stream([samples[number] for number in chosen], read)
    for number, result in zip(chosen, scored, strict=True):
        yield fold, number, result


def _left_out(
    preprocess: Preprocess, samples: Sequence[Sample], left_out: "Iterator[LeftOut]", *, shown: bool
) -> Iterator[Result]:
    """Scores of the images learned from, in the order of training; they are decoded only if they are shown."""
    size_of = (lambda sample: decoded_bytes(sample.path)) if shown else None
    decoded = prefetch(samples, read if shown else _without_content, size_of=size_of)
    for number, (image, predicted) in enumerate(zip(decoded, left_out, strict=True)):
        yield 0, number, _restored(preprocess, image, *predicted)


def _without_content(sample: Sample) -> Decoded:
    """A black image of the sample's size, which takes no memory."""
    return Decoded(sample.path, np.broadcast_to(np.uint8(0), (*image_size(sample.path), 3)))


def _of_folds(learning: Learning, samples: Sequence[Sample], groups: Sequence[int]) -> Iterator[Result]:
    """Scores by models that learned from all folds but the image's; groups are not parted."""
    members = list(_members(groups).values())
    folds = min(FOLDS, len(members))
    fold_of = assign_folds(members, range(len(samples)), folds, learning.seed)
    for fold in range(folds):
        own = [number for number in range(len(samples)) if fold_of[number] == fold]
        others = [number for number in range(len(samples)) if fold_of[number] != fold]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BlemishWarning)  # the fit on all images has warned
            scorer = learning.on([samples[n] for n in others], [groups[n] for n in others], no_progress)
        yield from _held_out(scorer, samples, own, fold)


def score_without(
    method: "Method", preprocess: Preprocess, decoded: Decoded, numbers: Sequence[int]
) -> Scored:
    """The score of an image by a trained method as if it had not learned from the training images `numbers`."""
    from blemish.training.leave_out import predict_without  # torch is not needed to inspect

    return _restored(preprocess, decoded, *predict_without(method, preprocess(decoded.image), numbers))


def _restored(
    preprocess: Preprocess, decoded: Decoded, score: float, anomaly_map: NDArray[np.float32]
) -> Scored:
    """A prediction with the map at the image's own size."""
    require_finite(score, anomaly_map, decoded.path)
    restored = preprocess.restore(anomaly_map, decoded.image.shape[:2])
    return Scored(decoded.path, decoded.image, None, score, restored, 0.0)


def _members(groups: Sequence[int]) -> dict[int, list[int]]:
    """The numbers of the images of each group."""
    members: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    return members
