"""The contract of a method: what it declares, the hooks through which it learns, how it scores."""

from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import Any, ClassVar, dataclass_transform

import torch
from torch import Tensor, nn

from blemish.errors import MethodError, NotLearnedError
from blemish.messages import message
from blemish.methods.batches import AuxiliaryImages as AuxiliaryImages
from blemish.methods.batches import Batches as Batches
from blemish.methods.declared import Declared
from blemish.methods.preset import Preset as Preset
from blemish.types import Prediction, Progress, no_progress

_BEGINNING = Lock()
"""Held while a method is marked as one that learns, since two threads could be given the same."""


@dataclass_transform(kw_only_default=True)
class Method(nn.Module):
    """Learns from normal images and scores any image; higher means more anomalous.

    A subclass declares its arguments in the class body (`ratio: float = argument(0.1, "Share kept.", gt=0)`, see
    `blemish.methods.arguments`). The constructor is derived from them: it takes keywords only, checks them, stores
    each under its own name and calls `build`, which makes networks and buffers. What a method learns MUST be a
    parameter or a buffer; a tensor whose shape is known only after learning starts without elements.

    A method learns through the hooks below, which are called in this order with images (N, 3, H, W), RGB in [0, 1],
    or with the tensors of `prepare`, and with nothing else. Random initial weights MUST be drawn in `collect`, which
    runs under the seed, not in `build`.
    `forward` MUST be pure: no state, no randomness, any batch size. Pixels outside the image (padding) are NaN
    in every channel; no score may come from them (see `blemish.blocks.padding.split_padding`).
    """

    declared: ClassVar[Declared] = Declared("Method", {})
    """Arguments of the class, inherited ones included."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    exports: bool = True
    """Whether `forward` can be exported to ONNX; if not, `exports_reason` says why."""
    exports_reason: ClassVar[str] = ""
    epochs: int = 0
    """Number of passes of `training_loss` over the training images; 0 for methods without gradients."""
    steps: int = 0
    """Maximum number of calls of `training_loss` (0: no limit); if `epochs` is 0, the number of calls."""
    batch_size: int = 32
    """Number of images per call of `training_loss`; a few less if the number of images is not divisible by it."""
    patience: int = 0
    """Number of epochs without a lower loss on held-out normal images after which training stops (0: never)."""
    clip_norm: float = 0.0
    """Maximum norm of the gradient over all parameters of an optimizer (0: no limit)."""
    auxiliary_use: ClassVar[str] = ""
    """What the method uses auxiliary images for, as a noun phrase; empty if it cannot use them."""
    auxiliary_scale: ClassVar[int] = 1
    """Auxiliary images have this many times the height and width of the input."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__init__" in vars(cls):
            raise TypeError(
                message(
                    "{name} defines __init__, whose arguments no saved model would hold. Declare them in the "
                    "class body (blemish.argument) and make networks and buffers in build.",
                    name=cls.__name__,
                )
            )
        cls.declared = Declared.by(cls)
        cls.__signature__ = cls.declared.signature  # type: ignore[attr-defined]  # read by inspect and help
        cls.__doc__ = cls.declared.documented(cls.__doc__)

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        for name, value in self.declared.check(arguments).items():
            setattr(self, name, value)
        self.progress: Progress = no_progress
        """Callback for the progress of long hooks; set by the caller of the hooks."""
        self.auxiliary: AuxiliaryImages | None = None
        """Images of other things than the product, set before `collect` if there are any; else None."""
        self.auxiliary_products: tuple[AuxiliaryImages, ...] = ()
        """The same images, those of each product by themselves."""
        self.held_out: Batches | None = None
        """Normal images that `training_loss` does not get, set before `collect` if `uses_held_out`; else None."""
        self.kept: Any = None
        """What hooks keep for `predict_left_out`; the caller of the hooks lets it go."""
        self._has_begun = False
        self.learned: Tensor
        self.register_buffer("learned", torch.empty(0))
        self.build()

    def build(self) -> None:
        """Make the networks and buffers, as the arguments require.

        Raises:
            MethodError: If arguments contradict each other.
        """

    def collect(self, batches: Batches) -> None:
        """Pass over all training images before training, usually once, without gradients."""

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """The tensors that training needs of a batch, for example frozen features; computed once, without gradients.

        Each tensor has one entry per image. A method that augments images in every step returns the images.
        """
        return (images,)

    def _no_training_loss(self, *prepared: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} trains but has no training_loss.")

    training_loss: Callable[..., Tensor | Mapping[str, Tensor]] = _no_training_loss
    """The loss of a batch from the tensors of `prepare`; with several optimizers, a loss under the name of each.

    An optimizer whose loss is left out makes no step, so a critic can take several steps per generator step. All losses
    are computed before the first step, and each loss changes the parameters of its own optimizer only.

    If `patience` is set, the loss of held-out images is computed too, in evaluation mode.
    """

    @property
    def uses_held_out(self) -> bool:
        """Whether a part of the normal images is kept from training, for `patience` or for the method's own use.

        It is not the part that the thresholds rest on.
        """
        return bool(self.patience)

    @property
    def needs_training(self) -> bool:
        """Whether `training_loss` is to be called; asked after `collect`, which may have found trained weights."""
        return bool(self.epochs or self.steps)

    def optimizers(self) -> torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer]:
        """The optimizer, or several by name; Adam with a learning rate of 1e-3 unless overridden."""
        return torch.optim.Adam((p for p in self.parameters() if p.requires_grad), lr=1e-3)

    def learning_rate_factor(self, done: float) -> float:
        """The factor of the optimizers' learning rates when the share `done` (0 to 1) of the training is done."""
        return 1.0

    def finish(self, batches: Batches) -> None:
        """Pass once over all training images after training, without gradients."""

    def update(self, batches: Batches) -> Prediction[Tensor]:
        """Learn from additional normal images after training, without gradients.

        Returns:
            The prediction for each new image by the method without that image; thresholds are computed from it.

        Raises:
            MethodError: If the method does not support it; most do not.
        """
        raise MethodError(
            "{name} cannot be updated. Fit it again with the new images.", name=type(self).__name__
        )

    def forget(self, image: Tensor, where: Tensor) -> Tensor:
        """Remove what was learned from a defect in the training images, so that the defect is found.

        Args:
            image: (1, 3, H, W), an image with the defect.
            where: (H, W) bool, the pixels of the defect; all false if they are not known.

        Returns:
            Number of the training image, x and y of each removed patch (K, 3); x and y as shares of width and height.

        Raises:
            MethodError: If the method does not support it, as most do not, or if nothing would be left.
        """
        raise MethodError(
            "{name} cannot forget a defect. Fit it again without the images that show it.",
            name=type(self).__name__,
        )

    def score_without(self, image: Tensor, numbers: Tensor) -> Prediction[Tensor]:
        """The prediction for an image (1, 3, H, W) as if the training images `numbers` (G,) had not been learned from.

        Raises:
            MethodError: If the method does not support it; most do not.
        """
        raise MethodError(
            "{name} cannot leave out training images. Fit it again without them.",
            name=type(self).__name__,
        )

    def predict_left_out(self, batches: Batches, groups: Tensor) -> Iterator[Prediction[Tensor]]:
        """The prediction for each training image as if its group (N,) had not been learned from, one by one.

        `batches` are all in the order of training. The iterator must hold what it needs of `kept`, which is let go.
        """
        for number, image in enumerate(image[None] for images in batches for image in images):
            yield self.score_without(image, (groups == groups[number]).nonzero()[:, 0])

    @classmethod
    def require_auxiliary_use(cls) -> None:
        """Raise a MethodError if the method does not use auxiliary images."""
        if not cls.auxiliary_use:
            raise MethodError(
                "{name} does not use auxiliary images. Leave them out, or choose another method.",
                name=cls.__name__,
            )

    @property
    def leaves_out(self) -> bool:
        """Whether the method supports `score_without`, with what it has learned."""
        return type(self).score_without is not Method.score_without

    @property
    def crosses_by_default(self) -> bool:
        """Whether thresholds rest on all images learned from by default, since a pass or short fits give the scores."""
        return type(self).score_without is not Method.score_without or not (self.epochs or self.steps)

    def cell_size(self, size: tuple[int, int]) -> tuple[float, float]:
        """Height and width, in pixels of an input of `size` (H, W), of one cell of the grid that is scored.

        The anomaly map is that grid enlarged, so a smaller defect shares its cell. One pixel unless overridden.
        """
        return 1.0, 1.0

    def learned_bytes(self, size: tuple[int, int], images: int) -> int:
        """About the number of bytes of what is learned and grows with the input's `size` (H, W).

        Args:
            size: Of the input.
            images: Number of images that are learned from.
        """
        return 0

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        """Score images (N, 3, H, W), RGB in [0, 1]; the map has the input's height and width."""
        raise NotImplementedError

    def __call__(self, images: Tensor) -> Prediction[Tensor]:
        if not self.has_learned:
            name = type(self).__name__
            raise NotLearnedError(
                "{name} has not learned yet: call blemish.fit({name}(...), images) before scoring.", name=name
            )
        prediction: Prediction[Tensor] = super().__call__(images)
        return prediction

    @property
    def has_learned(self) -> bool:
        """Whether all hooks have run, here or before the model was saved."""
        return self.learned.numel() > 0

    def require_new(self) -> None:
        """Check that the method has never begun to learn: a second time would change a model that uses it.

        Raises:
            MethodError: If it has learned, is learning in another thread, or an earlier fit of it was interrupted.
        """
        name = type(self).__name__
        if self.has_learned:
            raise MethodError(
                "{name} has learned already, and a model may use it. Give a new one to each fit.", name=name
            )
        if self._has_begun:
            raise MethodError(
                "{name} is learning already, or an earlier fit of it was interrupted. Give a new one to each fit.",
                name=name,
            )

    def begin(self) -> None:
        """Mark that learning begins; hooks add to what earlier ones left, so there is no second time.

        Raises:
            MethodError: If it has begun before.
        """
        with _BEGINNING:
            self.require_new()
            self._has_begun = True

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, from which the same method can be built.

        Raises:
            MethodError: If one was changed to a value that the constructor does not accept.
        """
        return self.declared.check({name: getattr(self, name) for name in self.declared.arguments})

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.declared.arguments)
        return f"{type(self).__name__}({given})"

    def load_learned(self, state: Mapping[str, Tensor]) -> None:
        """Load the `state_dict` of a method with the same arguments.

        Raises:
            RuntimeError: If names or shapes differ; tensors without elements take the shape in the state.
        """
        for name, tensor in [*self.named_buffers(), *self.named_parameters()]:
            if tensor.numel() == 0 and name in state:
                owner, _, leaf = name.rpartition(".")
                shaped = torch.empty_like(state[name], device=tensor.device)
                is_parameter = isinstance(tensor, nn.Parameter)
                setattr(self.get_submodule(owner), leaf, nn.Parameter(shaped) if is_parameter else shaped)
        self.load_state_dict(state)
