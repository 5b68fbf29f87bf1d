from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.errors import MethodError
from blemish.methods.arguments import argument
from blemish.methods.base import Method
from blemish.training import learn
from blemish.types import Prediction

Arrays = NDArray[np.float32]


def images(count: int) -> Arrays:
    return np.random.default_rng(0).normal(size=(count, 3, 8, 8)).astype(np.float32)


class Diary(Method):
    """Writes down what happens to it."""

    batch_size = 4
    epochs: int = argument(0, "Passes.")

    def build(self) -> None:
        self.diary: list[tuple[str, list[int], bool, bool]] = []
        self.weight = nn.Parameter(torch.zeros(1))

    def note(self, hook: str, passed: Iterable[Tensor]) -> None:
        counts = [len(images) for images in passed]
        self.diary.append((hook, counts, torch.is_grad_enabled(), self.training))

    def collect(self, batches: Iterable[Tensor]) -> None:
        self.note("collect", batches)

    def prepare(self, images: Tensor) -> tuple[Tensor, ...]:
        self.note("prepare", [images])
        return (images,)

    def training_loss(self, images: Tensor) -> Tensor | Mapping[str, Tensor]:
        self.note("training_loss", [images])
        return (self.weight - images.mean()).square().sum()

    def finish(self, batches: Iterable[Tensor]) -> None:
        self.note("finish", batches)

    def forward(self, images: Tensor) -> Prediction[Tensor]:
        grid = images.mean(1) - self.weight
        return Prediction(grid.flatten(1).amax(1), grid)


def test_hooks_come_in_order_with_gradients_only_for_the_loss() -> None:
    method = Diary(epochs=2)
    assert not method.has_learned
    learn(method, images(7), batch_size=5)
    epoch = [("training_loss", [4], True, True), ("training_loss", [3], True, True)]
    assert method.diary == [
        ("collect", [5, 2], False, False),
        ("prepare", [5], False, False),
        ("prepare", [2], False, False),
        *epoch,
        *epoch,
        ("finish", [5, 2], False, False),
    ]
    assert method.has_learned
    assert not method.training


def test_a_method_without_epochs_never_descends() -> None:
    method = Diary()
    assert learn(method, images(7)).losses == []
    assert [entry[0] for entry in method.diary] == ["collect", "finish"]


def test_each_phase_reports_its_progress() -> None:
    calls: list[tuple[object, ...]] = []
    learn(Diary(epochs=2), images(8), batch_size=3, progress=lambda *what: calls.append(what[:3]))
    assert calls == [
        *(("collecting", done, 3) for done in (1, 2, 3)),
        *(("preparing", done, 8) for done in (3, 6, 8)),
        *(("training", done, 4) for done in (1, 2, 3, 4)),
        *(("finishing", done, 3) for done in (1, 2, 3)),
    ]


def test_hooks_may_report_what_lasts() -> None:
    class Slow(Diary):
        def collect(self, batches: Iterable[Tensor]) -> None:
            super().collect(batches)
            self.progress("thinking", 1, None)

    calls: list[str] = []
    method = Slow()
    learn(method, images(1), progress=lambda phase, *_: calls.append(phase))
    assert calls == ["collecting", "thinking", "finishing"]
    method.progress("thinking", 2, None)
    assert len(calls) == 3, "the method still reports to whoever ran the hooks"


class Drawing(Diary):
    """Draws random numbers in every hook."""

    epochs = 1

    def build(self) -> None:
        super().build()
        self.drawn: Tensor
        self.register_buffer("drawn", torch.empty(0))

    def collect(self, batches: Iterable[Tensor]) -> None:
        super().collect(batches)
        self.drawn = torch.rand(3)

    def training_loss(self, images: Tensor) -> Tensor:
        self.drawn = torch.cat([self.drawn, torch.rand(3)])
        return self.weight.sum()


def test_the_seed_decides_and_the_global_generator_stays() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        method = Drawing()
        learn(method, images(8), seed=seed)
        drawn.append(method.drawn)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(1)  # whatever was drawn before does not matter
        state = torch.get_rng_state()
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    torch.manual_seed(0)
    assert torch.equal(drawn[0], torch.cat([torch.rand(3) for _ in range(3)]))


def test_the_generator_stays_when_a_hook_fails() -> None:
    class Failing(Diary):
        def finish(self, batches: Iterable[Tensor]) -> None:
            torch.rand(1)
            raise RuntimeError("no")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="no"):
        learn(Failing(), images(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_on_the_cpu_no_other_device_is_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[object] = []
    original = torch.random.fork_rng

    def fork(devices: Any = None, **rest: Any) -> Any:
        forked.append(devices)
        return original(devices, **rest)

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    learn(Diary(), images(1))
    assert forked == [[]], "None stands for every device there is"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_its_generator_is_seeded_and_stays() -> None:
    class OnDevice(Diary):
        def collect(self, batches: Iterable[Tensor]) -> None:
            self.drawn = torch.rand(3, device=next(iter(batches)).device)

    first, second = OnDevice(), OnDevice()
    learn(first, images(2), seed=3, device="cuda")
    state = torch.cuda.get_rng_state()
    learn(second, images(2), seed=3, device="cuda")
    assert torch.equal(first.drawn, second.drawn)
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_no_image_is_a_clear_error() -> None:
    with pytest.raises(MethodError, match=r"no image to learn from\. Give at least one normal image"):
        learn(Diary(epochs=1), images(0))


def test_a_method_with_epochs_must_have_a_loss() -> None:
    class Lossless(Method):
        epochs = 3

        def build(self) -> None:
            self.weight = nn.Parameter(torch.zeros(1))

    with pytest.raises(NotImplementedError, match="Lossless trains but has no training_loss"):
        learn(Lossless(), images(1))


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
