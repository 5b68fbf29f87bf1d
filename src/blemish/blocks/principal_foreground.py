"""Foreground of a product by the first principal component of its features, which tells it from the background."""

import torch
from torch import Tensor, nn
from torch.nn import functional

THRESHOLD = 0.25
"""Value of the component, in standard deviations, above which a cell belongs to the foreground."""
CENTRE_MARGIN = 0.2
"""The centre of an image is what is left without this share of it on each side."""
LEAST_OF_CENTRE = 0.35
"""The component is not that of the product, but of a part of it, if less than this share of the centre is foreground;
then the rest is taken."""


class PrincipalForeground(nn.Module):
    """Tells the cells of the product from those of the background, in images like the ones it has learned."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor  # (D,)
        self.axis: Tensor  # (D,): the component, such that its values have a standard deviation of 1
        self.register_buffer("mean", torch.empty(0))
        self.register_buffer("axis", torch.empty(0))

    def learn(self, features: Tensor, inside: Tensor) -> None:
        """Find the component and its sign from features (N, h, w, D), where inside (N, h, w).

        Its values are higher in the centre of the images, unless that makes too little of the centre foreground.
        """
        points = features[inside].double()
        mean = points.mean(0)
        centred = points - mean
        variances, axes = torch.linalg.eigh(centred.T @ centred / len(points))
        axis = axes[:, -1] / variances[-1].clamp_min(torch.finfo(torch.float32).tiny).sqrt()
        self.mean = mean.to(features)
        self.axis = axis.to(features)
        rows, columns = (int(CENTRE_MARGIN * side) for side in inside.shape[1:])
        centre = (slice(None), slice(rows, inside.shape[1] - rows), slice(columns, inside.shape[2] - columns))
        there = inside[centre]
        if ((features - self.mean) @ self.axis)[centre][there].sum() < 0:  # the mean of all is 0
            self.axis = -self.axis
        if (self._above(features)[centre] & there).sum() < LEAST_OF_CENTRE * there.sum():
            self.axis = -self.axis

    def forward(self, features: Tensor, inside: Tensor) -> Tensor:
        """Which cells (N, h, w) of features (N, h, w, D), of those inside, show the product.

        The foreground is dilated by one cell and small gaps are closed. All cells of an image in which none would be.
        """
        grid = self._above(features)[:, None].to(features.dtype)
        shown = (_eroded(_dilated(_dilated(grid)))[:, 0] > 0.5) & inside
        empty = ~shown.flatten(1).any(1)
        return shown | (inside & empty[:, None, None])

    def _above(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.axis > THRESHOLD


def _dilated(grid: Tensor) -> Tensor:
    return functional.max_pool2d(grid, 3, stride=1, padding=1)


def _eroded(grid: Tensor) -> Tensor:
    return -_dilated(-grid)
