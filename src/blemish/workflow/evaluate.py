"""Evaluates a model on labelled images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from blemish.data.content import HASH_DIGITS, content_hashes
from blemish.data.images import read_image, read_mask
from blemish.errors import BlemishWarning, DataError
from blemish.files import require_writable_file
from blemish.inspection.result import Inspection
from blemish.metrics.evaluation import Evaluation
from blemish.metrics.evaluator import Evaluator
from blemish.model import Model
from blemish.names import printable
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
    """Evaluate a model on labelled images, at the images' own resolution.

    `seconds_per_image` covers preprocessing, network and map, without decoding, and is averaged over batches.

    Args:
        model: Model to evaluate.
        samples: Labelled images, usually `Dataset.test`.
        observe: Called with every image, its inspection and its true mask.
        report: File for a report in HTML; none is written if not given.
        progress: Called with the number of images done.

    Raises:
        DataError: If an image or a mask cannot be read, or the mask does not fit the image or its label.
        OSError: If the report cannot be written; this is checked first.
    """
    if not samples:
        raise DataError("There is no image to evaluate on. Give a data set with a test split.")
    if report is not None:
        require_writable_file(Path(report))
    _warn_of_training_images(model, samples, progress)
    evaluator = Evaluator()
    builder = ReportBuilder(model.manifest)
    observers = [
        observer for observer in (observe, builder.observe if report is not None else None) if observer
    ]
    seconds, blank = [], []
    for sample, scored in zip(samples, model.scorer.stream(samples, _read_labelled), strict=True):
        evaluator.update(
            scored.score, sample.label, printable(sample.defect_type), scored.anomaly_map, scored.mask
        )
        if observers:
            inspection = model.judge(scored.score, scored.anomaly_map, scored.image, scored.path)
            for observer in observers:
                observer(sample, inspection, scored.mask)
        if sample.label and scored.mask is not None and not scored.mask.any():
            blank.append(sample.mask_path)
        seconds.append(scored.seconds)
        progress("evaluating", len(seconds), len(samples))
    _warn_of_blank_masks(blank)
    evaluation = evaluator.compute(model.calibration.image_threshold, sum(seconds) / len(seconds))
    if report is not None:
        return replace(evaluation, report=builder.write(Path(report), evaluation))
    return evaluation


def _read_labelled(sample: Sample) -> Decoded:
    image = read_image(sample.path)
    mask = None if sample.mask_path is None else read_mask(sample.mask_path, size=image.shape[:2])
    return Decoded(sample.path, image, mask)


def _warn_of_blank_masks(masks: Sequence[Path | None]) -> None:
    if masks:
        warnings.warn(
            f"{len(masks)} masks of anomalous images mark no pixel, the first is {printable(str(masks[0]))}, so the "
            "pixel metrics take these images for normal. Mark the defects, or label the images good.",
            BlemishWarning,
            stacklevel=3,
        )


def _warn_of_training_images(model: Model, samples: Sequence[Sample], progress: Progress) -> None:
    learned = set(model.manifest.data.hashes)
    hashes = content_hashes([sample.path for sample in samples], progress)
    shared = [sample.path for sample in samples if hashes[sample.path][:HASH_DIGITS] in learned]
    if shared:
        warnings.warn(
            f"{len(shared)} test images are also training images, so the metrics are too optimistic; the first is "
            f"{shared[0]}. Remove them from one of the two.",
            BlemishWarning,
            stacklevel=3,
        )
