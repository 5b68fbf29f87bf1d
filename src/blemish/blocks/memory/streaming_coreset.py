"""A coreset grown from a stream.

What greedy k-centre chooses is a *net*: every patch lies within some radius of a chosen one, and no two chosen ones
are as near to each other. Greedy needs all patches at once; another net of about the same radius and size grows in
one pass, when each patch joins that no earlier one covers.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.blocks.memory.coreset import greedy_coreset
from blemish.blocks.memory.neighbours import NearestNeighbours
from blemish.blocks.memory.pruned_search import Basis, principal_basis
from blemish.blocks.memory.pruned_search_kernels import LIFTED
from blemish.types import Progress, no_progress

CHUNK = 2048
"""Patches taken at once, so that the result does not depend on the batches they come in."""
SAMPLE = 2**16
SAMPLE_BYTES = 2**28
"""The first patches are kept whole, up to these limits, until the radius is chosen."""
SUBSAMPLE = 3072
CLOSE_ENOUGH = 0.015
"""Relative error of a radius that is not worth mending."""
OVERFLOW = 1.3
"""How far a net may outgrow its budget before the stream ends."""


class StreamingCoreset:
    """A net grown from a stream, in the memory of the net, a chunk and a bounded sample.

    A patch joins when no earlier one lies within the radius. That is chosen on the first patches, so that the net
    will about fill its budget when all have come; if they are representative (images in random order), it is that of
    greedy k-centre up to a few percent. Should the net grow slower than expected, the radius is lowered on
    the way; should it outgrow its budget, it is thinned to a net of a larger radius: patches that came before are
    then within the sum of the two radii of a centre.

    Args:
        expected: About how many patches will come.
        ratio: Budget as a share of the patches that came.
        size: Budget in patches; takes the place of `ratio`.
    """

    def __init__(
        self, expected: int, *, ratio: float = 1.0, size: int | None = None, progress: Progress = no_progress
    ) -> None:
        self.expected = expected
        self.ratio = ratio
        self.size = size
        self.progress = progress
        self.seen = 0
        self.waiting = torch.empty(0), torch.empty(0, dtype=torch.int64)
        self.held = 0
        self.net: _EpsilonNet | None = None
        self.dimension = 6.0  # the power of a net's size: N ~ radius^(−dimension)
        self.next_look = 0

    def add(self, patches: Tensor, origins: Tensor) -> None:
        """Take in patches (N, D) and where each is from (N, ·)."""
        if not len(self.waiting[0]):
            sample = min(SAMPLE, SAMPLE_BYTES // (4 * patches.shape[1])) // CHUNK * CHUNK
            self.waiting = (
                patches.new_empty(sample, patches.shape[1]),
                origins.new_empty(sample, origins.shape[1]),
            )
        while len(patches):
            taken = min(len(patches), len(self.waiting[0]) - self.held)
            for place, values in zip(self.waiting, (patches, origins), strict=True):
                place[self.held : self.held + taken] = values[:taken]
            patches, origins = patches[taken:], origins[taken:]
            self.held += taken
            if self.held == len(self.waiting[0]):
                self._take_in()

    def finish(self) -> tuple[Tensor, Tensor]:
        """The chosen patches (M, D), M at most the budget, and where each is from.

        Where all are still held, because they are no more than the sample, exact greedy chooses.
        """
        self.expected = self.seen + self.held
        if self.net is None:
            patches, origins = (part[: self.held] for part in self.waiting)
            chosen = greedy_coreset(patches, min(self.budget, self.held), self.progress)
            return patches[chosen], origins[chosen]
        points, marks = self._take_in().content()
        kept = break_closest_pairs(points, max(len(points) - self.budget, 0))
        return points[kept], marks[kept, 1:]

    @property
    def budget(self) -> int:
        """How many patches to keep at most."""
        return self.size or max(1, round(self.ratio * self.expected))

    def _take_in(self) -> "_EpsilonNet":
        """Bring what is waiting into the net; of the first patches, it is made."""
        patches, origins = (part[: self.held] for part in self.waiting)
        self.held = 0
        if self.net is None:
            self.net = self._start(patches, origins)
            self.waiting = (
                patches.new_empty(CHUNK, patches.shape[1]),
                origins.new_empty(CHUNK, origins.shape[1]),
            )
        elif len(patches):
            self.net = self._grown(self.net, patches, origins)
        return self.net

    def _start(self, patches: Tensor, origins: Tensor) -> "_EpsilonNet":
        """The net of the first patches, grown anew until its radius promises to fill the budget."""
        self.seen = len(patches)
        self.next_look = 2 * self.seen
        basis = principal_basis(patches) if patches.shape[1] > LIFTED else None
        radius = self._first_radius(patches)
        tried: list[tuple[float, float]] = []
        for _ in range(5):
            net = _EpsilonNet(radius, basis)
            net.add_all(patches, origins)
            tried.append((math.log(radius), math.log(self._expected_size(net))))
            if len(tried) > 1:
                self._learn_dimension(*tried[-2:])
            factor = self._factor(net)
            if abs(factor - 1) < CLOSE_ENOUGH:
                break
            radius *= factor
        return net

    def _first_radius(self, patches: Tensor) -> float:
        """The radius, and the dimension, by a part of the sample small enough for all its distances."""
        chosen = torch.randperm(len(patches))[:SUBSAMPLE].sort().values
        part = patches[chosen.to(patches.device)]
        distances = _distances(part, part).cpu().numpy()

        def size(radius: float) -> float:
            kept = _first_come(distances <= radius)
            return _extrapolated(kept, len(part), self.expected / len(part))

        low, high = 0.0, max(float(distances.max()), 1e-12)
        for _ in range(16):
            middle = (low + high) / 2
            low, high = (middle, high) if size(middle) > self.budget else (low, middle)
        self._learn_dimension(*((math.log(r), math.log(size(r))) for r in (high, 1.1 * high)))
        return high

    def _learn_dimension(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        """From logarithms of radius and size of two nets."""
        self.dimension = min(max((b[1] - a[1]) / (a[0] - b[0]), 3.0), 20.0) if a[0] != b[0] else 6.0

    def _grown(self, net: "_EpsilonNet", patches: Tensor, origins: Tensor) -> "_EpsilonNet":
        """The net after one more chunk, thinned if it is too large, its radius lowered if it grows too slowly."""
        net.add(patches, origins, self.seen)
        self.seen += len(patches)
        if len(net) > OVERFLOW * self.budget:
            return net.thinned(max(self._factor(net), 1.02))
        if self.seen >= self.next_look:
            self.next_look *= 2
            factor = self._factor(net)
            if factor < 1 - CLOSE_ENOUGH:
                net.radius *= factor
        return net

    def _factor(self, net: "_EpsilonNet") -> float:
        """By which the net's radius must change for it to fill the budget in the end."""
        return float((self._expected_size(net) / self.budget) ** (1 / self.dimension))

    def _expected_size(self, net: "_EpsilonNet") -> float:
        return _extrapolated(net.arrivals(), self.seen, max(1.0, self.expected / self.seen))


