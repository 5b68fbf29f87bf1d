"""CPR: each image is compared, cell by cell, with the most similar training images, by a metric that is trained for it.

Li et al., "Target before Shooting: Accurate Anomaly Detection and Localization under One Millisecond via Cascade
Patch Retrieval", IEEE TIP 2024.
Differs from the paper: the images tell whether they show an object or a texture; a bounded number of training images
are references, chosen by greedy k-centre; defects are made during training, of procedural textures and of cuts from
the images; the foreground also sees colour; the number of pixels in the image score is relative to the image's size,
and the score their mean; half-cosine decay of the learning rate; by default narrower metrics and far fewer steps.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.blocks.anomaly_map import gaussian_blur, upsample
from blemish.blocks.foreground import Foreground, with_colour
from blemish.blocks.local_metric import NEAR, LocalMetric, contrastive_loss
from blemish.blocks.memory.coreset import farthest_first
from blemish.blocks.memory.image_retrieval import ImageRetrieval
from blemish.blocks.memory.windowed_search import windowed_distance
from blemish.blocks.mixed_precision import mixed_precision
from blemish.blocks.padding import mask_grid, split_padding, visible_grid
from blemish.blocks.sampling import evenly_spaced
from blemish.blocks.schedules import half_cosine
from blemish.blocks.synthetic.defects import add_defects
from blemish.blocks.synthetic.procedural import procedural_images
from blemish.blocks.synthetic.sensor import lighten, salt_and_pepper
from blemish.features.backbone import Backbone
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method, Preset
from blemish.types import Prediction

SIGMA = 4.0
"""Blur of the anomaly map in pixels of the network's input (paper)."""
WINDOW = 3
"""Side of the window of cells that is searched in the finest layer; in other layers it is 1 (paper)."""
WORDS_SAMPLE = 50_000
"""Number of patches that the words of the retrieval are learned from (paper)."""
SCORED = 512 / 320**2
"""Share of the pixels, the highest, whose mean is the image score (paper: 512 at a size of 320)."""
DEFECTIVE = 0.9
"""Share of the training images that get a defect (paper)."""
DISTURBED = 0.3
"""Share of the training images that get another lightness, and share that get noise (paper)."""
LIGHTNESS, NOISE = 0.1, 0.03
"""Largest relative change of lightness, and largest share of the pixels that are noise (paper)."""
LEAST = 1e-3
"""Smallest weight of a cell of the background in references and in training."""
BLUR = 1 / 25
"""Blur of the foreground where points are drawn in training, relative to the height of the grid (paper)."""
TEXTURES, TEXTURE_SIDE = 16, 256
"""Maximum number of textures that synthetic defects are made of, and maximum side of procedural ones."""


