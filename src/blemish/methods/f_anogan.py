"""f-AnoGAN: reconstruction error of a GAN's generator, with an encoder that finds the latent codes.

Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical Image
Analysis 2019.
Differs from the paper: colour images; by default narrower networks, codes without tanh and a training of minutes, with
half-cosine decay of the learning rates to 0 in each phase.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from blemish.blocks.gan.gradient_penalty import gradient_penalty
from blemish.blocks.gan.losses import wasserstein_critic_loss, wasserstein_generator_loss
from blemish.blocks.gan.residual import (
    SMALLEST,
    ResidualCritic,
    ResidualEncoder,
    ResidualGenerator,
    init_residual_gan,
)
from blemish.blocks.mixed_precision import mixed_precision
from blemish.blocks.schedules import half_cosine
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import Reconstruction, latent_distance

PENALTY_WEIGHT = 10.0
"""Weight of the gradient penalty in the critic's loss."""
PAPER: dict[str, float] = {"patches": True, "width": 64, "tanh": True, "batch_size": 64, "critic_steps": 5}
PAPER |= {"learning_rate": 1e-4, "encoder_learning_rate": 5e-5, "gan_steps": 100_000, "encoder_steps": 50_000}
Score = Literal["combined", "pixels", "latent"]


class FAnoGAN(Reconstruction):
    """Reconstructs images by a generator that is trained on normal images only.

    Training has two phases. First the generator and a critic are trained (WGAN-GP). Then both are frozen, and an
    encoder is trained to find the code from which the generator reconstructs an image; its loss (izi_f) compares the
    two images by their pixels and by features of the critic.
    """

    size: int = arguments.size(64, smallest=SMALLEST)
    width: int = arguments.width(16)
    code: int = arguments.code(128)
    tanh: bool = argument(False, "Whether the encoder's codes pass a tanh, as in the authors' code.")
    score: Score = arguments.score("combined", "'combined' is izi_f, 'latent' the distance of the codes")
    learning_rate: float = arguments.learning_rate(4e-4, "the Adams of generator and critic")
    encoder_learning_rate: float = arguments.learning_rate(5e-4, "the encoder's RMSprop")
    critic_steps: int = argument(2, "Number of critic steps per generator step.", ge=1, le=100)
    gan_steps: int = argument(2000, "Number of critic steps.", ge=1, le=1000000)
    encoder_steps: int = argument(1500, "Number of encoder steps, after those of the GAN.", ge=1, le=1000000)
    batch_size = 8

    lowest_value: ClassVar[float] = -1.0
    presets: ClassVar = {"texture": Preset({"patches": True}), "paper": Preset(PAPER, {"size": (256, 256)})}

    def build(self) -> None:
        super().build()
        self.steps = self.gan_steps + self.encoder_steps
        with torch.device("meta"):  # weights are initialised in `collect`
            self.generator = ResidualGenerator(self.size, self.width, self.code).to_empty(device="cpu")
            self.critic = ResidualCritic(self.size, self.width).to_empty(device="cpu")
            self.encoder = ResidualEncoder(self.size, self.width, self.code, tanh=self.tanh).to_empty(
                device="cpu"
            )
        self.trained = nn.Buffer(torch.zeros((), dtype=torch.long))  # number of calls of `training_loss`

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        for network in (self.generator, self.critic, self.encoder):
            init_residual_gan(network)
        self.trained.zero_()

    def training_loss(self, *prepared: Tensor) -> dict[str, Tensor]:
        views = self.views(*prepared)
        self.trained.add_(1)
        if self.trained <= self.gan_steps:
            return self.gan_losses(views)
        self.generator.eval()  # freezes its batch-norm statistics; the critic has no batch norm
        with mixed_precision(views.device):
            reconstruction = self.generator(self.encoder(views)).float()
            return {"encoder": self.izi_f(views, reconstruction).mean()}

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0 in each of the two phases."""
        step = round(done * self.steps)
        if step < self.gan_steps:
            return half_cosine(step / self.gan_steps)
        return half_cosine((step - self.gan_steps) / self.encoder_steps)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "generator": torch.optim.Adam(self.generator.parameters(), self.learning_rate, (0.0, 0.9)),
            "critic": torch.optim.Adam(self.critic.parameters(), self.learning_rate, (0.0, 0.9)),
            "encoder": torch.optim.RMSprop(self.encoder.parameters(), self.encoder_learning_rate, 0.9),
        }

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.encoder(views)
        reconstruction = self.generator(codes)
        errors = (views - reconstruction).abs().mean(1)
        if self.score == "latent":
            return errors, latent_distance(codes, self.encoder(reconstruction))
        return errors, self.izi_f(views, reconstruction) if self.score == "combined" else None

    def gan_losses(self, views: Tensor) -> dict[str, Tensor]:
        """The critic's loss and, in one of `critic_steps` calls, the generator's."""
        trains_generator = int(self.trained) % self.critic_steps == 0
        with mixed_precision(views.device), torch.set_grad_enabled(trains_generator):
            fake = self.generator(torch.randn(len(views), self.code, device=views.device)).float()
        scores = self.critic_scores(torch.cat([views, fake.detach()]))
        penalty = PENALTY_WEIGHT * gradient_penalty(self.critic_scores, views, fake)
        losses = {"critic": wasserstein_critic_loss(*scores.chunk(2)) + penalty}
        if trains_generator:
            losses["generator"] = wasserstein_generator_loss(self.critic_scores(fake))
        return losses

    def critic_scores(self, images: Tensor) -> Tensor:
        """The critic's scores (N,) of images (N, 3, size, size)."""
        with mixed_precision(images.device):
            scores: Tensor = self.critic(images)
        return scores.float()

    def izi_f(self, views: Tensor, reconstruction: Tensor) -> Tensor:
        """Mean squared difference of the pixels plus that of the critic's features (N,); the paper's κ is 1."""
        features = self.critic.body(torch.cat([views, reconstruction])).float().unflatten(0, (2, -1))
        return latent_distance(views, reconstruction) + latent_distance(*features)
