"""Exact nearest neighbours on a processor, by ruling out nearly all of the points before comparing any.

Three lower bounds of a distance, each cheaper than the next, are asked before the distance itself is computed:

1. A cluster of points is no nearer than its centre less its radius.
2. Points are *lifted*: rotated to the few directions in which they vary most, and given the norm of what is left
   as one more coordinate. By the Cauchy-Schwarz inequality a distance between lifted points is never more than
   between the points themselves. The first `LEADING` lifted coordinates are compared for a whole cluster at once.
3. All lifted coordinates.

Bounds are widened by what rounding can amount to, so the result is that of comparing everything. The loop is
compiled by numba: every query takes a path of its own, which no tensor operation can follow.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numba import njit, uintp
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.blocks.memory.kmeans import kmeans

LEADING = 32
LIFTED = 96
"""Coordinates of a lifted point."""
CLUSTER_SIZE = 64
QUERIES_AT_ONCE = 4096
PATIENCE = 16
"""A query gives up when it has cost 1/16 of the multiplications of comparing everything: a matrix product, which
does about so many more of them in a second, is then the faster way."""
BASIS_POINTS = 16384
_ROUNDING = float(np.finfo(np.float32).eps) / 2

Floats = NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., Any])
Basis = tuple[Tensor, Tensor]
"""Centre (D,) and orthonormal columns (D, LIFTED − 1) by which points are lifted."""


class PrunedSearch(nn.Module):
    """Points in clusters, and what their bounds need. Memory beside the points: LIFTED numbers for each."""

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
        """Take in points (M, D), D > LIFTED; returns the order (M,) in which searches must be given them."""
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
        """(N, D) → (N, LIFTED); the norm of what the rotation leaves out stands first."""
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
            points: (M, D), in the order that `build` asked for.
            count: How many neighbours.
            reach: Other points do not count.
            any_will_do: Stop at the first point found instead of the nearest.

        Raises:
            ValueError: If the points are not those it was built with, as in a damaged model.

        Returns:
            Squared distances (Q, count), indices (Q, count) int64, which are M where there is no further point, and
            which queries gave up (Q,) bool; their rows mean nothing.
        """
        self._require_sound(queries, points)
        squared = torch.full((len(queries), count), reach * reach)
        indices = torch.full((len(queries), count), len(points), dtype=torch.int64)
        gave_up = torch.zeros(len(queries), dtype=torch.bool)
        for part in _slices(len(queries), QUERIES_AT_ONCE):
            block = queries[part].contiguous()
            lifted = self.lift(block)
            slack = self._slack(lifted, queries.shape[1])
            to_clusters = self._to_clusters(lifted)
            order = to_clusters.argmin(1).argsort()  # neighbours in turn, so that the caches serve them
            arrays: Any = [
                tensor.numpy()
                for tensor in (
                    block.flatten(), lifted.flatten(), slack, to_clusters, order, self.starts, self.radii,
                    self.leading, self.trailing.flatten(), points.flatten(), squared[part], indices[part],
                    gave_up[part],
                )
            ]  # fmt: skip
            _in_threads(partial(_search, any_will_do, *arrays), len(block))
        return squared, indices, gave_up

    def _require_sound(self, queries: Tensor, points: Tensor) -> None:
        """The compiled loop trusts its arrays, so that they may not come from a stranger unchecked."""
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
            raise ValueError(f"the index does not fit the points ({', '.join(wrong) or 'starts or queries'})")

    def _slack(self, lifted: Tensor, width: int) -> Tensor:
        """What rounding may add to a bound (Q,): each lifted coordinate is a sum of `width` products."""
        size = lifted.square().sum(1).sqrt() + self.clusters.square().sum(1).max().sqrt() + self.radii.max()
        slack: Tensor = size * (width * _ROUNDING * LIFTED**0.5)
        return slack

    def _to_clusters(self, lifted: Tensor) -> Tensor:
        """Distances to the clusters' centres (Q, K), less what rounding may have added."""
        norms, theirs = lifted.square().sum(1, keepdim=True), self.clusters.square().sum(1)
        squared = torch.addmm(theirs, lifted, self.clusters.T, alpha=-2).add_(norms)
        squared -= (norms + theirs.max()) * (4 * LIFTED * _ROUNDING)
        distances: Tensor = squared.clamp_min_(0).sqrt_()
        return distances


def principal_basis(points: Tensor) -> Basis:
    """Mean and leading principal directions of points (N, D), from a random part of them where there are many."""
    sample = points[torch.randperm(len(points))[:BASIS_POINTS].to(points.device)]
    centre = sample.mean(0)
    sample -= centre
    _, _, directions = torch.pca_lowrank(sample, LIFTED - 1, center=False)
    return centre, directions.contiguous()


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _in_threads(run: Callable[[int, int], None], count: int) -> None:
    """Call `run` on parts of `count` things, in torch's number of threads; compiled code lets go of Python's lock."""
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


