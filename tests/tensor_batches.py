"""Images in memory as a method's hooks and auxiliary images get them."""

import math
from collections.abc import Iterator

from torch import Tensor


class TensorBatches:
    """Images (N, 3, H, W) in batches of `size`, and one at a time."""

    def __init__(self, images: Tensor, size: int = 3) -> None:
        self.images = images
        self.size = size

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.images.split(self.size))

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.size)

    @property
    def count(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Tensor:
        return self.images[index]
