"""The hooks of a method: their order, gradients, progress and random numbers."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blemish.errors import MethodError
from blemish.methods.base import Method
from blemish.training import learn
from diary_method import Diary, images


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


def test_of_two_threads_with_one_method_one_is_refused() -> None:
    method, may_start, has_begun = Diary(epochs=2), Event(), Event()

    def wait(*_: object) -> None:
        has_begun.set()
        assert may_start.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(learn, method, images(7), batch_size=5, progress=wait)
        assert has_begun.wait(60)
        with pytest.raises(MethodError, match=r"^Diary is learning already"):
            learn(method, images(7), batch_size=5)
        may_start.set()
        first.result()
    assert [entry[0] for entry in method.diary].count("finish") == 1
    with pytest.raises(MethodError, match=r"^Diary has learned already"):
        learn(method, images(7))


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
