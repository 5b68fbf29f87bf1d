import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from blemish.blocks.anomaly_map import gaussian_blur, top_mean, upsample


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0])
def test_blur_equals_scipy(sigma: float) -> None:
    image = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(image.double().numpy(), (0, 0, sigma, sigma), mode="nearest", truncate=4.0)
    assert np.allclose(gaussian_blur(image, sigma).numpy(), expected, atol=1e-5)


def test_no_sigma_no_blur() -> None:
    image = torch.randn(1, 1, 5, 5)
    assert gaussian_blur(image, 0) is image


def test_upsampled_cell_stays_in_its_place() -> None:
    grid = torch.zeros(1, 8, 8)
    grid[0, 2, 5] = 1
    full = upsample(grid, (64, 64), 2.0)[0]
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    centre = (float((full * rows).sum() / full.sum()), float((full * columns).sum() / full.sum()))
    assert centre == pytest.approx((2.5 * 8 - 0.5, 5.5 * 8 - 0.5), abs=0.1)


@pytest.mark.parametrize(("share", "count"), [(0.1, 8), (0.001, 1), (1.0, 80)])
def test_top_mean_is_that_of_the_sorted_scores(share: float, count: int) -> None:
    scores = torch.randn(3, 8, 10, generator=torch.Generator().manual_seed(0))
    expected = [sorted(image.flatten().tolist())[-count:] for image in scores]
    assert top_mean(scores, share).tolist() == pytest.approx([sum(values) / count for values in expected])
