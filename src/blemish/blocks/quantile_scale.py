"""Maps of different units made comparable: two quantiles of normal values decide where 0 and 0.1 lie."""

import torch
from torch import Tensor, nn

LOW, HIGH = 0.9, 0.995
"""The quantiles that become 0 and 0.1 (authors' setting)."""
SPAN = 0.1
LARGEST_SAMPLE = 2**22
"""Values kept at most; of more, a random share is."""
SMALLEST_WIDTH = 1e-9
"""Between the two quantiles, so that constant values do not divide by zero."""


class QuantileScale(nn.Module):
    """An affine scale learned from any number of values, in memory for `capacity` of them.

    The quantiles are exact up to `capacity` values, and those of a uniform random sample of more than half as
    many beyond it.
    """

    def __init__(self, capacity: int = LARGEST_SAMPLE) -> None:
        super().__init__()
        self.capacity = capacity
        self.quantiles: Tensor  # (2,): LOW and HIGH
        self.register_buffer("quantiles", torch.empty(0))
        self._sample: list[Tensor] = []
        self._count = 0
        self._share = 1.0

    def update(self, values: Tensor) -> None:
        """Take in values of any shape; draws from torch's global generator once there are too many."""
        flat = values.detach().flatten().float().cpu()
        for part in flat.split(self.capacity):
            kept = part if self._share == 1 else part[torch.rand(len(part)) < self._share]
            self._sample.append(kept)
            self._count += len(kept)
            while self._count > self.capacity:
                joined = torch.cat(self._sample)
                self._sample = [joined[torch.rand(len(joined)) < 0.5]]
                self._count = len(self._sample[0])
                self._share /= 2

    def finish(self) -> None:
        """Compute the quantiles and forget the values."""
        sample = torch.cat(self._sample).double().sort().values
        positions = torch.tensor([LOW, HIGH], dtype=torch.float64) * (len(sample) - 1)
        lower = positions.floor().long()
        upper = positions.ceil().long()
        quantiles = torch.lerp(sample[lower], sample[upper], positions - lower)
        self.quantiles = quantiles.float().to(self.quantiles.device)
        self._sample, self._count, self._share = [], 0, 1.0

    def forward(self, values: Tensor) -> Tensor:
        """The values scaled so that the two quantiles lie at 0 and 0.1."""
        low, high = self.quantiles.unbind()
        return SPAN * (values - low) / (high - low).clamp_min(SMALLEST_WIDTH)
