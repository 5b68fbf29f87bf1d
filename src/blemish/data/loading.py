"""Loads images in order: threads decode ahead, and batches are stacked for a network."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from os import cpu_count
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import read_image
from blemish.data.preprocess import Preprocess
from blemish.types import Sample

Source = Sample | Path
"""An image file."""

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


def stacked(images: Images, size: int) -> Iterator[NDArray[np.float32]]:
    """Batches (N, 3, H, W) of `size` images, the last may be smaller; threads read images ahead."""
    for rows in in_batches(prefetch(range(len(images)), images.__getitem__), size):
        yield np.stack(rows)


def prefetch(items: Iterable[Item], load: Callable[[Item], Loaded], ahead: int = 8) -> Iterator[Loaded]:
    """`load(item)` for every item in order, computed in threads; at most `ahead` results are kept waiting.

    An exception of `load` is raised in the place of its result.
    """
    with ThreadPoolExecutor(cpu_count()) as pool:
        waiting: deque[Future[Loaded]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(load, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _path_of(source: Source) -> Path:
    return source.path if isinstance(source, Sample) else source
