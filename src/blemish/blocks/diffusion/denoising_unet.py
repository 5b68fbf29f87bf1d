"""The U-Net of diffusion models, which predicts the noise in images from the images and their time steps.

Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021: residual blocks that also halve and
double the sides, and attention at the low resolutions.
Differs from the paper: the time step is added to the features, which it does not scale; no dropout.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

GROUPS, SMALLEST_GROUP = 32, 4
"""Groups of channels that are normalised together, and channels of a group: a norm of one channel would remove the time
step, which is added to all positions alike. Fewer groups where the channels are not divisible."""
PERIODS = 10_000.0
"""Ratio of the longest period of the time embedding to the shortest."""


class DenoisingUNet(nn.Module):
    """Noisy images (N, 3, size, size) and time steps (N,) → their noise (N, 3, size, size).

    The last convolutions of the network and of its residual and attention blocks are 0 at first, so that it begins with
    the prediction 0 and each block with the identity.

    Args:
        size: Side of the images; divisible by 2 once for each multiplier but the first.
        width: Channels at full size; divisible by 4.
        multipliers: Channels at each resolution as multiples of the width, finest first.
        blocks: Residual blocks at each resolution; one more on the way up.
        attention: Largest side of the features at which there is attention.
        heads: Of the attention; the channels at those sides must be divisible by them.
    """

    def __init__(
        self, size: int, width: int, multipliers: Sequence[int], *, blocks: int, attention: int, heads: int
    ) -> None:
        super().__init__()
        self.width = width
        timed = 4 * width
        self.embed = nn.Sequential(nn.Linear(width, timed), nn.SiLU(), nn.Linear(timed, timed), nn.SiLU())
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        widths = [width * multiplier for multiplier in multipliers]
        attends = [size >> level <= attention for level in range(len(widths))]

        def stage(before: int, level: int) -> Stage:
            return Stage(before, widths[level], timed, heads if attends[level] else 0)

        channels, skipped = width, [width]
        for level in range(len(widths)):
            for _ in range(blocks):
                self.down.append(stage(channels, level))
                channels = widths[level]
                skipped.append(channels)
            if level < len(widths) - 1:
                self.down.append(Stage(channels, channels, timed, scale=0.5))
                skipped.append(channels)
        self.middle = nn.ModuleList(
            [Stage(channels, channels, timed, heads), Stage(channels, channels, timed)]
        )
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                self.up.append(stage(channels + skipped.pop(), level))
                channels = widths[level]
            if level:
                self.up.append(Stage(channels, channels, timed, scale=2.0))
        self.last = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, 3, 3, padding=1))

    def reset_parameters(self) -> None:
        """Draw the weights with torch's global generator; set norms to the identity and last convolutions to 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear | nn.GroupNorm):
                module.reset_parameters()
        ends = [self.last[-1]]
        ends += [module.last for module in self.modules() if isinstance(module, Residual | Attention)]
        for end in ends:
            for parameter in end.parameters():
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        time = self.embed(time_embedding(times, self.width))
        features = self.first(images)
        skipped = [features]
        for stage in self.down:
            features = stage(features, time)
            skipped.append(features)
        for stage in self.middle:
            features = stage(features, time)
        for stage in self.up:
            joined = features if stage.enlarges else torch.cat([features, skipped.pop()], dim=1)
            features = stage(joined, time)
        noise: Tensor = self.last(features)
        return noise


class Stage(nn.Module):
    """A residual block, with attention after it if `heads` are given; it may change the sides by `scale`."""

    def __init__(self, before: int, after: int, timed: int, heads: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.enlarges = scale > 1
        self.residual = Residual(before, after, timed, scale)
        self.attention = Attention(after, heads) if heads else nn.Identity()

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        attended: Tensor = self.attention(self.residual(features, time))
        return attended


class Residual(nn.Module):
    """Two convolutions and a shortcut; the time step is added between the convolutions."""

    def __init__(self, before: int, after: int, timed: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.before = _norm(before)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.time = nn.Linear(timed, after)
        self.between = _norm(after)
        self.last = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, features: Tensor, time: Tensor) -> Tensor:
        change = self.first(self._scaled(functional.silu(self.before(features))))
        change = change + self.time(time)[:, :, None, None]
        change = self.last(functional.silu(self.between(change)))
        result: Tensor = self.shortcut(self._scaled(features)) + change
        return result

    def _scaled(self, features: Tensor) -> Tensor:
        if self.scale < 1:
            return functional.avg_pool2d(features, 2)
        return functional.interpolate(features, scale_factor=2.0) if self.scale > 1 else features


class Attention(nn.Module):
    """Self-attention between all positions of the features, added to them."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _norm(channels)
        self.joint = nn.Conv2d(channels, 3 * channels, 1)  # queries, keys and values
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        joint = self.joint(self.norm(features)).flatten(2).unflatten(1, (3 * self.heads, -1))
        query, key, value = joint.mT.chunk(3, dim=1)  # (N, heads, positions, channels of a head) each
        mixed = functional.scaled_dot_product_attention(query, key, value).mT.flatten(1, 2)
        change: Tensor = self.last(mixed.unflatten(2, features.shape[2:]))
        return features + change


def time_embedding(times: Tensor, width: int) -> Tensor:
    """Cosines and sines of time steps (N,), with `width` / 2 periods in geometric progression: (N, width)."""
    exponents = torch.arange(width // 2, device=times.device) / (width // 2)
    angles = times[:, None].float() * torch.exp(-math.log(PERIODS) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, max(1, channels // SMALLEST_GROUP)), channels)
