"""MSFlow's fusion flow across the scales of a feature pyramid, and the subnets of its flows.

Zhou et al., "MSFlow: Multiscale Flow-based Framework for Unsupervised Anomaly Detection", TNNLS 2024.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

ATAN_GAIN = 0.636
"""About 2/π, so that the atan clamp tends to ± its bound."""
HIDDEN_SHARE = 4
"""The cross-scale network has 1/4 as many hidden channels as inputs."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each cell."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def normed_convolutions(inputs: int, outputs: int, hidden: int | None = None) -> nn.Sequential:
    """3 × 3 convolution, layer normalisation, ReLU, 3 × 3 convolution; by default as many hidden channels as inputs."""
    hidden = hidden or inputs
    return nn.Sequential(
        nn.Conv2d(inputs, hidden, 3, padding=1),
        ChannelNorm(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, 3, padding=1),
    )


class FusionFlow(nn.Module):
    """One invertible coupling layer over the maps of all scales.

    The channels of each scale are permuted (at random, fixed) and split into halves. From all first halves, scales and
    translations of all second halves are predicted; from the result, those of the first halves.

    Args:
        channels: Channels of each scale, finest first; at least 2 each.
        clamp: Bound α of the logarithm s of a scale, 0.636 · α · atan(raw / α).
    """

    def __init__(self, channels: Sequence[int], *, clamp: float = 1.9) -> None:
        super().__init__()
        self.clamp = clamp
        self.sizes = [(c - c // 2, c // 2) for c in channels]
        first, second = ([size[i] for size in self.sizes] for i in (0, 1))
        self.from_first = _CrossScale(first, second)
        self.from_second = _CrossScale(second, first)
        for i, c in enumerate(channels):
            self.register_buffer(f"order{i}", torch.arange(c))

    def reset_parameters(self) -> None:
        """Draw permutations and weights with torch's global generator; untrained, it only permutes."""
        for i, size in enumerate(self.sizes):
            drawn = torch.randperm(sum(size))
            self.register_buffer(f"order{i}", drawn.to(self._order(i).device))
        self.from_first.reset_parameters()
        self.from_second.reset_parameters()

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Maps (N, C_l, H_l, W_l) → maps of the same shapes and the total log|det| of each image (N,)."""
        permuted = [x.index_select(1, self._order(i)) for i, x in enumerate(maps)]
        first, second = self._halves(permuted)
        second, forth = self._moved(second, self.from_first(first))
        first, back = self._moved(first, self.from_second(second))
        return [torch.cat(pair, 1) for pair in zip(first, second, strict=True)], forth + back

    def inverse(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The maps that `forward` maps to these."""
        first, second = self._halves(maps)
        first = self._moved_back(first, self.from_second(second))
        second = self._moved_back(second, self.from_first(first))
        joined = [torch.cat(pair, 1) for pair in zip(first, second, strict=True)]
        return [x.index_select(1, self._order(i).argsort()) for i, x in enumerate(joined)]

    def _order(self, scale: int) -> Tensor:
        return self.get_buffer(f"order{scale}")

    def _halves(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [x.split(size, 1) for x, size in zip(maps, self.sizes, strict=True)]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def _moved(self, maps: list[Tensor], predicted: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        moved, total = [], maps[0].new_zeros(maps[0].shape[0])
        for x, raw in zip(maps, predicted, strict=True):
            s, t = self._clamped(raw)
            moved.append(torch.addcmul(t, x, s.exp()))
            total = total + s.sum((1, 2, 3))
        return moved, total

    def _moved_back(self, maps: list[Tensor], predicted: list[Tensor]) -> list[Tensor]:
        pairs = [self._clamped(raw) for raw in predicted]
        return [(x - t) * (-s).exp() for x, (s, t) in zip(maps, pairs, strict=True)]

    def _clamped(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        s, t = raw.chunk(2, 1)
        return ATAN_GAIN * self.clamp * torch.atan(s / self.clamp), t


class _CrossScale(nn.Module):
    """Predicts (s, t) of every scale from all scales, which are joined on the coarsest grid."""

    def __init__(self, inputs: list[int], outputs: list[int]) -> None:
        super().__init__()
        self.inputs = inputs
        total = sum(inputs)
        self.joint = normed_convolutions(total, total, max(1, total // HIDDEN_SHARE))
        self.heads = nn.ModuleList(
            nn.Conv2d(i, 2 * o, 3, padding=1) for i, o in zip(inputs, outputs, strict=True)
        )

    def reset_parameters(self) -> None:
        for layer in [*self.joint, *self.heads]:
            if isinstance(layer, nn.Conv2d | nn.LayerNorm):
                layer.reset_parameters()
        for head in self.heads:
            for parameter in head.parameters():
                nn.init.zeros_(parameter)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        coarsest = (maps[-1].shape[2], maps[-1].shape[3])
        pooled = [functional.adaptive_avg_pool2d(x, coarsest) for x in maps[:-1]]
        shared = functional.relu(self.joint(torch.cat([*pooled, maps[-1]], 1))).split(self.inputs, 1)
        seen = [x + _enlarged(y, x) for x, y in zip(maps, shared, strict=True)]
        return [head(x) for head, x in zip(self.heads, seen, strict=True)]


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    size = (like.shape[2], like.shape[3])
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
