"""Which part of an image is the product and which is background, learned from normal images without gradients.

Li et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One Millisecond via Cascade
Patch Retrieval", IEEE TIP 2024. The patches are split into two clusters. The one that most patches at the images'
borders belong to is the background; a linear discriminant tells it from the other patches in the images' centres.
Differs from the paper: clustering starts from the mean patches of border and centre, on standardised features that
include the mean colour, because features of flat areas hardly depend on their brightness; the outermost cells, whose
features show the network's zero padding, are not learned from.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.memory.kmeans import nearest_centre

FRAME = 0.0375
"""Width of the border whose patches vote for the background, relative to the image's side (paper)."""
CENTRE = 0.4
"""Side of the central rectangle that patches of the product are taken from, relative to the image's (paper)."""
EDGE = 2
"""Maximum number of outermost rows and columns of cells that take the weight of their inner neighbour."""
CAPACITY = 2**16
"""Maximum number of patches in memory, a random sample of all."""
PER_CLASS = 15_000
"""Maximum number of patches of either class (paper)."""
TRIMMED = 0.01
"""Share of the lowest and of the highest decision values that are clamped (paper)."""
ROUNDS = 20
"""Iterations of k-means."""
RIDGE = 1e-3
"""Added to the variances within the classes, relative to the total ones, so that the covariance can be inverted."""
OBJECT = 0.6
"""Separability from which images show an object. Objects that cover a fifth of the image or more have 0.8 to 1, small
ones less, textures 0 to 0.5; only uneven light with bright centres or corners has more, up to 0.75."""
COLOURS = 3
"""Number of colour channels, the last ones of the features."""
OTHER, BORDER, IN_CENTRE = 0, 1, 2


