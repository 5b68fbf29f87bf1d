import pytest
import torch

from blemish.blocks.grid_border import border, cell_numbers, inner_cells, repeat_edge, without_border


@pytest.mark.parametrize(("side", "expected"), [(1, 0), (2, 0), (3, 1), (5, 1), (32, 1), (60, 2), (90, 3)])
def test_the_border_is_a_thirtieth_of_the_side(side: int, expected: int) -> None:
    assert border(side) == expected


def test_inner_cells_are_numbered_row_by_row_in_the_whole_grid() -> None:
    grid = torch.arange(6 * 7).view(1, 6, 7)
    expected = [7 * row + column for row in (1, 2, 3, 4) for column in (1, 2, 3, 4, 5)]
    assert cell_numbers(grid).tolist() == expected
    assert inner_cells(grid).flatten().tolist() == expected


def test_the_border_repeats_the_nearest_inner_cell() -> None:
    grid = torch.rand(2, 6, 7)
    found = repeat_edge(inner_cells(grid), grid)
    for row in range(6):
        for column in range(7):
            nearest = grid[:, min(max(row, 1), 4), min(max(column, 1), 5)]
            assert torch.equal(found[:, row, column], nearest)


def test_of_an_image_that_shows_in_the_border_only_all_inner_cells_count() -> None:
    inside = torch.zeros(2, 6, 7, dtype=torch.bool)
    inside[0, :, 3] = True
    inside[1, 0] = True
    patches, counted = without_border(torch.rand(2, 6, 7, 4), inside)
    assert patches.shape == (2, 4, 5, 4)
    assert counted[0].tolist() == [[False, False, True, False, False]] * 4
    assert counted[1].all()
