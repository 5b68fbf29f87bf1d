"""RegAD: Gaussians of a few images, on features that were trained to be alike for images of one product.

Huang et al., "Registration based Few-Shot Anomaly Detection", ECCV 2022.
Differs from the paper: the backbone has no batch norms, because they are folded into its convolutions before training;
images are normalised as in the backbone's first training; each map is un-warped once, by the product of the inverse
matrices, not once per matrix; matrices act on pixels, so that images need not be square; a random choice of
channels is used unless a preset takes all; the ridge is relative to the variance of the features; the result is that of
the last training step; by default far fewer steps at a higher learning rate.
"""

import logging
import warnings
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from blemish.blocks.few_shot_views import AS_IT_IS, VIEWS
from blemish.blocks.padding import split_padding, visible_grid
from blemish.blocks.patches import stack_layers
from blemish.blocks.schedules import half_cosine
from blemish.blocks.siamese import SiameseHead
from blemish.blocks.spatial_transformer import SpatialTransformer, inverse, warp
from blemish.errors import BlemishWarning, MethodError
from blemish.features.backbone import NETWORKS, Backbone
from blemish.features.trained_weights import in_fixed_order, keep_trained, read_trained, trained_file
from blemish.messages import message
from blemish.methods import arguments
from blemish.methods.arguments import argument
from blemish.methods.base import AuxiliaryImages, Batches, Preset
from blemish.methods.position_gaussians import GaussianMethod

LAST_STAGE = 3
"""The deepest stage of the backbone that is used; a spatial transformer follows each stage."""
SIDE = 112
"""Side of the map from which the transformer of stage k derives its matrices, times 2^k: that of 224 × 224 pixels."""
MOST_IMAGES = 64
"""Maximum number of images of each auxiliary product that are kept in memory for meta-training."""
MOMENTUM = 0.9
META_TRAINING = 2
"""Version of the meta-training; another one does not use the weights of this one."""

logger = logging.getLogger("blemish")


