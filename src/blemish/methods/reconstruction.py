"""What the methods that rebuild a picture share: how they get to see it, and what its errors are made into."""

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

SIZE = "Side of the images that the networks see, in pixels."
SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input."""
TEXTURES = 32
"""Pictures of other things kept for synthetic defects."""
RIDGE = 0.1
"""Added to the variance of a position's errors, as a share of the mean one, so that no quiet place explodes."""


class Reconstruction(Method):
    """Rebuilds pictures after those of normal parts; what it cannot rebuild is anomalous.

    The networks see square pictures of `size` pixels: the image shrunk to it, or, with `patches`, windows of it:
    a random one of each image in a training step; for scoring, overlapping ones whose errors are averaged.
    A subclass declares `size` and `score`, computes the errors in `compare` and initialises its weights in `collect`
    after this one's.
    """

    darkest: ClassVar[float] = 0.0
    """Of a picture's values as the networks see them; the brightest is 1."""

    size: int
    patches: bool = argument(
        False,
        "Whether the networks see sliding windows of the image, for textures, instead of the whole image resized.",
    )
    standardise: bool = argument(
        False, "Whether errors are divided by those that are usual at their position, for aligned products."
    )
    score: str
    batch_size: int = arguments.batch_size(16)

    def build(self) -> None:
        self.usual_errors = PositionGaussian()

    def collect(self, batches: Batches) -> None:
        if self.standardise and len(batches) == 1 and sum(map(len, batches)) < 2:
            raise MethodError(
                "What errors are usual at a place takes at least 2 training images, got 1. Add good images, or set "
                "standardise=false."
            )

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Pictures (N, 3, size, size) from `darkest` to 1; with `patches` they stay as large as the images."""
        return (self.pictures(split_padding(images)[0]),)

    def views(self, pictures: Tensor) -> Tensor:
        """What a training step sees (N, 3, size, size): the pictures, or a random window of each."""
        return random_windows(pictures, self.size) if self.patches else pictures

    def learning_rate_factor(self, done: float) -> float:
        """Half a cosine, since the result is that of the last epoch."""
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

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        errors, scores = self.errors(images)
        if self.standardise:
            errors = self.usual_errors.distance(errors[:, None])
        grid = mask_grid(errors, visible)
        anomaly_map = upsample(grid, (images.shape[2], images.shape[3]), SIGMA)
        return Prediction(anomaly_map.flatten(1).amax(1) if scores is None else scores, anomaly_map)

    def errors(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """`compare` of whole images without padding: errors (N, h, w); of windows' scores the largest (N,)."""
        pictures = self.pictures(images)
        size = (pictures.shape[2], pictures.shape[3])
        errors, scores = self.compare(cut_windows(pictures, self.size))
        tops, lefts = covering_starts(size, self.size)
        largest = None if scores is None else scores.unflatten(0, (-1, len(tops) * len(lefts))).amax(1)
        return merge_windows(errors, size), largest

    def pictures(self, images: Tensor) -> Tensor:
        """Images without padding as the networks see them."""
        pictures = self._in_range(images)
        return pictures if self.patches else functional.adaptive_avg_pool2d(pictures, self.size)

    def textures(self) -> Tensor:
        """What synthetic defects are made of (K, 3, size, size): the auxiliary images, or procedural pictures."""
        if self.auxiliary is None:
            return self._in_range(procedural_images(TEXTURES, (self.size, self.size)))
        pictures = self.pictures(split_padding(evenly_spaced(self.auxiliary, TEXTURES))[0])
        return random_windows(pictures, self.size)

    def _in_range(self, pictures: Tensor) -> Tensor:
        """From 0…1 to `darkest`…1."""
        return self.darkest + (1 - self.darkest) * pictures


def latent_distance(codes: Tensor, others: Tensor) -> Tensor:
    """Mean squared difference of codes (N, …): (N,)."""
    return (codes - others).square().flatten(1).mean(1)
