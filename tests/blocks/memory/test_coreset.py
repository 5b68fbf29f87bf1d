import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.blocks.memory import coreset
from blemish.blocks.memory.coreset import (
    PROJECTED,
    START_POINTS,
    GreedyCoreset,
    farthest_first,
    greedy_coreset,
    projection,
)


def naive_greedy(points: Tensor, count: int, first: int) -> list[int]:
    """k-centre greedy by the full distance matrix, in double precision."""
    distances = torch.cdist(points.double(), points.double())
    chosen = [first]
    while len(chosen) < count:
        nearest = distances[:, chosen].amin(1)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return chosen


def test_greedy_equals_the_naive_algorithm() -> None:
    points = torch.randn(300, 24, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    chosen = greedy_coreset(points, 40).tolist()
    assert chosen == naive_greedy(points, 40, chosen[0])


def test_greedy_is_exact_however_few_of_the_farthest_it_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "FARTHEST", 16)
    monkeypatch.setattr(coreset, "ROWS_AT_ONCE", 70)
    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(3))
    chosen = greedy_coreset(points, 200).tolist()
    assert chosen == naive_greedy(points, 200, chosen[0])


def test_with_the_start_kept_it_is_the_greedy_of_the_authors_code() -> None:
    """Their running minimum begins with each point's mean distance to the ten random points."""
    points = torch.randn(300, 24, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    start = torch.randint(300, (START_POINTS,))
    distances = torch.cdist(points.double(), points.double())
    anchor, expected = distances[:, start].mean(1), []
    for _ in range(120):
        expected.append(int(anchor.argmax()))
        anchor = torch.minimum(anchor, distances[:, expected[-1]])
    torch.manual_seed(0)
    found = farthest_first(points, 120, keep_start=True).tolist()
    assert found == expected != naive_greedy(points, 120, expected[0])


def test_first_patch_is_the_farthest_from_ten_random_ones() -> None:
    points = torch.randn(300, 24, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    start = torch.randint(300, (START_POINTS,))
    torch.manual_seed(0)
    first = int(greedy_coreset(points, 1)[0])
    assert first == int(torch.cdist(points, points[start]).mean(1).argmax())


def test_no_patch_is_chosen_twice_even_among_copies() -> None:
    points = torch.ones(50, 8)
    assert greedy_coreset(points, 50).unique().numel() == 50


def test_the_seed_decides_the_selection() -> None:
    points = torch.randn(500, 200, generator=torch.Generator().manual_seed(1))
    selections = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        selections.append(greedy_coreset(points, 20).tolist())
    assert selections[0] == selections[1] != selections[2]


def test_projection_keeps_distances_within_a_fifth_and_narrow_patches_as_they_are() -> None:
    torch.manual_seed(0)
    points = torch.randn(60, 1024)
    ratios = torch.pdist(points @ projection(1024)) / torch.pdist(points)
    assert 0.95 < float(ratios.mean()) < 1.05
    assert float(ratios.std()) < 0.1
    narrow = torch.randn(10, PROJECTED)
    assert torch.equal(narrow @ projection(PROJECTED), narrow)


def test_covering_radius_beats_random_choice() -> None:
    points = torch.randn(1000, 4, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(0)
    greedy = torch.cdist(points, points[greedy_coreset(points, 50)]).amin(1).max()
    random = torch.cdist(points, points[:50]).amin(1).max()
    assert greedy < random


def test_progress_ends_with_the_count() -> None:
    calls = []
    greedy_coreset(torch.randn(200, 4), 150, lambda *call: calls.append(call))
    assert calls[-1] == ("choosing the coreset", 150, 150)


class Rows(list[NDArray[np.float32]]):
    """The simplest store."""

    def append(self, rows: NDArray[np.float32]) -> None:
        self.extend(rows)

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.stack([self[i] for i in indices.tolist()])


@pytest.mark.parametrize("expected", [700, 1000, 10])
def test_a_stream_is_chosen_from_as_all_patches_at_once(expected: int) -> None:
    patches = torch.randn(700, 200, generator=torch.Generator().manual_seed(1))
    origins = torch.arange(700)[:, None]
    torch.manual_seed(0)
    chosen = greedy_coreset(patches, 35)
    for sizes in ((700,), (1, 99, 300, 300)):
        torch.manual_seed(0)
        selection = GreedyCoreset(expected, Rows(), ratio=0.05)
        for part, places in zip(patches.split(sizes), origins.split(sizes), strict=True):
            selection.add(part, places)
        kept, places = selection.finish()
        assert torch.equal(places[:, 0], chosen)
        assert torch.equal(kept, patches[chosen])
