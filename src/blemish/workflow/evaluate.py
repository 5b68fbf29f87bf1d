"""Evaluates a model on labelled images."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from blemish.data.content import HASH_DIGITS, content_hashes
from blemish.data.dataset import Dataset
from blemish.data.images import read_image, read_mask
from blemish.data.loading import prefetch
from blemish.errors import BlemishWarning, DataError
from blemish.files import require_writable_file
from blemish.inspection.result import Inspection
from blemish.messages import message
from blemish.metrics.evaluation import Evaluation
from blemish.metrics.evaluator import Evaluator
from blemish.metrics.shift import Shift
from blemish.model import Model
from blemish.names import printable
from blemish.reports.evaluation import ReportBuilder
from blemish.scoring import Decoded
from blemish.types import Mask, Progress, Sample, no_progress
from blemish.workflow.given import require_model

NAMED = 3
"""Maximum number of files that an error names."""

Observer = Callable[[Sample, Inspection, Mask | None], None]
"""Called by `evaluate` with every sample, its verdict and its true mask."""


def evaluate(
    model: Model,
    samples: Sequence[Sample],
    *,
    observe: Observer | None = None,
    report: Path | str | None = None,
    allow_blank_masks: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Evaluate a model on labelled images, at the images' own resolution.

    `seconds_per_image` covers preprocessing, network and map, without decoding, and is averaged over batches.

    Args:
        model: Model to evaluate.
        samples: Labelled images, usually `Dataset.test`.
        observe: Called with every image, its inspection and its true mask.
        report: File for a report in HTML; none is written if not given. If writing it fails at the end, a warning
            says so, and the numbers are returned without it.
        allow_blank_masks: Whether to evaluate, with a warning, if masks of anomalous images mark no pixel.
        progress: Called with the number of images done.

    Raises:
        DataError: If an image or a mask cannot be read, or the mask does not fit the image or its label.
        OSError: If the report cannot be written; this is checked first.
    """
    require_model(model)
    _require_samples(samples)
    if not samples:
        raise DataError("There is no image to evaluate on. Give a data set with a test split.")
    if report is not None:
        require_writable_file(Path(report))
    _warn_of_training_images(model, samples, progress)
    _check_blank_masks(samples, allow_blank_masks, progress)
    evaluator = Evaluator()
    builder = ReportBuilder(model.manifest)
    observers = [
        observer for observer in (observe, builder.observe if report is not None else None) if observer
    ]
    seconds = []
    for sample, scored in zip(samples, model.scorer.stream(samples, _read_labelled), strict=True):
        evaluator.update(
            scored.score, sample.label, printable(sample.defect_type), scored.anomaly_map, scored.mask
        )
        if observers:
            inspection = model.judge(scored.score, scored.anomaly_map, scored.image, scored.path)
            for observer in observers:
                observer(sample, inspection, scored.mask)
        seconds.append(scored.seconds)
        progress("evaluating", len(seconds), len(samples))
    threshold = model.calibration.image_threshold
    evaluation = replace(
        evaluator.compute(threshold, sum(seconds) / len(seconds)),
        threshold=threshold,
        paths=tuple(sample.path for sample in samples),
    )
    evaluation = replace(evaluation, shift=_shift(model, evaluation))
    return evaluation if report is None else _with_report(evaluation, builder, Path(report))


def images_to_evaluate(model: Model, dataset: Dataset) -> list[Sample]:
    """The test images; of a data set without a split, also the normal images that the model has not seen."""
    if dataset.has_split:
        return list(dataset.test)
    seen = set(model.manifest.data.hashes)
    hashes = content_hashes([sample.path for sample in dataset.train])
    unseen = [sample for sample in dataset.train if hashes[sample.path][:HASH_DIGITS] not in seen]
    return [*dataset.test, *(replace(sample, split="test") for sample in unseen)]


def _shift(model: Model, evaluation: Evaluation) -> Shift | None:
    """How much higher normal test images score, in the order of the samples, than the images of the thresholds."""
    calibration = model.calibration
    scored = zip(evaluation.image_scores, evaluation.image_labels, strict=True)
    normal = [score for score, label in scored if not label]
    ng = sum(score > calibration.image_threshold for score in normal)
    holds = ng <= calibration.false_alarm_bound * len(normal)
    return Shift.of(calibration.normal_scores, len(set(calibration.groups)), normal, holds=holds)


def _with_report(evaluation: Evaluation, builder: ReportBuilder, path: Path) -> Evaluation:
    try:
        return replace(evaluation, report=builder.write(path, evaluation))
    except OSError as error:
        warnings.warn(
            message(
                "The report {path} was not written: {strerror}. "
                "Make room or name another file, and evaluate again.",
                path=path,
                strerror=error.strerror or error,
            ),
            BlemishWarning,
            stacklevel=3,
        )
        return evaluation


def _require_samples(samples: object) -> None:
    wrong: list[object] = [samples]
    if isinstance(samples, Sequence) and not isinstance(samples, str):
        wrong = [sample for sample in samples if not isinstance(sample, Sample)]
    if wrong:
        raise DataError(
            "Images to evaluate are labelled samples, got {kind}. Give, e.g., blemish.open_dataset(folder).test.",
            kind=type(wrong[0]).__name__,
        )


def _read_labelled(sample: Sample) -> Decoded:
    image = read_image(sample.path)
    mask = None if sample.mask_path is None else read_mask(sample.mask_path, size=image.shape[:2])
    return Decoded(sample.path, image, mask)


def _check_blank_masks(samples: Sequence[Sample], allow: bool, progress: Progress) -> None:
    """Refuse masks of anomalous images that mark no pixel, or warn of them."""
    masks = [sample.mask_path for sample in samples if sample.label and sample.mask_path is not None]
    blank = []
    for done, (mask, is_blank) in enumerate(prefetch(masks, lambda path: (path, _is_blank(path))), 1):
        if is_blank:
            blank.append(mask)
        progress("checking masks", done, len(masks))
    if not blank:
        return
    found = (
        message("1 mask of an anomalous image marks no pixel")
        if len(blank) == 1
        else message("{count} masks of anomalous images mark no pixel", count=len(blank))
    )
    if not allow:
        names = ", ".join(str(path) for path in blank[:NAMED]) + (" …" if len(blank) > NAMED else "")
        raise DataError(
            "{found}: {names}. Mark the defects, or label the images good; --allow-blank-masks "
            "(allow_blank_masks=True) evaluates all the same.",
            found=found,
            names=names,
        )
    warnings.warn(
        message(
            "{found}, the first is {blank}, so the pixel metrics take these images for normal. "
            "Mark the defects, or label the images good.",
            found=found,
            blank=blank[0],
        ),
        BlemishWarning,
        stacklevel=3,
    )


def _is_blank(mask: Path) -> bool:
    return not read_mask(mask).any()


def _warn_of_training_images(model: Model, samples: Sequence[Sample], progress: Progress) -> None:
    learned = set(model.manifest.data.hashes)
    hashes = content_hashes([sample.path for sample in samples], progress)
    shared = [sample.path for sample in samples if hashes[sample.path][:HASH_DIGITS] in learned]
    if shared:
        warnings.warn(
            message(
                "{count} test images are also training images, so the metrics are too optimistic; the first is "
                "{first}. Remove them from one of the two.",
                count=len(shared),
                first=shared[0],
            ),
            BlemishWarning,
            stacklevel=3,
        )
