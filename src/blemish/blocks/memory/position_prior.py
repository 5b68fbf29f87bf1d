"""Which patches of the memory bank are usual at each position of the grid."""

import torch
from torch import Tensor, nn
from torch.nn import functional

VOTED = 9
"""Side, in cells, of the window around each training patch into which it votes (Bae et al., ICCV 2023)."""
NUMBERS = 2**24
"""Maximum number of votes that are counted at once: 64 MiB."""


class PositionPrior(nn.Module):
    """Bank patches that are allowed at each position, one bit for each.

    At each position of the grid there is a histogram over the bank. Every training patch votes for the bank patch that
    is nearest to it, at all positions of the window around its own. A bank patch is allowed at a position if it has
    more than a given share of the votes there. Where nobody votes, as under the padding of all images, all are allowed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bits: Tensor  # (h·w, ⌈M/8⌉) uint8
        self.register_buffer("bits", torch.empty(0, dtype=torch.uint8))

    @staticmethod
    def bytes_of(positions: int, patches: int) -> int:
        """Bytes of the prior for this many positions and bank patches."""
        return positions * -(-patches // 8)

    def fill(self, nearest: Tensor, patches: int, share: float) -> None:
        """Count the votes.

        Args:
            nearest: (N, h, w): index of the bank patch nearest to each patch of N images; −1 where there is no image.
            patches: Number M of bank patches.
            share: Of the votes; a bank patch with more is allowed.
        """
        height, width = nearest.shape[1:]
        total = window_sums((nearest >= 0).sum(0)[..., None])
        cells = torch.arange(height * width, device=nearest.device).view(height, width)
        columns = 8 * max(1, NUMBERS // (8 * height * width))
        parts = []
        for first in range(0, patches, columns):
            count = min(columns, patches - first)
            own = (nearest >= first) & (nearest < first + count)
            places = (cells * count + nearest - first)[own]
            votes = torch.bincount(places, minlength=height * width * count).view(height, width, count)
            allowed = (window_sums(votes) > share * total) | (total == 0)
            parts.append(packed(allowed.flatten(0, 1)))
        self.bits = torch.cat(parts, 1)

    def allowed(self, positions: slice, patches: int) -> Tensor:
        """Whether each of the M bank patches is allowed at P positions, numbered row by row: (P, M) bool."""
        return unpacked(self.bits[positions])[:, :patches]


def window_sums(votes: Tensor) -> Tensor:
    """Sum over the window around each cell of votes (h, w, C), without cells beyond the grid; float32."""
    maps = votes.permute(2, 0, 1).float()
    reach = VOTED // 2
    maps = functional.avg_pool2d(maps, (VOTED, 1), 1, (reach, 0), divisor_override=1)
    maps = functional.avg_pool2d(maps, (1, VOTED), 1, (0, reach), divisor_override=1)
    return maps.permute(1, 2, 0)


def packed(flags: Tensor) -> Tensor:
    """Flags (P, M) bool as bits, eight to a byte: (P, ⌈M/8⌉) uint8."""
    whole = functional.pad(flags.byte(), (0, -flags.shape[1] % 8))
    return (whole.view(len(flags), -1, 8) * _places(flags)).sum(2, dtype=torch.uint8)


def unpacked(bits: Tensor) -> Tensor:
    """The inverse of `packed`: (P, 8·B) bool of bytes (P, B)."""
    return ((bits[..., None] & _places(bits)) != 0).flatten(1)


def _places(like: Tensor) -> Tensor:
    return torch.tensor([1, 2, 4, 8, 16, 32, 64, 128], dtype=torch.uint8, device=like.device)
