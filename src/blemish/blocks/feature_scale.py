"""The scale of features: a unit for noise widths and bandwidths that does not depend on the backbone."""

import torch
from torch import Tensor

from blemish.errors import MethodError


class FeatureScale:
    """Standard deviation of a channel of the features over the training patches, which come batch by batch.

    Moments are merged batch by batch (Chan et al., 1979) in float64, so the result does not depend on the batches.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0)  # (D,) after the first patches
        self.squares = torch.zeros(0)  # (D,): sum of squared deviations from the mean

    def add(self, patches: Tensor) -> None:
        """Add patches (N, D)."""
        if not len(patches):
            return
        patches = patches.double()
        mean = patches.mean(0)
        squares = (patches - mean).square().sum(0)
        if self.count:
            total = self.count + len(patches)
            gap = mean - self.mean
            squares = self.squares + squares + gap.square() * (self.count * len(patches) / total)
            mean = self.mean + gap * (len(patches) / total)
        self.count, self.mean, self.squares = self.count + len(patches), mean, squares

    def compute(self) -> Tensor:
        """Median standard deviation over the channels that vary: float32, a scalar tensor.

        Raises:
            MethodError: If no channel varies.
        """
        deviations = (self.squares / max(self.count, 1)).sqrt()
        varying = deviations[deviations > 0]
        if not len(varying):
            raise MethodError(
                "All patches of the training images are equal, so there is nothing to learn from. Give at least one "
                "image that shows the product."
            )
        return varying.median().float()