class CPR(Method):
    """Retrieves similar training images and scores each cell by its distance to the best cell at that position.

    An object must have the same position in the images, or in some of the training images the one that it has in the
    image that is scored.
    """

    backbone: str = arguments.backbone()
    layers: tuple[int, ...] = arguments.layers()
    kind: Literal["auto", "object", "texture"] = argument(
        "auto", "What the images show: an object before a background, or a texture."
    )
    references: int = argument(64, "Maximum number of training images that are kept.", ge=1, le=100_000)
    retrieved: int = argument(10, "Number of references with which an image is compared.", ge=1, le=1000)
    width: int = argument(96, "Values of a cell in the trained metric.", ge=6, le=6144, multiple_of=6)
    learning_rate: float = arguments.learning_rate(1e-3, "AdamW")
    steps: int = argument(400, "Number of training steps.", ge=1, le=1_000_000)
    batch_size: int = arguments.batch_size(4)

    _paper: ClassVar = {
        "backbone": "timm:densenet201",
        "layers": (1, 2),
        "references": 100_000,
        "width": 384,
        "batch_size": 32,
    }
    presets: ClassVar = {
        "resnet18": Preset({"backbone": "resnet18", "layers": (1, 2)}),
        "paper": Preset({**_paper, "kind": "object", "steps": 40_000}, {"size": (320, 320)}),
        "paper-texture": Preset({**_paper, "kind": "texture", "steps": 500}, {"size": (320, 320)}),
    }
    auxiliary_use: ClassVar[str] = "textures of synthetic defects"

    def build(self) -> None:
        self.features = Backbone(self.backbone, self.layers)
        self.retrieval = ImageRetrieval()
        self.foreground = Foreground()
        with torch.device("meta"):  # weights are initialised in `collect`
            self.metrics = nn.ModuleList(LocalMetric(c, self.width) for c in self.features.channels)
        self.metrics.to_empty(device="cpu")
        self.weights: Tensor  # (M, h, w): foreground of the references
        self.register_buffer("weights", torch.empty(0))
        for number in range(len(self.layers)):  # (M, width, h_k, w_k): the references in the metric, float16
            self.register_buffer(f"reference{number}", torch.empty(0, dtype=torch.float16))
        self.defect_textures = torch.empty(0)  # (K, 3, h, w); this and the next are for training only
        self.reference_features: list[Tensor] = []  # of each layer (M, C_k, h_k, w_k), float16

    def collect(self, batches: Batches) -> None:
        """Learn the words and the foreground, then choose the references; reads the images three times."""
        for metric in self.metrics:
            cast("LocalMetric", metric).reset_parameters()
        sample = []
        for images in batches:
            images, maps, inside = self._embedded(images)
            self.foreground.update(with_colour(maps[0], images), inside)
            patches = maps[0].movedim(1, 3)[inside]
            drawn = torch.randperm(len(patches))[: -(-WORDS_SAMPLE // len(batches))]
            sample.append(patches[drawn.to(patches.device)])
        self.retrieval.learn_words(torch.cat(sample))
        self.foreground.finish()
        if not self.is_object:  # weights of 1 everywhere
            self.foreground.weight.zero_()
            self.foreground.bias.fill_(1)
        self._keep_references(batches)
        size = (min(images.shape[2], TEXTURE_SIDE), min(images.shape[3], TEXTURE_SIDE))
        textures: Iterable[Tensor] = self.auxiliary or [procedural_images(TEXTURES, size)]
        self.defect_textures = split_padding(evenly_spaced(textures, TEXTURES))[0].to(self.weights.device)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Images without padding, their foreground (N, h, w), and the numbers (N, K) of references to learn from.

        The nearest of one more than `retrieved` is left out, because it is the image itself if that is a reference.
        """
        images, maps, inside = self._embedded(images)
        found = self._references(maps[0], inside, self.retrieved + 1)
        others = found[:, 1:] if found.shape[1] > 1 else found
        return images, self._weights(images, maps, inside), others

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """The contrastive loss of images with synthetic defects and one reference of each, summed over the layers."""
        images, weights, found = prepared
        drawn = found.gather(1, torch.randint(found.shape[1], (len(found), 1)).to(found.device))[:, 0]
        inside = (weights > 0) & (self.weights[drawn] > 0)
        weights = sharpened(torch.maximum(weights, self.weights[drawn])) * inside
        defective, masks = self._augmented(images)
        with torch.no_grad(), mixed_precision(images.device):
            maps = self.features(defective)
        loss = images.new_zeros(())
        layers = zip(maps, self.reference_features, self.metrics, self.features.strides, strict=True)
        for own, kept, metric, stride in layers:
            features = torch.cat([own.float(), kept[drawn].float()])
            with mixed_precision(images.device):
                vectors = metric(features)
            pairs, features = vectors.float().unflatten(0, (2, -1)), features.unflatten(0, (2, -1))
            size = (own.shape[2], own.shape[3])
            cells = [functional.adaptive_avg_pool2d(x, size) for x in (weights, masks)]
            near = NEAR / stride if self.is_object else None
            loss = loss + contrastive_loss(pairs, features, *cells, near=near)
        return loss

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.metrics.parameters(), lr=self.learning_rate, weight_decay=1e-2)

    def learning_rate_factor(self, done: float) -> float:
        """Half-cosine decay to 0, because the result is that of the last epoch."""
        return half_cosine(done)

    def finish(self, batches: Batches) -> None:
        """Keep the references as the trained metric sees them."""
        for number, (kept, metric) in enumerate(zip(self.reference_features, self.metrics, strict=True)):
            vectors = torch.cat([metric(part.float()).half() for part in kept.split(1)])
            setattr(self, f"reference{number}", vectors)
        self.reference_features, self.defect_textures = [], torch.empty(0)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.features.strides[0], self.features.strides[0]

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        cells = self.features.cells(size)
        return min(images, self.references) * (2 * self.width * sum(cells) + 4 * cells[0])

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        size = (images.shape[2], images.shape[3])
        images, visible = split_padding(images)
        maps = self.features(images)
        grid_size = (maps[0].shape[2], maps[0].shape[3])
        found = self._references(maps[0], visible_grid(visible, grid_size), self.retrieved)
        total = torch.zeros_like(maps[0][:, 0])
        for number, (features, metric) in enumerate(zip(maps, self.metrics, strict=True)):
            references = self.get_buffer(f"reference{number}")
            distance = windowed_distance(metric(features), references, found, 1 if number else WINDOW)
            total = total + upsample(distance, grid_size, 0)
        foreground = self.foreground(with_colour(maps[0], images))
        weights = torch.maximum(foreground, self.weights[found].amax(1))
        full = upsample(mask_grid(total, visible), size, 0) * upsample(mask_grid(weights, visible), size, 0)
        anomaly_map = gaussian_blur(full[:, None], SIGMA)[:, 0]
        count = max(1, round(SCORED * size[0] * size[1]))
        return Prediction(anomaly_map.flatten(1).topk(count).values.mean(1), anomaly_map)

    @property
    def is_object(self) -> bool:
        """Whether the images show an object, as `kind` says or as they tell."""
        return self.foreground.is_object if self.kind == "auto" else self.kind == "object"

    def _embedded(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Images without padding, their feature maps, and the cells of the finest one that are inside the image."""
        images, visible = split_padding(images)
        maps = self.features(images)
        return images, maps, visible_grid(visible, (maps[0].shape[2], maps[0].shape[3]))

    def _weights(self, images: Tensor, maps: Sequence[Tensor], inside: Tensor) -> Tensor:
        """The foreground (N, h, w), not 0 in any cell of the image, and 0 in all others."""
        foreground: Tensor = self.foreground(with_colour(maps[0], images))
        return foreground.clamp_min(LEAST) * inside

    def _references(self, features: Tensor, inside: Tensor, count: int) -> Tensor:
        """Numbers of the `count` references, or of all, that are nearest to images with features (N, C, h, w)."""
        histograms = self.retrieval.describe(features, inside)
        return self.retrieval.nearest(histograms, min(count, len(self.retrieval.histograms)))

    def _keep_references(self, batches: Batches) -> None:
        """Choose the images that are kept, and keep their histograms, features and foreground."""
        histograms = []
        for images in batches:
            _, maps, inside = self._embedded(images)
            histograms.append(self.retrieval.describe(maps[0], inside))
        described = torch.cat(histograms)
        chosen = torch.arange(len(described), device=described.device)
        if len(described) > self.references:
            chosen = farthest_first(described.sqrt().flatten(1), self.references).sort().values
        self.retrieval.histograms = described[chosen]
        kept: list[list[Tensor]] = []
        first = 0
        for images in batches:
            here = chosen[(chosen >= first) & (chosen < first + len(images))] - first
            first += len(images)
            if len(here):
                images, maps, inside = self._embedded(images[here])
                kept.append([self._weights(images, maps, inside), *(m.half() for m in maps)])
        self.weights, *self.reference_features = (torch.cat(parts) for parts in zip(*kept, strict=True))

    def _augmented(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images most of which have a defect, other lightness or noise, and masks (N, H, W) of the defects."""
        painted, masks = add_defects(images, self.defect_textures)
        masks = masks & self._some(images, DEFECTIVE)
        images = torch.where(masks, painted, images)
        images = torch.where(self._some(images, DISTURBED), lighten(images, LIGHTNESS), images)
        images = torch.where(self._some(images, DISTURBED), salt_and_pepper(images, NOISE), images)
        return images, masks[:, 0].float()

    @staticmethod
    def _some(images: Tensor, share: float) -> Tensor:
        """A random choice of images, (N, 1, 1, 1) bool."""
        return (torch.rand(len(images), 1, 1, 1) < share).to(images.device)


def sharpened(foreground: Tensor) -> Tensor:
    """The foreground (N, h, w), blurred, with values between 0 and 1 pushed to either end (paper)."""
    blurred = gaussian_blur(foreground[:, None], BLUR * foreground.shape[1])[:, 0]
    return torch.sigmoid(10 * blurred - 5)
