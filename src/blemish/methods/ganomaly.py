"""GANomaly: a picture is encoded, rebuilt and encoded again; two codes far apart are anomalous.

Akçay et al., "GANomaly: Semi-Supervised Anomaly Detection via Adversarial Training", ACCV 2018.
Differs from the paper: the score is the mean square between the codes, as in the authors' code, and not normalised
over test images; the anomaly map is an addition; batch norms are recalibrated after training; half the channels and
more epochs by default, with learning rates that fall along half a cosine; the discriminator is never drawn anew.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from blemish.blocks.gan.dcgan import Discriminator, Encoder, Generator, dcgan_optimizers, init_dcgan
from blemish.blocks.gan.losses import bce_discriminator_loss
from blemish.blocks.mixed_precision import mixed_precision
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import Reconstruction, latent_distance, require_counts, require_rate

FEATURES, PIXELS, CODES = 1.0, 50.0, 1.0
"""Weights of the three terms of the generator's loss."""
MOST = 512
"""Channels at most, so that large pictures do not ask for hundreds of millions of weights."""


class GANomaly(Reconstruction):
    """Encodes a picture, rebuilds it and encodes it again; score: how far the two codes are apart.

    Args:
        size: Side in pixels of the pictures that the networks see, a power of two.
        patches: Whether these are windows of the image, for textures, instead of the whole image shrunk.
        width: Channels of the layers next to the picture; they double with each halving, up to 512.
        code: Numbers that a picture is squeezed into.
        standardise: Whether errors in the map are divided by those usual at their position, for aligned products.
        score: "latent": how far the codes of picture and rebuilt picture are apart; "pixels": the map's maximum.
        learning_rate: Of both Adams in the first step; it falls to 0 along half a cosine.
        epochs: Passes over the training images.
        steps: Training steps at most, so that many images take no longer; 0: as many as the epochs need.
        batch_size: Images per step.
    """

    darkest: ClassVar[float] = -1.0
    scores: ClassVar[tuple[str, ...]] = ("latent", "pixels")
    presets: ClassVar = {
        "texture": Preset({"patches": True}),
        "paper": Preset({"width": 64, "epochs": 15, "steps": 0, "batch_size": 64}),
    }

    def __init__(
        self,
        *,
        size: int = 64,
        patches: bool = False,
        width: int = 32,
        code: int = 100,
        standardise: bool = False,
        score: str = "latent",
        learning_rate: float = 2e-4,
        epochs: int = 150,
        steps: int = 1800,
        batch_size: int = 16,
    ) -> None:
        super().__init__(size=size, patches=patches, standardise=standardise, score=score)
        require_counts(width=width, code=code, epochs=epochs, batch_size=batch_size)
        require_rate(learning_rate, "2e-4")
        self.width = width
        self.code = code
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.steps = steps
        self.batch_size = batch_size

        with torch.device("meta"):  # weights are drawn in `collect`
            self.encoder = Encoder(size, width, MOST, code)
            self.decoder = Generator(size, width, MOST, code)
            self.second_encoder = Encoder(size, width, MOST, code)
            self.discriminator = Discriminator(size, width, MOST)
        self.to_empty(device="cpu")

    @property
    def generator(self) -> nn.Sequential:
        """Pictures → codes of what was rebuilt of them."""
        return nn.Sequential(self.encoder, self.decoder, self.second_encoder)

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        init_dcgan(self.generator)
        init_dcgan(self.discriminator)

    def training_loss(self, *prepared: Tensor) -> dict[str, Tensor]:
        views = self.views(*prepared)
        with mixed_precision(views.device):
            codes = self.encoder(views)
            rebuilt = self.decoder(codes)
            second_codes = self.second_encoder(rebuilt)
            real, fake = self.discriminator.features(views), self.discriminator.features(rebuilt)
            real_logits, fake_logits = self.discriminator.head(real), self.discriminator(rebuilt.detach())
        return {
            "generator": FEATURES * functional.mse_loss(fake.float(), real.float())
            + PIXELS * functional.l1_loss(rebuilt.float(), views)
            + CODES * functional.mse_loss(second_codes.float(), codes.float()),
            "discriminator": bce_discriminator_loss(real_logits.float(), fake_logits.float()),
        }

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return dcgan_optimizers(self.generator, self.discriminator, self.learning_rate, self.learning_rate)

    def finish(self, batches: Batches) -> None:
        views = torch.cat([self.views(*self.prepare(images)) for images in batches])
        generator = self.generator.train(self.training)  # the mode to which update_bn returns
        update_bn(views.tensor_split(math.ceil(len(views) / self.batch_size)), generator)
        super().finish(batches)

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.encoder(views)
        rebuilt = self.decoder(codes)
        distance = latent_distance(codes, self.second_encoder(rebuilt)) if self.score == "latent" else None
        return (views - rebuilt).abs().mean(1), distance
