"""Which patches of the memory bank can be expected at a cell, predicted from the patches around it."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.memory.coreset import greedy_coreset
from blemish.blocks.memory.kmeans import nearest_centre
from blemish.blocks.memory.pruned_search import principal_basis

TEMPERATURE = 2.0
"""Divisor of the network's outputs before the softmax (Bae et al., ICCV 2023)."""
DROPOUT = 0.5
"""Share of the hidden values that are dropped in training (Bae et al., ICCV 2023)."""
OUTSIDE = -1
"""Class of a cell outside the image."""


class NeighbourhoodPrior(nn.Module):
    """A network that predicts the class of a patch from its neighbourhood, the patch itself left out.

    The classes are a coreset of the bank, its representatives; a patch, of the bank or of an image, belongs to the
    representative that is nearest to it. Cells outside the image are zeros.

    Args:
        width: Number D of values of a patch.
        reduced: Maximum number of principal components of a patch that the network sees.
        window: Side of the neighbourhood, in cells; odd.
        classes: Maximum number of classes.
        hidden: Width of the hidden layers.
        linear_layers: Number of linear layers.
        leak_center: Leave out the cell after the centre instead of the centre itself.
    """

    def __init__(
        self,
        width: int,
        *,
        reduced: int,
        window: int,
        classes: int,
        hidden: int,
        linear_layers: int,
        leak_center: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.classes = classes
        self.left_out = window**2 // 2 + leak_center
        self.reduced = min(reduced, width)
        sides = [(window**2 - 1) * self.reduced, *[hidden] * (linear_layers - 1)]
        blocks = [
            (nn.utils.skip_init(nn.Linear, a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(DROPOUT))
            for a, b in pairwise(sides)
        ]
        last = nn.utils.skip_init(nn.Linear, sides[-1], classes)
        self.network = nn.Sequential(*(module for block in blocks for module in block), last)
        self.centre: Tensor  # (D,)
        self.directions: Tensor  # (D, reduced)
        self.representatives: Tensor  # (K,) int64: indices of bank patches
        self.members: Tensor  # (M,) int64: the class of each bank patch
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("directions", torch.zeros(width, self.reduced))
        for name in ("representatives", "members"):
            self.register_buffer(name, torch.empty(0, dtype=torch.int64))

    def start(self, bank: Tensor) -> None:
        """Choose classes and principal components for a bank (M, D), and draw the network's weights.

        The representatives are chosen by greedy k-centre. Of a bank that greedy has chosen, it chooses again what it
        chose first, if it starts from the same patch: the farthest of all patches are in the bank.
        """
        self.representatives = greedy_coreset(bank, min(self.classes, len(bank)))
        self.members = self.classes_of(bank, bank)
        count = min(self.reduced, *bank.shape)
        self.centre, self.directions[:, :count] = principal_basis(bank, count)
        for module in self.network:
            if isinstance(module, nn.Linear | nn.BatchNorm1d):
                module.reset_parameters()

    def classes_of(self, patches: Tensor, bank: Tensor) -> Tensor:
        """The class of each of the patches (n, D): (n,) int64."""
        return nearest_centre(patches, bank[self.representatives])

    def reduce(self, patches: Tensor, inside: Tensor) -> Tensor:
        """Principal components of patches (N, h, w, D), zeros outside the image: (N, h, w, R)."""
        return (patches - self.centre) @ self.directions * inside[..., None]

    def neighbourhoods(self, components: Tensor, cells: Tensor) -> Tensor:
        """What the network sees at P cells, numbered row by row, of components (N, h, w, R): (N, P, (window²−1)·R)."""
        width, reach = components.shape[2], self.window // 2
        stride = width + 2 * reach
        wide = functional.pad(components, (0, 0, reach, reach, reach, reach))  # a window begins at its cell
        offsets = torch.arange(self.window, device=cells.device)
        offsets = (offsets[:, None] * stride + offsets).flatten()
        offsets = torch.cat([offsets[: self.left_out], offsets[self.left_out + 1 :]])
        corners = cells // width * stride + cells % width
        return wide.flatten(1, 2)[:, corners[:, None] + offsets].flatten(2)

    def logits(self, components: Tensor, cells: Tensor) -> Tensor:
        """The network's outputs (n, K) for P cells of N images, n = N · P."""
        outputs: Tensor = self.network(self.neighbourhoods(components, cells).flatten(0, 1))
        return outputs[:, : len(self.representatives)]

    def loss(self, components: Tensor, cells: Tensor, classes: Tensor) -> Tensor:
        """Mean cross-entropy of the true classes (N, P), of which some are not `OUTSIDE`."""
        logits = self.logits(components, cells)
        return functional.cross_entropy(logits, classes.flatten().long(), ignore_index=OUTSIDE)

    def allowed(self, components: Tensor, cells: Tensor, probability: float) -> Tensor:
        """Whether the class of each bank patch is more probable than `probability`, (N, P, M) bool."""
        likely = (self.logits(components, cells) / TEMPERATURE).softmax(1) > probability
        return likely[:, self.members].view(components.shape[0], len(cells), -1)
