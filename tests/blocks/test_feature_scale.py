import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.blocks.feature_scale import FeatureScale
from blemish.errors import MethodError


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 1),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_equals_numpy_whatever_the_batches(sizes: list[int], width: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(1e3, 2.0, (sum(sizes), width)).astype(np.float32)
    scale = FeatureScale()
    for batch in torch.from_numpy(values).split(sizes):
        scale.add(batch)
    deviations = np.sort(values.astype(np.float64).std(0))
    assert float(scale.compute()) == pytest.approx(deviations[(width - 1) // 2], rel=1e-5)


def test_channels_that_never_vary_do_not_count() -> None:
    scale = FeatureScale()
    scale.add(torch.tensor([[0.0, 0.0, 0.0, -3.0], [0.0, 0.0, 0.0, 3.0]]))
    assert float(scale.compute()) == 3.0


@pytest.mark.parametrize("patches", [torch.ones(5, 3), torch.ones(1, 3), torch.ones(0, 3)])
def test_equal_patches_are_refused(patches: torch.Tensor) -> None:
    scale = FeatureScale()
    scale.add(patches)
    with pytest.raises(
        MethodError, match=r"All patches of the training images are equal.*Give at least one image"
    ):
        scale.compute()
