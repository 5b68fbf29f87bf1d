"""Exact nearest-neighbour search in a fixed set of points."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blemish.blocks.memory.pruned_search import Basis, PrunedSearch
from blemish.blocks.memory.pruned_search_kernels import LIFTED

BLOCK_NUMBERS = 2**22
"""Elements of the largest tensor of a brute-force comparison: 16 MiB of float32."""
FEWEST_TO_PRUNE = 1024
"""With fewer points, comparing all of them is faster than pruning."""


class NearestNeighbours(nn.Module):
    """An index of points for many searches.

    On the CPU, many points of many dimensions are searched by `PrunedSearch`. Otherwise, and for queries for which
    pruning does not pay, all points are compared by matrix products. Both find a nearest point; ties are arbitrary.
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: Tensor  # (M, D)
        self.norms: Tensor  # (M,): squared
        self.register_buffer("points", torch.empty(0))
        self.register_buffer("norms", torch.empty(0))
        self.pruned = PrunedSearch()

    @staticmethod
    def bytes_of(points: int, width: int) -> int:
        """About the number of bytes of an index of this many points of `width` values."""
        return 4 * points * (width + LIFTED + 1)

    def build(self, points: Tensor, basis: Basis | None = None) -> Tensor:
        """Index points (M, D), M ≥ 1; they are reordered, and the order (M,) is returned.

        Draws from torch's global generator. `basis` is that of `principal_basis`; it is computed if not given.
        """
        self.pruned = PrunedSearch().to(points.device)
        if len(points) >= FEWEST_TO_PRUNE and points.shape[1] > LIFTED:
            order = self.pruned.build(points, basis)
        else:
            order = torch.arange(len(points), device=points.device)
        self.points = points[order]
        self.norms = self.points.square().sum(1)
        return order

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Euclidean distances (Q,) from queries (Q, D) to their nearest points, and these points' indices (Q,)."""
        if torch.compiler.is_exporting():
            indices = self._less_query(queries).argmin(1)
        else:
            indices = self._search(queries, 1)[:, 0]
        return (queries - self.points[indices]).square().sum(1).sqrt(), indices

    def nearest_among(self, queries: Tensor, allowed: Tensor) -> Tensor:
        """Indices (Q,) of the nearest ones of the allowed points (M,), at least one, to queries (Q, D)."""
        gave_up = torch.ones(len(queries), dtype=torch.bool, device=queries.device)
        indices = torch.zeros(len(queries), 1, dtype=torch.int64, device=queries.device)
        if self._prunes(queries):
            points = self.points.masked_fill(~allowed[:, None], torch.inf)  # the bounds hold, too
            _, indices, gave_up = self.pruned.search(queries, points, 1)
        if gave_up.any():
            indices[gave_up] = self._all_nearest(queries[gave_up], 1, allowed)
        return indices[:, 0]

    def nearest_allowed(self, queries: Tensor, masks: Sequence[Tensor]) -> list[Tensor]:
        """Distances (Q,) from queries (Q, D) to the nearest points that each of the masks (Q, M) allows.

        Where a mask allows none, the distance to the farthest point. Memory: a few times Q · M numbers.
        """
        ranked = self._less_query(queries)
        farthest = ranked.argmax(1)
        found = []
        for allowed in masks:
            least = torch.where(allowed, ranked, torch.inf).min(1)
            indices = torch.where(least.values.isinf(), farthest, least.indices)
            found.append((queries - self.points[indices]).square().sum(1).sqrt())
        return found

    def lists(self, count: int) -> Tensor:
        """For each point the `count` ≤ M nearest ones, itself first: (M, count) int64."""
        found = self._search(self.points, count)
        own = torch.arange(len(found), device=found.device)[:, None]
        others = found != own
        others[:, -1] &= ~others.all(1)  # among many copies the point itself may be missing
        return torch.cat([own, found[others].view(len(found), count - 1)], 1)

    def covers(self, queries: Tensor, radius: float) -> Tensor:
        """Whether a point is nearer than `radius` to each query: (Q,) bool."""
        if self._prunes(queries):
            _, indices, gave_up = self.pruned.search(queries, self.points, 1, radius, any_will_do=True)
            covered = indices[:, 0] < len(self.points)
            if gave_up.any():
                covered[gave_up] = self._all_within(queries[gave_up], radius)
            return covered
        return self._all_within(queries, radius)

    def _search(self, queries: Tensor, count: int) -> Tensor:
        """Indices of the `count` nearest points: (Q, count)."""
        if self._prunes(queries):
            _, indices, gave_up = self.pruned.search(queries, self.points, count)
            if gave_up.any():
                indices[gave_up] = self._all_nearest(queries[gave_up], count)
            return indices
        return self._all_nearest(queries, count)

    def _prunes(self, queries: Tensor) -> bool:
        return queries.device.type == "cpu" and self.pruned.radii.numel() > 0

    def _all_nearest(self, queries: Tensor, count: int, allowed: Tensor | None = None) -> Tensor:
        """By |b|² − 2·q·b, which is inaccurate for near points, so some more candidates are compared exactly.

        If not all points are allowed (M,), `count` must be 1.
        """
        candidates = min(count + SPARE, len(self.points))
        found = []
        width = max(len(self.points), candidates * queries.shape[1])
        for block in queries.split(max(1, BLOCK_NUMBERS // width)):
            ranked = self._less_query(block)
            if allowed is not None:
                ranked.masked_fill_(~allowed, torch.inf)
            near = ranked.topk(candidates, 1, largest=False).indices
            distances = (block[:, None] - self.points[near]).square().sum(2)
            if allowed is not None:
                distances.masked_fill_(~allowed[near], torch.inf)
            found.append(near.gather(1, distances.topk(count, 1, largest=False).indices))
        return torch.cat(found)

    def _all_within(self, queries: Tensor, radius: float) -> Tensor:
        blocks = queries.split(max(1, BLOCK_NUMBERS // len(self.points)))
        least = [self._less_query(block).amin(1) + block.square().sum(1) for block in blocks]
        return torch.cat(least) < radius * radius

    def _less_query(self, queries: Tensor) -> Tensor:
        """|b|² − 2·q·b: the squared distance without |q|², which does not affect the order."""
        return torch.addmm(self.norms, queries, self.points.T, alpha=-2)


SPARE = 3
"""Candidates beyond those asked for, since rounding of the product may change their order."""
