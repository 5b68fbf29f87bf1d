"""EfficientAD: where a student and an autoencoder, taught on normal images only, do not follow a teacher.

Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024.
Differs from the paper: the teacher is our own; without auxiliary images the penalty is on procedural pictures, and
always on crops of half the sides; the hard loss selects instead of sorting; the teacher sees each image once; training
computes in bfloat16 where the processor does; the maps' quantiles are those of the training images; by default far
fewer steps at a higher learning rate.
"""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.autoencoders.feature_autoencoder import FeatureAutoencoder
from blemish.blocks.hard_mining import hard_mining_mean
from blemish.blocks.mixed_precision import mixed_precision
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.quantile_scale import QuantileScale
from blemish.blocks.sampling import evenly_spaced
from blemish.blocks.synthetic.colour_jitter import colour_jitter
from blemish.blocks.synthetic.procedural import procedural_images
from blemish.features.pdn import CHANNELS, LOST, PDN, SMALLEST_SIDE, FrozenPDN, grid_size, init_kaiming
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

PENALTIES = 32
"""Pictures of other things kept for the penalty; a new crop of one is taken in every step."""
JITTER = 0.2
"""How far brightness, contrast or saturation of what the autoencoder sees are changed at most, either way."""
SMALLEST_DEVIATION = 1e-6
"""Of a teacher's channel, so that one that is constant on all images does not divide by zero."""


