"""The memory bank: normal patches, their origins and their neighbours."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blemish.blocks.memory.epsilon_net import break_closest_pairs, epsilon_net
from blemish.blocks.memory.neighbours import NearestNeighbours
from blemish.errors import MethodError
from blemish.messages import message


class Substitutes(NamedTuple):
    """For each patch of a bank, a random one of the training patches of other groups that it stands for."""

    patches: Tensor
    """(M, D)."""
    places: Tensor
    """(M,): the least of the random numbers of those patches; infinite where there is none."""
    generator: torch.Generator | None = None


NO_SUBSTITUTES = Substitutes(torch.empty(0), torch.empty(0))


class MemoryBank(nn.Module):
    """Patches (M, D) that represent all normal ones.

    Args:
        neighbours: Number b of nearest patches that are stored for each patch.
    """

    def __init__(self, neighbours: int) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.search = NearestNeighbours()
        self.support: Tensor  # (M, b): each patch's neighbours, itself first
        self.origins: Tensor  # (M, 3): training image, row and column of the grid that each patch is from
        self.register_buffer("support", torch.empty(0, dtype=torch.int64))
        self.register_buffer("origins", torch.empty(0, dtype=torch.int64))
        self.substitutes = NO_SUBSTITUTES  # for `nearest_of_others` only; not saved
        self.register_load_state_dict_post_hook(_require_valid)  # type: ignore[no-untyped-call]

    @property
    def patches(self) -> Tensor:
        """(M, D)."""
        return self.search.points

    @property
    def is_of_one_image(self) -> bool:
        """Whether there are patches, all from the same training image."""
        return len(self.origins) > 0 and bool((self.origins[:, 0] == self.origins[0, 0]).all())

    def bytes_of(self, patches: int, width: int) -> int:
        """About the number of bytes of a bank of this many patches of `width` values."""
        return self.search.bytes_of(patches, width) + 8 * patches * (self.neighbours + 3)

    def fill(self, patches: Tensor, origins: Tensor) -> None:
        """Replace the content by these patches (M, D), M ≥ 1, from `origins` (M, 3)."""
        self.origins = origins[self.search.build(patches)]
        self.support = self.search.lists(min(self.neighbours, len(patches)))

    def uncovered(self, patches: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """The patches (N, D), and their origins, that are not within the radius of a patch in the bank."""
        fresh = ~self.search.covers(patches, self.radius())
        return patches[fresh], origins[fresh]

    def extend(self, patches: Tensor, origins: Tensor, budget: int) -> None:
        """Add an epsilon-net of uncovered patches, then reduce the bank to `budget` patches."""
        patches, origins = epsilon_net(patches, origins, self.radius())
        patches, origins = torch.cat([self.patches, patches]), torch.cat([self.origins, origins])
        kept = break_closest_pairs(patches, max(len(patches) - budget, 0))
        self.fill(patches[kept], origins[kept])

    def remove(self, indices: Tensor) -> Tensor:
        """Remove these patches; returns their origins (K, 3), float64.

        Raises:
            MethodError: No patch would be left.
        """
        gone = torch.zeros(len(self.patches), dtype=torch.bool, device=indices.device)
        gone[indices] = True
        if gone.all():
            raise MethodError("No patch would be left in the memory bank. Mark a smaller part of the image.")
        origins = self.origins[gone]
        self.fill(self.patches[~gone], self.origins[~gone])
        return origins.double()

    def radius(self) -> float:
        """Median distance of a patch to the nearest other one, about the spacing of the coreset."""
        if len(self.patches) == 1:
            return 0.0
        lists = self.support if self.support.shape[1] > 1 else self.search.lists(2)
        nearest = self.patches[lists[:, 1]]
        return float((self.patches - nearest).square().sum(1).median().sqrt())

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (Q,) from queries (Q, D) to their nearest patches, and these patches' indices (Q,)."""
        return self.search.nearest(queries)

    def neighbours_of(self, indices: Tensor, without: Tensor | None = None) -> Tensor:
        """Neighbours of patches (K,), each itself first: (K, b); `without` are numbers of training images left out."""
        if without is None:
            return self.support[indices]
        own = self._of(without)
        distances = torch.cdist(self.patches[indices], self.patches).masked_fill(own, torch.inf)
        others = len(own) - int(own.sum())
        return distances.topk(min(self.support.shape[1], others), largest=False).indices

    def find_substitutes(self, patches: Tensor, indices: Tensor, image: int, groups: Tensor) -> None:
        """Look among training patches for those that would be in the bank if an image's group were not.

        The selection leaves out a patch that is near one in the bank. If that one is left out later, a random one of
        the patches of other groups that it stood for takes its place; the nearest one would be nearer than the patches
        of a bank that was built anew. To be called with the patches of each training image.

        Args:
            patches: (N, D).
            indices: (N,) of the patches nearest to them in the bank.
            image: Number of the training image.
            groups: Number of the group of each training image.
        """
        if not len(self.substitutes.places):
            unknown = self.patches.new_full((len(self.patches),), torch.inf)
            self.substitutes = Substitutes(self.patches.clone(), unknown, torch.Generator().manual_seed(0))
        known, places, generator = self.substitutes
        of_others = groups[image] != groups[self.origins[indices, 0]]
        drawn = torch.rand(len(patches), generator=generator).to(patches)
        drawn = torch.where(of_others, drawn, torch.inf)
        least = places.scatter_reduce(0, indices, drawn, "amin")
        rows = (of_others & (drawn == least[indices]) & (drawn < places[indices])).nonzero()[:, 0]
        known[indices[rows]] = patches[rows]
        places.copy_(least)

    def nearest_of_others(
        self, queries: Tensor, images: Tensor, found: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """`nearest` among the patches that are not from the training images with these numbers (G,).

        The substitutes of the patches that are left out count, too, if there are any, under these patches' indices.
        `found` is the result of `nearest`; it is computed if not given, and changed.

        Raises:
            MethodError: If there are none.
        """
        own = self._of(images)
        if own.all():
            raise MethodError(
                "All patches of the memory bank are from the images that are left out. Fit with a larger memory bank."
            )
        distances, indices = found or self.nearest(queries)
        rows = own[indices].nonzero()[:, 0]
        indices[rows] = self.search.nearest_among(queries[rows], ~own)
        distances[rows] = (queries[rows] - self.patches[indices[rows]]).square().sum(1).sqrt()
        if not len(self.substitutes.places):
            return distances, indices
        replaced = (own & self.substitutes.places.isfinite()).nonzero()[:, 0]
        if len(replaced):
            nearer = torch.cdist(queries, self.substitutes.patches[replaced]).min(1)
            indices = torch.where(nearer.values < distances, replaced[nearer.indices], indices)
            distances = torch.minimum(distances, nearer.values)
        return distances, indices

    def _of(self, images: Tensor) -> Tensor:
        """Which patches are from the training images with these numbers: (M,) bool."""
        return torch.isin(self.origins[:, 0], images)


def _require_valid(bank: nn.Module, _: object) -> None:
    """Check the indices that a file gave a bank, since not all uses of them are checked.

    Raises:
        ValueError: If types, shapes or values are impossible.
    """
    if (
        not isinstance(bank, MemoryBank)
        or not len(bank.patches) + bank.origins.numel() + bank.support.numel()
    ):
        return
    count = len(bank.patches)
    for name, values, width, most in (
        ("support", bank.support, bank.support.shape[-1], count),
        ("origins", bank.origins, 3, torch.iinfo(torch.int32).max),
    ):
        if values.dtype != torch.int64 or values.shape != (count, width) or not width:
            raise ValueError(message("{name} of the memory bank is of another type or shape", name=name))
        if not ((values >= 0) & (values < most)).all():
            raise ValueError(message("{name} of the memory bank is out of range", name=name))
