"""Prepared images for training: computed once and cached, or again in every epoch if the cache is too small."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.cache import CacheBudget, reserve
from blemish.data.loading import Images, prefetch, stacked
from blemish.methods.base import Method
from blemish.types import Progress, no_progress


class Prepared:
    """`Method.prepare` of every image, by number.

    Args:
        method: Method whose `prepare` is applied.
        images: Normal images (3, H, W).
        batch_size: Number of images prepared at once.
        device: Device of the method.
        budget: Memory and disk for the prepared images.
        progress: Called with the number of images prepared.
    """

    def __init__(
        self,
        method: Method,
        images: Images,
        batch_size: int,
        device: str,
        budget: CacheBudget,
        progress: Progress = no_progress,
    ) -> None:
        self.method = method
        self.images = images
        self.device = device
        self.kept: list[NDArray[np.generic]] | None = None
        done = 0
        for batch in stacked(images, batch_size):
            parts = [tensor.cpu().numpy() for tensor in self._prepare(batch)]
            if not done:
                self.kept = reserve(len(images), [part[0] for part in parts], budget)
            if self.kept is None:
                break
            for array, part in zip(self.kept, parts, strict=True):
                array[done : done + len(part)] = part
            done += len(batch)
            progress("preparing", done, len(images))

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, parts: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Tensor, ...]]:
        """Prepared tensors of the images of each part, on the device."""
        if self.kept is not None:
            for part in parts:
                yield tuple(torch.from_numpy(array[part]).to(self.device) for array in self.kept)
            return
        waiting = prefetch(np.concatenate(parts).tolist(), self.images.__getitem__)
        for part in parts:
            yield self._prepare(np.stack([next(waiting) for _ in part]))

    def _prepare(self, batch: NDArray[np.float32]) -> tuple[Tensor, ...]:
        was_training = self.method.training
        self.method.eval()
        with torch.no_grad():
            prepared = self.method.prepare(torch.from_numpy(batch).to(self.device))
        self.method.train(was_training)
        return prepared
