"""AutoEncoder: reconstruction error of an autoencoder with a short latent code.

Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
VISAPP 2019.
Differs from the paper: colour images; an image score; a loss that adds L1 and SSIM is available; by default the whole
product at a smaller size, standardised errors, and a training of minutes with half-cosine decay of the learning rate.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.conv_autoencoder import (
    SMALLEST,
    ConvDecoder,
    ConvEncoder,
    init_conv_autoencoder,
)
from blemish.blocks.autoencoders.ssim import ssim_map
from blemish.blocks.mixed_precision import mixed_precision
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import TEXTURE, Reconstruction, latent_distance

Errors = Callable[[Tensor, Tensor], Tensor]
LOSSES: Mapping[str, Errors] = {
    "l2": lambda views, output: (views - output).square().mean(1),
    "ssim": lambda views, output: 1 - ssim_map(views, output).mean(1),
    "l1+ssim": lambda views, output: (views - output).abs().mean(1) + 1 - ssim_map(views, output).mean(1),
}
"""Errors (N, H, W) of views and their reconstructions (N, C, H, W); the training loss is their mean."""


class ConvAutoEncoder(Reconstruction):
    """Convolutional encoder and decoder with a short latent code between them."""

    size: int = arguments.size(128, smallest=SMALLEST)
    width: int = arguments.width(32)
    code: int = arguments.code(128)
    standardise = True
    learning_rate: float = arguments.learning_rate(1e-3)
    epochs: int = arguments.epochs(150)
    steps: int = arguments.steps(3600)
    batch_size = 8
    patience: int = arguments.patience(20)

    def build(self) -> None:
        super().build()
        with torch.device("meta"):  # weights are initialised in `collect`
            self.encoder = self.make_encoder()
            self.decoder: nn.Module = ConvDecoder(self.size, self.width, self.code)
        for network in (self.encoder, self.decoder):
            network.to_empty(device="cpu")
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs

    def make_encoder(self) -> nn.Module:
        """The network from views to codes; its weights are initialised in `collect`."""
        return ConvEncoder(self.size, self.width, self.code)

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        init_conv_autoencoder(self.encoder)
        init_conv_autoencoder(self.decoder)

    def optimizers(self) -> torch.optim.Optimizer:
        parameters = [*self.encoder.parameters(), *self.decoder.parameters()]
        return torch.optim.Adam(parameters, lr=self.learning_rate, weight_decay=1e-5)


class AutoEncoder(ConvAutoEncoder):
    """Reconstructs images from a short latent code; the anomaly map is the reconstruction error of each pixel."""

    loss: Literal["l2", "ssim", "l1+ssim"] = argument(
        "l2", "Error of the training loss and of the anomaly map."
    )
    score: Literal["pixels", "latent"] = arguments.score("pixels", "'latent' is the distance of the codes")

    presets: ClassVar = {
        "texture": Preset({**TEXTURE, "epochs": 400, "steps": 9600}),
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
            },
            {"size": (256, 256)},
        ),
    }

    def training_loss(self, *prepared: Tensor) -> Tensor:
        views = self.views(*prepared)
        return self.pixel_errors(views, self.reconstruct(views)).mean()

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.encoder(views)
        reconstruction = self.decoder(codes)
        distance = latent_distance(codes, self.encoder(reconstruction)) if self.score == "latent" else None
        return self.pixel_errors(views, reconstruction), distance

    def reconstruct(self, views: Tensor) -> Tensor:
        """Reconstructions of views, (N, 3, size, size) both, in mixed precision."""
        with mixed_precision(views.device):
            reconstruction: Tensor = self.decoder(self.encoder(views))
        return reconstruction.float()

    def pixel_errors(self, views: Tensor, reconstruction: Tensor) -> Tensor:
        """The reconstruction error at each pixel (N, size, size), as `loss` defines it."""
        return LOSSES[self.loss](views, reconstruction)
