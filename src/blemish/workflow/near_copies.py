"""Finds near-copies among images: re-encoded, resized or shifted ones, and the same part photographed twice."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.cache import CacheBudget, reserve
from blemish.data.checks import BadImage
from blemish.data.images import read_image
from blemish.data.loading import decoded_bytes, in_batches, prefetch
from blemish.data.preprocess import Preprocess
from blemish.errors import DataError
from blemish.scoring import batch_size
from blemish.types import Progress

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
BUDGET = CacheBudget()
NEIGHBOURS = 5
"""Number of nearest images of each image that are registered with it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All images, looked at once, at the size at which they are compared."""

    readable: list[int]
    """Numbers of the images that can be read; the arrays hold these, in this order."""
    unreadable: list[BadImage]
    embeddings: NDArray[np.float32]
    """(N, D)."""
    grey: NDArray[np.uint8]
    """(N, H, W)."""

    def as_float(self, place: int) -> NDArray[np.float32]:
        """A grey image in [0, 1]."""
        return np.asarray(self.grey[place] / np.float32(255))


@dataclass(frozen=True, slots=True)
class NearCopies:
    """A group of near-copies."""

    places: list[int]
    """In the arrays of `Seen`."""
    correlation: float
    """The smallest correlation of fine detail by which they were joined."""


def look_at(paths: Sequence[Path], preprocess: Preprocess, device: str, progress: Progress) -> Seen:
    """Read and embed each image.

    Raises:
        DataError: If no image can be read, or there are too many for the memory and the disk.
    """
    from blemish.features.embedding import Embedder  # torch is not needed to inspect

    small = Preprocess(size=preprocess.size)
    embed = Embedder(device)
    reserved = reserve(len(paths), [np.empty(small.size, np.uint8)], BUDGET)
    if reserved is None:
        raise DataError(
            "{count} images of the input's size do not fit in memory or on the disk. Take a smaller input or fewer "
            "images.",
            count=len(paths),
        )
    (grey,) = reserved
    readable: list[int] = []
    unreadable: list[BadImage] = []
    embeddings: list[NDArray[np.float32]] = []
    loaded = prefetch(paths, lambda path: _load(path, small), size_of=decoded_bytes)
    for batch in in_batches(enumerate(loaded), batch_size(small)):
        unreadable += [pixels for _, pixels in batch if isinstance(pixels, BadImage)]
        usable = [(number, pixels) for number, pixels in batch if not isinstance(pixels, BadImage)]
        if usable:
            inputs = np.stack([pixels for _, pixels in usable])
            embeddings.append(embed(inputs))
            rows = slice(len(readable), len(readable) + len(usable))
            grey[rows] = np.rint(255 * np.tensordot(GREY, inputs, (0, 1)))
            readable += [number for number, _ in usable]
        progress("comparing images", len(readable) + len(unreadable), len(paths))
    if not readable:
        raise DataError(
            "None of the {count} images can be read: {reason}", count=len(paths), reason=unreadable[0].reason
        )
    return Seen(readable, unreadable, np.concatenate(embeddings), grey[: len(readable)])


def find_near_copies(seen: Seen, progress: Progress, neighbours: int = NEIGHBOURS) -> list[NearCopies]:
    """The groups of near-copies; each image is compared with this number of nearest ones."""
    from blemish.blocks.classical.near_copies import connected, detail_correlation, nearest_pairs, threshold

    if len(seen.readable) < 2:
        return []
    candidates, others = nearest_pairs(seen.embeddings, neighbours)
    pairs = sorted({*candidates, *others})
    found: dict[tuple[int, int], float] = {}
    with ThreadPoolExecutor(cpu_count()) as pool:
        values = pool.map(lambda pair: detail_correlation(*map(seen.as_float, pair)), pairs)
        for pair, value in zip(pairs, values, strict=True):
            found[pair] = value
            progress("registering pairs", len(found), len(pairs))
    least = threshold(found[pair] for pair in others)
    joined = {pair: found[pair] for pair in candidates if found[pair] > least}
    return [
        NearCopies(places, min(value for pair, value in joined.items() if pair[0] in places))
        for places in connected(joined)
    ]


def difference(seen: Seen, first: int, second: int) -> NDArray[np.float32]:
    """What is left of the fine detail (H, W) of one near-copy after the other, registered, is subtracted."""
    from blemish.blocks.classical.near_copies import detail_difference

    return detail_difference(seen.as_float(first), seen.as_float(second))


def _load(path: Path, preprocess: Preprocess) -> NDArray[np.float32] | BadImage:
    try:
        return preprocess(read_image(path))
    except DataError as error:
        return BadImage(path, str(error))
