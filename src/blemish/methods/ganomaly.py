"""GANomaly: distance between the latent codes of an image and of its reconstruction.

Akçay et al., "GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training", ACCV 2018.
Differs from the paper: the score is the mean squared difference of the codes, as in the authors' code, and is not
normalised over the test images; the anomaly map is an addition; batch-norm statistics are measured after training;
by default half the channels and more epochs, with half-cosine decay of the learning rates; the discriminator is never
re-initialised.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from blemish.blocks.gan.dcgan import SMALLEST, Discriminator, Encoder, Generator, dcgan_optimizers, init_dcgan
from blemish.blocks.gan.losses import bce_discriminator_loss
from blemish.blocks.mixed_precision import mixed_precision
from blemish.methods import arguments
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import Reconstruction, latent_distance

FEATURE_WEIGHT, PIXEL_WEIGHT, CODE_WEIGHT = 1.0, 50.0, 1.0
"""Weights of the three terms of the generator's loss."""
MAX_CHANNELS = 512
"""Maximum number of channels of a layer, which bounds the size of the networks for large images."""


class GANomaly(Reconstruction):
    """Encodes an image, reconstructs it and encodes the reconstruction; the score is the distance of the two codes."""

    size: int = arguments.size(64, smallest=SMALLEST)
    width: int = arguments.width(32)
    code: int = arguments.code(100)
    score: Literal["latent", "pixels"] = arguments.score("latent", "'latent' is the distance of the codes")
    learning_rate: float = arguments.learning_rate(2e-4, "both Adam optimizers")
    epochs: int = arguments.epochs(150)
    steps: int = arguments.steps(1800)

    lowest_value: ClassVar[float] = -1.0
    presets: ClassVar = {
        "texture": Preset({"patches": True}),
        "paper": Preset({"width": 64, "epochs": 15, "steps": 0, "batch_size": 64}, {"size": (256, 256)}),
    }

    def build(self) -> None:
        super().build()
        with torch.device("meta"):  # weights are initialised in `collect`
            self.encoder = Encoder(self.size, self.width, MAX_CHANNELS, self.code)
            self.decoder = Generator(self.size, self.width, MAX_CHANNELS, self.code)
            self.second_encoder = Encoder(self.size, self.width, MAX_CHANNELS, self.code)
            self.discriminator = Discriminator(self.size, self.width, MAX_CHANNELS)
        self.to_empty(device="cpu")

    @property
    def generator(self) -> nn.Sequential:
        """From views to the codes of their reconstructions."""
        return nn.Sequential(self.encoder, self.decoder, self.second_encoder)

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        init_dcgan(self.generator)
        init_dcgan(self.discriminator)

    def training_loss(self, *prepared: Tensor) -> dict[str, Tensor]:
        views = self.views(*prepared)
        with mixed_precision(views.device):
            codes = self.encoder(views)
            reconstruction = self.decoder(codes)
            second_codes = self.second_encoder(reconstruction)
            real, fake = self.discriminator.features(views), self.discriminator.features(reconstruction)
            real_logits = self.discriminator.head(real)
            fake_logits = self.discriminator(reconstruction.detach())
        return {
            "generator": FEATURE_WEIGHT * functional.mse_loss(fake.float(), real.float())
            + PIXEL_WEIGHT * functional.l1_loss(reconstruction.float(), views)
            + CODE_WEIGHT * functional.mse_loss(second_codes.float(), codes.float()),
            "discriminator": bce_discriminator_loss(real_logits.float(), fake_logits.float()),
        }

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return dcgan_optimizers(self.generator, self.discriminator, self.learning_rate, self.learning_rate)

    def finish(self, batches: Batches) -> None:
        views = torch.cat([self.views(*self.prepare(images)) for images in batches])
        generator = self.generator.train(self.training)  # update_bn restores this mode at its end
        update_bn(views.tensor_split(math.ceil(len(views) / self.batch_size)), generator)
        super().finish(batches)

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.encoder(views)
        reconstruction = self.decoder(codes)
        errors = (views - reconstruction).abs().mean(1)
        if self.score == "pixels":
            return errors, None
        return errors, latent_distance(codes, self.second_encoder(reconstruction))
