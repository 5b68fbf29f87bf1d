"""Images as users give them to a model: files, folders, samples and arrays."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from blemish.data.find import entries_of, find_images, is_folder
from blemish.data.images import read_image
from blemish.errors import DataError
from blemish.inspection.result import Unreadable
from blemish.scoring import Decoded, as_image
from blemish.types import Image, Sample


def each_image(images: Iterable[Sample | Path | str | Image]) -> Iterator[Sample | Path | str | Image]:
    """The images, with each folder replaced by its images.

    Raises:
        DataError: If `images` cannot be iterated.
    """
    if not isinstance(images, Iterable):
        decode(images)  # says what an image is
    for image in images:
        if isinstance(image, str | Path) and is_folder(Path(image)):
            yield from find_images([image])
        else:
            yield image


def decode(image: Sample | Path | str | Image) -> Decoded:
    """The pixels of one image.

    Raises:
        DataError: If the file cannot be decoded, or the array is not an image.
    """
    if isinstance(image, np.ndarray):
        return Decoded(None, as_image(image))
    if not isinstance(image, Sample | Path | str):
        raise DataError(
            "An image is a path, a sample or an array, got {kind}. Of a data set, give its samples, e.g. Dataset.test.",
            kind=type(image).__name__,
        )
    path = image.path if isinstance(image, Sample) else Path(image)
    return Decoded(path, read_image(path))


def read(image: Sample | Path | str | Image) -> Decoded | Unreadable:
    """The decoded image, or an `Unreadable` with the error; a folder here has no images."""
    path = None
    try:
        if isinstance(image, str | Path):
            path = Path(image)
            if is_folder(path) and path not in entries_of(path).images:
                raise DataError(
                    "{path} holds no images. Name an image, or a folder that holds images.",
                    path=path,
                )
        elif isinstance(image, Sample):
            path = image.path
        return decode(image)
    except DataError as error:
        return Unreadable(path, error)
