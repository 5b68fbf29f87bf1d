"""What the reconstruction methods share: resizing or windows, standardised errors and the anomaly map."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.position_gaussian import PositionGaussian
from blemish.blocks.sampling import evenly_spaced
from blemish.blocks.schedules import half_cosine
from blemish.blocks.sliding_windows import covering_starts, cut_windows, merge_windows, random_windows
from blemish.blocks.synthetic.procedural import procedural_images
from blemish.errors import MethodError
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.types import Prediction

SIGMA = 4.0
"""Standard deviation of the anomaly map's blur, in pixels of the input image."""
MAX_TEXTURES = 32
"""Maximum number of images from which synthetic defects take their textures."""
RIDGE = 0.1
"""Share of the mean variance that is added to each position's variance, so that nearly constant errors keep a scale."""


class Reconstruction(Method):
    """Scores an image by its difference from a reconstruction, by networks that learned normal images only.

    The networks see square views of `size` pixels: the image resized to that size or, with `patches`, windows of it.
    A training step takes one random window of each image; scoring takes overlapping windows and averages their errors.
    A subclass declares `size` and `score`, computes the errors in `compare`, and initialises its weights in `collect`
    after calling the `collect` of this class.
    """

    lowest_value: ClassVar[float] = 0.0
    """Smallest value of an image as the networks see it; the largest is 1."""

    size: int
    patches: bool = argument(False, "Whether networks see sliding windows instead of the resized image.")
    standardise: bool = argument(
        False, "Whether errors are standardised by those of normal images per position."
    )
    score: str
    batch_size: int = arguments.batch_size(16)

    def build(self) -> None:
        self.usual_errors = PositionGaussian()  # mean and deviation of the errors at each position

    def collect(self, batches: Batches) -> None:
        if self.standardise and len(batches) == 1 and sum(map(len, batches)) < 2:
            raise MethodError(
                "Standardising errors takes at least 2 training images, got 1. Add normal images, or set "
                "standardise=false."
            )

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Network images (N, 3, size, size) without padding; with `patches` they keep the height and width."""
        return (self.network_images(split_padding(images)[0]),)

    def views(self, network_images: Tensor) -> Tensor:
        """The views (N, 3, size, size) of a training step: the images themselves, or a random window of each."""
        return random_windows(network_images, self.size) if self.patches else network_images

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0, because the result is that of the last epoch."""
        return half_cosine(done)

    @abstractmethod
    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        """The errors of views (M, 3, size, size).

        Returns:
            Errors (M, size, size), not negative; and, if `score` is not "pixels", a score (M,).
        """

    def finish(self, batches: Batches) -> None:
        if not self.standardise:
            return
        for images in batches:
            images, visible = split_padding(images)
            errors = self.errors(images)[0]
            inside = visible_grid(visible, (errors.shape[1], errors.shape[2]))
            self.usual_errors.update(errors[:, None], inside)
        self.usual_errors.finish(RIDGE)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return (1, 1) if self.patches else (size[0] / self.size, size[1] / self.size)

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        grows = self.patches and self.standardise
        return 4 * size[0] * size[1] * PositionGaussian.numbers(1) if grows else 0

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        errors, scores = self.errors(images)
        if self.standardise:
            errors = self.usual_errors.distance(errors[:, None])
        grid = mask_grid(errors, visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), SIGMA)
        return Prediction(anomaly_map.flatten(1).amax(1) if scores is None else scores, anomaly_map)

    def errors(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Errors (N, h, w) of images without padding, and the largest score of each image's views (N,), if any."""
        network_images = self.network_images(images)
        size = (network_images.shape[2], network_images.shape[3])
        errors, scores = self.compare(cut_windows(network_images, self.size))
        tops, lefts = covering_starts(size, self.size)
        largest = None if scores is None else scores.unflatten(0, (-1, len(tops) * len(lefts))).amax(1)
        return merge_windows(errors, size), largest

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


def latent_distance(codes: Tensor, others: Tensor) -> Tensor:
    """Mean squared difference of codes (N, …): (N,)."""
    return (codes - others).square().flatten(1).mean(1)
