import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.blocks.sampling import evenly_spaced
from blemish.errors import MethodError


def stream(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1)


@settings(deadline=None, max_examples=60)
@given(count=st.integers(1, 90), capacity=st.integers(1, 20), batch=st.integers(1, 7))
def test_kept_images_are_few_enough_and_evenly_spaced(count: int, capacity: int, batch: int) -> None:
    kept = evenly_spaced(torch.split(stream(count), batch), capacity).flatten().tolist()
    step = 1
    while len(range(0, count, step)) > capacity:
        step *= 2
    assert kept == list(range(0, count, step))


def test_all_images_are_kept_if_they_fit() -> None:
    assert torch.equal(evenly_spaced([stream(5)], 5), stream(5))


def test_an_empty_stream_is_an_error() -> None:
    with pytest.raises(MethodError, match="no image to learn from"):
        evenly_spaced([], 4)
