"""Measuring a model on labelled images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from blemish.data.content import HASH_DIGITS, content_hashes
from blemish.data.images import read_image, read_mask
from blemish.errors import BlemishWarning, DataError
from blemish.inspection.result import Inspection
from blemish.metrics.evaluation import Evaluation
from blemish.metrics.evaluator import Evaluator
from blemish.model import Model
from blemish.reports.evaluation import ReportBuilder
from blemish.scoring import Decoded
from blemish.types import Mask, Progress, Sample, no_progress

Observer = Callable[[Sample, Inspection, Mask | None], None]
"""Called by `evaluate` with every sample, its verdict and its true mask."""


def evaluate(
    model: Model,
    samples: Sequence[Sample],
    *,
    observe: Observer | None = None,
    report: Path | str | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Measure a model on labelled images, at the images' own resolution.

    `seconds_per_image` counts preprocessing, network and map, not decoding; images go in batches.

    Args:
        model: What to measure.
        samples: Usually `Dataset.test`.
        observe: Sees every image and its verdict.
        report: Where to write a report, one HTML file.
        progress: Told of the images done.

    Raises:
        DataError: If an image or a mask cannot be read, or they contradict each other.
    """
    if not samples:
        raise DataError("There is no image to evaluate on. Give a data set with a test split.")
    _warn_of_training_images(model, samples, progress)
    evaluator = Evaluator()
    builder = ReportBuilder(model.manifest)
    observers = [seen for seen in (observe, builder.observe if report else None) if seen]
    seconds = []
    for sample, found in zip(samples, model.scorer.stream(samples, _read_labelled), strict=True):
        evaluator.update(found.score, sample.label, sample.defect_type, found.anomaly_map, found.mask)
        if observers:
            inspection = model.judge(found.score, found.anomaly_map, found.image, found.path)
            for observer in observers:
                observer(sample, inspection, found.mask)
        seconds.append(found.seconds)
        progress("evaluating", len(seconds), len(samples))
    evaluation = evaluator.compute(model.calibration.image_threshold, sum(seconds) / len(seconds))
    if report:
        return replace(evaluation, report=builder.write(Path(report), evaluation))
    return evaluation


def _read_labelled(sample: Sample) -> Decoded:
    image = read_image(sample.path)
    mask = None if sample.mask_path is None else read_mask(sample.mask_path, size=image.shape[:2])
    return Decoded(sample.path, image, mask)


def _warn_of_training_images(model: Model, samples: Sequence[Sample], progress: Progress) -> None:
    learned = set(model.manifest.data.hashes)
    hashes = content_hashes([sample.path for sample in samples], progress)
    shared = [sample.path for sample in samples if hashes[sample.path][:HASH_DIGITS] in learned]
    if shared:
        warnings.warn(
            f"{len(shared)} test images are also training images, so the numbers flatter the model; the first is "
            f"{shared[0]}. Remove them from one of the two.",
            BlemishWarning,
            stacklevel=3,
        )
