"""Retrieval of whole images by what is where in them: visual words, counted in the blocks of a grid.

Li et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One Millisecond via Cascade
Patch Retrieval", IEEE TIP 2024.
"""

import torch
from torch import Tensor, nn

from blemish.blocks.memory.kmeans import kmeans

WORDS = 12
"""Maximum number of visual words (paper)."""
BLOCKS = 5
"""Number of rows and of columns of blocks (paper)."""
KEPT = 0.8
"""Share of the blocks, those that agree best, that decide how far two images are apart (paper)."""
SMALLEST = 1e-8
"""Least frequency whose logarithm is taken (paper: added to it, but exporters drop an addition as small as that)."""
TIE = 1e-9
"""Added to the divergence times the image's number: of several that are equally near, the first ones are found."""
ROUNDS = 20
"""Iterations of k-means."""


class ImageRetrieval(nn.Module):
    """Finds the stored images in which the same words are in the same blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.words: Tensor  # (W, C): centres of clusters of patches
        self.histograms: Tensor  # (M, B, W + 1): of the stored images
        for name in ("words", "histograms"):
            self.register_buffer(name, torch.empty(0))

    def learn_words(self, patches: Tensor) -> None:
        """Cluster a sample of patches (n, C)."""
        self.words, _ = kmeans(patches, WORDS, ROUNDS)

    def describe(self, features: Tensor, inside: Tensor) -> Tensor:
        """Histograms (N, B, W + 1) of features (N, C, h, w); cells not inside (N, h, w) are a word of their own."""
        products = torch.einsum("nchw,kc->nkhw", features, self.words)
        nearest = (self.words.square().sum(1)[:, None, None] - 2 * products).argmin(1)
        return block_histograms(torch.where(inside, nearest, len(self.words)), len(self.words) + 1)

    def nearest(self, histograms: Tensor, count: int) -> Tensor:
        """Numbers (N, count) of the stored images that are nearest to others with histograms (N, B, W + 1)."""
        divergence = trimmed_divergence(histograms, self.histograms)
        order = torch.arange(divergence.shape[1], device=divergence.device)
        return (divergence + TIE * order).topk(count, largest=False).indices


def block_histograms(codes: Tensor, words: int) -> Tensor:
    """Frequencies (N, BLOCKS², words) of the codes (N, h, w), 0 to words − 1, in each block; 0 without cells."""
    is_word = (codes[:, None] == torch.arange(words, device=codes.device)[:, None, None]).float()
    rows, columns = (_members(side, codes.device) for side in codes.shape[1:])
    counts = torch.einsum("nkhw,ah,bw->nabk", is_word, rows, columns).flatten(1, 2)
    return counts / counts.sum(2, keepdim=True).clamp_min(1)


def trimmed_divergence(queries: Tensor, references: Tensor) -> Tensor:
    """Kullback-Leibler divergence of queries (N, B, W) from references (M, B, W), (N, M) float64.

    It is the sum over the blocks whose divergence is smallest, so that a defect does not decide what an image is like.
    Where a word is not there, its frequency is taken for `SMALLEST`, and other frequencies are taken as they are.
    float64, so that equal histograms give equal numbers in every runtime.
    """
    queries, references = queries.double(), references.double()
    entropy = (queries * queries.clamp_min(SMALLEST).log()).sum(2)[:, None]  # (N, 1, B)
    divergence = entropy - torch.einsum("nbk,mbk->nmb", queries, references.clamp_min(SMALLEST).log())
    return divergence.topk(round(KEPT * queries.shape[1]), largest=False).values.sum(2)


def _members(side: int, device: torch.device) -> Tensor:
    """Which of the cells along a side belong to which block, (BLOCKS, side) of 0 and 1."""
    blocks = torch.arange(side, device=device) * BLOCKS // side
    return (blocks == torch.arange(BLOCKS, device=device)[:, None]).float()
