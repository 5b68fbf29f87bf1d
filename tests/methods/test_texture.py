import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.methods.texture import Texture
from brackets import learned, parts


def test_the_map_is_the_mahalanobis_distance_to_the_gaussian_of_all_positions() -> None:
    images, other = parts(6), parts(1, seed=1)
    method = learned(Texture(sigma=0), images)

    def statistics(images: Tensor) -> NDArray[np.float64]:
        return np.asarray(method.filters(images).permute(0, 2, 3, 1).flatten(0, 2).double())

    normal = statistics(images)
    covariance = np.cov(normal.T, bias=True)
    variance = covariance.diagonal()
    covariance = covariance + np.diag(1e-3 * np.maximum(variance, 0.01 * variance.mean()))
    deviation = statistics(other) - normal.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", deviation, np.linalg.inv(covariance), deviation))
    grid = torch.from_numpy(expected.astype(np.float32)).view(1, 1, 16, 16)
    full = torch.nn.functional.interpolate(grid, size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(method(other).anomaly_map, full, rtol=1e-3, atol=1e-3)


def test_a_shifted_texture_is_normal_and_a_torn_one_is_not() -> None:
    rows, columns = np.mgrid[:96, :96]
    rng = np.random.default_rng(0)

    def weave(offset: int) -> Tensor:
        pattern = np.sin((columns + offset) / 2) + np.sin((rows - offset) / 3)
        grain = 0.1 * rng.normal(size=(1, 3, 96, 96))
        return torch.from_numpy((0.5 + 0.2 * (pattern + grain)).astype(np.float32))

    method = learned(Texture(), torch.cat([weave(i) for i in range(10)]))
    new = weave(37)
    torn = new.clone()
    torn[:, :, 40:56, 40:56] = 0.5
    assert method(new).score < 0.5 * method(torn).score
