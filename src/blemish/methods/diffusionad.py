"""DiffusionAD: segmentation of what differs between an image and its reconstruction by a diffusion model in one step.

Zhang et al., "DiffusionAD: Norm-guided One-step Denoising Diffusion for Anomaly Detection", TPAMI 2025.
Differs from the paper: the noise of scoring is drawn once, so that scores repeat; the synthetic defects are those of
`DenoisingAutoEncoder`; the foreground comes from frozen features instead of a salient-object network; the segmenter
is a U-Net with group norms and starts with a small probability of a defect; half-cosine decay of the learning rates,
because the result is that of the last epoch; by default smaller images and networks, higher learning rates and a
training of an hour on a CPU.
"""

from math import log, log2
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.autoencoders.unet import UNet
from blemish.blocks.diffusion.denoising_unet import DenoisingUNet
from blemish.blocks.diffusion.noise_schedule import TIMES, NoiseSchedule, Noisy
from blemish.blocks.focal_loss import focal_loss
from blemish.blocks.foreground import Foreground, with_colour
from blemish.blocks.mixed_precision import mixed_precision
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.sliding_windows import cut_windows, merge_windows
from blemish.blocks.synthetic.defects import add_defects
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Preset
from blemish.methods.square_views import SquareViews
from blemish.types import Prediction

MULTIPLIERS = (1, 1, 2, 2, 4, 4)
"""Channels of the denoising U-Net as multiples of its width, by halvings of the side, which end at sides of 8."""
HEADS = 4
"""Heads of its attention."""
HALVINGS = 4
"""Maximum number of times that the segmenter halves the sides, which ends at sides of 8, too."""
DIVIDE = 300
"""Small time steps lie below it, large ones from it on (paper)."""
TIMES_SCORED = 200, 400
"""Small and large time step for scoring (paper)."""
GUIDANCE = 1.0
"""Weight of the norm guidance (paper)."""
DEFECTIVE = 0.5
"""Share of the training images that get a synthetic defect (paper)."""
FOCAL_WEIGHT, ALPHA, GAMMA = 5.0, 0.5, 4.0
"""Weight of the focal loss in the sum of all losses, and its parameters (paper)."""
PRIOR = 0.05
"""Probability of a defect from which the segmenter starts, as the paper on the focal loss advises for a rare class."""
TOP_SHARE = 50 / 256**2
"""Share of the view's pixels whose mean is the image score: the paper's 50 at 256 × 256."""
BACKBONE, LAYER = "compact", 2
"""The feature map in which the foreground is found."""


