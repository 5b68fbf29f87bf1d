import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from blemish.blocks.hard_mining import hard_mining_mean


def by_sorting(values: Tensor, quantile: float) -> float:
    flat = np.sort(values.double().numpy().ravel())
    return float(flat[flat >= np.quantile(flat, quantile)].mean())


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)),
    levels=st.sampled_from([2, 5, 10_000]),  # few levels: many ties
    quantile=st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99, 0.999]),
    seed=st.integers(0, 1000),
)
def test_equals_the_mean_of_the_elements_above_the_quantile_by_sorting(
    shape: tuple[int, ...], levels: int, quantile: float, seed: int
) -> None:
    values = torch.randint(levels, shape, generator=torch.Generator().manual_seed(seed)).float() / 8
    assert float(hard_mining_mean(values, quantile)) == pytest.approx(by_sorting(values, quantile), rel=1e-5)


def test_a_thousandth_of_a_real_map_is_what_is_averaged() -> None:
    values = torch.rand(1, 384, 56, 56, generator=torch.Generator().manual_seed(0))
    assert float(hard_mining_mean(values, 0.999)) == pytest.approx(by_sorting(values, 0.999), rel=1e-6)


def test_ties_at_the_threshold_all_count() -> None:
    values = torch.tensor([0.0, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 7.0], requires_grad=True)
    loss = hard_mining_mean(values, 0.8)
    assert loss.item() == pytest.approx((7 * 3.0 + 7.0) / 8)
    loss.backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 0.0] + [0.125] * 8


def test_quantile_zero_is_the_plain_mean() -> None:
    values = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert float(hard_mining_mean(values, 0.0)) == pytest.approx(float(values.mean()))
