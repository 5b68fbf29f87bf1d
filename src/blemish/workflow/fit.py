"""Fits a model to normal images."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.calibration import Calibration, require_rate
from blemish.data.cache import CacheBudget
from blemish.data.content import find_shared_content
from blemish.data.images import read_image
from blemish.data.input_size import Resolution, auto_preprocess
from blemish.data.loading import Inputs
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishWarning, DataError, MethodError
from blemish.inspection.unusual import Unusual
from blemish.manifest import History, Manifest, TrainingData
from blemish.messages import message
from blemish.model import Model
from blemish.plugins import create_method, name_of, preset_preprocess
from blemish.scoring import Decoded, Scorer, batch_size
from blemish.types import Progress, Sample, Watch, no_progress, no_watch
from blemish.workflow.auxiliary import Auxiliary, auxiliary_products, ordered_fingerprint
from blemish.workflow.forecast import Forecast
from blemish.workflow.given import (
    Excluded,
    Given,
    as_samples,
    normal_samples,
    require_preprocess,
    require_seed,
    without_excluded,
)
from blemish.workflow.normal_images import NormalImages, raise_for_all_unreadable, split_images

if TYPE_CHECKING:
    from blemish.methods.base import Method
    from blemish.training import History as Losses

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
    hold_out_share: float = 0.1,
    shots: int | None = None,
    false_alarm_rate: float = 0.01,
    seed: int = 0,
    device: str = "auto",
    skip_unreadable: bool = False,
    auxiliary: Given = (),
    cache: CacheBudget = DEFAULT_CACHE,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    watch: Watch = no_watch,
    progress: Progress = no_progress,
) -> Model:
    """Fit a method to normal images and calibrate it on held-out ones.

    Args:
        method: A name in the catalogue, or a method that has not begun to learn.
        images: Normal images; samples labelled anomalous are refused.
        preset: Named configuration of a method given by name.
        arguments: For the constructor of a method given by name; they override the preset's.
        preprocess: Preprocessing of images; default that of the preset, or else `auto_preprocess(images)`.
        test: Test images, which are only compared with the training images: a warning names duplicates.
        exclude: Images to leave out, each of which must be among `images`: paths, samples or what `suspects` found; the
            manifest counts them.
        hold_out_share: Share of the images that is held out to set the thresholds; at least one image.
        shots: Number of images to learn from, drawn by the seed; all others are held out, whatever `hold_out_share` is.
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
    resolution = Forecast.of(learner, samples, preprocess).resolution
    learning = _Learning(learner, name, preprocess, seed, device, cache, watch, progress)
    started = time.perf_counter()
    try:
        normal = split_images(
            samples, hold_out_share, shots, seed, skip_unreadable=skip_unreadable, progress=progress
        )
        _warn_of_test_images(normal.hashes, test)
        products = auxiliary_products(
            learner, others, normal.hashes, skip_unreadable=skip_unreadable, progress=progress
        )
        trained = learning.run(normal, products, checkpoint, resume)
        runtime = TorchRuntime(learner, device)
        calibration, unusual = _calibrate(
            Scorer(runtime, preprocess), normal.held_out, false_alarm_rate, progress
        )
    except DataError as error:
        if skip_unreadable:
            raise
        raise_for_all_unreadable([*samples, *others], error, progress)
    history = History(seconds=round(time.perf_counter() - started, 2), losses=tuple(trained.losses))
    return Model(
        learning.manifest(normal.record(len(given) - len(samples)), calibration, history, resolution),
        runtime,
        unusual=unusual,
    )


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


@dataclass(frozen=True, slots=True)
class _Learning:
    """A method and the settings of its training."""

    method: "Method"
    name: str
    preprocess: Preprocess
    seed: int
    device: str
    cache: CacheBudget
    watch: Watch
    progress: Progress

    def run(
        self,
        normal: NormalImages,
        auxiliary: Auxiliary,
        checkpoint: Path | str | None,
        resume: bool,
    ) -> "Losses":
        """Train the method, from the beginning or from a checkpoint of the same training."""
        from blemish.training import learn
        from blemish.training.checkpoint import Checkpoint

        others = self.preprocess.enlarged(self.method.auxiliary_scale)
        learned, watched = normal.parted() if self.method.uses_held_out else (normal.learned, ())
        identity = {
            "method": self.name,
            "arguments": self.method.arguments,
            "preprocess": self.preprocess.to_dict(),
            "images": ordered_fingerprint([sample.path for sample in normal.learned], normal.hashes),
            "watched images": len(watched),
            "auxiliary images": auxiliary.identity,
            "seed": self.seed,
        }
        return learn(
            self.method,
            Inputs(learned, self.preprocess),
            held_out=Inputs(watched, self.preprocess),
            auxiliary=[Inputs(product, others) for product in auxiliary.products],
            batch_size=batch_size(self.preprocess),
            seed=self.seed,
            device=self.device,
            budget=self.cache,
            checkpoint=Checkpoint(Path(checkpoint), identity, resume=resume) if checkpoint else None,
            watch=self.watch,
            progress=self.progress,
        )

    def manifest(
        self, data: TrainingData, calibration: Calibration, history: History, resolution: Resolution | None
    ) -> Manifest:
        """The manifest of the trained model."""
        return Manifest(
            method=self.name,
            arguments=self.method.arguments,
            preprocess=self.preprocess,
            resolution=resolution,
            calibration=calibration,
            seed=int(self.seed),
            data=data,
            history=history,
        )


def _calibrate(
    scorer: Scorer, held_out: Sequence[Sample], rate: float, progress: Progress
) -> tuple[Calibration, Unusual]:
    """Score the held-out normal images as in an inspection, at their own resolution; also the most unusual ones."""
    rows = []
    for scored in scorer.stream(held_out, lambda sample: Decoded(sample.path, read_image(sample.path))):
        rows.append((scored.score, float(scored.anomaly_map.max()), float(np.median(scored.anomaly_map))))
        progress("calibrating", len(rows), len(held_out))
    scores, peaks, typical = zip(*rows, strict=True)
    unusual = Unusual.of([sample.path for sample in held_out], scores)
    return Calibration.from_normal(scores, peaks, typical, rate), unusual


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
