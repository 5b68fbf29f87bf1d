"""The training loop of all methods: seed → collect → epochs of batches → finish."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.cache import CacheBudget
from blemish.data.checks import require_different
from blemish.data.loading import Images, Joined
from blemish.errors import DivergedError, MethodError
from blemish.methods.base import Method
from blemish.training.batches import ImageBatches
from blemish.training.checkpoint import SECONDS_BETWEEN, Checkpoint, Progressed
from blemish.training.leave_out import LeftOut, left_out
from blemish.training.prepared import Prepared
from blemish.types import Prediction, Progress, Watch, no_progress, no_watch

Value = TypeVar("Value")
DEFAULT_BUDGET = CacheBudget()
EXPLODED = 1e6
"""Training has diverged if a loss is this many times as large as in the first step."""
HELD_OUT = "held_out"
"""Name, among the losses, of the loss on held-out images."""


@dataclass(slots=True)
class History:
    """Record of a training."""

    losses: list[dict[str, float]] = field(default_factory=list)
    """Mean of each loss per epoch; with early stopping also `held_out`. Empty without training."""
    left_out: Iterator[LeftOut] | None = None
    """The prediction for each image without its group, once, if groups were given and the method can leave images out.
    """


def learn(
    method: Method,
    images: Images,
    *,
    held_out: Images = (),
    auxiliary: Sequence[Images] = (),
    batch_size: int = 4,
    seed: int = 0,
    device: str = "cpu",
    budget: CacheBudget = DEFAULT_BUDGET,
    groups: Sequence[int] | None = None,
    checkpoint: Checkpoint | None = None,
    watch: Watch = no_watch,
    progress: Progress = no_progress,
) -> History:
    """Run a method's hooks over normal images.

    The seed determines everything random; the states of torch's generators are restored afterwards.

    Args:
        method: Method to train; modified in place.
        images: Normal images (3, H, W).
        held_out: Other normal images, for methods with `uses_held_out`.
        auxiliary: Images of each of some other products, for methods that use them.
        batch_size: Batch size of passes without gradients; training uses the method's own.
        seed: Seed of torch's generators and of the order of the images.
        device: Device of the tensors, e.g. "cpu" or "cuda".
        budget: Memory and disk for prepared images.
        groups: Number of each image's group, if the images are to be scored without their groups.
        checkpoint: Where the state of unfinished training is saved and resumed from.
        watch: Called with the losses of every epoch.
        progress: Called with the number of batches done in each phase.

    Raises:
        MethodError: If there is no image, all images are equal, the method has begun to learn before, its epochs or
            steps are negative, or its losses and optimizers do not have the same names.
        DivergedError: If a loss becomes infinite, NaN or far larger than in the first step.
        ModelError: If the checkpoint belongs to another training.
    """
    if not len(images):
        raise MethodError("There is no image to learn from. Give at least one normal image.")
    if min(method.epochs, method.steps) < 0:
        raise MethodError(
            "epochs and steps must not be negative, got {epochs} and {steps}; 0 steps set no limit.",
            epochs=method.epochs,
            steps=method.steps,
        )
    if len(auxiliary):
        method.require_auxiliary_use()
    require_different(images)
    method.begin()
    history = History()
    method.to(device).progress = progress
    method.auxiliary_products = tuple(ImageBatches(product, batch_size, device) for product in auxiliary)
    method.auxiliary = ImageBatches(Joined(auxiliary), batch_size, device) if len(auxiliary) else None
    method.held_out = (
        ImageBatches(held_out, batch_size, device) if len(held_out) and method.uses_held_out else None
    )
    with _seeded(seed, torch.device(device)):
        with torch.no_grad():
            method.eval().collect(ImageBatches(images, batch_size, device, "collecting", progress))
        if method.needs_training:
            prepared = Prepared(method, images, batch_size, device, budget, progress)
            watched = Prepared(method, held_out if method.patience else (), batch_size, device, budget)
            training = _Training(method, prepared, watched, seed, checkpoint, progress)
            history.losses = training.run(watch)
        with torch.no_grad():
            method.eval().finish(ImageBatches(images, batch_size, device, "finishing", progress))
    method.progress, method.held_out = no_progress, None
    method.auxiliary, method.auxiliary_products = None, ()
    method.learned = torch.ones(1, device=device)
    if groups is not None and method.leaves_out:
        batches = ImageBatches(images, batch_size, device, "leaving out", progress)
        history.left_out = left_out(method.predict_left_out(batches, torch.tensor(groups, device=device)))
    method.kept = None
    return history


def update_method(
    method: Method,
    images: Images,
    *,
    batch_size: int = 4,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Prediction[NDArray[np.float32]]:
    """Update a trained method with new normal images; see `Method.update` for the result.

    Raises:
        MethodError: If the method cannot be updated.
    """
    with torch.no_grad(), _seeded(0, torch.device(device)):
        batches = ImageBatches(images, batch_size, device, "collecting", progress)
        scores, maps = method.eval().update(batches)
    return Prediction(scores.cpu().numpy(), maps.cpu().numpy())


def forget(
    method: Method, image: NDArray[np.float32], where: NDArray[np.bool_], *, device: str = "cpu"
) -> list[tuple[int, float, float]]:
    """Remove a defect in `image` (3, H, W) from the features that a method learned as normal; see `Method.forget`.

    Raises:
        MethodError: If the method cannot forget.
    """
    with torch.no_grad(), _seeded(0, torch.device(device)):
        tensors = torch.from_numpy(image[None]).to(device), torch.from_numpy(where).to(device)
        return [(int(number), x, y) for number, x, y in method.eval().forget(*tensors).tolist()]


class _Training:
    """Gradient training of a method."""

    def __init__(
        self,
        method: Method,
        images: Prepared,
        held_out: Prepared,
        seed: int,
        checkpoint: Checkpoint | None,
        progress: Progress,
    ) -> None:
        self.method = method
        self.images = images
        self.held_out = held_out
        self.seed = seed
        self.checkpoint = checkpoint
        self.progress = progress
        self.optimizers = _named(method.optimizers())
        self.rates = {n: [g["lr"] for g in o.param_groups] for n, o in self.optimizers.items()}
        self.per_epoch = math.ceil(len(images) / method.batch_size)
        needed = method.epochs * self.per_epoch
        self.steps = min(needed or method.steps, method.steps or needed)
        self.done = Progressed()
        self.best: dict[str, Tensor] = {}  # what is trained, after the epoch with the lowest held-out loss

    def run(self, watch: Watch) -> list[dict[str, float]]:
        """Train to the end, or until early stopping, and return the losses of the epochs.

        With held-out images the method gets the weights of the epoch with the lowest loss on them.
        """
        if self.checkpoint:
            self.done, self.best = self.checkpoint.restore(self.method, self.optimizers, self.steps)
        done = self.done
        self.method.train()
        while done.step < self.steps and not self._is_patience_over():
            epoch = done.step // self.per_epoch
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.images))
            last = self.steps - epoch * self.per_epoch
            parts = np.array_split(order, self.per_epoch)[done.step % self.per_epoch : last]
            for part, prepared in zip(parts, self.images.batches(parts), strict=True):
                self._step(prepared, len(part))
                if done.step % self.per_epoch == 0 or done.step == self.steps:
                    self._end_epoch()
                    watch(epoch, done.losses[-1])
                if self.checkpoint:
                    self.checkpoint.keep(self.method, self.optimizers, done, self.best, every=SECONDS_BETWEEN)
        if self.checkpoint:
            self.checkpoint.keep(self.method, self.optimizers, done, self.best)
        if self.best:
            self.method.load_state_dict(self.best, strict=False)
        return done.losses

    def _step(self, prepared: tuple[Tensor, ...], count: int) -> None:
        losses = _named(self.method.training_loss(*prepared))
        if not losses or losses.keys() - self.optimizers.keys():
            raise MethodError(
                "{name} has the losses {losses} but the optimizers {optimizers}; give both the same names.",
                name=type(self.method).__name__,
                losses=sorted(losses),
                optimizers=sorted(self.optimizers),
            )
        factor = self.method.learning_rate_factor(self.done.step / self.steps)
        for name, loss in losses.items():
            optimizer = self.optimizers[name]
            optimizer.zero_grad(set_to_none=True)
            moved = [p for group in optimizer.param_groups for p in group["params"]]
            loss.backward(inputs=moved, retain_graph=len(losses) > 1)
            if self.method.clip_norm:
                torch.nn.utils.clip_grad_norm_(moved, self.method.clip_norm)
            for group, rate in zip(optimizer.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * factor
        for name in losses:  # after all gradients, since a step changes weights that other losses depend on
            self.optimizers[name].step()
        numbers = {name: float(loss.detach()) for name, loss in losses.items()}
        self._require_convergence(numbers)
        self.done.add(numbers, count)
        means = ", ".join(f"{name} {value:.4g}" for name, value in self.done.means().items())
        self.progress("training", self.done.step, self.steps, means)

    def _end_epoch(self) -> None:
        row = self.done.means()
        if len(self.held_out):
            row[HELD_OUT] = self._held_out_loss()
            if row[HELD_OUT] < min((losses[HELD_OUT] for losses in self.done.losses), default=math.inf):
                self.best = self._trained()
        self.done.end_epoch(row)

    def _trained(self) -> dict[str, Tensor]:
        """A copy of the parameters in the optimizers, and of all buffers, by name."""
        groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]
        moved = {id(parameter) for group in groups for parameter in group["params"]}
        frozen = {name for name, parameter in self.method.named_parameters() if id(parameter) not in moved}
        return {k: v.detach().clone() for k, v in self.method.state_dict().items() if k not in frozen}

    def _held_out_loss(self) -> float:
        """Sum of all losses, averaged over the held-out images."""
        self.method.eval()
        total = 0.0
        rows = np.arange(len(self.held_out))
        parts = np.array_split(rows, math.ceil(len(rows) / self.method.batch_size))
        # The same random numbers in every epoch, so that their losses are comparable.
        with torch.no_grad(), _seeded(self.seed, self.method.learned.device):
            for part, prepared in zip(parts, self.held_out.batches(parts), strict=True):
                losses = _named(self.method.training_loss(*prepared))
                total += sum(float(loss) for loss in losses.values()) * len(part)
        self.method.train()
        return total / len(rows)

    def _is_patience_over(self) -> bool:
        """Whether the held-out loss has not fallen for `patience` epochs."""
        losses = [row[HELD_OUT] for row in self.done.losses if HELD_OUT in row]
        patience = self.method.patience
        return (
            bool(patience) and len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
        )

    def _require_convergence(self, losses: Mapping[str, float]) -> None:
        first = {**losses, **self.done.first}
        for name, value in losses.items():
            if not math.isfinite(value) or abs(value) > EXPLODED * max(1.0, abs(first[name])):
                rate = max(rate for rates in self.rates.values() for rate in rates)
                raise DivergedError(
                    "Training diverged at step {step} of {steps}: {name} is {value:.4g}, in the "
                    "first step it was {first:.4g}. No model was written. Lower the learning rate, now "
                    "{rate:g}, for example with --set learning_rate={rate2:g}, and check for unusual images.",
                    step=self.done.step + 1,
                    steps=self.steps,
                    name=name,
                    value=value,
                    first=first[name],
                    rate=rate,
                    rate2=rate / 10,
                )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators within the context and restore their states afterwards."""
    with torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
        torch.manual_seed(seed)
        yield


def _named(value: Value | Mapping[str, Value]) -> Mapping[str, Value]:
    return value if isinstance(value, Mapping) else {"loss": value}
