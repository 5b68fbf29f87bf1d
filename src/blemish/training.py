"""The one loop in which every method learns: seed → collect → epochs of batches → finish."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.errors import MethodError
from blemish.methods.base import Method
from blemish.types import Prediction, Progress, no_progress

Value = TypeVar("Value")


class Arrays(Protocol):
    """What `learn` goes through, anew for every pass: batches (N, 3, H, W), as many as `len` says."""

    def __iter__(self) -> Iterator[NDArray[np.float32]]: ...

    def __len__(self) -> int: ...


@dataclass(slots=True)
class History:
    """What happened while a method learned."""

    losses: list[dict[str, float]] = field(default_factory=list)
    """Mean of each loss, one dict per epoch; empty for methods without gradients."""


def learn(
    method: Method,
    batches: Arrays,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> History:
    """Run a method's hooks over normal images.

    The seed decides everything random; the generators of the CPU and of the device are left as they were.

    Args:
        method: What learns, in place.
        batches: (N, 3, H, W) arrays; gone through anew for every pass.
        seed: For torch's generators.
        device: Where the tensors live, e.g. "cpu" or "cuda".
        progress: Told of the batches done in each phase.

    Raises:
        MethodError: If there is no image, or the losses and optimizers of a method do not share their names.
    """
    source = _Batches(batches, device)
    history = History()
    method.to(device).progress = progress
    place = torch.device(device)
    with torch.random.fork_rng([] if place.type == "cpu" else [place], device_type=place.type):
        torch.manual_seed(seed)
        with torch.no_grad():
            method.eval().collect(source.reported("looking at images", progress))
        if method.epochs:
            _descend(method, source, history, progress)
        with torch.no_grad():
            method.eval().finish(source.reported("finishing", progress))
    method.progress = no_progress
    method.learned = torch.ones(1, device=device)
    return history


def learn_on(
    method: Method, batches: Arrays, *, device: str = "cpu", progress: Progress = no_progress
) -> Prediction[NDArray[np.float32]]:
    """Show new normal images to a method that has learned; see `Method.update` for what comes back.

    Raises:
        MethodError: If the method cannot learn on.
    """
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        scores, maps = method.eval().update(_Batches(batches, device).reported("looking at images", progress))
    return Prediction(scores.cpu().numpy(), maps.cpu().numpy())


def forget(
    method: Method, image: NDArray[np.float32], where: NDArray[np.bool_], *, device: str = "cpu"
) -> list[tuple[int, float, float]]:
    """Make a method that has learned forget a defect in `image` (3, H, W); see `Method.forget`.

    Raises:
        MethodError: If the method cannot forget.
    """
    with torch.no_grad(), torch.random.fork_rng([]):
        torch.manual_seed(0)
        tensors = torch.from_numpy(image[None]).to(device), torch.from_numpy(where).to(device)
        return [(int(number), x, y) for number, x, y in method.eval().forget(*tensors).tolist()]


def _descend(method: Method, source: "_Batches", history: History, progress: Progress) -> None:
    """The epochs of a method that learns by gradients."""
    optimizers = _named(method.optimizers())
    method.train()
    for epoch in range(method.epochs):
        sums: dict[str, float] = {}
        count = 0
        for images in source:
            losses = _named(method.training_loss(images))
            if losses.keys() != optimizers.keys():
                raise MethodError(
                    f"{type(method).__name__} has the losses {sorted(losses)} but the optimizers "
                    f"{sorted(optimizers)}; give both the same names."
                )
            for name, loss in losses.items():
                optimizers[name].zero_grad(set_to_none=True)
                moved = [p for group in optimizers[name].param_groups for p in group["params"]]
                loss.backward(inputs=moved, retain_graph=len(losses) > 1)
                sums[name] = sums.get(name, 0.0) + float(loss.detach()) * len(images)
            for optimizer in optimizers.values():  # only now, since one's step would change another's graph
                optimizer.step()
            count += len(images)
        history.losses.append({name: total / count for name, total in sums.items()})
        progress("training", epoch + 1, method.epochs)


def _named(value: Value | Mapping[str, Value]) -> Mapping[str, Value]:
    return value if isinstance(value, Mapping) else {"loss": value}


class _Batches:
    """Arrays as tensors on the device, for as many passes as there are; a phase's name makes them reported."""

    def __init__(self, arrays: Arrays, device: str) -> None:
        self.arrays = arrays
        self.device = device
        self.phase = ""
        self.progress: Progress = no_progress

    def __len__(self) -> int:
        return len(self.arrays)

    def __iter__(self) -> Iterator[Tensor]:
        empty = True
        for done, array in enumerate(self.arrays, 1):
            empty = False
            yield torch.from_numpy(array).to(self.device)
            if self.phase:
                self.progress(self.phase, done, len(self))
        if empty:
            raise MethodError(
                "There is no image to learn from. Give at least one normal image, in batches that can be gone "
                "through more than once."
            )

    def reported(self, phase: str, progress: Progress) -> "_Batches":
        """The same batches, telling how far a pass is."""
        batches = _Batches(self.arrays, self.device)
        batches.phase, batches.progress = phase, progress
        return batches
