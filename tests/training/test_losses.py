"""Losses and optimizers: their names, averages and steps."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.errors import MethodError
from blemish.methods.base import Method
from blemish.training import learn
from diary_method import Diary, images


@pytest.mark.parametrize(
    ("losses", "optimizers"),
    [(("a", "b"), ("a",)), ((), ("a", "b")), (("a",), ("b",)), (("a",), None), (None, ("a",))],
)
def test_losses_and_optimizers_share_names(
    losses: tuple[str, ...] | None, optimizers: tuple[str, ...] | None
) -> None:
    class Named(Diary):
        def training_loss(self, images: Tensor) -> Tensor | Mapping[str, Tensor]:
            return self.weight.sum() if losses is None else dict.fromkeys(losses, self.weight.sum())

        def optimizers(self) -> torch.optim.Optimizer | Mapping[str, torch.optim.Optimizer]:
            one = torch.optim.SGD([self.weight], lr=1.0)
            return dict.fromkeys(optimizers, one) if optimizers else one

    method = Named(epochs=1)
    with pytest.raises(
        MethodError, match=r"Named has the losses \[.*\] but the optimizers \[.*\]; give both"
    ):
        learn(method, images(1))
    assert not method.has_learned


def test_a_loss_is_averaged_over_images_not_over_batches() -> None:
    class Counting(Diary):
        def training_loss(self, images: Tensor) -> Tensor:
            return images.mean() + 0 * self.weight.sum()

    history = learn(Counting(epochs=2), images(9))  # three batches of 3
    mean = float(images(9).mean(dtype=np.float64))
    assert [epoch.keys() for epoch in history.losses] == [{"loss"}, {"loss"}]
    for epoch in history.losses:
        assert epoch["loss"] == pytest.approx(mean, rel=1e-4)


class Duel(Method):
    """Two losses over one graph: each optimizer must move its own number only, both from the same start."""

    epochs = 2

    def build(self) -> None:
        self.a = nn.Parameter(torch.tensor(1.0))
        self.b = nn.Parameter(torch.tensor(2.0))

    def training_loss(self, images: Tensor) -> Mapping[str, Tensor]:
        product = self.a * self.b
        return {"a": product**2, "b": product + self.b**2}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {name: torch.optim.SGD([getattr(self, name)], lr=0.125) for name in ("b", "a")}


def test_two_optimizers_each_lower_their_own_loss() -> None:
    method = Duel()
    history = learn(method, images(1))
    a, b = 1.0, 2.0
    for epoch in history.losses:
        assert epoch == {"a": pytest.approx((a * b) ** 2), "b": pytest.approx(a * b + b**2)}
        a, b = a - 0.125 * 2 * a * b**2, b - 0.125 * (a + 2 * b)
    assert (method.a.item(), method.b.item()) == pytest.approx((a, b))


class Rests(Duel):
    """`a` is only moved by every third loss, and is not in the first."""

    epochs = 7
    calls = 0

    def training_loss(self, images: Tensor) -> Mapping[str, Tensor]:
        self.calls += 1
        losses = {"a": self.a**2, "b": self.b**2}
        return losses if self.calls % 3 == 0 else {"b": losses["b"]}


def test_an_optimizer_without_a_loss_rests() -> None:
    method = Rests()
    history = learn(method, images(1))
    assert method.a.item() == pytest.approx(0.75**2)
    assert method.b.item() == pytest.approx(2 * 0.75**7)
    assert [sorted(epoch) for epoch in history.losses] == [["b"], ["b"], ["a", "b"]] * 2 + [["b"]]
    assert [epoch["a"] for epoch in history.losses if "a" in epoch] == pytest.approx([1.0, 0.75**2])


def test_a_loss_given_now_and_then_is_averaged_over_its_own_images() -> None:
    class Alternates(Diary):
        calls = 0

        def training_loss(self, images: Tensor) -> Mapping[str, Tensor]:
            self.calls += 1
            losses = {"a": 0 * self.weight.sum() + self.calls, "b": 0 * self.weight.sum() + 10}
            return losses if self.calls % 2 else {"b": losses["b"]}

        def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
            return {name: torch.optim.SGD([self.weight], lr=1.0) for name in ("a", "b")}

    history = learn(Alternates(epochs=1), images(12))  # three batches of 4
    assert history.losses == [{"a": pytest.approx(2.0), "b": pytest.approx(10.0)}]


def test_gradients_reach_the_minimum() -> None:
    """Adam at its default rate walks 1e-3 a step, so 400 steps reach a mean that is 0.1 away."""
    method = Diary(epochs=400)
    grey = np.full((2, 3, 8, 8), 0.1, np.float32)
    grey[0, 0, 0, :2] += 0.01, -0.01  # equal images are refused
    losses = [epoch["loss"] for epoch in learn(method, grey).losses]
    assert losses[0] == pytest.approx(0.01)
    assert losses[-1] < 1e-5
    assert all(later < earlier for earlier, later in pairwise(losses[:80]))
    assert method.weight.item() == pytest.approx(0.1, abs=3e-3)


def test_frozen_parameters_are_not_in_the_default_optimizer() -> None:
    class Frozen(Diary):
        epochs = 1

        def build(self) -> None:
            super().build()
            self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)

    method = Frozen()
    learn(method, images(2))
    assert torch.equal(method.fixed, torch.ones(2))
    assert method.weight.item() != 0
