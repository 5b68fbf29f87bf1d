"""A small network whose outputs are alike where two images agree, and the contrastive loss that trains it.

Li et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One Millisecond via Cascade
Patch Retrieval", IEEE TIP 2024. Differs from the authors' code: the reference image is never disturbed.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

POSITIVE, NEGATIVE = 0.8, -0.2
"""Cosine above which equal cells do not attract each other, and below which different cells do not repel (paper)."""
EXPONENT = 3
"""Exponent of what exceeds a margin (paper)."""
POINTS = 300
"""Number of points of each kind that are drawn in an image (paper)."""
NEAR = 4 * 2**0.5
"""Distance in pixels of the network's input up to which two points may show the same (paper)."""
BATCH_NORM_EPS = 1e-3
"""Of the batch norms in the Inception block (paper)."""


class LocalMetric(nn.Module):
    """A frozen feature map (N, inputs, h, w) → unit vectors (N, width, h, w), by an Inception block."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        stem, branch, middle = width // 2, width // 6, max(1, width // 8)  # the paper's ratios
        self.stem = nn.Sequential(nn.Conv2d(inputs, stem, 1), nn.BatchNorm2d(stem), nn.ReLU())
        self.branches = nn.ModuleList(
            [
                unit(stem, branch, 1),
                nn.Sequential(unit(stem, middle, 1), unit(middle, branch, 3)),
                unit(stem, branch, 1),
                nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), unit(stem, branch, 1)),
            ]
        )
        self.last = nn.Conv2d(4 * branch, width, 1)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()

    def forward(self, features: Tensor) -> Tensor:
        stem = self.stem(features)
        joined = torch.cat([branch(stem) for branch in self.branches], 1)
        return functional.normalize(self.last(joined), dim=1)


def unit(inputs: int, outputs: int, kernel: int) -> nn.Module:
    """Convolution, batch norm and ReLU, as in the Inception network."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS),
        nn.ReLU(),
    )


def attraction(cosines: Tensor) -> Tensor:
    """Loss of pairs that show the same."""
    return (POSITIVE - cosines).clamp_min(0) ** EXPONENT


def repulsion(cosines: Tensor, weights: Tensor) -> Tensor:
    """Loss of pairs that do not show the same, by weights that are not negative."""
    return ((cosines - NEGATIVE).clamp_min(0) * weights) ** EXPONENT


def contrastive_loss(
    pairs: Tensor, features: Tensor, weights: Tensor, defects: Tensor, *, near: float | None
) -> Tensor:
    """Loss of random points in pairs of a query image, which may have a defect, and a normal reference.

    Points without defect attract the same position of the reference. Points in a defect repel it. If positions differ,
    points anywhere also repel other positions of the reference, the more the farther their frozen features are apart.
    It is the mean over all pairs of points that attract, plus that over all that repel.

    Args:
        pairs: (2, N, D, h, w): unit vectors of queries and references.
        features: (2, N, C, h, w): the frozen features from which they were computed.
        weights: (N, h, w): how often points are drawn.
        defects: (N, h, w): share of each cell that is in a defect.
        near: Distance in cells up to which positions may show the same, as in objects; None if all of them may be
            alike, as in a texture.
    """
    same, has_same = draw(weights * (defects == 0))
    defective, has_defect = draw(weights * (defects >= 0.5))
    attracted = attraction(cosines(pairs, same, same)) * has_same
    repelled = [repulsion(cosines(pairs, defective, defective), has_defect)]
    counted = [has_defect.expand_as(defective)]
    if near is not None:
        here, has_here = draw((weights > 0).to(weights))
        other, _ = draw(weights)
        is_far = (steps_between(here, other, weights.shape[2]) > near**2) & has_here
        apart = far_apart(at(features[0], here), at(features[1], other), is_far)
        repelled.append(repulsion(cosines(pairs, here, other), apart))
        counted.append(apart > 0)
    attracting = has_same.expand_as(same).sum().clamp_min(1)
    repelling = torch.cat(counted, 1).sum().clamp_min(1)
    return attracted.sum() / attracting + torch.cat(repelled, 1).sum() / repelling


def far_apart(a: Tensor, b: Tensor, counted: Tensor) -> Tensor:
    """Squared distances of features (N, C, n), relative to their mean over an image's pairs that are counted (N, n)."""
    squared = (a - b).square().sum(1) * counted
    mean = squared.sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp_min(1)
    return squared / mean.clamp_min(torch.finfo(squared.dtype).tiny)


def draw(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (N, POINTS), numbered row by row, drawn by weights (N, h, w), and whether an image has any (N, 1)."""
    flat = weights.flatten(1)
    has_any = flat.sum(1, keepdim=True) > 0
    return torch.multinomial(torch.where(has_any, flat, 1.0), POINTS, replacement=True), has_any


def steps_between(a: Tensor, b: Tensor, width: int) -> Tensor:
    """Squared distance in cells of cells a and b, numbered row by row in a map of a width."""
    return (a // width - b // width).square() + (a % width - b % width).square()


def cosines(pairs: Tensor, here: Tensor, there: Tensor) -> Tensor:
    """Cosines (N, n) of cells of the queries and of the references, from unit vectors (2, N, D, h, w)."""
    return (at(pairs[0], here) * at(pairs[1], there)).sum(1)


def at(maps: Tensor, cells: Tensor) -> Tensor:
    """Values (N, C, n) of maps (N, C, h, w) at cells (N, n), numbered row by row."""
    return maps.flatten(2).gather(2, cells[:, None].expand(-1, maps.shape[1], -1))
