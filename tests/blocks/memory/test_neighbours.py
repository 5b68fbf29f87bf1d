import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from blemish.blocks.memory import neighbours, pruned_search
from blemish.blocks.memory.neighbours import NearestNeighbours
from blemish.blocks.memory.pruned_search import PrunedSearch
from blemish.blocks.memory.pruned_search_kernels import LIFTED

WIDTH = LIFTED + 24
"""Wide enough to be lifted."""


def clustered(count: int, seed: int, width: int = WIDTH, spread: float = 0.3) -> Tensor:
    """Points near a few directions, as patches of a product are; a third of them stand twice."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(12, width, generator=generator)
    points = centres[torch.randint(12, (count,), generator=generator)]
    points = points + spread * torch.randn(count, 8, generator=generator) @ torch.randn(
        8, width, generator=generator
    )
    points[: count // 3] = points[count // 3 : 2 * (count // 3)]
    return points[torch.randperm(count, generator=generator)]


def built(points: Tensor) -> NearestNeighbours:
    bank = NearestNeighbours()
    torch.manual_seed(0)
    order = bank.build(points)
    assert torch.equal(bank.points, points[order])
    return bank


def exact(queries: Tensor, points: Tensor) -> Tensor:
    """Distances to the nearest point, one difference at a time, in double precision."""
    return torch.stack(
        [(points.double() - query.double()).square().sum(1).amin() for query in queries]
    ).sqrt()


def assert_nearest(bank: NearestNeighbours, queries: Tensor) -> None:
    distances, indices = bank.nearest(queries)
    expected = exact(queries, bank.points)
    reached = (queries.double() - bank.points[indices].double()).square().sum(1).sqrt()
    assert torch.allclose(reached, expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(distances.double(), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**31))
def test_few_or_narrow_points_are_compared_exactly(queries: int, rows: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    bank = built(torch.randn(rows, width, generator=generator))
    assert not bank.pruned.radii.numel()
    assert_nearest(bank, torch.randn(queries, width, generator=generator))


@settings(deadline=None, max_examples=15)
@given(st.integers(1100, 2000), st.integers(0, 2**31), st.floats(0, 3), st.floats(1e-3, 1e3))
def test_pruning_finds_the_nearest_whatever_the_points(
    count: int, seed: int, noise: float, scale: float
) -> None:
    bank = built(scale * clustered(count, seed))
    assert bank.pruned.radii.numel()
    generator = torch.Generator().manual_seed(seed + 1)
    near = bank.points[torch.randint(count, (40,), generator=generator)]
    assert_nearest(bank, near + scale * noise * torch.randn(near.shape, generator=generator) / WIDTH**0.5)


def test_a_point_is_at_distance_zero_of_itself_far_from_the_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "FEWEST_TO_PRUNE", 100)
    bank = built(1000 + torch.randn(150, WIDTH, generator=torch.Generator().manual_seed(0)))
    distances, indices = bank.nearest(bank.points)
    assert torch.equal(indices, torch.arange(150))
    assert not distances.any()


def test_queries_that_give_up_are_compared_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruned_search, "QUERIES_AT_ONCE", 37)
    bank = built(
        torch.randn(1500, WIDTH, generator=torch.Generator().manual_seed(0))
    )  # nothing can be pruned
    queries = torch.randn(100, WIDTH, generator=torch.Generator().manual_seed(1))
    assert bank.pruned.search(queries, bank.points, 1)[2].any()
    assert_nearest(bank, queries)


def test_nearly_all_of_a_product_s_points_are_ruled_out() -> None:
    bank = built(clustered(4000, 0))
    _, _, gave_up = bank.pruned.search(bank.points[:200] + 0.01, bank.points, 1)
    assert not gave_up.any()


def test_blocks_give_the_same_as_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = built(torch.randn(37, 16, generator=torch.Generator().manual_seed(0)))
    queries = torch.randn(101, 16, generator=torch.Generator().manual_seed(1))
    whole, lists = bank.nearest(queries)[1], bank.lists(5)
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 37 * 10)
    assert torch.equal(whole, bank.nearest(queries)[1])
    assert torch.equal(lists, bank.lists(5))


@pytest.mark.parametrize("count", [80, 1300])
def test_lists_equal_scikit_learn_with_the_point_itself_first(count: int) -> None:
    points = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(3))
    points[:, 20:] *= 0.01
    bank = built(points)
    expected = NearestNeighbors(n_neighbors=9).fit(bank.points.numpy()).kneighbors(bank.points.numpy())[1]
    assert np.array_equal(bank.lists(9).numpy(), expected)
    assert np.array_equal(bank.lists(1).numpy(), np.arange(count)[:, None])


@pytest.mark.parametrize("count", [6, 1200])
def test_among_copies_the_lists_still_hold_the_point_itself_first(count: int) -> None:
    lists = built(torch.ones(count, WIDTH)).lists(3)
    assert torch.equal(lists[:, 0], torch.arange(count))
    assert all(len(set(row)) == 3 for row in lists.tolist())


@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_covers_says_whether_a_point_is_within_the_radius(spread: float) -> None:
    bank = built(clustered(1500, 4, spread=spread))
    queries = clustered(300, 5, spread=spread) * 0.9
    distances = exact(queries, bank.points)
    for radius in distances.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist():
        radius *= 1 + 1e-5
        assert torch.equal(bank.covers(queries, radius), distances < radius)


def test_threads_and_saved_buffers_do_not_change_the_result() -> None:
    bank = built(clustered(1500, 6))
    queries = clustered(200, 7)
    again = NearestNeighbours()
    for name, buffer in bank.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(again.get_submodule(owner), leaf, buffer.clone())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = again.nearest(queries)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(found, bank.nearest(queries), strict=True))


@pytest.mark.parametrize("name", [name for name, _ in PrunedSearch().named_buffers()])
def test_an_index_that_does_not_fit_its_points_is_refused_before_the_compiled_loop(name: str) -> None:
    bank = built(clustered(1500, 6))
    sound = getattr(bank.pruned, name)
    for hostile in (sound[:-1], sound.to(torch.float64) if name != "starts" else sound + 10**9):
        setattr(bank.pruned, name, hostile)
        with pytest.raises(ValueError, match="the index does not fit the points"):
            bank.nearest(bank.points[:3])


def test_queries_of_nan_do_not_hang_or_crash() -> None:
    bank = built(clustered(1500, 6))
    queries = bank.points[:5].clone()
    queries[2] = torch.nan
    distances, _ = bank.nearest(queries)
    assert torch.isnan(distances).tolist() == [False, False, True, False, False]


def test_nearest_allowed_equals_brute_force_and_falls_back_to_the_farthest() -> None:
    generator = torch.Generator().manual_seed(4)
    points, queries = (torch.randn(n, 7, generator=generator) for n in (50, 20))
    search = NearestNeighbours()
    search.build(points)
    masks = [torch.rand(20, 50, generator=generator) < share for share in (0.1, 0.5)]
    masks[0][3] = False
    found = search.nearest_allowed(queries, masks)
    for mask, distances in zip(masks, found, strict=True):
        for query in range(20):
            every = [math.dist(queries[query].tolist(), point) for point in search.points.tolist()]
            allowed = [d for d, is_allowed in zip(every, mask[query].tolist(), strict=True) if is_allowed]
            expected = min(allowed) if allowed else max(every)
            assert float(distances[query]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("count", "spread"), [(50, 0.3), (3000, 0.3), (3000, 30.0)])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_nearest_among_some_points_equals_brute_force(count: int, spread: float, share: float) -> None:
    """With a large spread, no bound rules out many points, so that queries give up."""
    bank = built(clustered(count, 0, spread=spread))
    allowed = torch.rand(count, generator=torch.Generator().manual_seed(1)) < share
    allowed[count // 2] = True
    queries = torch.cat([bank.points[:40], clustered(60, 2, spread=spread)])
    indices = bank.nearest_among(queries, allowed)
    assert allowed[indices].all()
    reached = (queries.double() - bank.points[indices].double()).square().sum(1).sqrt()
    assert torch.allclose(reached, exact(queries, bank.points[allowed]), rtol=1e-4, atol=1e-4)
    assert bank.points.isfinite().all()
