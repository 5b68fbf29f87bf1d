"""The verbs: learn a product from good images (`fit`), measure it on labelled ones (`evaluate`)."""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from blemish.calibration import Calibration
from blemish.data.cache import CacheBudget
from blemish.data.dataset import Inputs, check_images, fingerprint, in_batches, prefetch
from blemish.data.images import content_fingerprint, read_image, read_mask
from blemish.data.preprocess import Preprocess
from blemish.data.splits import hold_out
from blemish.errors import BlemishWarning, DataError, MethodError
from blemish.manifest import HASH_DIGITS, History, Manifest, TrainingData
from blemish.metrics.evaluation import Evaluation
from blemish.metrics.evaluator import Evaluator
from blemish.model import Model
from blemish.plugins import find_method, name_of
from blemish.reports.evaluation import ReportBuilder
from blemish.types import Image, Inspection, Mask, Progress, Sample, Watch, no_progress, no_watch

if TYPE_CHECKING:
    from blemish.methods.base import Method

PIXELS_AT_ONCE = 2 * 256 * 256
"""Batches hold about this many input pixels, whatever the input's size."""
DEFAULT_CACHE = CacheBudget()

Observer = Callable[[Sample, Image, Inspection, Mask | None], None]
"""Called by `evaluate` with every image, its verdict and its true mask."""


def create_method(
    name: str, *, preset: str | None = None, arguments: Mapping[str, Any] | None = None
) -> tuple["Method", Preprocess]:
    """Build a method by name, and the preprocessing its preset asks for.

    Args:
        name: In the catalogue, or of a plug-in.
        preset: One of the method's named configurations.
        arguments: For the constructor; they win over the preset's.

    Raises:
        MethodError: If the method, the preset or an argument does not exist, or a value does not fit.
    """
    cls = find_method(name)
    if preset is not None and preset not in cls.presets:
        offered = ", ".join(cls.presets) or "none"
        raise MethodError(f"{name} has no preset {preset!r}. It has: {offered}.")
    chosen = cls.presets[preset] if preset is not None else None
    settings = {**(chosen.arguments if chosen else {}), **(arguments or {})}
    known = cls.argument_names()
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise MethodError(f"{name} has no argument {unknown[0]!r}. It has: {', '.join(known)}.")
    try:
        method = cls(**settings)
    except (AttributeError, TypeError, ValueError) as error:
        raise MethodError(
            f"{name} cannot be built with {settings}: {error}. See `blemish methods`."
        ) from error
    return method, Preprocess(**chosen.preprocess) if chosen else Preprocess()


def fit(
    method: "str | Method",
    images: Sequence[Sample] | Sequence[Path] | Sequence[str],
    *,
    preprocess: Preprocess | None = None,
    hold_out_share: float = 0.1,
    false_alarm_rate: float = 0.01,
    seed: int = 0,
    device: str = "cpu",
    skip_unreadable: bool = False,
    auxiliary: Sequence[Sample] | Sequence[Path] = (),
    cache: CacheBudget = DEFAULT_CACHE,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    watch: Watch = no_watch,
    progress: Progress = no_progress,
) -> Model:
    """Learn a product from normal images and calibrate on those held out.

    Args:
        method: A name in the catalogue (with its defaults), or a method that has not learned.
        images: Normal images; samples labelled anomalous are refused.
        preprocess: How pictures become the network's input; 256 × 256, squashed, unless given.
        hold_out_share: Part of the images that is not learned from but sets the thresholds; at least one image.
        false_alarm_rate: Share of normal images that may be called NG.
        seed: Decides the split and everything random in the method.
        device: Where torch works, e.g. "cpu" or "cuda".
        skip_unreadable: Go on without images that cannot be decoded, counting them in the manifest.
        auxiliary: Images of other things, for methods that say what use they have for them.
        cache: Room for what training would otherwise compute anew in every epoch.
        checkpoint: Folder for the state of training that is not finished; yours to remove once the model is saved.
        resume: Go on from the checkpoint, if there is one, to the same weights as without the break.
        watch: Told of each epoch's losses.
        progress: Told of each phase.

    Raises:
        DataError: Naming *all* images that cannot be decoded; or if there are too few.
        MethodError: If the method cannot learn from the images.
        DivergedError: If training diverges.
        ModelError: If the checkpoint is damaged or belongs to other training.
        ValueError: If a share or a rate is not between 0 and 1.
    """
    from blemish.runtimes.torch import TorchRuntime  # torch is not needed to inspect
    from blemish.training import learn
    from blemish.training.checkpoint import Checkpoint

    if isinstance(method, str):
        method, _ = create_method(method)
    name = name_of(type(method))
    preprocess = preprocess or Preprocess()
    if not 0 < false_alarm_rate < 1:  # said before the learning, not after it
        raise ValueError(f"A false-alarm rate must be between 0 and 1 (0.01 is 1 %), got {false_alarm_rate}.")
    samples = normal_samples(images)
    bad = check_images([sample.path for sample in samples], progress) if skip_unreadable else []
    samples = [sample for sample in samples if sample.path not in {b.path for b in bad}]
    kept, held_out = hold_out(samples, hold_out_share, seed)
    # In random order, so that what comes first stands for all.
    learned = [kept[index] for index in np.random.default_rng(seed).permutation(len(kept))]

    others = [image.path if isinstance(image, Sample) else Path(image) for image in auxiliary]

    started = time.perf_counter()
    try:
        unfinished = None
        if checkpoint:
            identity = {
                "method": name,
                "arguments": method.arguments,
                "preprocess": preprocess.to_dict(),
                "images": fingerprint(learned),
                "held-out images": fingerprint(held_out),
                "auxiliary images": len(others),
                "seed": seed,
            }
            unfinished = Checkpoint(Path(checkpoint), identity, resume=resume)
        history = learn(
            method,
            Inputs(learned, preprocess),
            held_out=Inputs(held_out, preprocess),
            auxiliary=Inputs(others, preprocess),
            batch_size=batch_size(preprocess),
            seed=seed,
            device=device,
            budget=cache,
            checkpoint=unfinished,
            watch=watch,
            progress=progress,
        )
        runtime = TorchRuntime(method, device)
        calibration = _calibrate(runtime, preprocess, held_out, false_alarm_rate, progress)
    except DataError as error:
        _raise_for_all_unreadable(samples, error, progress)
    manifest = Manifest(
        method=name,
        arguments=method.arguments,
        preprocess=preprocess,
        calibration=calibration,
        seed=int(seed),
        data=TrainingData(
            category=samples[0].category,
            learned_from=len(kept),
            held_out=len(held_out),
            skipped=len(bad),
            images=_names(learned),
            fingerprint=fingerprint(samples),
            hashes=tuple(content_fingerprint(sample.path)[:HASH_DIGITS] for sample in samples),
        ),
        history=History(seconds=round(time.perf_counter() - started, 2), losses=tuple(history.losses)),
    )
    return Model(manifest, runtime)


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
    _warn_of_training_images(model, samples)
    evaluator = Evaluator()
    builder = ReportBuilder(model.manifest)
    observers = [seen for seen in (observe, builder.observe if report else None) if seen]
    seconds = 0.0
    done = 0
    for batch in in_batches(prefetch(samples, _read_labelled), batch_size(model.preprocess)):
        started = time.perf_counter()
        scores, maps = model.score([picture for _, picture, _ in batch])
        seconds += time.perf_counter() - started
        for (sample, picture, mask), score, anomaly_map in zip(batch, scores, maps, strict=True):
            evaluator.update(score, sample.label, sample.defect_type, anomaly_map, mask)
            for observer in observers:
                observer(sample, picture, model.judge(score, anomaly_map, sample.path), mask)
        done += len(batch)
        progress("evaluating", done, len(samples))
    evaluation = evaluator.compute(model.calibration.image_threshold, seconds / len(samples))
    if report:
        builder.write(Path(report), evaluation)
    return evaluation


