"""A sample of bounded size of a stream of unknown length."""

from collections.abc import Iterable

import torch
from torch import Tensor

from blemish.errors import MethodError


def evenly_spaced(batches: Iterable[Tensor], capacity: int) -> Tensor:
    """At most `capacity` images, evenly spaced over the stream; all of them if they fit.

    Keeps every image until there are too many, then every second, every fourth and so on: deterministic, and never
    more than `capacity` in memory.

    Raises:
        MethodError: If the stream is empty.
    """
    kept: list[Tensor] = []
    index, step = 0, 1
    for batch in batches:
        for image in batch:
            if index % step == 0 and len(kept) == capacity:
                kept = kept[::2]
                step *= 2
            if index % step == 0:
                kept.append(image.clone())
            index += 1
    if not kept:
        raise MethodError("There is no image to learn from. Give at least one normal image.")
    return torch.stack(kept)
