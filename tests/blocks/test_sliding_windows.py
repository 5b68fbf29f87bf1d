from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.blocks.sliding_windows import covering_starts, cut_windows, merge_windows, random_windows
from blemish.errors import MethodError

sides = st.integers(2, 12)
sizes = st.tuples(st.integers(12, 40), st.integers(12, 40))


@given(sizes, sides)
@settings(deadline=None)
def test_windows_cover_every_pixel_and_overlap_by_half(size: tuple[int, int], side: int) -> None:
    for starts, length in zip(covering_starts(size, side), size, strict=True):
        assert starts[0] == 0
        assert starts[-1] == length - side
        assert all(0 < b - a <= -(-side // 2) for a, b in pairwise(starts))


def test_windows_of_an_image_follow_one_another_row_by_row() -> None:
    images = torch.arange(2 * 6 * 6).view(2, 1, 6, 6)
    windows = cut_windows(images, 4)
    assert windows.shape == (8, 1, 4, 4)
    assert windows[:, 0, 0, 0].tolist() == [0, 2, 12, 14, 36, 38, 48, 50]


@given(sizes, sides)
@settings(deadline=None, max_examples=30)
def test_what_was_cut_is_merged_to_what_it_was(size: tuple[int, int], side: int) -> None:
    images = torch.arange(2 * size[0] * size[1], dtype=torch.float64).view(2, 1, *size)
    merged = merge_windows(cut_windows(images, side)[:, 0], size)
    torch.testing.assert_close(merged, images[:, 0])


def test_overlaps_are_averaged() -> None:
    windows = (
        torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1).expand(3, 2, 2)
    )  # at columns 0, 1 and 2 of one image
    expected = torch.tensor([1.0, 1.5, 3.0, 4.0]).expand(1, 2, 4)
    torch.testing.assert_close(merge_windows(windows, (2, 4)), expected)


def test_one_window_is_the_image() -> None:
    image = torch.rand(2, 3, 5, 5)
    assert covering_starts((5, 5), 5) == ([0], [0])
    assert torch.equal(cut_windows(image, 5), image)


def test_random_windows_come_from_all_places_and_from_their_own_image() -> None:
    places = torch.arange(6 * 7).view(1, 1, 6, 7)
    images = torch.cat([places, places + 1000]).float()
    torch.manual_seed(0)
    corners = set()
    for _ in range(200):
        first, second = random_windows(images, 4)
        assert first.shape == (1, 4, 4)
        top, left = divmod(int(first[0, 0, 0]), 7)
        assert torch.equal(first, images[0, :, top : top + 4, left : left + 4])
        assert float(second.min()) >= 1000
        corners.add((top, left))
    assert len(corners) == 3 * 4


def test_an_image_smaller_than_a_window_is_an_error() -> None:
    with pytest.raises(MethodError, match="An image of 8 × 3 pixels is smaller than the 4 × 4 of a window"):
        random_windows(torch.rand(1, 3, 8, 3), 4)
