"""Images as the hooks of a method get them."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from blemish.data.loading import Images, stacked
from blemish.types import Progress, no_progress


class ImageBatches:
    """Batches of images as tensors on the device, for any number of passes; progress is reported under `phase`."""

    def __init__(
        self, images: Images, size: int, device: str, phase: str = "", progress: Progress = no_progress
    ) -> None:
        self.images = images
        self.count = len(images)
        self.size = size
        self.device = device
        self.phase = phase
        self.progress = progress

    def __len__(self) -> int:
        return math.ceil(self.count / self.size)

    def image(self, index: int) -> Tensor:
        """One image (3, H, W)."""
        return torch.from_numpy(self.images[index]).to(self.device)

    def __iter__(self) -> Iterator[Tensor]:
        for done, array in enumerate(stacked(self.images, self.size), 1):
            yield torch.from_numpy(array).to(self.device)
            if self.phase:
                self.progress(self.phase, done, len(self))
