"""Saves and restores unfinished training; resumed training ends at the same weights as uninterrupted training."""

import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from blemish.errors import BlemishWarning, ModelError
from blemish.files import LOCK, locked, remove_stored, resolved, sha256_of, store, stored_path, write_whole
from blemish.messages import message
from blemish.methods.base import Method
from blemish.records import Record

TENSORS, NUMBERS = "state.safetensors", "state.json"
METHOD, BEST = "method/", "best/"
"""What the names of a state's tensors begin with: of the method as it is, and of the best epoch so far."""
SECONDS_BETWEEN = 30.0
"""Shortest time between two checkpoints."""

Count = Annotated[int, Field(ge=0, description="a whole number, not negative")]
Losses = dict[str, float]
Optimizers = Mapping[str, torch.optim.Optimizer]


@dataclass(slots=True)
class Progressed:
    """Progress of a training."""

    step: int = 0
    first: dict[str, float] = field(default_factory=dict)
    """Each loss at its first step."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sum of each loss over the images it was computed on in this epoch."""
    seen: dict[str, int] = field(default_factory=dict)
    """Number of images that each loss was computed on in this epoch."""
    losses: list[dict[str, float]] = field(default_factory=list)
    """Mean losses of each epoch that ended."""

    def add(self, losses: Mapping[str, float], count: int) -> None:
        """Record one step on `count` images."""
        self.first = {**losses, **self.first}
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * count
            self.seen[name] = self.seen.get(name, 0) + count
        self.step += 1

    def means(self) -> dict[str, float]:
        """Mean losses of this epoch so far."""
        return {name: total / self.seen[name] for name, total in self.sums.items()}

    def end_epoch(self, row: dict[str, float]) -> None:
        """Record the losses of an epoch and begin the next one."""
        self.losses.append(row)
        self.sums, self.seen = {}, {}


class _Done(Record):
    """`Progressed` in a file."""

    step: Count
    first: Losses
    sums: Losses
    seen: dict[str, Annotated[int, Field(ge=1)]]
    losses: list[Losses]

    @model_validator(mode="after")
    def _require_equal_names(self) -> Self:
        if self.sums.keys() != self.seen.keys():
            raise ValueError(message("sums and seen must have the same names"))
        return self


class _Numbers(Record):
    """What the JSON file of a checkpoint holds."""

    identity: dict[str, Any]
    done: _Done
    groups: dict[str, list[dict[str, Any]]]
    """Optimizer → its parameter groups."""
    state: dict[str, dict[str, dict[str, Any]]]
    """Optimizer → number of the parameter → values of its state that are not tensors."""
    sha256: str
    """Of the file with the tensors."""


