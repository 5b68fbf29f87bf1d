import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.blocks.quantile_scale import QuantileScale


def fitted(*parts: torch.Tensor, capacity: int = 2**20) -> QuantileScale:
    scale = QuantileScale(capacity)
    for part in parts:
        scale.update(part)
    scale.finish()
    return scale


@settings(deadline=None, max_examples=30)
@given(count=st.integers(2, 500), spread=st.sampled_from([1e-3, 1.0, 1e4]), seed=st.integers(0, 1000))
def test_the_quantiles_come_to_lie_at_0_and_a_tenth(count: int, spread: float, seed: int) -> None:
    values = spread * torch.rand(count, generator=torch.Generator().manual_seed(seed))
    low, high = np.quantile(values.double().numpy(), [0.9, 0.995])
    scale = fitted(values[: count // 2], values[count // 2 :])
    found = scale(torch.tensor([low, high, 2 * high - low], dtype=torch.float32))
    assert found.tolist() == pytest.approx([0.0, 0.1, 0.2], abs=2e-4)


def test_exactly_on_values_that_are_quantiles_themselves() -> None:
    scale = fitted(torch.arange(1001.0).flip(0))
    assert scale.quantiles.tolist() == [900.0, 995.0]
    assert scale(torch.tensor([900.0, 995.0])).tolist() == [0.0, pytest.approx(0.1, abs=1e-8)]


def test_memory_is_bounded_and_the_quantiles_nearly_the_same() -> None:
    torch.manual_seed(0)
    values = torch.rand(40, 64, 50).square()  # 128 000
    scale = QuantileScale(capacity=10_000)
    for part in values:
        scale.update(part)
        assert sum(kept.numel() for kept in scale._sample) <= 10_000
    scale.finish()
    assert scale.quantiles.tolist() == pytest.approx([0.81, 0.990], abs=0.02)
    assert not scale._sample


def test_later_values_weigh_as_much_as_earlier_ones_beyond_the_capacity() -> None:
    torch.manual_seed(0)
    scale = fitted(*[torch.full((1000,), float(i)) for i in range(100)], capacity=4096)
    assert scale.quantiles.tolist() == pytest.approx([90.0, 99.0], abs=1.6)


def test_one_update_may_be_larger_than_the_capacity() -> None:
    torch.manual_seed(0)
    scale = fitted(torch.rand(50_000), capacity=5_000)
    assert scale.quantiles.tolist() == pytest.approx([0.9, 0.995], abs=0.02)


def test_constant_values_do_not_divide_by_zero() -> None:
    assert fitted(torch.ones(50))(torch.ones(3)).tolist() == [0.0, 0.0, 0.0]


def test_the_quantiles_are_saved_with_the_model() -> None:
    assert "quantiles" in fitted(torch.rand(10)).state_dict()
