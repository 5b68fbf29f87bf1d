"""Updates a fitted model: learns more normal images, or forgets a defect that was learned as normal."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.calibration import Calibration
from blemish.data.content import HASH_DIGITS, content_hashes, without_copies
from blemish.data.images import image_size, read_image
from blemish.data.loading import Inputs
from blemish.errors import DataError, ModelError
from blemish.inspection.result import Inspection
from blemish.inspection.unusual import Unusual
from blemish.manifest import History, Update
from blemish.messages import lines, message
from blemish.model import Model
from blemish.names import printable
from blemish.scoring import OF_DAMAGE, Decoded, batch_size, naming_damage, require_finite
from blemish.types import Progress, Sample, no_progress
from blemish.workflow.given import Given, normal_samples, require_model

if TYPE_CHECKING:
    from blemish.methods.base import Method
    from blemish.runtimes.torch import TorchRuntime

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of an image."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Result of `update`."""

    images: int
    seconds: float
    calibration: Calibration
    """Calibration of the updated model."""
    unusual: Unusual
    """The new images with the highest scores by the model before the update."""

    def summary(self) -> str:
        """Number of images, time, the most unusual images, and thresholds with the images that they rest on."""
        return message(
            "Learned {images} more images in {seconds:.1f} s.\n"
            "Highest scores before the update: {unusual}\n{thresholds}",
            images=self.images,
            seconds=self.seconds,
            unusual=self.unusual,
            thresholds=self.calibration.describe(),
        )


@dataclass(frozen=True, slots=True)
class Removal:
    """Result of `remove_like`."""

    origins: tuple[tuple[str, float, float], ...]
    """For each removed patch its training image and its position there: x and y as shares of width and height."""
    before: Inspection
    after: Inspection
    typical: float
    """Median score of the held-out normal images."""

    def summary(self) -> str:
        """The training images of the removed patches, and the defect's score before and after."""
        counts = Counter(name for name, _, _ in self.origins)
        texts: list[str] = [
            message(
                "Removed {count} patches of {images} training images:",
                count=len(self.origins),
                images=len(counts),
            )
        ]
        for name, count in counts.most_common():
            places = [f"({x:.0%}, {y:.0%})" for other, x, y in self.origins if other == name]
            more = " …" if count > 5 else ""
            texts.append(
                message(
                    "  {name}: {count} at {places}{more} of width and height",
                    name=name,
                    count=count,
                    places=", ".join(places[:5]),
                    more=more,
                )
            )
        before, after = self.before, self.after
        texts.append(
            message(
                "Score {before:.4g} → {after:.4g}, threshold {threshold:.4g}: {verdict_before} → {verdict_after}.",
                before=before.score,
                after=after.score,
                threshold=after.threshold,
                verdict_before=before.verdict,
                verdict_after=after.verdict,
            )
        )
        return lines([*texts, *self._cautions()])

    def _cautions(self) -> list[str]:
        hardly_learned = message(
            "Before, the image scored higher than half of the normal images ({typical:.4g}), so the model had "
            "hardly learned this defect. If normal images are NG now, `blemish update MODEL --undo` brings "
            "back what was removed.",
            typical=self.typical,
        )
        rises = message(
            "Normal parts that look like what was removed score higher now, so the stated false-alarm rate may no "
            "longer hold: evaluate the model, or fit it again without these images."
        )
        return [hardly_learned, rises] if self.before.score > self.typical else [rises]


def update(
    model: Model,
    images: Given,
    *,
    accept_ng: bool = False,
    progress: Progress = no_progress,
) -> Addition:
    """Learn more normal images, such as confirmed false alarms, without the earlier ones.

    Thresholds then rest on the scores of the normal images of `fit`, as they were before, and on the score of each new
    image by the model without that image.

    Args:
        model: Model in the torch runtime; it is modified in memory, so save it.
        images: New normal images.
        accept_ng: Whether to learn images that are NG by the present model.
        progress: Called with the number of batches done.

    Raises:
        DataError: If an image cannot be read, was already learned from, is labelled anomalous or, unless
            `accept_ng`, is NG by the present model; the model is then unchanged.
        MethodError: If the method cannot be updated.
        ModelError: If the model is not in the torch runtime.
    """
    from blemish.training import update_method

    require_model(model)
    started = time.perf_counter()
    runtime = _torch_runtime(model)
    _require_updatable(runtime.method)
    data = model.manifest.data
    hashes = _hashes_of_new(normal_samples(images), data.hashes, progress)
    paths = list(hashes)
    unusual = _inspected(model, paths, accept_ng, progress)
    with naming_damage(*OF_DAMAGE):
        scores, maps = update_method(
            runtime.method,
            Inputs(paths, model.preprocess),
            batch_size=batch_size(model.preprocess),
            device=runtime.device,
            progress=progress,
        )
    peaks = []
    for score, anomaly_map, path in zip(scores, maps, paths, strict=True):
        require_finite(score, anomaly_map, path)
        peaks.append(float(model.preprocess.restore(anomaly_map, image_size(path)).max()))
    first = 1 + max(data.groups)  # each of the new images counts as a group of its own
    model.manifest = model.manifest.changed(
        calibration=model.calibration.with_more_normal(scores.tolist(), peaks),
        data=data.changed(
            learned_from=data.learned_from + len(paths),
            images=(*data.images, *(printable(path.name) for path in paths)),
            groups=(*data.groups, *range(first, first + len(paths))),
            hashes=(*data.hashes, *hashes.values()),
        ),
        history=_extended(model, started, added=len(paths)),
    )
    return Addition(len(paths), time.perf_counter() - started, model.calibration, unusual)


