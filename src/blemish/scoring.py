"""Scores images: raw scores, and anomaly maps at each image's own size, for fit, evaluate and inspect."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.data.loading import decoded_bytes, in_batches, prefetch
from blemish.data.preprocess import Preprocess
from blemish.errors import BlemishError, DataError, ModelError
from blemish.messages import message
from blemish.runtimes.base import Runtime
from blemish.types import Image, Map, Mask, Prediction

OF_DAMAGE = (LookupError, RuntimeError, TypeError, ValueError)
"""What manipulated weights make a method raise; other errors can be those of the disk or of a callback."""
PIXELS_AT_ONCE = 2 * 256 * 256
"""Approximate number of input pixels in a batch."""

Item = TypeVar("Item")
Unscored = TypeVar("Unscored")


class Decoded(NamedTuple):
    """A decoded image with its path and true mask, if it has them."""

    path: Path | None
    image: Image
    mask: Mask | None = None
    """True defective pixels; None if no mask was given."""


class Scored(NamedTuple):
    """An image with its raw score and anomaly map."""

    path: Path | None
    image: Image
    mask: Mask | None
    score: float
    anomaly_map: Map
    """(H, W) at the image's own size."""
    seconds: float
    """Time of preprocessing, network and map, without decoding; the mean of the batch."""


class Scorer:
    """Scores images with a runtime; no threshold is involved.

    Args:
        runtime: Runs the method.
        preprocess: Turns images into the network's input, and maps back to the image's size.
    """

    def __init__(self, runtime: Runtime, preprocess: Preprocess) -> None:
        self.runtime = runtime
        self.preprocess = preprocess

    def score(
        self, images: Sequence[Image], paths: Sequence[Path | None] | None = None
    ) -> tuple[list[float], list[Map]]:
        """Raw scores, and anomaly maps at each image's own size, of one batch.

        Args:
            images: As for `as_image`.
            paths: Their files, for error messages.

        Raises:
            DataError: If an array is not an image, or a single one is given.
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        if isinstance(images, np.ndarray) and images.ndim < 4:  # its rows would be taken for grey images
            raise DataError(
                "score takes a list of images, got one array of shape {shape}. Write score([image]).",
                shape=images.shape,
            )
        scores, maps = [], []
        for result in self._results(images, paths or [None] * len(images)):
            if isinstance(result, BlemishError):
                raise result
            scores.append(result[0])
            maps.append(result[1])
        return scores, maps

    def stream(
        self,
        items: Iterable[Item],
        read: Callable[[Item], Decoded | Unscored],
        fail: Callable[[Path | None, BlemishError], Unscored] | None = None,
    ) -> Iterator[Scored | Unscored]:
        """Score the image that `read` returns for each item, in order, in bounded memory; threads read ahead.

        Memory is bounded by the bytes of the decoded images: small ones are scored in batches, large ones one by one.
        An exception of `read` is raised in the place of the item's score. If `read` returns anything but a `Decoded`,
        that is yielded instead of a score.

        Args:
            items: What `read` gets; samples and paths are measured by their headers.
            read: Called in a thread.
            fail: Gives what is yielded in place of an image's score if the score cannot be used; without it, the
                error is raised.

        Raises:
            ModelError: If the model cannot score, or gives NaN or infinity.
        """
        measured = prefetch(items, lambda item: (item, decoded_bytes(item)), ahead=2)
        images = prefetch(measured, lambda pair: read(pair[0]), size_of=lambda pair: pair[1])
        for batch in in_batches(images, batch_size(self.preprocess), _bytes_scored):
            yield from self._scored(batch, fail)
            batch.clear()  # frees the images while others are read

    def _scored(
        self,
        batch: list[Decoded | Unscored],
        fail: Callable[[Path | None, BlemishError], Unscored] | None,
    ) -> Iterator[Scored | Unscored]:
        """The scores of a batch, and in their places what is no image or has no usable score."""
        started = time.perf_counter()
        decoded = [one for one in batch if isinstance(one, Decoded)]
        results = iter(self._results([one.image for one in decoded], [one.path for one in decoded]))
        seconds = (time.perf_counter() - started) / max(1, len(decoded))
        for one in batch:
            if not isinstance(one, Decoded):
                yield one
                continue
            result = next(results)
            if isinstance(result, BlemishError):
                if fail is None:
                    raise result
                yield fail(one.path, result)
            else:
                yield Scored(*one, *result, seconds)

    def _results(
        self, images: Sequence[Image], paths: Sequence[Path | None]
    ) -> list[tuple[float, Map] | BlemishError]:
        """Score and map of each image, or why it has none."""
        images = [as_image(image) for image in images]
        if not images:
            return []
        predicted = self._predict(np.stack([self.preprocess(image) for image in images]))
        results: list[tuple[float, Map] | BlemishError] = []
        for score, anomaly_map, image, path in zip(*predicted, images, paths, strict=True):
            try:
                require_finite(score, anomaly_map, path)
            except ModelError as error:
                results.append(error)
            else:
                restored = self.preprocess.restore(anomaly_map, image.shape[:2])
                results.append((float(score), restored))
        return results

    def _predict(self, inputs: NDArray[np.float32]) -> Prediction[NDArray[np.float32]]:
        """The runtime's prediction with its shapes checked, since manipulated weights can have the right sha256."""
        with naming_damage(Exception):
            scores, maps = self.runtime.predict(inputs)
        for values in (scores, maps):  # a graph can give text or lists
            if not (isinstance(values, np.ndarray) and values.dtype.kind == "f"):
                raise ModelError(
                    "The model gave {kind} values, not floating-point "
                    "scores and maps. It is damaged; copy it again or fit again.",
                    kind=getattr(values, "dtype", type(values).__name__),
                )
        if (scores.shape, maps.shape) != ((len(inputs),), (len(inputs), *inputs.shape[2:])):
            raise ModelError(
                "The model gave scores {shape} and maps {other} for inputs {inputs}. "
                "It is damaged; copy it again or fit again.",
                shape=scores.shape,
                other=maps.shape,
                inputs=inputs.shape,
            )
        return Prediction(scores, maps)