class EfficientAD(Method):
    """A student that imitates a teacher's patches and an autoencoder that imitates whole images."""

    backbone: str = argument(
        "pdn_small", "Teacher, which also sets the student's size: pdn_small or pdn_medium."
    )
    steps: int = argument(1500, "Number of training steps.", ge=1)
    batch_size: int = arguments.batch_size(1)
    learning_rate: float = arguments.learning_rate(
        1e-3, "Learning rate of Adam; a tenth of it in the last 5 % of the steps."
    )
    hard_quantile: float = argument(
        0.999,
        "The student is trained on features whose error is above this quantile (0: on all).",
        ge=0,
        lt=1,
    )

    presets: ClassVar = {
        "paper": Preset({"steps": 70_000, "learning_rate": 1e-4}),
        "paper-medium": Preset({"backbone": "pdn_medium", "steps": 70_000, "learning_rate": 1e-4}),
    }
    auxiliary_use: ClassVar[str] = "what the student must not learn to imitate the teacher on"

    def build(self) -> None:
        self.teacher = FrozenPDN(self.backbone)
        with torch.device("meta"):  # weights are initialised in `collect`
            self.student = PDN(self.teacher.base, 2 * CHANNELS)
            self.autoencoder = FeatureAutoencoder(CHANNELS)
        for network in (self.student, self.autoencoder):
            network.to_empty(device="cpu")
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs
        self.mean: Tensor  # (384, 1, 1), of the teacher's channels on normal images
        self.deviation: Tensor  # (384, 1, 1)
        for name in ("mean", "deviation"):
            self.register_buffer(name, torch.empty(0))
        self.student_scale = QuantileScale()
        self.autoencoder_scale = QuantileScale()
        self.penalties = torch.empty(0)  # (P, 3, H, W) in [0, 1]; for training only, so not in the model

    def collect(self, batches: Batches) -> None:
        for network in (self.student, self.autoencoder):
            init_kaiming(network)
        total, squares, count = torch.zeros(CHANNELS).double(), torch.zeros(CHANNELS).double(), 0
        for images in batches:
            size = (images.shape[2], images.shape[3])
            grid_size(size)  # says so if the images are too small
            with mixed_precision(images.device):
                features = self.teacher(split_padding(images)[0]).double().cpu()
            total += features.sum((0, 2, 3))
            squares += features.square().sum((0, 2, 3))
            count += features[:, 0].numel()
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(SMALLEST_DEVIATION**2).sqrt()
        self.mean = mean.float().view(-1, 1, 1).to(self.mean.device)
        self.deviation = deviation.float().view(-1, 1, 1).to(self.mean.device)
        if self.auxiliary is None:
            self.penalties = procedural_images(PENALTIES, size).to(self.mean.device)
        else:
            self.penalties = split_padding(evenly_spaced(self.auxiliary, PENALTIES))[0]

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        images = split_padding(images)[0]
        with mixed_precision(images.device):
            return images, self.described(images)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        images, described = prepared
        count = len(images)
        changed = colour_jitter(images, JITTER)
        with mixed_precision(images.device):
            with torch.no_grad():
                described_changed = self.described(changed)
            trunk = self.student.trunk(self._normalised(torch.cat([images, changed])))
            imitated = self.student.part(trunk[:count], 0, CHANNELS)
            expected = self.student.part(trunk[count:], CHANNELS, CHANNELS)
            other = self.student.part(self.student.trunk(self._normalised(self._penalty(count))), 0, CHANNELS)
            rebuilt = self.autoencoder(self._normalised(changed), (described.shape[2], described.shape[3]))
        hard = hard_mining_mean((described - imitated.float()).square(), self.hard_quantile)
        penalty = other.float().square().mean()
        whole = (described_changed.float() - rebuilt.float()).square().mean()
        agreement = (rebuilt.float() - expected.float()).square().mean()
        loss: Tensor = hard + penalty + whole + agreement
        return loss

    def learning_rate_factor(self, done: float) -> float:
        return 1.0 if done < 0.95 else 0.1

    def optimizers(self) -> torch.optim.Optimizer:
        learned = [*self.student.parameters(), *self.autoencoder.parameters()]
        return torch.optim.Adam(learned, lr=self.learning_rate, weight_decay=1e-5)

    def finish(self, batches: Batches) -> None:
        scales = (self.student_scale, self.autoencoder_scale)
        for images in batches:
            images, visible = split_padding(images)
            maps = self.raw_maps(images)
            height, width = maps[0].shape[1:]
            inside = visible_grid(visible, (height + 2 * LOST, width + 2 * LOST))[:, LOST:-LOST, LOST:-LOST]
            for scale, values in zip(scales, maps, strict=True):
                scale.update(values[inside])
        for scale in scales:
            scale.finish()
        self.penalties = torch.empty(0)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        by_student, by_autoencoder = self.raw_maps(images)
        grid = (self.student_scale(by_student) + self.autoencoder_scale(by_autoencoder)) / 2
        grid = functional.pad(grid, (LOST,) * 4)  # 0: the border is neither normal nor a defect
        anomaly_map = upsample(mask_grid(grid, visible), (images.shape[2], images.shape[3]), 0.0)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def described(self, images: Tensor) -> Tensor:
        """The teacher's features, each channel of mean 0 and deviation 1 on normal images: (N, 384, h, w)."""
        described: Tensor = (self.teacher(images) - self.mean) / self.deviation
        return described

    def raw_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared differences (N, h, w) of student and teacher, and of student and autoencoder."""
        described = self.described(images)
        normalised = self._normalised(images)
        imitated, expected = self.student(normalised).split(CHANNELS, 1)
        rebuilt = self.autoencoder(normalised, (described.shape[2], described.shape[3]))
        return (described - imitated).square().mean(1), (rebuilt - expected).square().mean(1)

    def _penalty(self, count: int) -> Tensor:
        """Crops of random pictures of other things, of half the sides, flipped as often as not."""
        height, width = (max(side // 2, min(side, SMALLEST_SIDE)) for side in self.penalties.shape[2:])
        crops = []
        for chosen in torch.randint(len(self.penalties), (count,)).tolist():
            picture = self.penalties[chosen]
            top = int(torch.randint(picture.shape[1] - height + 1, ()))
            left = int(torch.randint(picture.shape[2] - width + 1, ()))
            crop = picture[:, top : top + height, left : left + width]
            crops.append(crop.flip(2) if torch.rand(()) < 0.5 else crop)
        return torch.stack(crops)

    def _normalised(self, images: Tensor) -> Tensor:
        """What the teacher's network sees, in the layout that convolutions on CPUs are faster in."""
        normalised: Tensor = self.teacher.normalise(images)
        return normalised.contiguous(memory_format=torch.channels_last)
