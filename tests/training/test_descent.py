"""What the loop does for methods that learn by gradients: order, rates, clipping, patience, divergence, caching."""

import math
import shutil
import tempfile
from collections.abc import Mapping
from itertools import chain

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.data.cache import CacheBudget, reserve
from blemish.errors import DivergedError, MethodError
from blemish.methods.arguments import argument
from blemish.methods.base import Method
from blemish.training import learn
from blemish.types import Prediction

Arrays = NDArray[np.float32]


def images(count: int) -> Arrays:
    """Image i is filled with the number i."""
    return np.repeat(np.arange(count, dtype=np.float32), 3 * 4 * 4).reshape(count, 3, 4, 4)


class Line(Method):
    """Learns the mean of the numbers it prepared, twice each image's."""

    batch_size = 2

    epochs: int = argument(3, "Passes.")
    learning_rate: float = argument(0.01, "Of Adam.")

    def build(self) -> None:
        self.weight = nn.Parameter(torch.zeros(1))
        self.prepared = 0
        self.seen: list[list[float]] = []

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        self.prepared += len(images)
        assert not self.training
        return 2 * images.mean((1, 2, 3)), images.mean((1, 2, 3)) > 1

    def training_loss(self, *prepared: Tensor) -> Tensor | Mapping[str, Tensor]:
        values, are_large = prepared
        assert are_large.dtype == torch.bool
        if self.training:
            self.seen.append(values.tolist())
        return (self.weight - values + torch.randn(1)).square().mean()

    def optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        grid = images.mean(1) - self.weight
        return Prediction(grid.flatten(1).amax(1), grid)


def test_every_epoch_sees_each_image_once_in_an_order_of_its_own() -> None:
    method = Line(epochs=3)
    learn(method, images(5))
    assert [len(batch) for batch in method.seen] == [2, 2, 1] * 3
    epochs = [[*chain(*method.seen[i : i + 3])] for i in (0, 3, 6)]
    assert [sorted(epoch) for epoch in epochs] == [[0, 2, 4, 6, 8]] * 3
    assert len({tuple(epoch) for epoch in epochs}) > 1
    again = Line(epochs=3)
    learn(again, images(5))
    assert again.seen == method.seen
    other = Line(epochs=3)
    learn(other, images(5), seed=1)
    assert other.seen != method.seen


@pytest.mark.parametrize(("memory", "disk", "prepared"), [(10**6, 0, 5), (0, 10**6, 5), (0, 0, 2 + 3 * 5)])
def test_what_was_prepared_is_kept_where_there_is_room(memory: int, disk: int, prepared: int) -> None:
    """Without room the first batch, which tells how much is needed, and all images in every epoch."""
    method, expected = Line(), Line()
    history = learn(method, images(5), batch_size=2, budget=CacheBudget(memory, disk))
    assert history == learn(expected, images(5))
    assert torch.equal(method.weight, expected.weight)
    assert method.prepared == prepared


def test_the_budget_is_of_all_rows_and_half_of_the_disk_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [np.zeros((3, 5), np.float32), np.zeros(2, np.bool_)]  # 62 bytes
    in_memory = reserve(10, rows, CacheBudget(620, 0))
    on_disk = reserve(10, rows, CacheBudget(619, 620))
    for arrays in (in_memory, on_disk):
        assert arrays is not None
        assert [(array.shape, array.dtype.name) for array in arrays] == [
            ((10, 3, 5), "float32"),
            ((10, 2), "bool"),
        ]
        arrays[0][7] = 3.5
        assert arrays[0][7].sum() == pytest.approx(52.5)
    assert on_disk is not None
    assert isinstance(on_disk[0], np.memmap)
    assert reserve(10, rows, CacheBudget(619, 619)) is None
    free = type("Usage", (), {"free": 1239})
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: free if folder == tempfile.gettempdir() else None
    )
    assert reserve(10, rows, CacheBudget(0, 10**9)) is None


@pytest.mark.parametrize("size", [-1.0, math.nan, math.inf])
def test_a_budget_is_a_number_of_bytes(size: float) -> None:
    with pytest.raises(ValueError, match="The cache's disk must be a number of bytes, 0 or more"):
        CacheBudget(1.0, size)


@pytest.mark.parametrize(
    ("epochs", "steps", "sizes", "rows"),
    [(0, 4, [2, 2, 1, 2], 2), (9, 4, [2, 2, 1, 2], 2), (1, 4, [2, 2, 1], 1), (2, 0, [2, 2, 1] * 2, 2)],
)
def test_training_ends_with_its_steps_or_its_epochs_whichever_come_first(
    epochs: int, steps: int, sizes: list[int], rows: int
) -> None:
    method = Line(epochs=epochs)
    method.steps = steps
    history = learn(method, images(5))
    assert [len(batch) for batch in method.seen] == sizes
    assert len(history.losses) == rows


def test_steps_are_not_negative() -> None:
    method = Line(epochs=1)
    method.steps = -1
    with pytest.raises(
        MethodError, match="epochs and steps must not be negative, got 1 and -1; 0 steps set no"
    ):
        learn(method, images(5))


