import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from blemish.blocks.patches import adaptive_mean, local_mean, mean_map, stack_layers


def test_local_mean_counts_zeros_beyond_the_border() -> None:
    features = torch.arange(9.0).reshape(1, 1, 3, 3)
    averaged = local_mean(features, 3)
    assert float(averaged[0, 0, 1, 1]) == pytest.approx(4.0)
    assert float(averaged[0, 0, 0, 0]) == pytest.approx((0 + 1 + 3 + 4) / 9)
    assert torch.equal(local_mean(features, 1), features)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31))
def test_adaptive_mean_equals_torch(inputs: int, outputs: int, seed: int) -> None:
    values = torch.randn(2, inputs, 3, generator=torch.Generator().manual_seed(seed))
    expected = functional.adaptive_avg_pool1d(values.transpose(1, 2), outputs).transpose(1, 2)
    assert torch.allclose(adaptive_mean(values, outputs), expected, atol=1e-5)


def test_mean_map_equals_the_steps_of_the_description() -> None:
    """Flatten (channel, row, column) per patch, average to D, enlarge, concatenate, average again."""
    generator = torch.Generator().manual_seed(0)
    fine, coarse = (
        torch.randn(2, 20, 6, 8, generator=generator),
        torch.randn(2, 36, 3, 4, generator=generator),
    )
    reduced = []
    for features in (fine, coarse):
        n, c, h, w = features.shape
        padded = functional.pad(features, (1, 1, 1, 1))
        patches = torch.stack(
            [padded[:, :, y : y + 3, x : x + 3].reshape(n, c * 9) for y in range(h) for x in range(w)], 1
        )
        reduced.append(functional.adaptive_avg_pool1d(patches, 24).reshape(n, h, w, 24).permute(0, 3, 1, 2))
    enlarged = functional.interpolate(reduced[1], size=(6, 8), mode="bilinear", align_corners=False)
    both = torch.cat([reduced[0], enlarged], 1).permute(0, 2, 3, 1)
    expected = functional.adaptive_avg_pool1d(both.flatten(0, 2), 24).reshape(2, 6, 8, 24).permute(0, 3, 1, 2)
    assert torch.allclose(mean_map([fine, coarse], 3, 24), expected, atol=1e-5)


def test_mean_map_mixes_space_and_half_a_channel() -> None:
    """With 512 channels and 1024 outputs, the first outputs average the numbers 0-4, 4-8, 9-13 of a patch."""
    values = torch.arange(4608.0)[None, :, None]
    assert adaptive_mean(values, 1024)[0, :3, 0].tolist() == [2.0, 6.0, 11.0]


def test_nearest_stacking_repeats_coarse_cells() -> None:
    stacked = stack_layers([torch.zeros(1, 1, 4, 4), torch.arange(4.0).reshape(1, 1, 2, 2)], mode="nearest")
    assert stacked[0, 1].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
