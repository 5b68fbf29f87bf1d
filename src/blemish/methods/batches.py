"""Images as the hooks of a method get them."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor


class Batches(Protocol):
    """`len` image batches (N, 3, H, W); all but the last hold the same number of images."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int: ...


class AuxiliaryImages(Batches, Protocol):
    """Batches whose images can also be taken one at a time."""

    @property
    def count(self) -> int:
        """Number of images."""
        ...

    def image(self, index: int) -> Tensor:
        """One image (3, H, W)."""
        ...
