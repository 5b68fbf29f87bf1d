"""Learning a product from normal images."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from blemish.calibration import Calibration
from blemish.data.cache import CacheBudget
from blemish.data.dataset import Inputs, check_images, fingerprint
from blemish.data.images import content_fingerprint, read_image
from blemish.data.preprocess import Preprocess
from blemish.data.splits import hold_out
from blemish.errors import DataError, MethodError
from blemish.manifest import Manifest
from blemish.model import Model
from blemish.plugins import create_method, name_of, preset_preprocess
from blemish.scoring import Decoded, Scorer, batch_size
from blemish.types import Progress, Sample, Watch, no_progress, no_watch

if TYPE_CHECKING:
    from blemish.methods.base import Method

DEFAULT_CACHE = CacheBudget()
HASH_DIGITS = 16
"""Hex digits kept of each training image's sha256: enough to notice it in a test set."""


def fit(
    method: "str | Method",
    images: Sequence[Sample] | Sequence[Path] | Sequence[str],
    *,
    preset: str | None = None,
    arguments: Mapping[str, Any] | None = None,
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
        method: A name in the catalogue, or a method that has not learned.
        images: Normal images; samples labelled anomalous are refused.
        preset: One of the named configurations of a method given by its name.
        arguments: For the constructor of a method given by its name; they win over the preset's.
        preprocess: How images become the network's input; that of the preset, or else 256 × 256, squashed, unless
            given.
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
        MethodError: If the method cannot be built, or cannot learn from the images.
        DivergedError: If training diverges.
        ModelError: If the checkpoint is damaged or belongs to other training.
        ValueError: If a share or a rate is not between 0 and 1.
    """
    from blemish.runtimes.torch import TorchRuntime  # torch is not needed to inspect
    from blemish.training import learn
    from blemish.training.checkpoint import Checkpoint

    if isinstance(method, str):
        preprocess = preprocess or preset_preprocess(method, preset)
        method = create_method(method, preset=preset, arguments=arguments)
    elif preset is not None or arguments is not None:
        raise MethodError(
            "preset and arguments are for a method given by its name, but this one is built already. Give its name, "
            "or leave them out."
        )
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
        calibration = _calibrate(Scorer(runtime, preprocess), held_out, false_alarm_rate, progress)
    except DataError as error:
        _raise_for_all_unreadable(samples, error, progress)
    manifest = Manifest(
        method=name,
        arguments=method.arguments,
        preprocess=preprocess,
        calibration=calibration,
        seed=seed,
        data={
            "category": samples[0].category,
            "learned_from": len(kept),
            "held_out": len(held_out),
            "skipped": len(bad),
            "images": _names(learned),
            "fingerprint": fingerprint(samples),
            "hashes": [content_fingerprint(sample.path)[:HASH_DIGITS] for sample in samples],
        },
        history={"seconds": round(time.perf_counter() - started, 2), "losses": history.losses},
    )
    return Model(manifest, runtime)


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


def _names(samples: Sequence[Sample]) -> list[str]:
    """The images' paths below the folder they have in common, in the order they were learned from."""
    paths = [sample.path.absolute() for sample in samples]
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(folder).as_posix() for path in paths]


def _calibrate(scorer: Scorer, held_out: Sequence[Sample], rate: float, progress: Progress) -> Calibration:
    """Score the held-out normal images as an inspection would, at their own resolution."""
    rows = []
    for found in scorer.stream(held_out, lambda sample: Decoded(sample.path, read_image(sample.path))):
        rows.append((found.score, float(found.anomaly_map.max()), float(np.median(found.anomaly_map))))
        progress("calibrating", len(rows), len(held_out))
    scores, peaks, typical = zip(*rows, strict=True)
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
