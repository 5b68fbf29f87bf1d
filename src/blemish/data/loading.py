"""Loads images in order: threads decode ahead, and batches are stacked for a network."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import image_size, read_image
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError
from blemish.types import Sample

Source = Sample | Path
"""An image file."""

BYTES_AHEAD = 256 * 2**20
"""Bytes of decoded images that may wait, unless a single one has more: large images are read one by one, small ones in
parallel."""
BYTES_OF_PIXEL = 6
"""Memory that decoding an image takes: an 8-bit pixel and the decoder's copy of it."""

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


class Images(Protocol):
    """Network inputs (3, H, W) by index: an array (N, 3, H, W), or images decoded on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> NDArray[np.float32]: ...


class Inputs:
    """Preprocessed images (3, H, W), decoded on every access; thread-safe.

    Args:
        sources: Samples or paths, kept in this order.
        preprocess: Applied to each decoded image.
    """

    def __init__(self, sources: Sequence[Source], preprocess: Preprocess) -> None:
        self.sources = sources
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """The network input of image `index`.

        Raises:
            DataError: The image cannot be decoded.
        """
        return self.preprocess(read_image(_path_of(self.sources[index])))


class Joined:
    """Several sets of images as one, in the order given."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self.places = [(part, index) for part in parts for index in range(len(part))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        part, number = self.places[index]
        return part[number]


def stacked(images: Images, size: int) -> Iterator[NDArray[np.float32]]:
    """Batches (N, 3, H, W) of `size` images, the last may be smaller; threads read images ahead."""
    for rows in in_batches(prefetch(range(len(images)), images.__getitem__), size):
        yield np.stack(rows)


def prefetch(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    ahead: int = 8,
    size_of: Callable[[Item], int] | None = None,
) -> Iterator[Loaded]:
    """`load(item)` for every item in order, computed in threads; at most `ahead` results are kept waiting.

    An exception of `load` is raised in the place of its result.

    Args:
        items: Read in the calling thread.
        load: Called in a thread.
        ahead: Maximum number of results that are kept.
        size_of: Bytes of an item's result. No result is computed ahead that would make them more than `BYTES_AHEAD`.
    """
    with ThreadPoolExecutor(cpu_count()) as pool:
        waiting: deque[tuple[Future[Loaded], int]] = deque()
        held = 0
        try:
            for item in items:
                size = 0 if size_of is None else size_of(item)
                while waiting and (len(waiting) >= ahead or held + size > BYTES_AHEAD):
                    held -= waiting[0][1]
                    yield waiting.popleft()[0].result()
                waiting.append((pool.submit(load, item), size))
                held += size
                del item  # else it is kept while the next one is made
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def in_batches(
    items: Iterable[Item], size: int, bytes_of: Callable[[Item], int] | None = None
) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter, and so may one whose items reach `BYTES_AHEAD`."""
    batch: list[Item] = []
    held = 0
    for item in items:
        batch.append(item)
        held += 0 if bytes_of is None else bytes_of(item)
        del item  # the consumer decides how long it is kept
        if len(batch) == size or held >= BYTES_AHEAD:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def decoded_bytes(source: object) -> int:
    """Approximate memory that decoding a file takes, from its header; 0 for what is no readable file."""
    path = source.path if isinstance(source, Sample) else source
    if not isinstance(path, str | Path):
        return 0
    try:
        height, width = image_size(path)
    except DataError:
        return 0
    return height * width * BYTES_OF_PIXEL


def _path_of(source: Source) -> Path:
    return source.path if isinstance(source, Sample) else source
