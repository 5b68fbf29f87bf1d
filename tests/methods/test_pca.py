import numpy as np
import torch
from sklearn import decomposition

from blemish.methods.pca import PCA, eigen_images
from brackets import learned, parts, with_defect


def test_eigen_images_are_the_principal_components() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 50)) * np.linspace(3, 0.1, 50)
    reference = decomposition.PCA(4).fit(rows)
    mean, basis = eigen_images(torch.from_numpy(rows), 4)
    np.testing.assert_allclose(mean.numpy(), reference.mean_)
    signs = np.sign((basis.numpy() * reference.components_).sum(1))
    np.testing.assert_allclose(basis.numpy() * signs[:, None], reference.components_, atol=1e-6)


def test_few_or_equal_images_give_fewer_eigen_images() -> None:
    rows = torch.rand(3, 10)
    assert eigen_images(rows, 8)[1].shape == (2, 10)
    assert torch.isfinite(eigen_images(torch.ones(4, 10), 2)[1]).all()


def test_residuals_are_standardised_by_those_of_images_left_out() -> None:
    images = parts(10, size=16)
    method = learned(PCA(components=2, size=16, floor=1e-9), images)
    rows = images.flatten(1).numpy().astype(np.float64)
    residuals = []
    for half, other in ((rows[::2], rows[1::2]), (rows[1::2], rows[::2])):
        model = decomposition.PCA(2).fit(half)
        residuals.append(other - model.inverse_transform(model.transform(other)))
    spread = np.maximum(np.sqrt((np.concatenate(residuals) ** 2).mean(0)), 12**-0.5 / 255)
    np.testing.assert_allclose(method.spread.numpy(), spread, rtol=1e-3)


def test_an_image_in_the_span_of_the_eigen_images_is_normal() -> None:
    first, second = parts(2)
    method = learned(PCA(components=1, size=64), torch.stack([first, second]))
    between = (0.3 * first + 0.7 * second)[None]
    assert method(between).score < 1e-2
    assert method(with_defect(between)).score > 1


def test_it_learns_from_one_image() -> None:
    method = learned(PCA(), parts(1))
    assert method(parts(1)).score < 1e-2
    assert torch.isfinite(method(with_defect(parts(1))).score)
