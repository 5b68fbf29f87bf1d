"""AnoGAN: latent search for the generated image that is most similar to the input.

Schlegl et al., "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery",
IPMI 2017.
Differs from the paper: colour images; the start codes of the latent search are drawn once and all searches of a batch
run together, in fewer steps; the discriminator's inputs are augmented (DiffAugment) and its learning rate is lower;
batch-norm statistics are measured after training; more epochs, with half-cosine decay of the learning rates; by
default the whole product and half the channels.
"""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.optim.swa_utils import update_bn

from blemish.blocks.gan.dcgan import SMALLEST, Discriminator, Generator, dcgan_optimizers, init_dcgan
from blemish.blocks.gan.diff_augment import diff_augment
from blemish.blocks.gan.latent_search import search
from blemish.blocks.gan.losses import bce_discriminator_loss, bce_generator_loss
from blemish.blocks.mixed_precision import mixed_precision
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import Reconstruction

FEATURE_WEIGHT = 0.1
"""Weight λ of the discriminator's features in the loss of the latent search; the weight of the pixels is 1 − λ."""
MAX_CHANNELS = 512
"""Maximum number of channels of a layer."""
PAPER: dict[str, float] = {"patches": True, "width": 64, "search_steps": 500, "restarts": 1, "epochs": 20}
PAPER |= {"steps": 0, "learning_rate": 2e-4, "discriminator_learning_rate": 2e-4, "batch_size": 64}


class AnoGAN(Reconstruction):
    """Finds the most similar generated image by a latent search; the anomaly map is the difference that remains."""

    size: int = arguments.size(64, smallest=SMALLEST)
    width: int = arguments.width(32)
    code: int = arguments.code(100)
    search_steps: int = argument(100, "Number of steps of the latent search.", ge=1, le=10000)
    restarts: int = argument(2, "Number of latent searches per image; the best one counts.", ge=1, le=100)
    score: Literal["search", "pixels"] = arguments.score("search", "'search' is the loss that remains")
    learning_rate: float = arguments.learning_rate(5e-4, "the generator's Adam")
    discriminator_learning_rate: float = arguments.learning_rate(1.25e-4, "the discriminator's Adam")
    epochs: int = arguments.epochs(400)
    steps: int = arguments.steps(4800)

    exports = False
    exports_reason: ClassVar[str] = "It scores by gradient descent, which an exported graph cannot run."
    lowest_value: ClassVar[float] = -1.0
    presets: ClassVar = {
        "texture": Preset({"patches": True, "restarts": 1}),
        "paper": Preset(PAPER, {"size": (256, 256)}),
    }

    def build(self) -> None:
        super().build()
        with torch.device("meta"):  # weights are initialised in `collect`
            self.generator = Generator(self.size, self.width, MAX_CHANNELS, self.code)
            self.discriminator = Discriminator(self.size, self.width, MAX_CHANNELS)
        self.to_empty(device="cpu")
        self.starts: Tensor  # (restarts, code, 1, 1): start codes of the latent search
        self.register_buffer("starts", torch.zeros(self.restarts, self.code, 1, 1))

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        init_dcgan(self.generator)
        init_dcgan(self.discriminator)
        self.starts = self.random_codes(self.restarts)

    def training_loss(self, *prepared: Tensor) -> dict[str, Tensor]:
        views = self.views(*prepared)
        with mixed_precision(views.device):
            generated = self.generator(self.random_codes(len(views)))
            augmented = [diff_augment(images) for images in (views, generated.detach(), generated)]
            real_logits, detached_logits, generated_logits = map(self.discriminator, augmented)
        return {
            "generator": bce_generator_loss(generated_logits.float()),
            "discriminator": bce_discriminator_loss(real_logits.float(), detached_logits.float()),
        }

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return dcgan_optimizers(
            self.generator, self.discriminator, self.learning_rate, self.discriminator_learning_rate
        )

    def finish(self, batches: Batches) -> None:
        views = torch.cat([self.views(*self.prepare(images)) for images in batches])
        real = views.tensor_split(math.ceil(len(views) / self.batch_size))
        codes = [self.random_codes(len(batch)) for batch in real]
        update_bn(codes, self.generator)
        update_bn([*real, *(self.generator(batch) for batch in codes)], self.discriminator)
        super().finish(batches)

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        # Inference mode would forbid the gradients of the latent search.
        with torch.inference_mode(False), torch.no_grad():
            views = views.clone()
            targets = views.repeat_interleave(self.restarts, 0)
            features = self.discriminator.features(views).repeat_interleave(self.restarts, 0)

            def losses(codes: Tensor) -> Tensor:
                return self.search_losses(codes, targets, features)

            codes, lowest = search(losses, self.starts, len(views), self.search_steps)
            errors = (views - self.generator(codes)).abs().mean(1)
        return errors, lowest if self.score == "search" else None

    def search_losses(self, codes: Tensor, targets: Tensor, features: Tensor) -> Tensor:
        """Differences (N,) between the images generated from codes and their targets, whose features are given."""
        generated = self.generator(codes)
        pixel_terms = (targets - generated).abs().flatten(1).sum(1)
        feature_terms = (features - self.discriminator.features(generated)).abs().flatten(1).sum(1)
        return torch.lerp(pixel_terms, feature_terms, FEATURE_WEIGHT)

    def random_codes(self, count: int) -> Tensor:
        """Codes (count, code, 1, 1), uniformly distributed from -1 to 1."""
        return 2 * torch.rand(count, self.code, 1, 1, device=self.learned.device) - 1
