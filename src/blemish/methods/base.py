"""The contract of a method: what it must say of itself, what it may learn through, how it scores."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, dataclass_transform

import torch
from torch import Tensor, nn

from blemish.errors import MethodError, NotLearnedError
from blemish.methods.arguments import Declared
from blemish.types import Prediction, Progress, no_progress


class Batches(Protocol):
    """Image batches (N, 3, H, W), as many as `len` says; all but the last hold equally many images."""

    def __iter__(self) -> Iterator[Tensor]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Preset:
    """A named configuration of a method, usually that of a paper."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the method's constructor that differ from the defaults."""
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Preprocess` that differ from the defaults."""


@dataclass_transform(kw_only_default=True)
class Method(nn.Module):
    """Learns from normal images and scores any image; higher means more anomalous.

    A subclass declares its arguments in the class body (`ratio: float = argument(0.1, "Share kept.", gt=0)`, see
    `blemish.methods.arguments`). The constructor is derived from them: it takes keywords only, checks them, stores
    each under its own name and calls `build`, which makes networks and buffers. What a method learns MUST be a
    parameter or a buffer; one whose shape is known only after learning starts with no elements.

    It learns through the hooks below, called in their order with images (N, 3, H, W), RGB in [0, 1], or what `prepare`
    made of them, and nothing else. Random initial weights MUST be drawn in `collect`, where the seed rules, not in
    `build`.
    `forward` MUST be pure: no state, no randomness, any batch size. Pixels outside the image (padding) are NaN
    in every channel; no score may come from them (see `blemish.blocks.padding.split_padding`).
    """

    declared: ClassVar[Declared] = Declared("Method", {})
    """Arguments of the class, its own and inherited ones."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    exports: bool = True
    """Whether `forward` can be exported to ONNX; if not, `exports_reason` says why."""
    exports_reason: ClassVar[str] = ""
    epochs: int = 0
    """Passes of `training_loss` over the training images; 0 for methods without gradients."""
    steps: int = 0
    """Calls of `training_loss` at most, so that many images take no longer; 0: as many as the epochs need.

    Without epochs it is the number of calls.
    """
    batch_size: int = 32
    """Images per call of `training_loss`; few less where they do not divide."""
    patience: int = 0
    """Epochs without a lower loss on held-out normal images after which training ends; 0: it goes to its end."""
    clip_norm: float = 0.0
    """Largest norm of a step's gradient over all of an optimizer's parameters; 0: no limit."""
    auxiliary_use: ClassVar[str] = ""
    """What images of other things than the product are good for, if the method can use them."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "__init__" in vars(cls):
            raise TypeError(
                f"{cls.__name__} defines __init__, whose arguments no saved model would hold. Declare them in the "
                "class body (blemish.argument) and make networks and buffers in build."
            )
        cls.declared = cls.declared.extended(cls)
        cls.__signature__ = cls.declared.signature  # type: ignore[attr-defined]  # read by inspect and help
        cls.__doc__ = cls.declared.documented(cls.__doc__)

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        for name, value in self.declared.check(arguments).items():
            setattr(self, name, value)
        self.progress: Progress = no_progress
        """Where a hook that lasts may report; set by whoever runs the hooks."""
        self.auxiliary: Batches | None = None
        """Images of other things, set before `collect` if some were given; else the method has its substitute."""
        self.learned: Tensor
        self.register_buffer("learned", torch.empty(0))
        self.build()

    def build(self) -> None:
        """Make the networks and buffers that the arguments ask for.

        Raises:
            MethodError: If arguments contradict each other.
        """

    def collect(self, batches: Batches) -> None:
        """Look once at all training images, without gradients, before any training."""

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        """What training reads of a batch, without gradients: frozen features, say; computed once and kept.

        Each tensor has one entry per image. If training changes images anew in each step, they are what is kept.
        """
        return (images,)

    def _no_training_loss(self, *prepared: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} trains but has no training_loss.")

    training_loss: Callable[..., Tensor | Mapping[str, Tensor]] = _no_training_loss
    """The loss of a batch, given the tensors of `prepare`; with several optimizers, a loss under the name of each.

    An optimizer whose loss is left out makes no step: a critic may so take several to a generator's one. All losses
    are computed before the first step, and each changes its own optimizer's parameters only.

    Where `patience` is set it is also asked, in evaluation mode, for the loss of held-out images.
    """

    def optimizers(self) -> torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer]:
        """What lowers the training loss; Adam at 1e-3 unless overridden."""
        return torch.optim.Adam((p for p in self.parameters() if p.requires_grad), lr=1e-3)

    def learning_rate_factor(self, done: float) -> float:
        """What the optimizers' learning rates are multiplied with when this share of the training is done."""
        return 1.0

    def finish(self, batches: Batches) -> None:
        """Look once more at all training images, without gradients, after training."""

    def update(self, batches: Batches) -> Prediction[Tensor]:
        """Look at new normal images after learning, without gradients.

        Returns:
            What each new image scores as long as it alone is not learned from; thresholds rest on it.

        Raises:
            MethodError: If the method cannot learn on, as most cannot.
        """
        raise MethodError(f"{type(self).__name__} cannot learn on. Fit it anew with the new images.")

    def forget(self, image: Tensor, where: Tensor) -> Tensor:
        """Take out what lets a defect pass for normal, because training images showed it.

        Args:
            image: (1, 3, H, W), showing the defect.
            where: (H, W) bool, its pixels; none if that is not known.

        Returns:
            Training image, x and y of each thing taken out (K, 3); x and y as shares of the width and height.

        Raises:
            MethodError: If the method cannot forget, as most cannot, or nothing would be left.
        """
        raise MethodError(f"{type(self).__name__} cannot forget. Fit it anew without the bad images.")

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        """Score images (N, 3, H, W), RGB in [0, 1]; the map has the input's height and width."""
        raise NotImplementedError

    def __call__(self, images: Tensor) -> Prediction[Tensor]:
        if not self.has_learned:
            name = type(self).__name__
            raise NotLearnedError(
                f"{name} has not learned yet: call blemish.fit({name}(...), images) before scoring."
            )
        prediction: Prediction[Tensor] = super().__call__(images)
        return prediction

    @property
    def has_learned(self) -> bool:
        """Whether all hooks have run, here or before the model was saved."""
        return self.learned.numel() > 0

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments, from which an equal method can be built."""
        return {name: getattr(self, name) for name in self.declared.arguments}

    def load_learned(self, state: Mapping[str, Tensor]) -> None:
        """Take over what an equal method has learned (its `state_dict`).

        Raises:
            RuntimeError: If names or shapes differ; only tensors still without elements take any shape.
        """
        for name, tensor in [*self.named_buffers(), *self.named_parameters()]:
            if tensor.numel() == 0 and name in state:
                owner, _, leaf = name.rpartition(".")
                shaped = torch.empty_like(state[name], device=tensor.device)
                is_parameter = isinstance(tensor, nn.Parameter)
                setattr(self.get_submodule(owner), leaf, nn.Parameter(shaped) if is_parameter else shaped)
        self.load_state_dict(state)
