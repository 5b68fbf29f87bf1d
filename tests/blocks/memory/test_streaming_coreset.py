import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blemish.blocks.memory import epsilon_net, streaming_coreset
from blemish.blocks.memory.coreset import greedy_coreset
from blemish.blocks.memory.pruned_search import principal_basis
from blemish.blocks.memory.streaming_coreset import StreamingCoreset


def product(count: int, seed: int = 0, width: int = 40) -> Tensor:
    """Patches as a product has them: many alike, few apart, all in few dimensions."""
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(10, 6, generator=generator)
    which = torch.randint(10, (count,), generator=generator).clamp_max(7)
    inner = centres[which] + torch.randn(count, 6, generator=generator)
    basis: Tensor = torch.linalg.qr(torch.randn(width, 6, generator=generator))[0]
    return inner @ basis.T


@pytest.fixture
def small_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of a few thousand patches then goes through every stage of a long one."""
    for name, value in (("SAMPLE", 1024), ("CHUNK", 128), ("SUBSAMPLE", 256)):
        monkeypatch.setattr(streaming_coreset, name, value)
    monkeypatch.setattr(epsilon_net, "CHUNK", 128)


def grow(
    patches: Tensor, batch: int = 300, *, seed: int = 0, expected: int | None = None, **budget: float | int
) -> tuple[StreamingCoreset, Tensor, Tensor]:
    torch.manual_seed(seed)
    stream = StreamingCoreset(expected or len(patches), **budget)  # type: ignore[arg-type]
    origins = torch.arange(len(patches))[:, None].expand(-1, 3)
    for start in range(0, len(patches), batch):
        stream.add(patches[start : start + batch], origins[start : start + batch])
    centres, places = stream.finish()
    assert torch.equal(patches[places[:, 0]], centres)
    assert places.shape == (len(centres), 3)
    return stream, centres, places[:, 0]


def covering_radius(patches: Tensor, centres: Tensor) -> float:
    return float(torch.cdist(patches.double(), centres.double()).amin(1).max())


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("ratio", [0.02, 0.1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_net_covers_nearly_as_well_as_greedy_with_as_many(ratio: float, seed: int) -> None:
    patches = product(8000, seed)
    _, centres, _ = grow(patches, ratio=ratio, seed=seed)
    budget = round(ratio * len(patches))
    assert 0.6 * budget <= len(centres) <= budget
    torch.manual_seed(0)
    greedy = patches[greedy_coreset(patches, budget)]
    assert covering_radius(patches, centres) <= 1.35 * covering_radius(patches, greedy)


@pytest.mark.usefixtures("small_sample")
def test_until_it_is_thinned_every_patch_is_within_the_radius_and_centres_are_farther_apart() -> None:
    patches = product(3000)
    stream = StreamingCoreset(3000, size=10**6)
    stream.expected = 10**9  # no look ahead, no lowering
    stream.net = epsilon_net.EpsilonNet(1.0, principal_basis(product(500, 1, width=200)))
    wide = torch.cat([patches, patches.new_zeros(3000, 160)], 1)
    stream.next_look = 10**9
    for part in wide.split(170):
        stream.add(part, torch.zeros(len(part), 3, dtype=torch.int64))
    centres, _ = stream.finish()
    assert covering_radius(wide, centres) <= 1.0 + 1e-5
    assert float(torch.pdist(centres.double()).min()) > 1.0 - 1e-5


@pytest.mark.usefixtures("small_sample")
def test_the_batches_patches_come_in_do_not_matter_and_the_seed_decides() -> None:
    patches = product(5000)
    first = grow(patches, 37, ratio=0.05)[2]
    assert torch.equal(first, grow(patches, 512, ratio=0.05)[2])
    assert torch.equal(first, grow(patches, 5000, ratio=0.05)[2])
    assert not torch.equal(first, grow(patches, 512, ratio=0.05, seed=1)[2])


def test_few_patches_are_chosen_by_exact_greedy() -> None:
    patches = product(600)
    _, _, chosen = grow(patches, ratio=0.1)
    torch.manual_seed(0)
    assert torch.equal(chosen, greedy_coreset(patches, 60))


@pytest.mark.usefixtures("small_sample")
@pytest.mark.parametrize("expected", [2000, 6000, 60000])
def test_the_budget_holds_even_when_the_first_patches_mislead(expected: int) -> None:
    """All alike at first, then of every kind; and fewer or more of them than was said."""
    patches = torch.cat([product(1500) * 0.05, product(4500, 3) * 2])
    stream, centres, _ = grow(patches, size=200, expected=expected)
    assert len(centres) <= 200
    assert stream.seen == 6000
    torch.manual_seed(0)
    greedy = patches[greedy_coreset(patches, len(centres))]
    assert covering_radius(patches, centres) <= 2.5 * covering_radius(patches, greedy)


@pytest.mark.usefixtures("small_sample")
def test_memory_is_bounded_by_budget_chunk_and_sample() -> None:
    patches = product(20000)
    stream = StreamingCoreset(3000, size=150)
    most = 0
    for part in patches.split(100):
        stream.add(part, torch.zeros(len(part), 3, dtype=torch.int64))
        most = max(most, len(stream.waiting[0]) + (len(stream.net) if stream.net else 0))
    assert most <= max(streaming_coreset.SAMPLE, streaming_coreset.OVERFLOW * 150 + epsilon_net.CHUNK) + 100


@pytest.mark.usefixtures("small_sample")
def test_patches_that_are_all_alike_leave_few() -> None:
    stream, centres, _ = grow(torch.ones(3000, 8), ratio=0.1)
    assert len(centres) <= stream.budget


@settings(deadline=None, max_examples=30)
@given(st.floats(0.2, 0.95), st.integers(1, 64))
def test_growth_by_a_power_is_foreseen_exactly(power: float, times: int) -> None:
    seen, scale = 2**16, 2000.0
    sizes = np.arange(1, int(scale) + 1)
    arrivals = np.floor(seen * (sizes / scale) ** (1 / power)).astype(np.int64) - 1
    assert streaming_coreset._extrapolated(arrivals, seen, times) == pytest.approx(
        scale * times**power, rel=0.1
    )


def test_a_saturated_net_is_not_expected_to_grow() -> None:
    assert streaming_coreset._extrapolated(np.arange(50), 100_000, 8.0) == 50