def epsilon_net(patches: Tensor, origins: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Of patches (N, D) and where they are from, those that no earlier one covers."""
    if not len(patches):
        return patches, origins
    net = _EpsilonNet(radius, None)
    net.add_all(patches, origins)
    points, marks = net.content()
    return points, marks[:, 1:]


def break_closest_pairs(points: Tensor, count: int) -> Tensor:
    """Indices of what is left of points (M, D) when `count` times the later of two goes, nearest pairs first.

    Only pairs of a point and its nearest neighbour are looked at; when none is left, they are found anew.
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


class _EpsilonNet:
    """Centres, no two of which lie within the radius of each other; the latest ones are not indexed yet."""

    def __init__(self, radius: float, basis: Basis | None) -> None:
        self.radius = radius
        self.basis = basis
        self.index = NearestNeighbours()
        self.marks: Tensor | None = None  # of the indexed centres: when each came, where it is from
        self.latest: list[tuple[Tensor, Tensor]] = []  # centres and their marks

    def __len__(self) -> int:
        return len(self.index.points) + sum(len(points) for points, _ in self.latest)

    def add_all(self, patches: Tensor, origins: Tensor) -> None:
        """Take in what came first, chunk by chunk."""
        seen = 0
        for points, places in zip(patches.split(CHUNK), origins.split(CHUNK), strict=True):
            self.add(points, places, seen)
            seen += len(points)

    def add(self, patches: Tensor, origins: Tensor, seen: int) -> None:
        """Take in patches, before which `seen` came."""
        came = torch.arange(seen, seen + len(patches), device=origins.device)[:, None].to(origins.dtype)
        self.add_marked(patches, torch.cat([came, origins], 1))

    def add_marked(self, patches: Tensor, marks: Tensor) -> None:
        """Those patches join that no centre and no earlier one of them covers."""
        if len(self.index.points):
            patches, marks = _where(~self.index.covers(patches, self.radius), patches, marks)
        for centres, _ in self.latest:
            patches, marks = _where(_distances(patches, centres).amin(1) > self.radius, patches, marks)
        if not len(patches):
            return
        kept = _first_come((_distances(patches, patches) <= self.radius).cpu().numpy())
        chosen = torch.from_numpy(kept).to(patches.device)
        self.latest.append((patches[chosen], marks[chosen]))
        if sum(len(points) for points, _ in self.latest) > max(CHUNK, len(self.index.points)) // 3:
            self._index_latest()

    def thinned(self, factor: float) -> "_EpsilonNet":
        """A net of its centres, in the order they came, with a radius `factor` times as large."""
        net = _EpsilonNet(self.radius * factor, self.basis)
        points, marks = self.content()
        for part, theirs in zip(points.split(CHUNK), marks.split(CHUNK), strict=True):
            net.add_marked(part, theirs)
        return net

    def arrivals(self) -> NDArray[np.int64]:
        """After how many patches each centre came, sorted."""
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


def _extrapolated(arrivals: NDArray[np.int64], seen: int, times: float) -> float:
    """How large a net will be after `times` as many patches, from when its centres came (sorted).

    A net grows with a power of what it has seen, and the power falls: by as much in each doubling as in the last.
    """
    quarter, half = (max(1, int(np.searchsorted(arrivals, seen // n))) for n in (4, 2))
    power = math.log2(len(arrivals) / half)
    fall = max(0.0, math.log2(half / quarter) - power)
    doublings, growth = math.log2(times), 0.0
    for step in range(1, math.ceil(doublings) + 1):
        growth += min(1.0, doublings - step + 1) * max(0.0, power - step * fall)
    return float(len(arrivals) * 2**growth)


def _first_come(near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Indices that form a net, taken in order; near (N, N) says who covers whom."""
    free = np.ones(len(near), bool)
    kept = []
    for i in range(len(near)):
        if free[i]:
            kept.append(i)
            free &= ~near[i]
    return np.array(kept, np.int64)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")


def _where(mask: Tensor, *tensors: Tensor) -> list[Tensor]:
    return [tensor[mask] for tensor in tensors]