class DiffusionAD(SquareViews):
    """Removes noise from images in one step; the anomaly map is a segmentation of what the reconstructions lack."""

    size: int = arguments.size(64, smallest=32)
    width: int = argument(
        32, "Number of channels of the denoising U-Net next to the image.", ge=4, le=512, multiple_of=4
    )
    blocks: int = argument(1, "Number of its residual blocks at each resolution.", ge=1, le=16)
    attention: int = argument(16, "Largest side of its feature maps with attention.", ge=8, le=2048)
    segmenter_width: int = argument(
        32, "Number of channels of the segmenter next to the image.", ge=1, le=512
    )
    learning_rate: float = arguments.learning_rate(1e-3, "the denoising U-Net's Adam")
    segmenter_learning_rate: float = arguments.learning_rate(1e-3, "the segmenter's Adam")
    epochs: int = arguments.epochs(200)
    steps: int = arguments.steps(4000)
    batch_size: int = arguments.batch_size(8)

    auxiliary_use: ClassVar[str] = "textures of the synthetic defects"
    presets: ClassVar = {
        "paper": Preset(
            {
                "size": 256,
                "width": 128,
                "blocks": 2,
                "attention": 32,
                "segmenter_width": 64,
                "learning_rate": 1e-4,
                "segmenter_learning_rate": 1e-5,
                "epochs": 3000,
                "steps": 0,
                "batch_size": 16,
            },
            {"size": (256, 256)},
        ),
    }

    def build(self) -> None:
        multipliers = MULTIPLIERS[: int(log2(self.size)) - 2]
        with torch.device("meta"):  # weights are initialised in `collect`
            self.denoiser = DenoisingUNet(
                self.size, self.width, multipliers, blocks=self.blocks, attention=self.attention, heads=HEADS
            )
            halvings = min(HALVINGS, len(multipliers) - 1)
            self.segmenter = UNet(self.segmenter_width, halvings, inputs=6, outputs=1)
        for network in (self.denoiser, self.segmenter):
            network.to_empty(device="cpu")
        self.schedule = NoiseSchedule()
        self.noise: Tensor  # (2, 3, size, size): of scoring, at the small and the large time step
        self.register_buffer("noise", torch.zeros(2, 3, self.size, self.size))
        self.defect_textures = torch.empty(0)  # (K, 3, size, size); like the next two for training only
        self.features: nn.Module | None = None
        self.foreground: nn.Module | None = None

    def collect(self, batches: Batches) -> None:
        self.denoiser.reset_parameters()
        self.segmenter.reset_parameters()
        nn.init.constant_(cast("Tensor", self.segmenter.last.bias), log(PRIOR / (1 - PRIOR)))
        self.noise = torch.randn(self.noise.shape).to(self.noise.device)
        self.defect_textures = self.textures().to(self.noise.device)
        features, foreground = Backbone(BACKBONE, (LAYER,)).to(self.noise.device), Foreground()
        for images in batches:
            images, visible = split_padding(images)
            maps = with_colour(features(images)[0], images)
            foreground.update(maps, visible_grid(visible, (maps.shape[2], maps.shape[3])))
        foreground.finish()
        if foreground.is_object:
            self.features, self.foreground = features, foreground

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Network images as in `SquareViews`, and which of their pixels (N, 1, h, w) may get defects."""
        images = split_padding(images)[0]
        network_images = self.network_images(images)
        if self.features is None or self.foreground is None:
            return network_images, torch.ones_like(network_images[:, :1], dtype=torch.bool)
        weights = self.foreground(with_colour(self.features(images)[0], images))[:, None]
        weights = functional.max_pool2d(weights, 3, stride=1, padding=1)  # with the edge of the product
        weights = functional.interpolate(weights, network_images.shape[2:], mode="bilinear")
        return network_images, weights > 0.5

    def training_loss(self, *prepared: Tensor) -> Tensor:
        network_images, foreground = prepared
        normal, paintable = self.views(torch.cat([network_images, foreground.float()], 1)).split([3, 1], 1)
        views, masks = self.with_defects(normal, paintable > 0.5)
        times = torch.cat([torch.randint(DIVIDE, (len(views),)), torch.randint(DIVIDE, TIMES, (len(views),))])
        noise = torch.randn(2 * len(views), *views.shape[1:]).to(views.device)
        with mixed_precision(views.device):
            small, large = self.denoise(views, times.to(views.device), noise)
            logits = self.segment(views, small, large)
        predicted = torch.stack([small.noise, large.noise])
        errors = (predicted - noise.view_as(predicted)).square().mean((2, 3, 4)).sum(0)
        is_normal = (~masks.flatten(1).any(1)).float()
        targets = masks.float()
        return (
            (errors * is_normal).sum() / is_normal.sum().clamp_min(1)
            + FOCAL_WEIGHT * focal_loss(logits, targets, alpha=ALPHA, gamma=GAMMA)
            + functional.smooth_l1_loss(logits.sigmoid(), targets)
        )

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            [
                {"params": self.denoiser.parameters(), "lr": self.learning_rate},
                {"params": self.segmenter.parameters(), "lr": self.segmenter_learning_rate},
            ]
        )

    def finish(self, batches: Batches) -> None:
        self.defect_textures = torch.empty(0)
        self.features = self.foreground = None

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        network_images = self.network_images(images)
        views = cut_windows(network_images, self.size)
        count = views.shape[0]  # len would fix the batch size of an exported graph
        times = torch.tensor(TIMES_SCORED, device=views.device)[:, None].expand(2, count).flatten()
        noise = self.noise[:, None].expand(2, count, *self.noise.shape[1:]).flatten(0, 1)
        probabilities = self.segment(views, *self.denoise(views, times, noise)).sigmoid()
        size = (network_images.shape[2], network_images.shape[3])
        grid = mask_grid(merge_windows(probabilities[:, 0], size), visible)
        top = max(1, round(TOP_SHARE * size[0] * size[1]))
        score = grid.flatten(1).topk(top, sorted=False).values.mean(1)
        return Prediction(score, upsample(grid, (images.shape[2], images.shape[3]), 0))

    def with_defects(self, views: Tensor, paintable: Tensor) -> tuple[Tensor, Tensor]:
        """Views, a share of them with a synthetic defect where they are paintable, and its masks (N, 1, size, size)."""
        painted, masks = add_defects(views, self.defect_textures)
        is_defective = torch.rand(len(views), 1, 1, 1) < DEFECTIVE
        masks = masks & paintable & is_defective.to(views.device)
        return torch.where(masks, painted, views), masks

    def denoise(self, views: Tensor, times: Tensor, noise: Tensor) -> tuple[Noisy, Noisy]:
        """Views with noise (2N, 3, size, size) at small, then at large time steps (2N,), and the noise predicted."""
        noisy = self.schedule.q_sample(views.repeat(2, 1, 1, 1), times, noise)
        predicted = self.denoiser(noisy, times).float()
        parts = [tensor.unflatten(0, (2, -1)) for tensor in (noisy, times, predicted)]
        small, large = (Noisy(*(part[k] for part in parts)) for k in range(2))
        return small, large

    def segment(self, views: Tensor, small: Noisy, large: Noisy) -> Tensor:
        """Logits (N, 1, size, size) of the defects in views, from the views and their reconstructions."""
        reconstruction = self.schedule.norm_guided(small, large, GUIDANCE)
        logits: Tensor = self.segmenter(torch.cat([views, reconstruction], dim=1))
        return logits.float()
