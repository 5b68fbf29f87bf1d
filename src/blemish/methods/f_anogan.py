"""f-AnoGAN: a GAN of normal pictures, and an encoder that learns to find a picture among those it can make.

Schlegl et al., "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks", Medical Image
Analysis 2019. Differs from the paper: colour pictures; by default narrower networks, codes without tanh and a schedule
of minutes, with learning rates that fall to 0 in each phase.
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
from blemish.methods.reconstruction import SIZE, Reconstruction, latent_distance

PENALTY = 10.0
"""Weight of the gradient penalty in the critic's loss."""
PAPER: dict[str, float] = {"patches": True, "width": 64, "tanh": True, "batch_size": 64, "critic_steps": 5}
PAPER |= {"learning_rate": 1e-4, "encoder_learning_rate": 5e-5, "gan_steps": 100_000, "encoder_steps": 50_000}


class FAnoGAN(Reconstruction):
    """Rebuilds pictures by a generator that only ever learned to make normal ones.

    First a generator and a critic learn against each other (WGAN-GP); then both are frozen, and an encoder learns the
    code from which the generator rebuilds a picture, compared by pixels and by features of the critic (izi_f).
    """

    size: int = argument(64, SIZE, ge=SMALLEST, power_of_two=True)
    width: int = argument(
        16, "Number of channels of the layers next to the image; eight times as many next to the code.", ge=1
    )
    code: int = argument(128, "Number of values of a latent code.", ge=1)
    tanh: bool = argument(False, "Whether the encoder's codes pass a tanh, as in the authors' code.")
    score: Literal["combined", "pixels", "latent"] = argument(
        "combined",
        "Image score: 'combined' for the encoder's loss (izi_f), 'pixels' for the map's maximum, 'latent' for the "
        "distance of the codes of input and output.",
    )
    learning_rate: float = arguments.learning_rate(
        4e-4, "Initial learning rate of Adam for generator and critic (half-cosine decay to 0)."
    )
    encoder_learning_rate: float = arguments.learning_rate(
        5e-4, "Initial learning rate of RMSprop for the encoder (half-cosine decay to 0)."
    )
    critic_steps: int = argument(2, "Number of critic steps per generator step.", ge=1)
    gan_steps: int = argument(2000, "Number of critic steps.", ge=1)
    encoder_steps: int = argument(1500, "Number of encoder steps, after those of the GAN.", ge=1)
    batch_size = 8

    darkest: ClassVar[float] = -1.0
    presets: ClassVar = {"texture": Preset({"patches": True}), "paper": Preset(PAPER)}

    def build(self) -> None:
        super().build()
        self.steps = self.gan_steps + self.encoder_steps
        with torch.device("meta"):  # weights are initialised in `collect`
            self.generator = ResidualGenerator(self.size, self.width, self.code).to_empty(device="cpu")
            self.critic = ResidualCritic(self.size, self.width).to_empty(device="cpu")
            self.encoder = ResidualEncoder(self.size, self.width, self.code, tanh=self.tanh).to_empty(
                device="cpu"
            )
        self.trained = nn.Buffer(torch.zeros((), dtype=torch.long))  # calls of `training_loss`

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
        self.generator.eval()  # frozen, with its batch norm; the critic, frozen too, has none
        with mixed_precision(views.device):
            rebuilt = self.generator(self.encoder(views)).float()
            return {"encoder": self.izi_f(views, rebuilt).mean()}

    def learning_rate_factor(self, done: float) -> float:
        step = round(done * self.steps)
        before = self.gan_steps if step >= self.gan_steps else 0
        length = self.encoder_steps if before else self.gan_steps
        return half_cosine((step - before) / length)

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "generator": torch.optim.Adam(self.generator.parameters(), self.learning_rate, (0.0, 0.9)),
            "critic": torch.optim.Adam(self.critic.parameters(), self.learning_rate, (0.0, 0.9)),
            "encoder": torch.optim.RMSprop(self.encoder.parameters(), self.encoder_learning_rate, 0.9),
        }

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        codes = self.encoder(views)
        rebuilt = self.generator(codes)
        errors = (views - rebuilt).abs().mean(1)
        if self.score == "latent":
            return errors, latent_distance(codes, self.encoder(rebuilt))
        return errors, self.izi_f(views, rebuilt) if self.score == "combined" else None

    def gan_losses(self, views: Tensor) -> dict[str, Tensor]:
        """The critic's loss, and every `critic_steps` times the generator's."""
        turn = int(self.trained) % self.critic_steps == 0
        with mixed_precision(views.device), torch.set_grad_enabled(turn):
            fake = self.generator(torch.randn(len(views), self.code, device=views.device)).float()
        scores = self.judge(torch.cat([views, fake.detach()]))
        slope = PENALTY * gradient_penalty(self.judge, views, fake)
        losses = {"critic": wasserstein_critic_loss(*scores.chunk(2)) + slope}
        if turn:
            losses["generator"] = wasserstein_generator_loss(self.judge(fake))
        return losses

    def judge(self, pictures: Tensor) -> Tensor:
        """The critic's scores (N,) of pictures (N, 3, size, size)."""
        with mixed_precision(pictures.device):
            scores: Tensor = self.critic(pictures)
        return scores.float()

    def izi_f(self, views: Tensor, rebuilt: Tensor) -> Tensor:
        """Mean squared difference of pictures plus, with κ = 1, that of the critic's features: (N,)."""
        features = self.critic.body(torch.cat([views, rebuilt])).float().unflatten(0, (2, -1))
        return latent_distance(views, rebuilt) + latent_distance(*features)
