"""Replay buffer of generated images (Shrivastava et al., 2017): the discriminator also sees those of earlier steps."""

import torch
from torch import Tensor, nn

CAPACITY = 50
"""Pictures kept at most, as in the paper on Cycle-GAN."""


class ReplayBuffer(nn.Module):
    """Keeps made pictures and hands out old ones; it lives in buffers, so unfinished training keeps it too.

    Args:
        capacity: Most pictures kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.pictures: Tensor
        self.count: Tensor
        self.register_buffer("pictures", torch.empty(0))
        self.register_buffer("count", torch.tensor(0))

    def reserve(self, size: tuple[int, int]) -> None:
        """Make room for pictures of `size` (H, W), none of them kept yet; to be called before `exchange`."""
        self.pictures = self.pictures.new_zeros(self.capacity, 3, *size)
        self.count.zero_()

    def exchange(self, pictures: Tensor) -> Tensor:
        """Give each new picture (N, 3, H, W) and get one back, without gradients: (N, 3, H, W).

        While there is room, the new one is kept and returned. From then on, torch's global generator decides: as
        often as not the new one is returned and not kept; else any old one, whose place the new one takes.
        """
        return torch.stack([self._exchange_one(picture) for picture in pictures.detach()])

    def clear(self) -> None:
        """Keep nothing, not even room."""
        self.pictures = self.pictures.new_empty(0)
        self.count.zero_()

    def _exchange_one(self, picture: Tensor) -> Tensor:
        count = int(self.count)
        if count < self.capacity:
            self.pictures[count] = picture
            self.count += 1
            return picture
        if torch.rand(()) < 0.5:
            return picture
        place = int(torch.randint(self.capacity, ()))
        old = self.pictures[place].clone()
        self.pictures[place] = picture
        return old
