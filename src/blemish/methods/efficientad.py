"""EfficientAD: errors of a student and an autoencoder that predict a teacher's features.

Batzner et al., "EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", WACV 2024.
Differs from the paper: the teacher is our own; without auxiliary images the penalty uses procedural images; hard
features are found by selection, not by sorting; the teacher's features of each training image are computed once;
training uses bfloat16 where the processor supports it; by default far fewer steps at a higher learning rate.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.blocks.autoencoders.feature_autoencoder import FeatureAutoencoder
from blemish.blocks.hard_mining import hard_mining_mean
from blemish.blocks.mixed_precision import mixed_precision
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.quantile_scale import QuantileScale
from blemish.blocks.synthetic.colour_jitter import colour_jitter, grey_values
from blemish.blocks.synthetic.procedural import procedural_image
from blemish.features.pdn import CHANNELS, LOST, PDN, STRIDE, FrozenPDN, grid_size
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

GREY_SHARE = 0.3
"""Probability that an image of the penalty is turned grey."""
JITTER = 0.2
"""Largest relative change, up or down, of brightness, contrast or saturation in the autoencoder's training images."""
SMALLEST_DEVIATION = 1e-6
"""Lower bound of the standard deviation of a teacher's channel, so that a constant channel does not divide by zero."""

_PAPER_IMAGES = {"size": (256, 256)}