def remove_like(model: Model, image: Path | str, box: Box | None = None) -> Removal:
    """Remove from a model the features of a missed defect that training images contained.

    The thresholds stay, but normal parts that look like what was removed score higher than before, so the stated
    false-alarm rate no longer holds: evaluate the model. Several calls may be needed if several training images
    contain such a defect.

    Args:
        model: Model in the torch runtime; it is modified in memory, so save it.
        image: An image of the missed defect.
        box: Position of the defect in that image; default the position of the highest score.

    Raises:
        DataError: If the image cannot be read, is NG without a box, or the box does not lie within it.
        MethodError: If the method cannot forget.
        ModelError: If the model is not in the torch runtime.
    """
    from blemish.training import forget

    require_model(model)
    started = time.perf_counter()
    runtime = _torch_runtime(model)
    pixels = read_image(image)
    marked = np.zeros(pixels.shape[:2], np.bool_)
    if box is not None:
        left, top, width, height = box
        rows, columns = pixels.shape[:2]
        if min(left, top) < 0 or min(width, height) < 1 or left + width > columns or top + height > rows:
            raise DataError(
                "The box {left},{top},{width},{height} is not within {image}, which has {columns} × {rows} pixels. "
                "Give left, top, width and height in its pixels.",
                left=left,
                top=top,
                width=width,
                height=height,
                image=image,
                columns=columns,
                rows=rows,
            )
        marked[top : top + height, left : left + width] = True
    before = model.inspect(pixels)
    if before.verdict == "NG" and box is None:
        raise DataError(
            "{image} is NG already, so no defect is missed. If a part of it is, give its position (box).",
            image=image,
        )
    names = model.manifest.data.images
    with naming_damage(*OF_DAMAGE):
        removed = forget(
            runtime.method, model.preprocess(pixels), model.preprocess.place(marked), device=runtime.device
        )
        origins = tuple((names[number], x, y) for number, x, y in removed)
    model.manifest = model.manifest.changed(
        calibration=model.calibration.changed(outdated=True),
        history=_extended(model, started, removed=len(removed)),
    )
    typical = float(np.median(model.calibration.normal_scores))
    return Removal(origins, before, model.inspect(pixels), typical)


def _hashes_of_new(samples: Sequence[Sample], known: Sequence[str], progress: Progress) -> dict[Path, str]:
    """The new images, each content once, and their hash digits for the manifest; an image in `known` is refused."""
    digests = content_hashes([sample.path for sample in samples], progress)
    hashes = {sample.path: digests[sample.path][:HASH_DIGITS] for sample in without_copies(samples, digests)}
    learned = set(known)
    for path, digest in hashes.items():
        if digest in learned:
            raise DataError("{path} was already learned from or held out. Leave it out.", path=path)
    return hashes


def _inspected(model: Model, paths: Sequence[Path], accept_ng: bool, progress: Progress) -> Unusual:
    """The most unusual of the new images by the present model; images that are NG must be accepted."""
    scores = []
    for scored in model.scorer.stream(paths, lambda path: Decoded(path, read_image(path))):
        scores.append(scored.score)
        progress("inspecting", len(scores), len(paths))
    unusual = Unusual.of(paths, scores)
    ng = sum(score > model.calibration.image_threshold for score in scores)
    if ng and not accept_ng:
        raise DataError(
            "{ng} of {count} new images are NG by the present model, whose threshold is "
            "{threshold:.4g}; the highest scores: {unusual}. A defect that is learned as "
            "normal is missed from then on. Look at these images, then learn them with --accept-ng (accept_ng=True).",
            ng=ng,
            count=len(paths),
            threshold=model.calibration.image_threshold,
            unusual=unusual,
        )
    return unusual


def _require_updatable(method: "Method") -> None:
    """Raise the method's error before any image is read if it cannot be updated."""
    from blemish.methods.base import Method

    if type(method).update is Method.update:
        method.update(())


def _torch_runtime(model: Model) -> "TorchRuntime":
    from blemish.runtimes.torch import TorchRuntime

    if not isinstance(model.runtime, TorchRuntime):
        raise ModelError('Only a model in the torch runtime can be updated. Load it with runtime="torch".')
    return model.runtime


def _extended(model: Model, started: float, *, added: int = 0, removed: int = 0) -> History:
    """The model's history with one more update, which started at `started`."""
    history = model.manifest.history
    update = Update(added=added, removed=removed, seconds=round(time.perf_counter() - started, 2))
    return history.changed(updates=(*history.updates, update))
