import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from blemish.blocks import neighbours
from blemish.blocks.neighbours import nearest, neighbour_lists


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**31))
def test_nearest_equals_brute_force(queries: int, rows: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(queries, width, generator=generator)
    bank = torch.randn(rows, width, generator=generator)
    distances, indices = nearest(q, bank, bank.square().sum(1))
    expected = torch.cdist(q.double(), bank.double())
    assert torch.allclose(distances.double(), expected.amin(1), atol=1e-5)
    assert torch.allclose(expected[torch.arange(queries), indices], expected.amin(1), atol=1e-5)


def test_blocks_give_the_same_as_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    q, bank = torch.randn(101, 16, generator=generator), torch.randn(37, 16, generator=generator)
    norms = bank.square().sum(1)
    whole = nearest(q, bank, norms)
    lists = neighbour_lists(bank, norms, 5)
    monkeypatch.setattr(neighbours, "BLOCK_NUMBERS", 37 * 10)
    blocked = nearest(q, bank, norms)
    assert torch.equal(whole[1], blocked[1])
    assert torch.allclose(whole[0], blocked[0])
    assert torch.equal(lists, neighbour_lists(bank, norms, 5))


def test_distance_of_a_bank_row_to_itself_is_exactly_zero() -> None:
    bank = 1000 + torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    distances, indices = nearest(bank, bank, bank.square().sum(1))
    assert torch.equal(
        distances[indices == torch.arange(50)], torch.zeros(int((indices == torch.arange(50)).sum()))
    )


def test_neighbour_lists_equal_scikit_learn_with_the_row_itself_first() -> None:
    bank = torch.randn(80, 10, generator=torch.Generator().manual_seed(3))
    found = neighbour_lists(bank, bank.square().sum(1), 9).numpy()
    expected = (
        NearestNeighbors(n_neighbors=9).fit(bank.numpy()).kneighbors(return_distance=True, X=bank.numpy())[1]
    )
    assert np.array_equal(found, expected)
    assert np.array_equal(found[:, 0], np.arange(80))


def test_copies_in_the_bank_still_list_the_row_itself_first() -> None:
    lists = neighbour_lists(torch.ones(6, 4), torch.full((6,), 4.0), 3)
    assert torch.equal(lists[:, 0], torch.arange(6))