class EfficientAD(Method):
    """A student predicts the teacher's features patch by patch, an autoencoder predicts those of the whole image."""

    backbone: str = argument("pdn_small", "Teacher, which sets the student's size: pdn_small or pdn_medium.")
    steps: int = argument(1500, "Number of training steps.", ge=1, le=1000000)
    batch_size: int = arguments.batch_size(1)
    learning_rate: float = argument(1e-3, "Learning rate of Adam, at last a tenth of it.", gt=0, le=10)
    hard_quantile: float = argument(
        0.999, "Share of the errors, the smallest, that the student ignores.", ge=0, lt=1
    )

    presets: ClassVar = {
        "paper": Preset({"steps": 70_000, "learning_rate": 1e-4}, _PAPER_IMAGES),
        "paper-medium": Preset(
            {"backbone": "pdn_medium", "steps": 70_000, "learning_rate": 1e-4}, _PAPER_IMAGES
        ),
    }
    auxiliary_use: ClassVar[str] = "inputs on which the student is trained to predict 0"
    auxiliary_scale: ClassVar[int] = 2

    def build(self) -> None:
        self.teacher = FrozenPDN(self.backbone)
        with torch.device("meta"):  # weights are initialised in `collect`
            self.student = PDN(self.teacher.base, 2 * CHANNELS)
            self.autoencoder = FeatureAutoencoder(CHANNELS)
        for network in (self.student, self.autoencoder):
            network.to_empty(device="cpu")
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on CPUs
        self.mean: Tensor  # (384, 1, 1): mean of the teacher's channels on normal images
        self.deviation: Tensor  # (384, 1, 1): their standard deviation
        for name in ("mean", "deviation"):
            self.register_buffer(name, torch.empty(0))
        self.student_scale = QuantileScale()
        self.autoencoder_scale = QuantileScale()

    @property
    def uses_held_out(self) -> bool:
        """Always: the maps are scaled by their quantiles on images that were not trained on."""
        return True

    def collect(self, batches: Batches) -> None:
        for network in (self.student, self.autoencoder):
            init_default(network)
        total, squares, count = torch.zeros(CHANNELS).double(), torch.zeros(CHANNELS).double(), 0
        for images in batches:
            size = (images.shape[2], images.shape[3])
            grid_size(size)  # raises an error if the images are too small
            with mixed_precision(images.device):
                features = self.teacher(split_padding(images)[0]).double().cpu()
            total += features.sum((0, 2, 3))
            squares += features.square().sum((0, 2, 3))
            count += features[:, 0].numel()
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(SMALLEST_DEVIATION**2).sqrt()
        self.mean = mean.float().view(-1, 1, 1).to(self.mean.device)
        self.deviation = deviation.float().view(-1, 1, 1).to(self.mean.device)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images without padding, and the teacher's features of them."""
        images = split_padding(images)[0]
        with mixed_precision(images.device):
            return images, self.teacher_features(images)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """The sum of the student's loss, its penalty, the autoencoder's loss and the loss of the second head.

        The first half of the student's channels predicts the teacher, the second head predicts the autoencoder.
        """
        images, teacher = prepared
        count = len(images)
        jittered = colour_jitter(images, JITTER)
        with mixed_precision(images.device):
            with torch.no_grad():
                teacher_jittered = self.teacher_features(jittered)
            trunk = self.student.trunk(self._normalised(torch.cat([images, jittered])))
            student = self.student.part(trunk[:count], 0, CHANNELS)
            second_head = self.student.part(trunk[count:], CHANNELS, CHANNELS)
            penalty_trunk = self.student.trunk(self._normalised(self._penalty_images(images)))
            on_penalty = self.student.part(penalty_trunk, 0, CHANNELS)
            autoencoder = self.autoencoder(self._normalised(jittered), (teacher.shape[2], teacher.shape[3]))
        hard_loss = hard_mining_mean((teacher - student.float()).square(), self.hard_quantile)
        penalty = on_penalty.float().square().mean()
        autoencoder_loss = (teacher_jittered.float() - autoencoder.float()).square().mean()
        second_head_loss = (autoencoder.float() - second_head.float()).square().mean()
        loss: Tensor = hard_loss + penalty + autoencoder_loss + second_head_loss
        return loss

    def learning_rate_factor(self, done: float) -> float:
        return 1.0 if done < 0.95 else 0.1

    def optimizers(self) -> torch.optim.Optimizer:
        learned = [*self.student.parameters(), *self.autoencoder.parameters()]
        return torch.optim.Adam(learned, lr=self.learning_rate, weight_decay=1e-5)

    def finish(self, batches: Batches) -> None:
        scales = (self.student_scale, self.autoencoder_scale)
        for images in self.held_out or batches:
            images, visible = split_padding(images)
            maps = self.raw_maps(images)
            height, width = maps[0].shape[1:]
            inside = visible_grid(visible, (height + 2 * LOST, width + 2 * LOST))[:, LOST:-LOST, LOST:-LOST]
            for scale, values in zip(scales, maps, strict=True):
                scale.update(values[inside])
        for scale in scales:
            scale.finish()

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return STRIDE, STRIDE

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        images, visible = split_padding(images)
        student_map, autoencoder_map = self.raw_maps(images)
        grid = (self.student_scale(student_map) + self.autoencoder_scale(autoencoder_map)) / 2
        grid = functional.pad(grid, (LOST,) * 4)  # the border, where there are no features, gets 0
        anomaly_map = upsample(mask_grid(grid, visible), (images.shape[2], images.shape[3]), 0.0)
        return Prediction(anomaly_map.flatten(1).amax(1), anomaly_map)

    def teacher_features(self, images: Tensor) -> Tensor:
        """The teacher's features (N, 384, h, w), each channel of mean 0 and deviation 1 on normal images."""
        features: Tensor = (self.teacher(images) - self.mean) / self.deviation
        return features

    def raw_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared differences (N, h, w) of student and teacher, and of student and autoencoder."""
        teacher = self.teacher_features(images)
        normalised = self._normalised(images)
        student, second_head = self.student(normalised).split(CHANNELS, 1)
        autoencoder = self.autoencoder(normalised, (teacher.shape[2], teacher.shape[3]))
        return (teacher - student).square().mean(1), (autoencoder - second_head).square().mean(1)

    def _penalty_images(self, like: Tensor) -> Tensor:
        """As many images of other things as `like` (N, 3, H, W) has, drawn anew; some of them grey."""
        drawn = torch.stack([self._other_image((like.shape[2], like.shape[3])) for _ in like]).to(like.device)
        is_grey = (torch.rand(len(drawn), 1, 1, 1) < GREY_SHARE).to(like.device)
        return torch.where(is_grey, grey_values(drawn), drawn)

    def _other_image(self, size: tuple[int, int]) -> Tensor:
        """The middle (3, H, W) of a random auxiliary image at twice that size, or a procedural image."""
        if self.auxiliary is None:
            return procedural_image(size)
        chosen = int(torch.randint(self.auxiliary.count, ()))
        image = split_padding(self.auxiliary.image(chosen)[None])[0]
        height, width = size
        double = functional.interpolate(image, (2 * height, 2 * width), mode="bilinear", align_corners=False)
        top, left = height // 2, width // 2
        return double[0, :, top : top + height, left : left + width]

    def _normalised(self, images: Tensor) -> Tensor:
        """The inputs of the networks, in the memory layout in which convolutions on CPUs are faster."""
        normalised: Tensor = self.teacher.normalise(images)
        return normalised.contiguous(memory_format=torch.channels_last)


def init_default(network: nn.Module) -> None:
    """Draw the weights of all convolutions as torch does by default, as the authors' results were trained."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
