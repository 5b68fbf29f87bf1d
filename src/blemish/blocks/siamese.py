"""The siamese loss that pulls two feature maps together without negative pairs.

Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021, at each position as in RegAD (ECCV 2022).
"""

from torch import Tensor, nn
from torch.nn import functional


class SiameseHead(nn.Module):
    """An encoder and a predictor of 1 × 1 convolutions; only training needs them.

    Their batch norms always use the statistics of the batch, so there is none to store.
    """

    def __init__(self, channels: int, width: int = 256) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_hidden(channels, width), *_hidden(width, width), nn.Conv2d(width, width, 1)
        )
        self.predictor = nn.Sequential(*_hidden(width, width), nn.Conv2d(width, width, 1))

    def init_random(self) -> None:
        """Draw the weights at random."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The symmetric loss of two feature maps (N, C, h, w): -1 if their encodings predict each other exactly."""
        a, b = self.encoder(first), self.encoder(second)
        return (negative_cosine(self.predictor(a), b) + negative_cosine(self.predictor(b), a)) / 2


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of the negative cosine at each position; no gradient reaches the target."""
    return -functional.cosine_similarity(prediction, target.detach(), 1).mean()


def _hidden(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs, track_running_stats=False), nn.ReLU()
