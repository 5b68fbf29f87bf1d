"""DenoisingAutoEncoder: reconstruction error of an autoencoder that is trained to remove synthetic corruption.

Kascenas et al., "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL 2022 (coarse noise, a
U-Net); the synthetic defects are those of DRAEM's reconstructive network (Zavrtanik et al., ICCV 2021) and of CutPaste
(Li et al., CVPR 2021).
Differs from the papers: the default is the network of `AutoEncoder`, with a latent code and without skip connections;
losses, schedule and scores are those of `AutoEncoder`; noise is also added to the background.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.unet import UNet
from blemish.blocks.synthetic.defects import add_defects, add_noise
from blemish.errors import MethodError
from blemish.methods.arguments import argument
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.base import Batches, Preset
from blemish.methods.reconstruction import TEXTURE

NOISE_CELLS = 16
"""Number of cells of the coarse noise along each side of the image."""
HALVINGS = 3
"""Number of times that the U-Net halves the height and width of the image."""


class DenoisingAutoEncoder(AutoEncoder):
    """Removes corruption from images; the anomaly map is the difference between an image and the network's output."""

    corruption: Literal["defects", "gaussian", "coarse"] = argument(
        "defects", "Corruption of the training images."
    )
    strength: float = argument(
        0.9, "Share of images with a defect, or standard deviation of the noise.", ge=0, le=10
    )
    skips: bool = argument(False, "Whether a U-Net with skip connections is used.")

    auxiliary_use: ClassVar[str] = "textures of the synthetic defects"
    presets: ClassVar = {
        "texture": Preset({**TEXTURE, "epochs": 400, "steps": 9600}),
        "gaussian": Preset({"corruption": "gaussian", "strength": 0.2}),
        "coarse": Preset({"corruption": "coarse", "strength": 0.2, "skips": True, "width": 8, "epochs": 100}),
        "paper": Preset(
            {
                "corruption": "coarse",
                "strength": 0.2,
                "skips": True,
                "standardise": False,
                "width": 64,
                "learning_rate": 1e-4,
                "epochs": 5600,
                "steps": 0,
                "batch_size": 16,
                "patience": 0,
            },
            {"size": (256, 256)},
        ),
    }

    def build(self) -> None:
        if self.corruption == "defects" and self.strength > 1:
            raise MethodError(
                "DenoisingAutoEncoder: strength must be a share from 0 to 1 for defects, got {strength}. "
                "The default is 0.9.",
                strength=self.strength,
            )
        if self.skips and self.score == "latent":
            raise MethodError(
                "DenoisingAutoEncoder: with skips=True there is no code to compare. Choose score='pixels'."
            )
        super().build()
        self.defect_textures = torch.empty(0)  # (K, 3, size, size); for training only, so not in the model
        if self.skips:
            self.decoder = nn.Sigmoid()

    def make_encoder(self) -> nn.Module:
        return UNet(self.width, HALVINGS) if self.skips else super().make_encoder()

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        if isinstance(self.encoder, UNet):
            self.encoder.reset_parameters()
        if self.corruption == "defects" and self.strength:
            self.defect_textures = self.textures().to(self.learned.device)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        views = self.views(*prepared)
        return self.pixel_errors(views, self.reconstruct(self.corrupted(views))).mean()

    def finish(self, batches: Batches) -> None:
        super().finish(batches)
        self.defect_textures = torch.empty(0)

    def corrupted(self, views: Tensor) -> Tensor:
        """Views (N, 3, size, size) with corruption; at strength 0 the same views, without any random draw."""
        if not self.strength:
            return views
        if self.corruption == "defects":
            is_defective = torch.rand(len(views), 1, 1, 1) < self.strength
            return torch.where(
                is_defective.to(views.device), add_defects(views, self.defect_textures)[0], views
            )
        return add_noise(views, self.strength, self.size // NOISE_CELLS if self.corruption == "coarse" else 1)
