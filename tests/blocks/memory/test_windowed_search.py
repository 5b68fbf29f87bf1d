import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.memory.windowed_search import windowed_distance


def unit_vectors(count: int, seed: int) -> Tensor:
    return functional.normalize(
        torch.randn(count, 3, 5, 7, generator=torch.Generator().manual_seed(seed)), dim=1
    )


@pytest.mark.parametrize("window", [1, 3, 5])
def test_the_distance_is_that_of_a_search_over_references_rows_and_columns(window: int) -> None:
    maps, references = unit_vectors(2, 0), unit_vectors(6, 1)
    which = torch.tensor([[0, 4, 2], [5, 1, 3]])
    found = windowed_distance(maps, references, which, window)
    reach = window // 2
    for n in range(2):
        for y in range(5):
            for x in range(7):
                nearest = min(
                    1 - float(maps[n, :, y, x] @ references[m, :, v, u])
                    for m in which[n].tolist()
                    for v in range(max(0, y - reach), min(5, y + reach + 1))
                    for u in range(max(0, x - reach), min(7, x + reach + 1))
                )
                assert float(found[n, y, x]) == pytest.approx(nearest, abs=1e-6)


def test_cells_beyond_the_border_are_never_the_nearest() -> None:
    """Where all cells are opposite to the image's, zeros beyond the border would be nearer."""
    maps = unit_vectors(1, 0)[:, :, :1, :1].expand(-1, -1, 4, 4)
    assert torch.allclose(windowed_distance(maps, -maps, torch.tensor([[0]]), 3), torch.full((1, 4, 4), 2.0))


def test_references_of_half_precision_are_compared_in_the_precision_of_the_maps() -> None:
    maps, references = unit_vectors(1, 0), unit_vectors(2, 1)
    which = torch.tensor([[0, 1]])
    found = windowed_distance(maps, references.half(), which, 3)
    assert found.dtype == torch.float32
    assert torch.allclose(found, windowed_distance(maps, references, which, 3), atol=1e-3)


def test_all_references_at_once_as_in_an_exported_graph_give_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps, references, which = unit_vectors(2, 0), unit_vectors(6, 1), torch.tensor([[0, 4, 2], [5, 1, 3]])
    expected = windowed_distance(maps, references, which, 3)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(windowed_distance(maps, references, which, 3), expected)
