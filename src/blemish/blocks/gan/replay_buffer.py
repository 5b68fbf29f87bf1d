"""Replay buffer of generated images (Shrivastava et al., 2017): the discriminator also gets those of earlier steps."""

import torch
from torch import Tensor, nn

CAPACITY = 50
"""Largest number of images kept, as in the paper on Cycle-GAN."""


class ReplayBuffer(nn.Module):
    """Keeps generated images and returns earlier ones; its state is in buffers, so checkpoints contain it.

    Args:
        capacity: Largest number of images kept.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.capacity = capacity
        self.images: Tensor
        self.count: Tensor
        self.register_buffer("images", torch.empty(0))
        self.register_buffer("count", torch.tensor(0))

    def reserve(self, size: tuple[int, int]) -> None:
        """Empty the buffer and allocate memory for images of `size` (H, W); to be called before `exchange`."""
        self.images = self.images.new_zeros(self.capacity, 3, *size)
        self.count.zero_()

    def exchange(self, images: Tensor) -> Tensor:
        """For each new image (N, 3, H, W), return it or an earlier one, without gradients: (N, 3, H, W).

        Until the buffer is full, the new image is kept and returned. From then on, with probability 1/2 (torch's global
        generator), it is returned and not kept; otherwise a random earlier one is returned and replaced by it.
        """
        return torch.stack([self._exchange_one(image) for image in images.detach()])

    def clear(self) -> None:
        """Discard all images and release their memory."""
        self.images = self.images.new_empty(0)
        self.count.zero_()

    def _exchange_one(self, image: Tensor) -> Tensor:
        count = int(self.count)
        if count < self.capacity:
            self.images[count] = image
            self.count += 1
            return image
        if torch.rand(()) < 0.5:
            return image
        place = int(torch.randint(self.capacity, ()))
        old = self.images[place].clone()
        self.images[place] = image
        return old