class Foreground(nn.Module):
    """A linear function of patches that is about 1 on an object and 0 on the background before which it lies.

    Features (N, C + 3, h, w) are those of `with_colour`. Call `update` with all of the training images, then `finish`.
    Without a background, as in images of a texture, the function has no meaning and `is_object` is false.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight: Tensor  # (C + 3,)
        self.bias: Tensor  # ()
        self.separability: Tensor  # (), see `finish`
        for name in ("weight", "bias", "separability"):
            self.register_buffer(name, torch.empty(0))
        self._share = 1.0  # of the patches that is kept
        self._kept: list[tuple[Tensor, Tensor]] = []

    def update(self, features: Tensor, visible: Tensor) -> None:
        """Add features; cells where visible (N, h, w) is false are not part of the image.

        The random numbers are torch's global ones.
        """
        inner = inside_edge(features), inside_edge(visible)
        chosen = inner[1] & (torch.rand(inner[1].shape) < self._share).to(visible.device)
        self._kept.append((inner[0].movedim(1, 3)[chosen], places(inner[1])[chosen]))
        while sum(len(patches) for patches, _ in self._kept) > CAPACITY:
            patches, place = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
            half = (torch.rand(len(patches)) < 0.5).to(patches.device)
            self._kept = [(patches[half], place[half])]
            self._share /= 2

    def finish(self) -> None:
        """Find the background and the function that tells the object from it.

        The separability is the share of the background's cluster at the border minus that in the centre, times the
        share of patches that are clearly one or the other (below 1/4 or above 3/4).
        """
        patches, place = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        self._share, self._kept = 1.0, []
        self.weight, self.bias = patches.new_zeros(patches.shape[1]), patches.new_ones(())
        self.separability = patches.new_zeros(())
        if not len(patches):
            return
        is_product = two_clusters(patches, place)
        background = patches[~is_product & (place == BORDER)]
        product = patches[is_product & (place == IN_CENTRE)]
        if not len(background) or not len(product):
            return
        shares = [is_product[place == where].double().mean() for where in (BORDER, IN_CENTRE)]
        count = min(len(background), len(product), PER_CLASS)
        sample = (drawn(background, count), drawn(product, count))
        direction = discriminant(*sample, RIDGE * patches.var(0, correction=0))
        values = patches @ direction
        low, high = values.quantile(TRIMMED), values.quantile(1 - TRIMMED)
        self.weight = direction / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
        self.bias = -low / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
        clear = ((patches @ self.weight + self.bias - 0.5).abs() > 0.25).double().mean()
        self.separability = (clear * (shares[1] - shares[0])).to(self.bias)

    @property
    def is_object(self) -> bool:
        """Whether the images show an object before a background, and not a texture that fills them."""
        return bool(self.separability >= OBJECT)

    def forward(self, features: Tensor) -> Tensor:
        """Weights (N, h, w) in [0, 1] of features (N, C + 3, h, w)."""
        weights = (torch.einsum("nchw,c->nhw", features, self.weight) + self.bias).clamp(0, 1)
        rows, columns = (edge(side) for side in weights.shape[1:])
        padding = (columns, columns, rows, rows)
        return functional.pad(inside_edge(weights)[:, None], padding, mode="replicate")[:, 0]


def with_colour(features: Tensor, images: Tensor) -> Tensor:
    """Features (N, C, h, w) and below them the mean colour of each cell in the images (N, 3, H, W)."""
    size = features.shape[2], features.shape[3]
    return torch.cat([features, functional.adaptive_avg_pool2d(images, size)], 1)


def two_clusters(patches: Tensor, place: Tensor) -> Tensor:
    """Which of the patches (n, C + 3) are not in the cluster of most patches at the border, (n,) bool.

    All features together have the same weight as the colour.
    """
    deviation = patches.std(0, correction=0)
    points = (patches - patches.mean(0)) / torch.where(deviation > 0, deviation, 1)
    points[:, :-COLOURS] *= (COLOURS / max(1, points.shape[1] - COLOURS)) ** 0.5
    members = (place == IN_CENTRE).long()
    known = place != OTHER
    for _ in range(ROUNDS):
        centres = [points[known & (members == k)] for k in (0, 1)]
        if not all(len(centre) for centre in centres):
            break
        members = nearest_centre(points, torch.stack([centre.mean(0) for centre in centres]))
        known = torch.ones_like(known)
    votes = members[place == BORDER].double().mean()
    return members != int(votes > 0.5)


def drawn(points: Tensor, count: int) -> Tensor:
    """A random choice of `count` points."""
    return points[torch.randperm(len(points))[:count].to(points.device)]


def discriminant(negative: Tensor, positive: Tensor, ridge: Tensor) -> Tensor:
    """Fisher's discriminant (Σ + diag(ridge))⁻¹(μ₊ − μ₋) of points (N, C) and (M, C), Σ their covariance in a class."""
    means = [points.double().mean(0) for points in (negative, positive)]
    deviations = torch.cat(
        [points.double() - mean for points, mean in zip((negative, positive), means, strict=True)]
    )
    within = deviations.T @ deviations / len(deviations)
    smallest = torch.finfo(torch.float32).tiny
    within.diagonal().add_(ridge.double().clamp_min(smallest))
    direction: Tensor = torch.linalg.solve(within, means[1] - means[0])
    return direction.to(negative)


def places(visible: Tensor) -> Tensor:
    """Where in its image each cell lies, (N, h, w) int64: 1 at the border, 2 in the centre, else 0.

    The image is the rectangle of the cells where visible (N, h, w) is true.
    """
    is_border, is_centre = torch.zeros_like(visible), torch.ones_like(visible)
    for axis in (1, 2):
        lines = visible.any(3 - axis, keepdim=True)
        number, count = lines.cumsum(axis) - 1, lines.sum(axis, keepdim=True)
        from_edge = torch.minimum(number, count - 1 - number)
        is_border = is_border | (from_edge < (FRAME * count).round().clamp_min(1))
        is_centre = is_centre & (from_edge + 0.5 >= (1 - CENTRE) / 2 * count)
    return torch.where(is_centre, IN_CENTRE, torch.where(is_border, BORDER, OTHER))


def inside_edge(grid: Tensor) -> Tensor:
    """The grid (…, h, w) without its `EDGE` outermost rows and columns, or fewer if it is small."""
    rows, columns = (edge(side) for side in grid.shape[-2:])
    return grid[..., rows : grid.shape[-2] - rows, columns : grid.shape[-1] - columns]


def edge(side: int) -> int:
    """Number of cells at either end of a side that are an edge."""
    return min(EDGE, -(-side // 32), (side - 1) // 4)
