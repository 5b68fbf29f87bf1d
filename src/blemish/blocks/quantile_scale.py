"""Quantile normalisation: an affine scale on which maps of different units become comparable."""

import torch
from torch import Tensor, nn

LOW, HIGH = 0.9, 0.995
"""The quantiles of normal values that are mapped to 0 and 0.1 (the setting of EfficientAD's authors)."""
SPAN = 0.1
LARGEST_SAMPLE = 2**22
"""Largest number of values kept; of more, a random sample."""
SMALLEST_WIDTH = 1e-9
"""Least difference of the two quantiles, so that constant values cause no division by zero."""


class QuantileScale(nn.Module):
    """An affine scale estimated from any number of values, of which at most `capacity` are in memory.

    The quantiles are exact for up to `capacity` values; for more, they are those of a uniform random sample of
    about half that size or more.
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
        """Add values of any shape; beyond `capacity` it samples with torch's global generator."""
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
        """Compute the quantiles and discard the values."""
        sample = torch.cat(self._sample).double().sort().values
        positions = torch.tensor([LOW, HIGH], dtype=torch.float64) * (len(sample) - 1)
        lower = positions.floor().long()
        upper = positions.ceil().long()
        quantiles = torch.lerp(sample[lower], sample[upper], positions - lower)
        self.quantiles = quantiles.float().to(self.quantiles.device)
        self._sample, self._count, self._share = [], 0, 1.0

    def forward(self, values: Tensor) -> Tensor:
        """The values on the scale on which the two quantiles are 0 and 0.1."""
        low, high = self.quantiles.unbind()
        return SPAN * (values - low) / (high - low).clamp_min(SMALLEST_WIDTH)