def _compiled(function: Function) -> Function:
    """Compiled once and kept on disk; NaN and infinity keep their meaning, the order of sums does not."""
    allowed = {"reassoc", "contract", "nsz", "arcp"}
    compiled: Any = njit(cache=True, nogil=True, error_model="numpy", fastmath=allowed)(function)
    return cast(Function, compiled)


@_compiled
def _squared_distance(a: Floats, i: Any, b: Floats, j: Any, width: Any) -> Any:
    """Between a[i : i + width] and b[j : j + width]."""
    total = np.float32(0)
    for k in range(uintp(width)):
        gap = a[uintp(i) + k] - b[uintp(j) + k]
        total += gap * gap
    return total


@_compiled
def _leading_distances(
    lifted: Floats, offset: Any, leading: Floats, start: Any, rows: Any, out: Floats
) -> None:
    """Squared distances in the leading coordinates to all rows of one cluster."""
    for j in range(rows):
        out[j] = np.float32(0)
    for i in range(uintp(LEADING)):
        value = lifted[offset + i]
        base = start * uintp(LEADING) + i * rows
        for j in range(rows):
            gap = value - leading[base + j]
            out[j] += gap * gap


@_compiled
def _insert(squared: Floats, indices: NDArray[np.int64], distance: Any, index: Any) -> None:
    """Put a neighbour into the sorted lists of one query; the last one falls out."""
    k = len(squared) - 1
    while k > 0 and distance < squared[k - 1]:
        squared[k], indices[k] = squared[k - 1], indices[k - 1]
        k -= 1
    squared[k], indices[k] = distance, index


@_compiled
def _search(
    any_will_do: bool,
    queries: Floats,
    lifted: Floats,
    slack: Floats,
    to_clusters: Floats,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    radii: Floats,
    leading: Floats,
    trailing: Floats,
    points: Floats,
    squared: Floats,
    indices: NDArray[np.int64],
    gave_up: NDArray[np.bool_],
    begin: int,
    end: int,
) -> None:
    """Fill the rows of queries order[begin], …, order[end − 1]; rows of (·, D) and (·, LIFTED) come flattened."""
    clusters = len(radii)
    count = uintp(starts[clusters])
    width = uintp(len(points)) // count
    rest = uintp(LIFTED - LEADING)
    largest = 0
    for t in range(clusters):
        largest = max(largest, starts[t + 1] - starts[t])
    bounds = np.empty(largest, np.float32)
    patience = count * width // uintp(PATIENCE)
    last = squared.shape[1] - 1
    hit = count  # where any neighbour will do, the one before's often does
    for position in range(begin, end):
        q = uintp(order[position])
        own, own_lifted = q * width, q * uintp(LIFTED)
        if any_will_do and hit < count:
            distance = _squared_distance(queries, own, points, hit * width, width)
            if distance < squared[q, last]:
                squared[q, 0], indices[q, 0] = distance, hit
                continue
        work = uintp(0)
        seed = count
        nearest = int(np.argmin(to_clusters[q]))
        for visit in range(-1, clusters):
            # The first visit, to the nearest cluster, only looks for one good neighbour to start from.
            t = nearest if visit < 0 else visit
            limit = np.sqrt(squared[q, last]) + slack[q]
            if to_clusters[q, t] - radii[t] > limit:
                continue
            limit = limit * limit * np.float32(1.00001)
            start = uintp(starts[t])
            rows = uintp(starts[t + 1]) - start
            _leading_distances(lifted, own_lifted, leading, start, rows, bounds)
            work += rows * uintp(LEADING // 4)
            if visit < 0:
                seed = start + uintp(np.argmin(bounds[:rows]))
                distance = _squared_distance(queries, own, points, seed * width, width)
                if distance < squared[q, last]:
                    _insert(squared[q], indices[q], distance, seed)
                    if any_will_do:
                        hit = seed
                        break
                continue
            for j in range(rows):
                row = start + j
                if bounds[j] > limit or row == seed:
                    continue
                work += rest
                bound = bounds[j] + _squared_distance(
                    lifted, own_lifted + uintp(LEADING), trailing, row * rest, rest
                )
                if bound > limit:
                    continue
                work += width
                distance = _squared_distance(queries, own, points, row * width, width)
                if distance < squared[q, last]:
                    _insert(squared[q], indices[q], distance, row)
                    limit = np.sqrt(squared[q, last]) + slack[q]
                    limit = limit * limit * np.float32(1.00001)
                    if any_will_do:
                        break
            if any_will_do and indices[q, 0] < count:
                hit = uintp(indices[q, 0])
                break
            if work > patience:
                gave_up[q] = True
                break