class Checkpoint:
    """A folder that holds the latest state of unfinished training.

    Args:
        folder: Made by the first `keep`; removed by `clear`. Must not exist, be empty or be a checkpoint.
        identity: What determines the training: method, arguments, images, seed. JSON values only.
        resume: Whether to continue from the state in the folder; otherwise it is deleted.

    Raises:
        ModelError: If the folder holds anything else, which would be deleted.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.name = folder
        self.folder = resolved(folder)
        if self.folder.exists() and not _is_checkpoint(self.folder):
            raise ModelError(
                "{folder} exists and is not the checkpoint of a training, so it is not overwritten. "
                "Name another folder.",
                folder=folder,
            )
        self.identity = json.loads(json.dumps(identity))
        self.resume = resume
        self.kept_at = time.monotonic()

    def restore(
        self, method: Method, optimizers: Optimizers, steps: int
    ) -> tuple[Progressed, dict[str, Tensor]]:
        """Set method, optimizers and random generators to the saved state, if there is one.

        Args:
            method: The method in training.
            optimizers: Its optimizers.
            steps: Number of steps of the whole training.

        Returns:
            The progress, and what was trained after the best epoch so far, by name.

        Raises:
            ModelError: If the state is damaged, or belongs to another training.
        """
        if not self.resume:
            self.clear()
        if not (self.folder / NUMBERS).exists():
            if self.resume:
                warnings.warn(
                    message(
                        "{name} holds no unfinished training to resume, so training begins from the start.",
                        name=self.name,
                    ),
                    BlemishWarning,
                    stacklevel=2,
                )
            return Progressed(), {}
        try:
            numbers = _Numbers.from_json((self.folder / NUMBERS).read_text(encoding="utf-8"))
            known = numbers.identity
            done = self._restored(method, optimizers, numbers, steps) if known == self.identity else None
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise ModelError(
                "The unfinished training in {name} is damaged ({error!r}). Start again without --resume.",
                name=self.name,
                error=error,
            ) from error
        if done is None:
            changed = sorted(k for k in self.identity.keys() | known if known.get(k) != self.identity.get(k))
            raise ModelError(
                "The unfinished training in {name} differs in: {changed}. Use the same values, "
                "or start again without --resume.",
                name=self.name,
                changed=", ".join(changed),
            )
        return done

    def _restored(
        self, method: Method, optimizers: Optimizers, numbers: _Numbers, steps: int
    ) -> tuple[Progressed, dict[str, Tensor]]:
        if numbers.done.step > steps:
            raise ValueError(message("it is at step {step} of {steps}", step=numbers.done.step, steps=steps))
        path = stored_path(self.folder, TENSORS, numbers.sha256)
        if sha256_of(path) != numbers.sha256:
            raise ValueError(message("the sha256 of {name} differs", name=path.name))
        tensors = load_file(os.fspath(path))
        _set_state(method, optimizers, numbers, tensors)
        state, best = method.state_dict(), _part(tensors, BEST)
        if any(name not in state or tensor.shape != state[name].shape for name, tensor in best.items()):
            raise ValueError(message("the tensors of the best epoch are not those of the method"))
        best = {name: tensor.to(state[name]) for name, tensor in best.items()}
        return Progressed(**dict(numbers.done)), best

    def keep(
        self,
        method: Method,
        optimizers: Optimizers,
        done: Progressed,
        best: Mapping[str, Tensor],
        every: float = 0.0,
    ) -> None:
        """Write the state, whole or not at all, unless the latest is less than `every` seconds old."""
        if time.monotonic() - self.kept_at < every:
            return
        numbers, tensors = _state(method, optimizers, best)
        numbers |= {"identity": self.identity, "done": asdict(done)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            numbers["sha256"] = store(self.folder, TENSORS, partial(save_file, tensors))
            write_whole(self.folder / NUMBERS, json.dumps(numbers))
            kept = stored_path(self.folder, TENSORS, numbers["sha256"])
            remove_stored(self.folder, (TENSORS,), {kept})
        self.kept_at = time.monotonic()

    def clear(self) -> None:
        """Delete the state."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_checkpoint(path: Path) -> bool:
    """Whether a path is a folder that holds nothing but files of a checkpoint."""
    own = re.compile(rf"state\.json|state(\.\w+)?\.safetensors|{re.escape(LOCK)}|\.\w+\.partial")
    return path.is_dir() and all(own.fullmatch(e.name) and e.is_file() for e in path.iterdir())


def _state(
    method: Method, optimizers: Optimizers, best: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Everything that training needs to continue: JSON values, and tensors on the CPU."""
    tensors = {METHOD + name: tensor for name, tensor in method.state_dict().items()}
    tensors |= {BEST + name: tensor for name, tensor in best.items()}
    numbers: dict[str, Any] = {"groups": {}, "state": {}}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        numbers["groups"][name] = state["param_groups"]
        for index, values in state["state"].items():
            for key, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{index}/{key}"] = value
                else:
                    numbers["state"].setdefault(name, {}).setdefault(str(index), {})[key] = value
    tensors["random/cpu"] = torch.get_rng_state()
    device = method.learned.device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    return numbers, {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _set_state(
    method: Method, optimizers: Optimizers, numbers: _Numbers, tensors: Mapping[str, Tensor]
) -> None:
    method.load_state_dict(_part(tensors, METHOD))
    for name, optimizer in optimizers.items():
        state: dict[int, dict[str, Any]] = {
            int(index): dict(values) for index, values in numbers.state.get(name, {}).items()
        }
        for key, tensor in _part(tensors, f"optimizer/{name}/").items():
            index, leaf = key.split("/")
            state.setdefault(int(index), {})[leaf] = tensor
        optimizer.load_state_dict({"param_groups": numbers.groups[name], "state": state})
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], method.learned.device)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
