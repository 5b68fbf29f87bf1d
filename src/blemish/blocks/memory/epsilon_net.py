"""Epsilon-nets of points: every point is within a radius of a chosen one, and no two chosen ones are that near."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.blocks.memory.neighbours import NearestNeighbours
from blemish.blocks.memory.pruned_search import Basis

CHUNK = 2048
"""Patches added to a net at once."""


def epsilon_net(patches: Tensor, origins: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Those of the patches (N, D) that no earlier chosen one covers, and their origins (·, 3)."""
    if not len(patches):
        return patches, origins
    net = EpsilonNet(radius, None)
    net.add_all(patches, origins)
    points, marks = net.content()
    return points, marks[:, 1:]


def break_closest_pairs(points: Tensor, count: int) -> Tensor:
    """Indices of the points (M, D) that are left when `count` times the later point of the nearest pair is removed.

    Only pairs of a point and its nearest neighbour are considered; when all are used up, neighbours are searched anew.
    """
    left = torch.ones(len(points), dtype=torch.bool)
    while count > 0:
        index = NearestNeighbours()
        rows = left.nonzero()[:, 0]
        order = rows[index.build(points[rows.to(points.device)]).cpu()]
        pairs = order[index.lists(2).cpu()]
        gaps = (points[pairs[:, 0]] - points[pairs[:, 1]]).square().sum(1).cpu()
        for a, b in pairs[gaps.argsort()].tolist():
            if left[a] and left[b]:
                left[max(a, b)] = False
                count -= 1
                if count == 0:
                    break
    return left.nonzero()[:, 0].to(points.device)


class EpsilonNet:
    """A net that grows: a patch becomes a centre if no centre lies within the radius.

    Centres are indexed for search in large groups; the latest ones, not indexed yet, are compared one by one.
    """

    def __init__(self, radius: float, basis: Basis | None) -> None:
        self.radius = radius
        self.basis = basis
        self.index = NearestNeighbours()
        self.marks: Tensor | None = None  # of the indexed centres: when each came, where it is from
        self.latest: list[tuple[Tensor, Tensor]] = []  # centres and their marks

    def __len__(self) -> int:
        return len(self.index.points) + sum(len(points) for points, _ in self.latest)

    def add_all(self, patches: Tensor, origins: Tensor) -> None:
        """Add the first patches, chunk by chunk."""
        seen = 0
        for points, places in zip(patches.split(CHUNK), origins.split(CHUNK), strict=True):
            self.add(points, places, seen)
            seen += len(points)

    def add(self, patches: Tensor, origins: Tensor, seen: int) -> None:
        """Add patches that come after `seen` others."""
        came = torch.arange(seen, seen + len(patches), device=origins.device)[:, None].to(origins.dtype)
        self.add_marked(patches, torch.cat([came, origins], 1))

    def add_marked(self, patches: Tensor, marks: Tensor) -> None:
        """Patches become centres if neither a centre nor an earlier one of them covers them."""
        if len(self.index.points):
            patches, marks = _where(~self.index.covers(patches, self.radius), patches, marks)
        for centres, _ in self.latest:
            patches, marks = _where(
                pairwise_distances(patches, centres).amin(1) > self.radius, patches, marks
            )
        if not len(patches):
            return
        kept = first_come((pairwise_distances(patches, patches) <= self.radius).cpu().numpy())
        chosen = torch.from_numpy(kept).to(patches.device)
        self.latest.append((patches[chosen], marks[chosen]))
        if sum(len(points) for points, _ in self.latest) > max(CHUNK, len(self.index.points)) // 3:
            self._index_latest()

    def thinned(self, factor: float) -> "EpsilonNet":
        """A net of these centres, in the order they came, with a radius `factor` times as large."""
        net = EpsilonNet(self.radius * factor, self.basis)
        points, marks = self.content()
        for part, theirs in zip(points.split(CHUNK), marks.split(CHUNK), strict=True):
            net.add_marked(part, theirs)
        return net

    def arrivals(self) -> NDArray[np.int64]:
        """How many patches came before each centre, sorted."""
        return np.sort(self._parts()[1][:, 0].cpu().numpy())

    def content(self) -> tuple[Tensor, Tensor]:
        """Centres (M, D) in the order they came, and their marks (M, ·): when each came, where it is from."""
        points, marks = self._parts()
        order = marks[:, 0].argsort()
        return points[order], marks[order]

    def _index_latest(self) -> None:
        points, marks = self._parts()
        self.index, self.latest = NearestNeighbours(), []
        self.marks = marks[self.index.build(points, self.basis)]

    def _parts(self) -> tuple[Tensor, Tensor]:
        parts = [] if self.marks is None else [(self.index.points, self.marks)]
        points, marks = zip(*parts, *self.latest, strict=True)
        return torch.cat(points), torch.cat(marks)


def first_come(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices of a net, chosen in order; near (N, N): whether two points lie within the radius."""
    free = np.ones(len(near), bool)
    kept = []
    for i in range(len(near)):
        if free[i]:
            kept.append(i)
            free &= ~near[i]
    return np.array(kept, np.int64)


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (N, M) between points (N, D) and (M, D), by matrix products."""
    return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")


def _where(mask: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [tensor[mask] for tensor in tensors]
