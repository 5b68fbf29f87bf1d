"""Checkpoints: training interrupted anywhere resumes to the same weights; damaged or other checkpoints are refused."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.errors import ModelError
from blemish.methods.arguments import argument
from blemish.methods.base import Batches, Method
from blemish.training import checkpoint as module
from blemish.training import learn
from blemish.training.checkpoint import NUMBERS, Checkpoint
from blemish.types import Prediction

IMAGES: NDArray[np.float32] = np.random.default_rng(0).normal(size=(7, 3, 8, 8)).astype(np.float32)
IDENTITY = {"method": "noisy", "seed": 0}


class Noisy(Method):
    """Uses what a state has: weights, batch norm, a buffer, random numbers, two optimizers, a changing rate."""

    batch_size = 2
    patience = 20

    epochs: int = argument(4, "Passes.")
    stop_at: int = argument(0, "Call at which training is interrupted.")

    def build(self) -> None:
        self.calls = 0
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.scale = nn.Parameter(torch.empty(0))
        self.average: Tensor
        self.register_buffer("average", torch.zeros(()))

    def collect(self, batches: Batches) -> None:
        for layer in self.net:
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                layer.reset_parameters()
        self.scale = nn.Parameter(torch.rand(4, 1, 1))

    def training_loss(self, images: Tensor) -> dict[str, Tensor]:
        if self.training:
            self.calls += 1
            if self.calls == self.stop_at:
                raise KeyboardInterrupt
            self.average = 0.9 * self.average + 0.1 * self.scale.detach().mean()
        y = self.net(images + 0.1 * torch.randn_like(images)) * self.scale
        return {"net": (y - 1).square().mean(), "scale": (y + self.average).square().mean()}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        return {
            "net": torch.optim.AdamW(self.net.parameters(), lr=0.01),
            "scale": torch.optim.SGD([self.scale], lr=0.01, momentum=0.9),
        }

    def learning_rate_factor(self, done: float) -> float:
        return 1 - done

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        grid = images.mean(1) * self.scale.mean()
        return Prediction(grid.flatten(1).amax(1), grid)


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.loop.SECONDS_BETWEEN", 0.0)


def broken_off(folder: Path, stop_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        learn(
            Noisy(stop_at=stop_at),
            IMAGES,
            held_out=IMAGES[:3],
            checkpoint=Checkpoint(folder, IDENTITY, resume=False),
        )


@pytest.mark.filterwarnings("ignore:.*holds no unfinished training")  # broken off in the first step
@pytest.mark.parametrize("stop_at", [1, 2, 4, 5, 9, 16])
def test_resumed_training_ends_at_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    """Seven images in batches of two are four steps an epoch: within an epoch, at its end, just after it."""
    whole = Noisy()
    expected = learn(whole, IMAGES, held_out=IMAGES[:3])
    folder = tmp_path / "unfinished"
    broken_off(folder, stop_at)
    resumed = Noisy()
    seen: list[int] = []
    history = learn(
        resumed,
        IMAGES,
        held_out=IMAGES[:3],
        checkpoint=Checkpoint(folder, IDENTITY, resume=True),
        watch=lambda epoch, losses: seen.append(epoch),
    )
    assert resumed.calls == 16 - (stop_at - 1)
    assert history == expected
    assert seen == list(range((stop_at - 1) // 4, 4))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_training_that_had_ended_is_not_done_again(tmp_path: Path) -> None:
    folder = tmp_path / "unfinished"
    first, second = Noisy(), Noisy()
    learn(first, IMAGES, checkpoint=Checkpoint(folder, IDENTITY, resume=False))
    learn(second, IMAGES, checkpoint=Checkpoint(folder, IDENTITY, resume=True))
    assert (first.calls, second.calls) == (16, 0)
    assert torch.equal(first.scale, second.scale)


def test_without_resume_an_older_state_is_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "unfinished"
    broken_off(folder, 9)
    method = Noisy()
    learn(method, IMAGES, checkpoint=Checkpoint(folder, IDENTITY, resume=False))
    assert method.calls == 16
    method_checkpoint = Checkpoint(folder, IDENTITY, resume=False)
    method_checkpoint.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_state_of_other_training_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "unfinished"
    broken_off(folder, 5)
    other = Checkpoint(folder, {**IDENTITY, "seed": 1, "images": "abc"}, resume=True)
    with pytest.raises(
        ModelError, match=r"unfinished training in .* differs in: images, seed\. Use the same values"
    ):
        learn(Noisy(), IMAGES, checkpoint=other)
    assert (folder / NUMBERS).exists(), "a refused state must stay"


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"\0" * 20),
        lambda folder: (folder / NUMBERS).write_text("{", encoding="utf-8"),
        lambda folder: next(folder.glob("*.safetensors")).unlink(),
        lambda folder: (folder / NUMBERS).write_text("[]", encoding="utf-8"),
        lambda folder: _change(folder, lambda numbers: numbers.pop("groups")),
        lambda folder: _change(folder, lambda numbers: numbers["done"].update(step="x")),
        lambda folder: _change(folder, lambda numbers: numbers["done"].update(seen=3)),
        lambda folder: _change(folder, lambda numbers: numbers["done"].update(other=1)),
    ],
)
def test_a_damaged_state_is_a_clear_error(tmp_path: Path, harm: object) -> None:
    folder = tmp_path / "unfinished"
    broken_off(folder, 5)
    assert callable(harm)
    harm(folder)
    with pytest.raises(
        ModelError, match=r"unfinished training in .* is damaged .* Start again without --resume"
    ):
        learn(Noisy(), IMAGES, checkpoint=Checkpoint(folder, IDENTITY, resume=True))


def _change(folder: Path, change: object) -> None:
    numbers = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
    assert callable(change)
    change(numbers)
    (folder / NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")


def test_states_are_written_now_and_then_and_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop.SECONDS_BETWEEN", 10.0)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    folder = tmp_path / "unfinished"
    steps: list[int] = []

    def look(phase: str, done: int, total: int | None, note: str = "", /) -> None:
        nonlocal now
        if phase == "training":
            now += 4
            kept = folder / NUMBERS
            steps.append(json.loads(kept.read_text(encoding="utf-8"))["done"]["step"] if kept.exists() else 0)

    learn(Noisy(epochs=2), IMAGES, checkpoint=Checkpoint(folder, IDENTITY, resume=False), progress=look)
    assert steps == [0, 0, 0, 3, 3, 3, 6, 6]  # seconds 12 and 24; the end is kept whatever the time

    def fail(*_: object) -> None:
        raise OSError("disk full")

    before = (folder / NUMBERS).read_bytes()
    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        learn(Noisy(epochs=2), IMAGES, checkpoint=Checkpoint(folder, IDENTITY, resume=True))
    assert (folder / NUMBERS).read_bytes() == before
