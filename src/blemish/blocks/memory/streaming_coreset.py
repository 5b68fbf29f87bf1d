"""A coreset chosen from a stream of patches.

Greedy k-centre chooses an epsilon-net: every patch lies within some radius of a chosen one, and no two chosen ones are
that near to each other. Greedy needs all patches at once. Here a net of about the same radius and size grows in one
pass: a patch is chosen if no earlier one covers it.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.blocks.memory.coreset import greedy_coreset
from blemish.blocks.memory.epsilon_net import (
    CHUNK,
    EpsilonNet,
    break_closest_pairs,
    first_come,
    pairwise_distances,
)
from blemish.blocks.memory.pruned_search import principal_basis
from blemish.blocks.memory.pruned_search_kernels import LIFTED
from blemish.types import Progress, no_progress

SAMPLE = 2**16
SAMPLE_BYTES = 2**28
"""Patches, and their bytes, that are collected at most before the radius is chosen."""
SUBSAMPLE = 3072
"""Patches of the sample whose distances are all computed, for the first guess of the radius."""
CLOSE_ENOUGH = 0.015
"""Relative error up to which a radius is not corrected."""
OVERFLOW = 1.3
"""Size of a net, relative to its budget, at which it is thinned before the stream ends."""


class StreamingCoreset:
    """An epsilon-net grown from a stream; memory: the net, a chunk and a bounded sample.

    The radius is chosen on the first patches such that the net about fills its budget at the end of the stream. If
    they are representative (images in random order), it is within a few percent of greedy k-centre's. If the net grows
    more slowly than expected, the radius is lowered; if it grows beyond its budget, it is thinned to a net of a larger
    radius, after which earlier patches lie within the sum of the two radii of a centre.

    Args:
        expected: Approximate number of patches in the stream.
        ratio: Budget as a share of the patches in the stream.
        size: Budget in patches; replaces `ratio`.
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
        self.net: EpsilonNet | None = None
        self.dimension = 6.0  # size of a net ~ radius^(−dimension)
        self.next_look = 0

    def add(self, patches: Tensor, origins: Tensor) -> None:
        """Add patches (N, D) and their origins (N, ·)."""
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
        """The chosen patches (M, D), M at most the budget, and their origins (M, ·).

        A stream that was no longer than the sample is chosen from by exact greedy k-centre.
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
        """Largest number of chosen patches."""
        return self.size or max(1, round(self.ratio * self.expected))

    def _take_in(self) -> EpsilonNet:
        """Add the waiting patches to the net, which is made of the first ones."""
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

    def _start(self, patches: Tensor, origins: Tensor) -> EpsilonNet:
        """The net of the first patches, grown again until its radius is expected to fill the budget."""
        self.seen = len(patches)
        self.next_look = 2 * self.seen
        basis = principal_basis(patches) if patches.shape[1] > LIFTED else None
        radius = self._first_radius(patches)
        tried: list[tuple[float, float]] = []
        for _ in range(5):
            net = EpsilonNet(radius, basis)
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
        """A first guess of the radius, which also sets the dimension, from the distances within a subsample."""
        chosen = torch.randperm(len(patches))[:SUBSAMPLE].sort().values
        part = patches[chosen.to(patches.device)]
        distances = pairwise_distances(part, part).cpu().numpy()

        def size(radius: float) -> float:
            kept = first_come(distances <= radius)
            return _extrapolated(kept, len(part), self.expected / len(part))

        low, high = 0.0, max(float(distances.max()), 1e-12)
        for _ in range(16):
            middle = (low + high) / 2
            low, high = (middle, high) if size(middle) > self.budget else (low, middle)
        self._learn_dimension(*((math.log(r), math.log(size(r))) for r in (high, 1.1 * high)))
        return high

    def _learn_dimension(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        """Set the dimension from (log radius, log size) of two nets."""
        self.dimension = min(max((b[1] - a[1]) / (a[0] - b[0]), 3.0), 20.0) if a[0] != b[0] else 6.0

    def _grown(self, net: EpsilonNet, patches: Tensor, origins: Tensor) -> EpsilonNet:
        """The net after one more chunk: thinned if it is too large, with a lower radius if it grows too slowly."""
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

    def _factor(self, net: EpsilonNet) -> float:
        """Factor by which the radius must change for the net to fill the budget at the end of the stream."""
        return float((self._expected_size(net) / self.budget) ** (1 / self.dimension))

    def _expected_size(self, net: EpsilonNet) -> float:
        return _extrapolated(net.arrivals(), self.seen, max(1.0, self.expected / self.seen))


def _extrapolated(arrivals: NDArray[np.int64], seen: int, times: float) -> float:
    """Size of a net after `times` as many patches, from its centres' arrivals (sorted).

    A net grows as a power of the number of patches. With each doubling the power falls by as much as in the last one.
    """
    quarter, half = (max(1, int(np.searchsorted(arrivals, seen // n))) for n in (4, 2))
    power = math.log2(len(arrivals) / half)
    fall = max(0.0, math.log2(half / quarter) - power)
    doublings, growth = math.log2(times), 0.0
    for step in range(1, math.ceil(doublings) + 1):
        growth += min(1.0, doublings - step + 1) * max(0.0, power - step * fall)
    return float(len(arrivals) * 2**growth)