def normal_samples(images: Sequence[Sample] | Sequence[Path] | Sequence[str]) -> list[Sample]:
    """What is given to learn from, as samples.

    Raises:
        DataError: If it is one path, holds anomalous samples, or nothing.
    """
    if isinstance(images, str | Path):  # a str is a sequence of str, too
        raise DataError(f"{images} is one path. Give the images, e.g. blemish.open_dataset(folder).train.")
    samples = [image if isinstance(image, Sample) else Sample(Path(image), 0, "train") for image in images]
    anomalous = [sample for sample in samples if sample.label]
    if anomalous:
        raise DataError(
            f"{len(anomalous)} of the images to learn from are labelled anomalous, the first is {anomalous[0].path}. "
            "Give normal images only, e.g. Dataset.train."
        )
    if not samples:
        raise DataError("There is no image to learn from. Give at least 2 normal images.")
    return samples


def _names(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The images' paths below the folder they have in common, in the order they were learned from."""
    paths = [sample.path.absolute() for sample in samples]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return tuple(path.relative_to(folder).as_posix() for path in paths)


def batch_size(preprocess: Preprocess) -> int:
    """How many images are scored at once."""
    height, width = preprocess.output_size
    return max(1, PIXELS_AT_ONCE // (height * width))


def _calibrate(
    runtime: Any, preprocess: Preprocess, held_out: Sequence[Sample], rate: float, progress: Progress
) -> Calibration:
    """Score the held-out normal images as an inspection would, at their own resolution."""
    scores: list[float] = []
    peaks: list[float] = []
    typical: list[float] = []
    pictures = prefetch(held_out, lambda sample: read_image(sample.path))
    for batch in in_batches(pictures, batch_size(preprocess)):
        predicted = runtime.predict(np.stack([preprocess(picture) for picture in batch]))
        for score, anomaly_map, picture in zip(*predicted, batch, strict=True):
            restored = preprocess.restore(anomaly_map, picture.shape[:2])
            scores.append(float(score))
            peaks.append(float(restored.max()))
            typical.append(float(np.median(restored)))
        progress("calibrating", len(scores), len(held_out))
    return Calibration.from_normal(scores, peaks, typical, rate)


def _raise_for_all_unreadable(samples: Sequence[Sample], error: DataError, progress: Progress) -> NoReturn:
    """One unreadable image ended the work: look for the others too, so that they can be mended at once."""
    bad = check_images([sample.path for sample in samples], progress)
    if not bad:
        raise error
    listed = "\n".join(f"  {b.reason}" for b in bad)
    raise DataError(
        f"{len(bad)} of {len(samples)} images cannot be read:\n{listed}\n"
        "Mend or remove them, or go on without them with --skip-unreadable (skip_unreadable=True)."
    ) from error


def _read_labelled(sample: Sample) -> tuple[Sample, Image, Mask | None]:
    picture = read_image(sample.path)
    mask = None if sample.mask_path is None else read_mask(sample.mask_path, size=picture.shape[:2])
    return sample, picture, mask


def _warn_of_training_images(model: Model, samples: Sequence[Sample]) -> None:
    learned = set(model.manifest.data.hashes)
    shared = [s.path for s in samples if content_fingerprint(s.path)[:HASH_DIGITS] in learned]
    if shared:
        warnings.warn(
            f"{len(shared)} test images are also training images, so the numbers flatter the model; the first is "
            f"{shared[0]}. Remove them from one of the two.",
            BlemishWarning,
            stacklevel=3,
        )
