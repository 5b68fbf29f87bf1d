"""Cycle-GAN-S: difference between an image and its translation to the normal domain.

Bougaham, Delchevalerie et al., "Industrial and Medical Anomaly Detection Through Cycle-Consistent Adversarial
Networks", Neurocomputing 2023, on Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
Networks", ICCV 2017.
Differs from the paper: the second domain consists of images with synthetic defects instead of real anomalous images
(hence the S), because a method learns from normal images only; no Fréchet score; images are neither mirrored nor
rotated; by default the generators translate standardised images, since they see neither brightness nor contrast, and
are smaller, as are the images.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.gan.dcgan import init_dcgan
from blemish.blocks.gan.losses import least_squares_discriminator_loss, least_squares_generator_loss
from blemish.blocks.gan.patch_gan import PatchGAN
from blemish.blocks.gan.replay_buffer import ReplayBuffer
from blemish.blocks.gan.resnet_generator import ResNetGenerator
from blemish.blocks.mixed_precision import mixed_precision
from blemish.blocks.synthetic.defects import add_defects
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import TEXTURE, Reconstruction

CYCLE_WEIGHT, IDENTITY_WEIGHT = 10.0, 5.0
"""Weights of the cycle loss (translation there and back) and of the identity loss (images of the target domain)."""
CONSTANT_SHARE = 0.1
"""Share of the training with constant learning rates; after it they decay linearly to 0."""


class CycleGAN(Reconstruction):
    """Translates an image to the normal domain; the anomaly map is the change by the translation."""

    size: int = arguments.size(64, smallest=32, multiple_of=8)
    width: int = arguments.width(16)
    blocks: int = argument(4, "Number of residual blocks of each generator.", ge=1, le=64)
    standardised: bool = argument(
        True, "Whether generators give an image its mean and contrast back (paper: no)."
    )
    score: Literal["pixels", "mean"] = arguments.score("pixels", "'mean' is the mean squared change")
    learning_rate: float = argument(2e-4, "Initial learning rate of Adam (linear decay to 0).", gt=0, le=10)
    epochs: int = arguments.epochs(60)
    steps: int = arguments.steps(3000)
    batch_size = 4

    lowest_value: ClassVar[float] = -1.0
    auxiliary_use: ClassVar[str] = "textures of the synthetic defects"
    presets: ClassVar = {
        "texture": Preset({**TEXTURE, "epochs": 80, "steps": 4000}),
        "paper": Preset(
            {"size": 256, "width": 64, "blocks": 9, "standardised": False, "score": "mean"}
            | {"epochs": 200, "steps": 0, "batch_size": 16},
            {"size": (256, 256)},
        ),
    }

    def build(self) -> None:
        super().build()
        with torch.device("meta"):  # weights are initialised in `collect`
            self.to_normal, self.to_defective = (
                ResNetGenerator(self.width, self.blocks, standardised=self.standardised) for _ in range(2)
            )
            self.normal_discriminator, self.defective_discriminator = (PatchGAN(self.width) for _ in range(2))
        for network in self._networks():
            network.to_empty(device="cpu")
        self.made_normal, self.made_defective = ReplayBuffer(), ReplayBuffer()  # generated images
        self.defect_textures = torch.empty(0)  # (K, 3, size, size); for training only, so not in the model

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        for network in self._networks():
            init_dcgan(network)
        for replay in (self.made_normal, self.made_defective):
            replay.reserve((self.size, self.size))
        self.defect_textures = self.textures().to(self.learned.device)

    def training_loss(self, *prepared: Tensor) -> Mapping[str, Tensor]:
        normal = self.views(*prepared)
        # Unpaired: with `patches` these are other windows, and no loss compares a defective image with its source.
        defective, _ = add_defects(self.views(*prepared), self.defect_textures)
        with mixed_precision(normal.device):
            fake_normal, same_normal = self.to_normal(torch.cat([defective, normal])).float().chunk(2)
            fake_defective, same_defective = (
                self.to_defective(torch.cat([normal, defective])).float().chunk(2)
            )
            cycled_normal = self.to_normal(fake_defective).float()
            cycled_defective = self.to_defective(fake_normal).float()
        l1 = functional.l1_loss
        cycle = l1(cycled_normal, normal) + l1(cycled_defective, defective)
        identity = l1(same_normal, normal) + l1(same_defective, defective)
        by_domain = (
            _adversarial_losses(self.normal_discriminator, normal, fake_normal, self.made_normal),
            _adversarial_losses(self.defective_discriminator, defective, fake_defective, self.made_defective),
        )
        adversarial, discriminators = (a + b for a, b in zip(*by_domain, strict=True))
        return {
            "generator": adversarial + CYCLE_WEIGHT * cycle + IDENTITY_WEIGHT * identity,
            "discriminator": discriminators,
        }

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        generators = [*self.to_normal.parameters(), *self.to_defective.parameters()]
        discriminators = [*self.normal_discriminator.parameters(), *self.defective_discriminator.parameters()]
        return {
            name: torch.optim.Adam(parameters, lr=self.learning_rate, betas=(0.5, 0.999))
            for name, parameters in {"generator": generators, "discriminator": discriminators}.items()
        }

    def learning_rate_factor(self, done: float) -> float:
        """Constant at first, then linear decay to 0."""
        return min(1.0, (1 - done) / (1 - CONSTANT_SHARE))

    def finish(self, batches: Batches) -> None:
        for replay in (self.made_normal, self.made_defective):
            replay.clear()
        self.defect_textures = torch.empty(0)
        super().finish(batches)

    def compare(self, views: Tensor) -> tuple[Tensor, Tensor | None]:
        errors = (views - self.to_normal(views)).square().mean(1)
        return errors, errors.mean((1, 2)) if self.score == "mean" else None

    def _networks(self) -> tuple[nn.Module, ...]:
        return self.to_normal, self.to_defective, self.normal_discriminator, self.defective_discriminator


def _adversarial_losses(
    discriminator: PatchGAN, real: Tensor, fake: Tensor, replay: ReplayBuffer
) -> tuple[Tensor, Tensor]:
    """The losses of the generator and of the discriminator in one domain."""
    with mixed_precision(real.device):
        fake_scores = discriminator(fake).float()
        real_scores, replayed_scores = (
            discriminator(torch.cat([real, replay.exchange(fake)])).float().chunk(2)
        )
    return (
        least_squares_generator_loss(fake_scores),
        least_squares_discriminator_loss(real_scores, replayed_scores),
    )
