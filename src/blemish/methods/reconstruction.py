"""What the reconstruction methods share: standardised errors of views and the anomaly map."""

from abc import abstractmethod

import torch
from torch import Tensor

from blemish.blocks.anomaly_map import gaussian_blur, upsample
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.position_gaussian import PositionGaussian
from blemish.blocks.sliding_windows import covering_starts, cut_windows, merge_windows
from blemish.errors import MethodError
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches
from blemish.methods.square_views import SquareViews
from blemish.types import Prediction

SIGMA = 4.0
"""Standard deviation of the anomaly map's blur, in pixels of the input image."""
GRAIN = 4.0
"""Standard deviation of the blur before `relative` errors are taken, in pixels of the network images."""
SMALLEST = 1e-5
"""Error that is added before its logarithm is taken, since an error may be 0."""
TEXTURE = {"patches": True, "standardise": True, "relative": True}
"""Arguments for textures: full resolution, and errors that depend neither on the place nor on the image's grain."""
RIDGE = 0.1
"""Share of the mean variance that is added to each position's variance, so that nearly constant errors keep a scale."""


class Reconstruction(SquareViews):
    """Scores an image by its difference from a reconstruction, by networks that learned normal images only.

    Errors are averaged where windows overlap.
    A subclass declares `size` and `score`, computes the errors in `compare`, and initialises its weights in `collect`
    after calling the `collect` of this class.
    """

    standardise: bool = argument(
        False, "Whether errors are standardised by those of normal images per position."
    )
    relative: bool = argument(
        False, "Whether errors are compared with those of the whole image, for textures whose grain differs."
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

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        grows = self.patches and self.standardise
        return 4 * size[0] * size[1] * PositionGaussian.numbers(1) if grows else 0

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        errors, scores = self.errors(images)
        if self.standardise:
            is_low = errors < self.usual_errors.mean
            errors = self.usual_errors.distance(errors[:, None])
            if self.relative:  # elsewhere in an image with a defect, which raises the mean over the image
                errors = errors.masked_fill(is_low, 0)
        grid = mask_grid(errors, visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), SIGMA)
        return Prediction(anomaly_map.flatten(1).amax(1) if scores is None else scores, anomaly_map)

    def errors(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Errors (N, h, w) of images without padding, and the largest score of each image's views (N,), if any.

        They are logarithms if they are relative to the image.
        """
        network_images = self.network_images(images)
        size = (network_images.shape[2], network_images.shape[3])
        errors, scores = self.compare(cut_windows(network_images, self.size))
        tops, lefts = covering_starts(size, self.size)
        largest = None if scores is None else scores.unflatten(0, (-1, len(tops) * len(lefts))).amax(1)
        merged = merge_windows(errors, size)
        return relative_errors(merged) if self.relative else merged, largest


def relative_errors(errors: Tensor) -> Tensor:
    """Logarithms of blurred errors (N, h, w), less their mean over each image."""
    logarithms = torch.log(gaussian_blur(errors[:, None], GRAIN)[:, 0] + SMALLEST)
    return logarithms - logarithms.mean((1, 2), keepdim=True)


def latent_distance(codes: Tensor, others: Tensor) -> Tensor:
    """Mean squared difference of codes (N, …): (N,)."""
    return (codes - others).square().flatten(1).mean(1)
