"""Fits a model to normal images."""

import time
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.calibration import require_rate
from blemish.data.cache import CacheBudget
from blemish.data.content import find_shared_content
from blemish.data.input_size import auto_preprocess
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishWarning, DataError, MethodError
from blemish.files import require_writable_file
from blemish.manifest import History
from blemish.messages import message
from blemish.model import Model
from blemish.plugins import create_method, name_of, preset_preprocess
from blemish.scoring import Scorer
from blemish.types import Mask, Progress, Sample, Watch, no_progress, no_watch
from blemish.workflow.auxiliary import auxiliary_products
from blemish.workflow.forecast import Forecast
from blemish.workflow.given import (
    Excluded,
    Given,
    as_samples,
    ignored_pixels,
    normal_samples,
    require_preprocess,
    require_seed,
    without_excluded,
)
from blemish.workflow.groups import FOUND, GroupBy, group_images
from blemish.workflow.learning import Learning
from blemish.workflow.normal_images import (
    Calibrate,
    Division,
    NormalImages,
    raise_for_all_unreadable,
)
from blemish.workflow.normal_scores import calibrated

if TYPE_CHECKING:
    from blemish.methods.base import Method

DEFAULT_CACHE = CacheBudget()


def fit(
    method: "str | Method",
    images: Given,
    *,
    preset: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    preprocess: Preprocess | None = None,
    test: Sequence[Sample] = (),
    exclude: Excluded = (),
    ignore: Path | str | Mask | None = None,
    group_by: GroupBy = FOUND,
    calibrate: Calibrate = "auto",
    hold_out_share: float | None = None,
    shots: int | None = None,
    false_alarm_rate: float = 0.01,
    seed: int = 0,
    device: str = "auto",
    skip_unreadable: bool = False,
    auxiliary: Given = (),
    cache: CacheBudget = DEFAULT_CACHE,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    report: Path | str | None = None,
    watch: Watch = no_watch,
    progress: Progress = no_progress,
) -> Model:
    """Fit a method to normal images, and calibrate it on scores of models that did not learn from these images.

    Args:
        method: A name in the catalogue, or a method that has not begun to learn.
        images: Normal images; samples labelled anomalous are refused.
        preset: Named configuration of a method given by name.
        arguments: For the constructor of a method given by name; they override the preset's.
        preprocess: Preprocessing of images; default that of the preset, or else `auto_preprocess(images)`.
        test: Test images, which are only compared with the training images: a warning names duplicates.
        exclude: Images to leave out, each of which must be among `images`: paths, samples or what `suspects` found; the
            manifest counts them.
        ignore: Mask (H, W) of what does not count in any image, or its file; it is neither learned nor scored. The
            images must have its size.
        group_by: Which images are of one part, lot or run, so that no image sets thresholds for a model that learned
            from its like: "found" looks for near-copies and runs, "none" takes each image by itself, "folder" the
            images of one folder; a regular expression names the group by what it, or its first group in parentheses,
            matches in the path. Or the label of each image by its path.
        calibrate: Which normal images set the thresholds: "cross" learns from all images and scores each by a model
            without its group; "hold-out" does not learn from some and scores these. "auto" is "cross" for methods
            that can leave images out or do not train, unless a share or shots are given.
        hold_out_share: Share of the images that is held out to set the thresholds; at least one image. Default 0.1.
        shots: Number of images to learn from, drawn by the seed; those of other groups are held out, whatever
            `hold_out_share` is.
        false_alarm_rate: Share of normal images that may be called NG.
        seed: Seed of the split and of everything random in the method.
        device: Device of torch: "auto" (the GPU if there is one), "cpu", "cuda" or "cuda:1".
        skip_unreadable: Whether to skip images that cannot be decoded; the manifest counts them. A warning counts those
            among the auxiliary ones.
        auxiliary: Images of other things than the product, for methods with an `auxiliary_use`; samples of one
            category are one product. Each content counts once.
        cache: Memory and disk for features that are computed once instead of in every epoch.
        checkpoint: Folder for the state of unfinished training; the caller removes it once the model is saved.
        resume: Whether to continue from the checkpoint, if there is one; the weights are those of uninterrupted
            training.
        report: File for a report in HTML on the normal images: the ranking of their scores, and those that are
            suspected of a defect. If writing it fails at the end, a warning says so.
        watch: Called with the losses of every epoch.
        progress: Called with the progress of each phase.

    Raises:
        DataError: If images cannot be decoded, all of which the text names, there are too few, or an excluded one is
            not among them.
        MethodError: If the method cannot be built, has begun to learn before, or cannot learn from the images, or torch
            finds no such device.
        DivergedError: If training diverges.
        ModelError: If the checkpoint is damaged or belongs to other training.
        ValueError: If a share or a rate is not between 0 and 1, shots is below 1, or the seed is negative or too large.
    """
    from blemish.runtimes.torch import TorchRuntime, resolve_device  # torch is not needed to inspect

    device = resolve_device(device)
    learner = _build(method, preset, arguments)
    name = name_of(type(learner))
    require_rate(false_alarm_rate)  # before training, which may be long
    require_seed(seed)
    require_preprocess(preprocess)
    given, others = normal_samples(images), as_samples(auxiliary)
    samples = without_excluded(given, exclude)
    preprocess = preprocess or preset_preprocess(name, preset) or auto_preprocess(samples)
    if ignore is not None:
        preprocess = preprocess.ignoring(ignored_pixels(ignore, samples))
    resolution = Forecast.of(learner, samples, preprocess).resolution
    division = Division.chosen(
        calibrate, hold_out_share, shots, crosses_by_default=learner.crosses_by_default
    )
    if report is not None:
        require_writable_file(Path(report))
    started = time.perf_counter()
    reading: Any = {"skip_unreadable": skip_unreadable, "progress": progress}
    try:
        grouping = partial(group_images, by=group_by, preprocess=preprocess, device=device, progress=progress)
        normal = NormalImages.of(samples, division, grouping, seed, **reading)
        _warn_of_test_images(normal.hashes, test)
        products = auxiliary_products(learner, others, normal.hashes, **reading)
        learning = Learning(learner, name, preprocess, seed, device, cache, products)
        trained = learning.run(normal, checkpoint, resume, watch, progress)
        runtime = TorchRuntime(learner, device)
        scorer = Scorer(runtime, preprocess)
        calibration, unusual = calibrated(
            learning, scorer, normal, trained.left_out, false_alarm_rate, report, progress
        )
    except DataError as error:
        if skip_unreadable:
            raise
        raise_for_all_unreadable([*samples, *others], error, progress)
    history = History(seconds=round(time.perf_counter() - started, 2), losses=tuple(trained.losses))
    data = normal.record(len(given) - len(samples))
    return Model(learning.manifest(data, calibration, history, resolution), runtime, unusual=unusual)


def _build(method: "str | Method", preset: str | None, arguments: Mapping[str, Any] | None) -> "Method":
    """The method that learns."""
    if isinstance(method, str):
        return create_method(method, preset=preset, arguments=arguments)
    if preset is not None or arguments is not None:
        raise MethodError(
            "preset and arguments are for a method given by name, but a built method was given. Give its name, "
            "or leave them out."
        )
    if not hasattr(method, "declared") or isinstance(method, type):
        raise MethodError(
            "method must be a name or a method such as blemish.PCA(), got {method!r:.80}.", method=method
        )
    method.require_new()
    return method


def _warn_of_test_images(hashes: Mapping[Path, str], test: Sequence[Sample]) -> None:
    shared = find_shared_content(hashes, test)
    if shared:
        first, copy = shared[0]
        warnings.warn(
            message(
                "{count} test images are also training images, so an evaluation would be too "
                "optimistic; the first is {copy}, the same as {first}. Remove them from one of the two.",
                count=len({path for _, path in shared}),
                copy=copy,
                first=first,
            ),
            BlemishWarning,
            stacklevel=3,
        )