class Still(Line):
    """Its losses on held-out images are given."""

    watched: tuple[float, ...] = argument((0.0,), "Losses.")

    def build(self) -> None:
        super().build()
        self.asked = 0

    def training_loss(self, *prepared: Tensor) -> Tensor:
        if self.training:
            return self.weight.square().sum()
        self.asked += 1
        return torch.tensor(self.watched[self.asked - 1])


@pytest.mark.parametrize(
    ("held_out", "patience", "epochs"),
    [
        ([5, 4, 3, 2, 1], 2, 5),
        ([5, 4, 4, 4, 1], 2, 4),
        ([5, 6, 4, 6, 5, 1], 2, 5),
        ([5, 6, 4, 6, 5, 1], 1, 2),
        ([1, 2, 3], 0, 3),
    ],
)
def test_patience_ends_training_by_the_loss_on_held_out_images(
    held_out: list[float], patience: int, epochs: int
) -> None:
    method = Still(epochs=len(held_out), watched=tuple(held_out))
    method.patience = patience
    history = learn(method, images(2), held_out=images(2))
    assert len(history.losses) == epochs
    expected = [held_out[:epochs]] if patience else [[]]
    assert [[row["held_out"] for row in history.losses if "held_out" in row]] == expected


@pytest.mark.parametrize(
    ("held_out", "patience", "steps"),
    [([5, 4, 3], 2, 3), ([5, 3, 4, 4, 1], 2, 2), ([5, 3, 3, 4], 5, 2), ([5, 3, 4], 0, 3)],
)
def test_the_weights_are_those_of_the_epoch_with_the_lowest_held_out_loss(
    held_out: list[float], patience: int, steps: int
) -> None:
    method = Still(epochs=len(held_out), watched=tuple(held_out))
    method.patience = patience
    learn(method, images(2), held_out=images(2))
    alone = Still(epochs=steps)
    alone.patience = 0
    learn(alone, images(2))
    assert torch.equal(method.weight, alone.weight)


def test_the_held_out_loss_is_a_mean_in_evaluation_mode_with_the_same_noise() -> None:
    method = Line(epochs=2, learning_rate=0.0)
    method.patience = 5
    history = learn(method, images(2), held_out=images(5))
    first, second = (row["held_out"] for row in history.losses)
    assert first == second  # no step was made, so nothing but noise could differ
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noise = torch.randn(3)
    parts = [([0.0, 2.0], noise[0]), ([4.0, 6.0], noise[1]), ([8.0], noise[2])]
    assert first == pytest.approx(float(sum((n - v) ** 2 for values, n in parts for v in values)) / 5)


def test_learning_rates_follow_the_method() -> None:
    class Falling(Line):
        epochs = 2

        def build(self) -> None:
            super().build()
            self.asked: list[float] = []

        def training_loss(self, *prepared: Tensor) -> Tensor:
            return self.weight.sum()

        def learning_rate_factor(self, done: float) -> float:
            self.asked.append(done)
            return 1 - done

        def optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=8.0)

    method = Falling()
    learn(method, images(4))
    assert method.asked == [0, 0.25, 0.5, 0.75]
    assert method.weight.item() == pytest.approx(-8 * (1 + 0.75 + 0.5 + 0.25))


def test_gradients_are_clipped_by_their_norm() -> None:
    class Steep(Line):
        clip_norm = 2.0

        epochs = 1

        def build(self) -> None:
            super().build()
            self.other = nn.Parameter(torch.zeros(1))

        def training_loss(self, *prepared: Tensor) -> Tensor:
            return (30 * self.weight + 40 * self.other).sum()

        def optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1.0)

    method = Steep()
    learn(method, images(2))
    assert (method.weight.item(), method.other.item()) == pytest.approx((-1.2, -1.6), abs=1e-4)


@pytest.mark.parametrize(("losses", "step"), [([1.0, math.nan], 2), ([math.inf], 1), ([2.0, 1.0, -3e6], 3)])
def test_divergence_is_an_error_that_says_what_to_change(losses: list[float], step: int) -> None:
    class Diverging(Line):
        def training_loss(self, *prepared: Tensor) -> Tensor:
            self.seen.append([])
            return self.weight.sum() * 0 + losses[len(self.seen) - 1]

    method = Diverging(epochs=len(losses))
    with pytest.raises(
        DivergedError, match=rf"diverged at step {step} of .* Lower the learning rate, now 0\.01, "
    ):
        learn(method, images(2))
    assert not method.has_learned


def test_auxiliary_images_reach_methods_with_a_use_for_them() -> None:
    class Helped(Line):
        auxiliary_use = "counting"

        def collect(self, batches: object) -> None:
            assert self.auxiliary is not None
            self.helped = [len(batch) for batch in self.auxiliary]
            self.products = [[len(batch) for batch in product] for product in self.auxiliary_products]

    method = Helped()
    learn(method, images(2), auxiliary=[images(3), images(4)], batch_size=2)
    assert method.helped == [2, 2, 2, 1]
    assert method.products == [[2, 1], [2, 2]]
    assert (method.auxiliary, method.auxiliary_products) == (None, ())
    with pytest.raises(MethodError, match="Line does not use auxiliary images"):
        learn(Line(), images(2), auxiliary=[images(3)])
