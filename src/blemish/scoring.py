"""Images in, raw scores and anomaly maps at each image's own size out: what all verdicts and numbers rest on."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.data.dataset import in_batches, prefetch
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishError, DataError, ModelError
from blemish.runtimes.base import Runtime
from blemish.types import Image, Map, Mask, Prediction

PIXELS_AT_ONCE = 2 * 256 * 256
"""Batches hold about this many input pixels, whatever the input's size."""

Item = TypeVar("Item")
Unscored = TypeVar("Unscored")


class Decoded(NamedTuple):
    """An image that was read to be scored."""

    path: Path | None
    image: Image
    mask: Mask | None = None
    """The defective pixels, where somebody marked them."""


class Scored(NamedTuple):
    """An image with its raw score and anomaly map."""

    path: Path | None
    image: Image
    mask: Mask | None
    score: float
    anomaly_map: Map
    """(H, W) at the image's own size."""
    seconds: float
    """Preprocessing, network and map, without decoding; the mean of the batch."""


class Scorer:
    """Scores images as an inspection does; no threshold is involved.

    Args:
        runtime: Runs the method.
        preprocess: How images become the network's input, and maps return to the image.
    """

    def __init__(self, runtime: Runtime, preprocess: Preprocess) -> None:
        self.runtime = runtime
        self.preprocess = preprocess

    def score(
        self, images: Sequence[Image], paths: Sequence[Path | None] | None = None
    ) -> tuple[list[float], list[Map]]:
        """Raw scores, and anomaly maps at each image's own size, of one batch.

        Args:
            images: (H, W, 3) RGB arrays of uint8 or uint16.
            paths: Where they were read from, for error messages.

        Raises:
            DataError: If an array is not an image.
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        for image in images:
            require_image(image)
        predicted = self._predict(np.stack([self.preprocess(image) for image in images]))
        scores, restored = [], []
        for score, anomaly_map, image, path in zip(
            *predicted, images, paths or [None] * len(images), strict=True
        ):
            require_finite(score, anomaly_map, path)
            scores.append(float(score))
            restored.append(self.preprocess.restore(anomaly_map, image.shape[:2]))
        return scores, restored

    def stream(
        self, items: Iterable[Item], read: Callable[[Item], Decoded | Unscored]
    ) -> Iterator[Scored | Unscored]:
        """Score what `read` makes of each item, in order, in bounded memory; threads read ahead.

        What `read` raises is raised where the item's score would come; anything but a `Decoded` that it returns is
        handed on in the place of the score.

        Raises:
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        for batch in in_batches(prefetch(items, read), batch_size(self.preprocess)):
            decoded = [one for one in batch if isinstance(one, Decoded)]
            scored = iter(self._scored(decoded) if decoded else ())
            for one in batch:
                yield next(scored) if isinstance(one, Decoded) else one

    def _scored(self, batch: Sequence[Decoded]) -> list[Scored]:
        started = time.perf_counter()
        scores, maps = self.score([one.image for one in batch], [one.path for one in batch])
        seconds = (time.perf_counter() - started) / len(batch)
        return [
            Scored(*one, score, anomaly_map, seconds)
            for one, score, anomaly_map in zip(batch, scores, maps, strict=True)
        ]

    def _predict(self, inputs: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        """What the runtime says, its shapes checked: the sha256 of hostile weights can be right, too."""
        try:
            scores, maps = self.runtime.predict(inputs)
        except BlemishError:
            raise
        except Exception as error:
            raise ModelError(
                f"The model cannot score these images: {error}. It is damaged; copy it again or fit anew."
            ) from error
        if (scores.shape, maps.shape) != ((len(inputs),), (len(inputs), *inputs.shape[2:])):
            raise ModelError(
                f"The model gave scores {scores.shape} and maps {maps.shape} for inputs {inputs.shape}. "
                "It is damaged; copy it again or fit anew."
            )
        return Prediction(scores, maps)


def batch_size(preprocess: Preprocess) -> int:
    """How many images are scored at once."""
    height, width = preprocess.output_size
    return max(1, PIXELS_AT_ONCE // (height * width))


def require_image(image: Image) -> None:
    """Refuse arrays that are not images.

    Raises:
        DataError: If it is not (H, W, 3) of uint8 or uint16.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"An image is an (H, W, 3) RGB array of uint8 or uint16, got {image.shape} of {image.dtype}. "
            "Convert it, or give the path of a file."
        )


def require_finite(score: float, anomaly_map: ArrayLike, path: Path | None = None) -> None:
    """Refuse numbers that no comparison with a threshold would notice.

    Raises:
        ModelError: If the score or the map is NaN or infinite; names the file.
    """
    if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
        raise ModelError(
            f"The model gave {path or 'an image'} a score or an anomaly map that is NaN or infinite, so there is no "
            "verdict. Its weights are damaged or it learned from unsuitable images; copy it again or fit anew."
        )