class RegAD(GaussianMethod):
    """Mahalanobis distance to a Gaussian per position, learned from a few images and 22 views of each.

    The features are trained on auxiliary products: spatial transformers align the images of a product with each other.
    The trained weights are kept in the user's cache, so that they are found when the next product is fitted.
    """

    backbone: str = argument(
        "compact", "Network that is trained: compact or a ResNet; NAME@FILE for its first weights in a file."
    )
    views: bool = argument(True, "Whether each image is also learned rotated, shifted, mirrored and grey.")
    supports: int = argument(2, "Number of support images per query in meta-training.", ge=1, le=64)
    steps: int = argument(100, "Number of steps of the meta-training; 0: none.", ge=0, le=1000000)
    batch_size: int = argument(4, "Number of queries per step of the meta-training.", ge=1, le=1024)
    learning_rate: float = arguments.learning_rate(1e-3, "SGD")

    presets: ClassVar = {
        "paper": Preset(
            {
                "backbone": "resnet18",
                "dimensions": 448,
                "ridge": 0.3,
                "steps": 5650,
                "batch_size": 32,
                "learning_rate": 1e-4,
            },
            {"size": (224, 224)},
        ),
    }
    auxiliary_use: ClassVar[str] = "products on which the features are trained"

    def build(self) -> None:
        super().build()
        base = self.backbone.removesuffix(":random").partition("@")[0]
        if base not in NETWORKS:
            raise MethodError(
                "RegAD trains its backbone, which must be one of {known}, but is {backbone!r}. Choose one of these; "
                "NAME@FILE for your own weights of it.",
                known=", ".join(NETWORKS),
                backbone=self.backbone,
            )
        offered = NETWORKS[base][0]
        self.features = Backbone(self.backbone, [k for k in offered if k <= LAST_STAGE])
        self.features.network.requires_grad_(True)
        with torch.device("meta"):  # weights are drawn in `collect`
            self.transformers = torch.nn.ModuleList(
                SpatialTransformer(channels, SIDE // 2**k) for k, channels in self.features.stages.items()
            )
            self.head = SiameseHead(self.features.channels[-1])
        for network in (self.transformers, self.head):
            network.to_empty(device="cpu")
        self.episodes: list[Tensor] = []  # images (N, 3, H, W) of each auxiliary product; for training only
        self.file: Path | None = None  # where the weights that are being trained will be kept

    def collect(self, batches: Batches) -> None:
        """Draw weights and channels, and find out whether the weights for these auxiliary products are known."""
        for module in self.transformers:
            if isinstance(module, SpatialTransformer):
                module.init_identity()
        self.head.init_random()
        self.draw_channels()
        if self.steps and self.auxiliary_products:
            self._find_weights()
        elif self.steps:
            text = message(
                "RegAD has no auxiliary products to train its features on, so it uses those of the backbone as they "
                "are, without registration. Give images of other products with --auxiliary (auxiliary=), or "
                "--set steps=0 if that is intended."
            )
            warnings.warn(text, BlemishWarning, stacklevel=2)

    @property
    def needs_training(self) -> bool:
        return bool(self.episodes)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """Nothing: meta-training sees the auxiliary products only."""
        return (images.new_zeros(len(images)),)

    def training_loss(self, *prepared: Tensor) -> Tensor:
        """The siamese loss of some images of a random product, and the mean features of other images of it."""
        images = self.episodes[int(torch.randint(len(self.episodes), ()))]
        queries = torch.randperm(len(images))[: self.batch_size].tolist()
        chosen = [self._others(query, len(images)) for query in queries]
        shown = torch.tensor([*queries, *(index for others in chosen for index in others)])
        features = self.registered(images[shown.to(images.device)])[0][-1]
        query, support = features[: len(queries)], features[len(queries) :]
        mean = support.unflatten(0, (len(queries), self.supports)).mean(1)
        loss: Tensor = self.head(query, mean)
        return loss

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.learning_rate, momentum=MOMENTUM)

    def learning_rate_factor(self, done: float) -> float:
        return half_cosine(done)

    def finish(self, batches: Batches) -> None:
        """Keep the trained weights, and learn the Gaussians of all views."""
        if self.file is not None:
            keep_trained(self.file, self._trained())
        self.episodes, self.file = [], None
        for images in batches:
            images, visible = split_padding(images)
            for view in VIEWS if self.views else (AS_IT_IS,):
                features = self.embed(view.of(images))
                inside = view.of(visible.float()) > 0.5
                self.gaussians.update(features, visible_grid(inside, (features.shape[2], features.shape[3])))
        self.gaussians.finish(self.ridge)

    def embed(self, images: Tensor) -> Tensor:
        """The drawn channels (N, d, h, w) on the finest map's grid, each map un-warped to the image's own place."""
        maps, matrices = self.registered(images)
        own = [warp(features, inverse(matrix)) for features, matrix in zip(maps, matrices, strict=True)]
        return stack_layers(own, mode="nearest")[:, self.channels]

    def registered(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The maps of the backbone, warped by a transformer after each stage, and the matrix (N, 2, 2) of each.

        The matrix of a map is the product of those up to its stage, which lead from it to the image.
        """
        matrices: dict[int, Tensor] = {}

        def register(stage: int, features: Tensor) -> Tensor:
            matrix = self.transformers[stage - 1](features)
            matrices[stage] = matrices[stage - 1] @ matrix if stage > 1 else matrix
            return warp(features, matrix)

        maps = self.features.staged(images, register)
        return maps, [matrices[k] for k in self.features.layers]

    def _trained(self) -> dict[str, Tensor]:
        """All that meta-training changes and scoring uses: parameters and statistics of batch norms, by name."""
        statistics = self.transformers.named_buffers(prefix="transformers")
        return dict(self.named_parameters()) | {k: v for k, v in statistics if v.is_floating_point()}

    def _others(self, query: int, count: int) -> list[int]:
        """Random images that support a query."""
        return [index for index in torch.randperm(count).tolist() if index != query][: self.supports]

    def _find_weights(self) -> None:
        """Load the trained weights for these auxiliary products, or keep the images to train on."""
        products = in_fixed_order(split_padding(some_images(one))[0] for one in self.auxiliary_products)
        fewest = min(len(images) for images in products)
        if fewest <= self.supports:
            raise MethodError(
                "An auxiliary product has {fewest} images, but a query and {supports} supports are {needed}. Add "
                "images of it, or leave it out.",
                fewest=fewest,
                supports=self.supports,
                needed=self.supports + 1,
            )
        decide = {name: self.arguments[name] for name in ("supports", "steps", "batch_size", "learning_rate")}
        decide |= {"seed": torch.initial_seed(), "version": META_TRAINING}
        file = trained_file("regad", decide, [*self.parameters(), *products])
        trained = self._trained()
        state = read_trained(file, {name: tensor.shape for name, tensor in trained.items()})
        if state is None:
            self.episodes, self.file = products, file
            logger.warning(training_notice(len(products), file))
        else:
            for name, tensor in trained.items():
                tensor.copy_(state[name])
            logger.warning(message("RegAD uses its trained weights in {file}.", file=file))


def training_notice(products: int, file: Path) -> str:
    """What is trained, and where the weights will be kept."""
    if products == 1:
        return message(
            "RegAD is trained on one auxiliary product. Its weights are then kept in {file}, for further fits with "
            "the same auxiliary images.",
            file=file,
        )
    return message(
        "RegAD is trained on {count} auxiliary products. Its weights are then kept in {file}, for further fits with "
        "the same auxiliary images.",
        count=products,
        file=file,
    )


def some_images(product: AuxiliaryImages) -> Tensor:
    """At most `MOST_IMAGES` images (N, 3, H, W) of a product, evenly spaced; no others are read."""
    every = -(-product.count // MOST_IMAGES)
    return torch.stack([product.image(index) for index in range(0, product.count, every)])