@contextmanager
def naming_damage(*kinds: type[Exception]) -> Iterator[None]:
    """Turn the errors of these kinds, which manipulated weights make a method raise, into one that says so."""
    try:
        yield
    except BlemishError:
        raise
    except kinds as error:
        raise ModelError(
            "The model cannot score these images: {error}. It is damaged; copy it again or fit again.",
            error=error,
        ) from error


def _bytes_scored(one: object) -> int:
    """Approximate memory of an image with its map and masks."""
    return 3 * one.image.nbytes if isinstance(one, Decoded) else 0


def batch_size(preprocess: Preprocess) -> int:
    """Number of images that are scored at once."""
    height, width = preprocess.output_size
    return max(1, PIXELS_AT_ONCE // (height * width))


def as_image(array: Any) -> Image:
    """An array as an image (H, W, 3); a grey one, (H, W) or (H, W, 1), gets three equal channels.

    Raises:
        DataError: If it is not such an array of uint8 or uint16.
    """
    if not isinstance(array, np.ndarray):
        raise DataError(
            "An image is an (H, W, 3) RGB or (H, W) grey array, got {kind}. Convert it, or give the path of a file.",
            kind=type(array).__name__,
        )
    is_grey = array.ndim == 2 or array.shape[2:] == (1,)
    image = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2) if is_grey else array
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            "An image is an (H, W, 3) RGB or (H, W) grey array of uint8 or uint16, got {shape} of {dtype}. "
            "Convert it, or give the path of a file.",
            shape=array.shape,
            dtype=array.dtype,
        )
    return image


def require_finite(score: float, anomaly_map: ArrayLike, path: Path | None = None) -> None:
    """Check that a score and its map are finite, since a comparison of NaN with a threshold raises no error.

    Raises:
        ModelError: If the score or the map is NaN or infinite; the text names the file.
    """
    if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
        raise ModelError(
            "The model gave {path} a score or an anomaly map that is NaN or infinite, so there is no "
            "verdict. Inspect another image: if that fails too, fit the model again.",
            path=path or message("an image"),
        )
