"""Exact nearest neighbours on a processor, which rules out nearly all points before it compares any.

Three lower bounds of a distance, each cheaper to compute than the next, are tested before the distance itself:

1. A cluster of points is no nearer than its centre less its radius.
2. Points are *lifted*: rotated to the few directions in which they vary most, with the norm of the remainder as one
   more coordinate. By the Cauchy-Schwarz inequality a distance between lifted points is never larger than between the
   points themselves. The first `LEADING` lifted coordinates are compared for a whole cluster at once.
3. All lifted coordinates.

Bounds are widened by the largest possible rounding error, so the result is that of comparing everything.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blemish.blocks.memory.kmeans import kmeans
from blemish.blocks.memory.pruned_search_kernels import LEADING, LIFTED, Index, search_queries
from blemish.messages import message

CLUSTER_SIZE = 64
QUERIES_AT_ONCE = 4096
BASIS_POINTS = 16384
_ROUNDING = float(np.finfo(np.float32).eps) / 2

Basis = tuple[Tensor, Tensor]
"""Centre (D,) and orthonormal columns (D, LIFTED − 1) by which points are lifted."""


class PrunedSearch(nn.Module):
    """An index of points, which are in clusters. Memory beside the points: LIFTED numbers for each."""

    def __init__(self) -> None:
        super().__init__()
        self.centre: Tensor  # (D,)
        self.rotation: Tensor  # (D, LIFTED − 1), orthonormal columns
        self.clusters: Tensor  # (K, LIFTED)
        self.starts: Tensor  # (K + 1,): the rows of cluster k are starts[k] … starts[k + 1] − 1
        self.radii: Tensor  # (K,)
        self.leading: Tensor  # (M · LEADING,): cluster after cluster, each as (LEADING, its rows)
        self.trailing: Tensor  # (M, LIFTED − LEADING)
        for name in ("centre", "rotation", "clusters", "radii", "leading", "trailing"):
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("starts", torch.empty(0, dtype=torch.int64))

    def build(self, points: Tensor, basis: Basis | None = None) -> Tensor:
        """Index points (M, D), D > LIFTED; returns the order (M,) in which `search` expects them."""
        self.centre, self.rotation = basis or principal_basis(points)
        lifted = self.lift(points)
        self.clusters, members = kmeans(lifted, max(1, len(points) // CLUSTER_SIZE))
        order = members.argsort(stable=True)
        lifted, members = lifted[order], members[order]
        sizes = torch.bincount(members, minlength=len(self.clusters))
        self.starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        away = (lifted - self.clusters[members]).square().sum(1).sqrt()
        self.radii = torch.zeros_like(self.clusters[:, 0]).scatter_reduce_(0, members, away, "amax")
        parts = lifted[:, :LEADING].split(sizes.tolist())
        self.leading = torch.cat([part.T.flatten() for part in parts])
        self.trailing = lifted[:, LEADING:].contiguous()
        return order

    def lift(self, points: Tensor) -> Tensor:
        """(N, D) → (N, LIFTED); the norm of what the rotation leaves out comes first."""
        centred = points - self.centre
        rotated = centred @ self.rotation
        left = (centred.square().sum(1) - rotated.square().sum(1)).clamp_min(0).sqrt()
        return torch.cat([left[:, None], rotated], 1)

    def search(
        self,
        queries: Tensor,
        points: Tensor,
        count: int,
        reach: float = float("inf"),
        *,
        any_will_do: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `count` nearest points nearer than `reach` to each query, nearest first.

        Args:
            queries: (Q, D).
            points: (M, D), in the order that `build` returned.
            count: Neighbours per query.
            reach: Points at this distance or farther are ignored.
            any_will_do: Stop at the first point found instead of the nearest.

        Raises:
            ValueError: The index does not fit the points, as in a damaged model.

        Returns:
            Squared distances (Q, count); indices (Q, count) int64, M where there is no further point; and which
            queries gave up (Q,) bool, whose rows are not valid.
        """
        self._require_sound(queries, points)
        squared = torch.full((len(queries), count), reach * reach)
        indices = torch.full((len(queries), count), len(points), dtype=torch.int64)
        gave_up = torch.zeros(len(queries), dtype=torch.bool)
        index_tensors = (self.starts, self.radii, self.leading, self.trailing.flatten(), points.flatten())
        index = Index(*(x.numpy() for x in index_tensors))
        for part in _slices(len(queries), QUERIES_AT_ONCE):
            block = queries[part].contiguous()
            lifted = self.lift(block)
            to_clusters = self._to_clusters(lifted)
            order = to_clusters.argmin(
                1
            ).argsort()  # queries of one cluster follow each other, so its points stay in the CPU cache
            given = (block, lifted, self._slack(lifted, queries.shape[1]), to_clusters, order)
            found = (squared[part], indices[part], gave_up[part])
            arguments: Any = (*(x.numpy() for x in given), index, *(x.numpy() for x in found))
            _in_threads(partial(search_queries, any_will_do, *arguments), len(block))
        return squared, indices, gave_up

    def _require_sound(self, queries: Tensor, points: Tensor) -> None:
        """Check shapes and types, which the compiled loop does not, since the arrays may come from a damaged file."""
        count, width = points.shape
        clusters = len(self.radii)
        shapes = {
            "centre": (width,), "rotation": (width, LIFTED - 1), "clusters": (clusters, LIFTED), "radii": (clusters,),
            "leading": (count * LEADING,), "trailing": (count, LIFTED - LEADING), "starts": (clusters + 1,),
        }  # fmt: skip
        wrong = [name for name, shape in shapes.items() if getattr(self, name).shape != shape]
        wrong += [
            name
            for name, tensor in (("points", points), ("queries", queries), *self.named_buffers())
            if tensor.dtype != (torch.int64 if name == "starts" else torch.float32)
        ]
        steps = self.starts.diff()
        if (
            wrong
            or queries.shape[1:] != (width,)
            or (steps < 1).any()
            or self.starts[[0, -1]].tolist() != [0, count]
        ):
            raise ValueError(
                message(
                    "the index does not fit the points ({wrong})",
                    wrong=", ".join(wrong) or "starts or queries",
                )
            )

    def _slack(self, lifted: Tensor, width: int) -> Tensor:
        """Largest rounding error of a bound (Q,): each lifted coordinate is a sum of `width` products."""
        size = lifted.square().sum(1).sqrt() + self.clusters.square().sum(1).max().sqrt() + self.radii.max()
        slack: Tensor = size * (width * _ROUNDING * LIFTED**0.5)
        return slack

    def _to_clusters(self, lifted: Tensor) -> Tensor:
        """Distances to the clusters' centres (Q, K), less their largest rounding error."""
        norms, theirs = lifted.square().sum(1, keepdim=True), self.clusters.square().sum(1)
        squared = torch.addmm(theirs, lifted, self.clusters.T, alpha=-2).add_(norms)
        squared -= (norms + theirs.max()) * (4 * LIFTED * _ROUNDING)
        distances: Tensor = squared.clamp_min_(0).sqrt_()
        return distances


def principal_basis(points: Tensor, count: int = LIFTED - 1) -> Basis:
    """Mean and `count` ≤ min(N, D) leading principal directions (D, count) of points (N, D).

    Of more points than BASIS_POINTS, those of a random sample.
    """
    sample = points[torch.randperm(len(points))[:BASIS_POINTS].to(points.device)]
    centre = sample.mean(0)
    sample -= centre
    _, _, directions = torch.pca_lowrank(sample, count, center=False)
    return centre, directions.contiguous()


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _in_threads(run: Callable[[int, int], None], count: int) -> None:
    """Call `run(begin, end)` on parts of `range(count)`, in as many threads as torch uses."""
    threads = torch.get_num_threads()
    if threads == 1:
        run(0, count)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = [
            pool.submit(run, p.start, p.stop) for p in _slices(count, max(1, -(-count // (8 * threads))))
        ]
        for future in waiting:
            future.result()
