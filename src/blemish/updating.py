"""Learning on: more normal images for a model that has learned, and forgetting a defect that was learned as normal."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from blemish.data.dataset import Inputs
from blemish.data.images import content_fingerprint, read_image
from blemish.errors import DataError, ModelError
from blemish.manifest import HASH_DIGITS, History, Update
from blemish.model import Model
from blemish.types import Inspection, Progress, Sample, no_progress
from blemish.workflow import batch_size, normal_samples

if TYPE_CHECKING:
    from blemish.runtimes.torch import TorchRuntime

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of a picture."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What `remove_like` took out of a model."""

    origins: tuple[tuple[str, float, float], ...]
    """The training image that each patch taken out was from, and where in it: x and y as shares of width and height."""
    before: Inspection
    after: Inspection


def update(
    model: Model,
    images: Sequence[Sample] | Sequence[Path] | Sequence[str],
    *,
    progress: Progress = no_progress,
) -> None:
    """Learn more normal images, such as false alarms that somebody cleared, without the old ones.

    Thresholds then rest on the scores of the images held out by `fit`, which can only have fallen since, and on what
    each new image scores as long as it alone is not learned from.

    Args:
        model: In the torch runtime. It changes; save it to keep that.
        images: New normal images.
        progress: Told of the images done.

    Raises:
        DataError: If an image cannot be read, was learned from already or is labelled anomalous.
        MethodError: If the method cannot learn on.
        ModelError: If the model is not in the torch runtime.
    """
    from blemish.training import learn_on

    started = time.perf_counter()
    runtime = _torch_runtime(model)
    samples = normal_samples(images)
    data = model.manifest.data
    hashes = [content_fingerprint(sample.path)[:HASH_DIGITS] for sample in samples]
    for sample, digest in zip(samples, hashes, strict=True):
        if digest in data.hashes:
            raise DataError(f"{sample.path} was learned from or held out already. Leave it out.")
    pictures = [sample.path for sample in samples]
    scores, maps = learn_on(
        runtime.method,
        Inputs(pictures, model.preprocess),
        batch_size=batch_size(model.preprocess),
        device=runtime.device,
        progress=progress,
    )
    peaks = [
        float(model.preprocess.restore(anomaly_map, read_image(path).shape[:2]).max())
        for anomaly_map, path in zip(maps, pictures, strict=True)
    ]
    model.manifest = model.manifest.changed(
        calibration=model.calibration.with_more_normal(scores.tolist(), peaks),
        data=data.changed(
            learned_from=data.learned_from + len(samples),
            images=(*data.images, *(path.name for path in pictures)),
            hashes=(*data.hashes, *hashes),
        ),
        history=_extended(model, started, added=len(samples)),
    )


def remove_like(model: Model, image: Path | str, box: Box | None = None) -> Removal:
    """Take out of a model what lets a defect pass for normal, because training images showed it.

    The thresholds stay. More than one call may be needed, where several training images showed it.

    Args:
        model: In the torch runtime. It changes; save it to keep that.
        image: A picture of the missed defect.
        box: Where the defect is; without, it is taken to be where the picture scores highest.

    Raises:
        DataError: If the image cannot be read or the box does not lie within it.
        MethodError: If the method cannot forget.
        ModelError: If the model is not in the torch runtime.
    """
    from blemish.training import forget

    started = time.perf_counter()
    runtime = _torch_runtime(model)
    picture = read_image(image)
    marked = np.zeros(picture.shape[:2], np.bool_)
    if box is not None:
        left, top, width, height = box
        rows, columns = picture.shape[:2]
        if min(left, top) < 0 or min(width, height) < 1 or left + width > columns or top + height > rows:
            raise DataError(
                f"The box {left},{top},{width},{height} is not within {image}, which has {columns} × {rows} pixels. "
                "Give left, top, width and height in its pixels."
            )
        marked[top : top + height, left : left + width] = True
    before = model.inspect(picture)
    gone = forget(
        runtime.method, model.preprocess(picture), model.preprocess.place(marked), device=runtime.device
    )
    names = model.manifest.data.images
    model.manifest = model.manifest.changed(history=_extended(model, started, removed=len(gone)))
    origins = tuple((names[number], x, y) for number, x, y in gone)
    return Removal(origins, before, model.inspect(picture))


def _torch_runtime(model: Model) -> "TorchRuntime":
    from blemish.runtimes.torch import TorchRuntime

    if not isinstance(model.runtime, TorchRuntime):
        raise ModelError('Only a model in the torch runtime can learn on. Load it with runtime="torch".')
    return model.runtime


def _extended(model: Model, started: float, *, added: int = 0, removed: int = 0) -> History:
    """The model's history with one more update, which began at `started`."""
    history = model.manifest.history
    update = Update(added=added, removed=removed, seconds=round(time.perf_counter() - started, 2))
    return history.changed(updates=(*history.updates, update))
