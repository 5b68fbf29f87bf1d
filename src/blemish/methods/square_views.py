"""What the methods share whose networks see images of one size: resizing or windows, and the textures of defects."""

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from blemish.blocks.padding import split_padding
from blemish.blocks.sampling import evenly_spaced
from blemish.blocks.schedules import half_cosine
from blemish.blocks.sliding_windows import random_windows
from blemish.blocks.synthetic.procedural import procedural_images
from blemish.methods.arguments import argument
from blemish.methods.base import Method

MAX_TEXTURES = 32
"""Maximum number of images from which synthetic defects take their textures."""


class SquareViews(Method):
    """Its networks see square views of `size` pixels: the image resized to that size or, with `patches`, windows of it.

    A training step takes one random window of each image; scoring takes overlapping windows.
    A subclass declares `size`.
    """

    lowest_value: ClassVar[float] = 0.0
    """Smallest value of an image as the networks see it; the largest is 1."""

    size: int
    patches: bool = argument(False, "Whether networks see sliding windows instead of the resized image.")

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Network images (N, 3, size, size) without padding; with `patches` they keep the height and width."""
        return (self.network_images(split_padding(images)[0]),)

    def views(self, network_images: Tensor) -> Tensor:
        """The views (N, C, size, size) of a training step: the images themselves, or a random window of each."""
        return random_windows(network_images, self.size) if self.patches else network_images

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0, because the result is that of the last epoch."""
        return half_cosine(done)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return (1, 1) if self.patches else (size[0] / self.size, size[1] / self.size)

    def network_images(self, images: Tensor) -> Tensor:
        """Images without padding, in the value range of the networks; resized unless `patches` is set."""
        scaled = self._scaled(images)
        return scaled if self.patches else functional.adaptive_avg_pool2d(scaled, self.size)

    def textures(self) -> Tensor:
        """Textures (K, 3, size, size) for synthetic defects: crops of the auxiliary images, or procedural images."""
        if self.auxiliary is None:
            return self._scaled(procedural_images(MAX_TEXTURES, (self.size, self.size)))
        network_images = self.network_images(split_padding(evenly_spaced(self.auxiliary, MAX_TEXTURES))[0])
        return random_windows(network_images, self.size)

    def _scaled(self, images: Tensor) -> Tensor:
        """Values mapped linearly from the range 0 to 1 to the range `lowest_value` to 1."""
        return self.lowest_value + (1 - self.lowest_value) * images
