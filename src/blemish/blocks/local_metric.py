"""A small network whose outputs are alike where two images agree, and the contrastive loss that trains it.

Li et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One Millisecond via Cascade
Patch Retrieval", IEEE TIP 2024. Differs from the paper: squared feature distances are relative to their mean, so
that the scale of the backbone does not matter.
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
NEAR = 2.0
"""Squared distance in cells up to which two points may show the same (paper)."""


class LocalMetric(nn.Module):
    """A frozen feature map (N, inputs, h, w) → unit vectors (N, width, h, w), by an Inception block."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        stem, branch = width // 2, width // 6  # the paper's ratios
        self.stem = nn.Sequential(nn.Conv2d(inputs, stem, 1), nn.BatchNorm2d(stem), nn.ReLU())
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(stem, branch, 1),
                nn.Sequential(nn.Conv2d(stem, branch, 1), nn.Conv2d(branch, branch, 3, padding=1)),
                nn.Conv2d(stem, branch, 1),
                nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.Conv2d(stem, branch, 1)),
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
        joined = torch.cat([branch(stem) for branch in self.branches], 1).relu()
        return functional.normalize(self.last(joined), dim=1)


def attraction(cosines: Tensor) -> Tensor:
    """Loss of pairs that show the same."""
    return (POSITIVE - cosines).clamp_min(0) ** EXPONENT


def repulsion(cosines: Tensor) -> Tensor:
    """Loss of pairs that do not show the same."""
    return (cosines - NEGATIVE).clamp_min(0) ** EXPONENT


def contrastive_loss(
    pairs: Tensor, features: Tensor, weights: Tensor, defects: Tensor, *, far: bool
) -> Tensor:
    """Mean loss of random points in pairs of a query image, which may have a defect, and a normal reference.

    Points without defect attract the same position of the reference. Points in a defect repel it. With `far`, points
    without defect also repel other positions of the reference, the more the farther their frozen features are apart.

    Args:
        pairs: (2, N, D, h, w): unit vectors of queries and references.
        features: (2, N, C, h, w): the frozen features from which they were computed.
        weights: (N, h, w): how often points are drawn.
        defects: (N, h, w): share of each cell that is in a defect.
        far: Whether positions differ, as in objects; in a texture they may all be alike.
    """
    normal, anomalous = weights * (defects == 0), weights * (defects >= 0.5)
    same, has_same = draw(normal)
    defective, has_defect = draw(anomalous)
    loss = (attraction(cosines(pairs, same, same)) * has_same).mean()
    loss = loss + (repulsion(cosines(pairs, defective, defective)) * has_defect).mean()
    if not far:
        return loss
    here, other = draw(normal)[0], draw(normal)[0]
    is_far = steps_between(here, other, weights.shape[2]) > NEAR
    squared = (at(features[0], here) - at(features[1], other)).square().sum(1)
    relative = squared / squared.mean().clamp_min(torch.finfo(squared.dtype).tiny)
    return loss + (repulsion(cosines(pairs, here, other)) * relative * is_far * has_same).mean()


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
