"""AutoEncoder: a picture squeezed through a narrow code; what does not come out again is anomalous.

Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
VISAPP 2019. Differs from the paper: colour pictures; an image score; the loss may add L1 and SSIM; by default smaller
pictures of the whole product and a schedule of minutes, with a learning rate that falls along half a cosine.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.conv_autoencoder import (
    ConvDecoder,
    ConvEncoder,
    init_conv_autoencoder,
    require_size,
)
from blemish.blocks.autoencoders.ssim import ssim_map
from blemish.blocks.mixed_precision import mixed_precision
from blemish.errors import MethodError
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import Reconstruction, latent_distance, require_counts, require_rate

Errors = Callable[[Tensor, Tensor], Tensor]
LOSSES: Mapping[str, Errors] = {
    "l2": lambda views, rebuilt: (views - rebuilt).square().mean(1),
    "ssim": lambda views, rebuilt: 1 - ssim_map(views, rebuilt).mean(1),
    "l1+ssim": lambda views, rebuilt: (views - rebuilt).abs().mean(1) + 1 - ssim_map(views, rebuilt).mean(1),
}
"""Errors (N, H, W) of pictures (N, C, H, W); their mean is what training lowers."""


class AutoEncoder(Reconstruction):
    """Rebuilds pictures through a code of few numbers; the map is the error of each pixel.

    Args:
        size: Side in pixels of the pictures that the network sees, a power of two.
        patches: Whether these are windows of the image, for textures, instead of the whole image shrunk.
        loss: What an error is: "l2", "ssim" or "l1+ssim"; it is learned from and shown in the map.
        width: Channels of the layers next to the picture and to the code.
        code: Numbers that a picture is squeezed into.
        standardise: Whether errors are divided by those usual at their position, for aligned products.
        score: "pixels": the map's maximum; "latent": how far the codes of picture and rebuilt picture are apart.
        learning_rate: Of Adam in the first step; it falls to 0 along half a cosine.
        epochs: Passes over the training images.
        steps: Training steps at most, so that many images take no longer; 0: as many as the epochs need.
        batch_size: Images per step.
        patience: Epochs without a lower error on held-out normal images after which training ends; 0: never.
    """

    presets: ClassVar = {
        "texture": Preset(
            {"patches": True, "standardise": False, "loss": "ssim", "epochs": 400, "steps": 9600}
        ),
        "paper": Preset(
            {
                "patches": True,
                "standardise": False,
                "loss": "ssim",
                "code": 100,
                "learning_rate": 2e-4,
                "epochs": 10_000,
                "steps": 0,
                "batch_size": 128,
                "patience": 0,
            }
        ),
    }

    def __init__(
        self,
        *,
        size: int = 128,
        patches: bool = False,
        loss: str = "l2",
        width: int = 32,
        code: int = 128,
        standardise: bool = True,
        score: str = "pixels",
        learning_rate: float = 1e-3,
        epochs: int = 150,
        steps: int = 3600,
        batch_size: int = 8,
        patience: int = 20,
    ) -> None:
        super().__init__(size=size, patches=patches, standardise=standardise, score=score)
        require_size(size)
        if loss not in LOSSES:
            raise MethodError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}.")
        require_counts(width=width, code=code, epochs=epochs, batch_size=batch_size)
        require_rate(learning_rate, "2e-4")
        if patience < 0:
            raise MethodError(f"patience must not be negative, got {patience}; 0 trains to the end.")
        self.loss = loss
        self.width = width
        self.code = code
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size
        self.patience = patience

        with torch.device("meta"):  # weights are drawn in `collect`
            self.encoder: nn.Module = ConvEncoder(size, width, code)
            self.decoder: nn.Module = ConvDecoder(size, width, code)
        for network in (self.encoder, self.decoder):
            network.to_empty(device="cpu")
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        init_conv_autoencoder(self.encoder)
        init_conv_autoencoder(self.decoder)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        views = self.views(*prepared)
        return self.pixel_errors(views, self.rebuilt(views)).mean()

    def optimizers(self) -> torch.optim.Optimizer:
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=1e-5)

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.encoder(views)
        rebuilt = self.decoder(codes)
        distance = latent_distance(codes, self.encoder(rebuilt)) if self.score == "latent" else None
        return self.pixel_errors(views, rebuilt), distance

    def rebuilt(self, views: Tensor) -> Tensor:
        """Views (N, 3, size, size) through the code and back."""
        with mixed_precision(views.device):
            rebuilt: Tensor = self.decoder(self.encoder(views))
        return rebuilt.float()

    def pixel_errors(self, views: Tensor, rebuilt: Tensor) -> Tensor:
        """What the loss says of each pixel: (N, size, size)."""
        return LOSSES[self.loss](views, rebuilt)
