"""DenoisingAutoEncoder: an autoencoder that was shown pictures made wrong and had to give back the right ones.

Kascenas et al., "Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", MIDL 2022 (coarse noise, a
U-Net); the synthetic defects are those of DRAEM's reconstructing half (Zavrtanik et al., ICCV 2021) and of CutPaste
(Li et al., CVPR 2021). Differs from them: narrow code, losses, schedule and scores are those of `AutoEncoder`, and by
default there is such a code and no skip connection; noise is also added to the background.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.unet import UNet
from blemish.blocks.synthetic.defects import add_defects, add_noise
from blemish.errors import MethodError
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.base import Batches, Preset

CORRUPTIONS = ("defects", "gaussian", "coarse")
GRID = 16
"""Cells of the coarse noise along each side of the picture."""
HALVINGS = 3
"""Of the picture in the U-Net."""


class DenoisingAutoEncoder(AutoEncoder):
    """Takes away what was added to normal pictures; the map is what it takes away from a picture as it came.

    Args:
        size: Side in pixels of the pictures that the network sees, a power of two.
        patches: Whether these are windows of the image, for textures, instead of the whole image shrunk.
        corruption: What is added in training: synthetic "defects", or "gaussian" or "coarse" noise.
        strength: Of noise its standard deviation, the picture's values being from 0 to 1; of defects the share of
            pictures that get one. At 0 this is the plain autoencoder.
        skips: Whether a U-Net, which may pass details by, takes the place of the narrow code.
        loss: What an error is: "l2", "ssim" or "l1+ssim"; it is learned from and shown in the map.
        width: Channels of the layers next to the picture and to the code.
        code: Numbers that a picture is squeezed into, without skips.
        standardise: Whether errors are divided by those usual at their position, for aligned products.
        score: "pixels": the map's maximum; "latent": how far the codes of picture and rebuilt picture are apart.
        learning_rate: Of Adam in the first step; it falls to 0 along half a cosine.
        epochs: Passes over the training images.
        steps: Training steps at most, so that many images take no longer; 0: as many as the epochs need.
        batch_size: Images per step.
        patience: Epochs without a lower error on held-out normal images after which training ends; 0: never.
    """

    auxiliary_use: ClassVar[str] = "what synthetic defects are made of"
    presets: ClassVar = {
        "texture": Preset(
            {"patches": True, "standardise": False, "loss": "ssim", "epochs": 400, "steps": 9600}
        ),
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
            }
        ),
    }

    def __init__(
        self,
        *,
        size: int = 128,
        patches: bool = False,
        corruption: str = "defects",
        strength: float = 0.9,
        skips: bool = False,
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
        super().__init__(
            size=size,
            patches=patches,
            loss=loss,
            width=width,
            code=code,
            standardise=standardise,
            score=score,
            learning_rate=learning_rate,
            epochs=epochs,
            steps=steps,
            batch_size=batch_size,
            patience=patience,
        )
        if corruption not in CORRUPTIONS:
            raise MethodError(f"corruption must be one of {', '.join(CORRUPTIONS)}, got {corruption!r}.")
        if strength < 0 or (corruption == "defects" and strength > 1):
            raise MethodError(
                f"strength must be from 0 to 1 for defects, not negative for noise, got {strength}."
            )
        if skips and score == "latent":
            raise MethodError('With skips there is no code to compare: choose score="pixels" or skips=False.')
        self.corruption = corruption
        self.strength = strength
        self.skips = skips
        self.defect_textures = torch.empty(0)  # (K, 3, size, size); not in the model

        if skips:
            with torch.device("meta"):  # weights are drawn in `collect`
                self.encoder = UNet(width, HALVINGS)
            self.encoder.to_empty(device="cpu")
            self.decoder = nn.Sigmoid()

    def collect(self, batches: Batches) -> None:
        super().collect(batches)
        if isinstance(self.encoder, UNet):
            self.encoder.reset_parameters()
        if self.corruption == "defects" and self.strength:
            self.defect_textures = self.textures().to(self.learned.device)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        views = self.views(*prepared)
        return self.pixel_errors(views, self.rebuilt(self.corrupted(views))).mean()

    def finish(self, batches: Batches) -> None:
        super().finish(batches)
        self.defect_textures = torch.empty(0)

    def corrupted(self, views: Tensor) -> Tensor:
        """Views (N, 3, size, size) as training shows them to the network; nothing random happens at strength 0."""
        if not self.strength:
            return views
        if self.corruption == "defects":
            is_chosen = torch.rand(len(views), 1, 1, 1) < self.strength
            return torch.where(is_chosen.to(views.device), add_defects(views, self.defect_textures)[0], views)
        return add_noise(views, self.strength, self.size // GRID if self.corruption == "coarse" else 1)
