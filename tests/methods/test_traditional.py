"""What only the methods without a network need: their formulas, their errors, their worth on real images."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import decomposition
from sklearn.metrics import roc_auc_score
from torch import Tensor

from blemish.blocks.classical.registration import warp
from blemish.errors import MethodError
from blemish.methods.base import Method
from blemish.methods.pca import PCA, eigen_images
from blemish.methods.template import Template, matched_brightness, smallest_difference
from blemish.methods.texture import Texture
from blemish.methods.variation import Variation, robust_statistics
from blemish.training import learn

M = TypeVar("M", bound=Method)
ALL: list[Callable[[], Method]] = [Template, Variation, Texture, PCA]


def learned(method: M, images: Tensor) -> M:
    learn(method, images.numpy(), batch_size=5)
    return method


def parts(count: int, seed: int = 0, size: int = 64) -> Tensor:
    """Good parts (count, 3, H, W) in [0, 1]: an L-shaped bracket with grain, each under a little other light."""
    rng = np.random.default_rng(seed)
    drawing = np.zeros((size, size))
    drawing[size // 6 : size // 3, size // 6 : size // 2] = 0.45
    drawing[size // 6 : 3 * size // 4, size // 6 : size // 4] = 0.34
    drawing = ndimage.gaussian_filter(drawing, 1)
    light = 1 + 0.03 * rng.normal(size=(count, 1, 1, 1))
    images = 0.2 + drawing * light + 0.007 * rng.normal(size=(count, 3, size, size))
    return torch.from_numpy(images.astype(np.float32))


def with_defect(images: Tensor, strength: float = 1.0) -> Tensor:
    images = images.clone()
    checkers = torch.arange(10)[:, None] + torch.arange(10)
    images[:, :, 40:50, 40:50] += 0.22 * strength * (checkers % 2 + 0.5)
    return images


def padded(images: Tensor) -> Tensor:
    """On a larger canvas, outside of which all is NaN; the images lie from (16, 0)."""
    canvas = torch.full((len(images), 3, images.shape[2] + 32, images.shape[3]), torch.nan)
    canvas[:, :, 16 : 16 + images.shape[2]] = images
    return canvas


@pytest.mark.parametrize("make", ALL)
def test_defects_raise_the_score_and_lead_the_map(make: Callable[[], Method]) -> None:
    method = learned(make(), parts(12))
    good = parts(1, seed=8)
    prediction = method(with_defect(good))
    assert prediction.score > 1.5 * method(good).score
    peak = int(prediction.anomaly_map[0].argmax())
    assert 36 <= peak // 64 <= 53
    assert 36 <= peak % 64 <= 53


@pytest.mark.parametrize("make", [Template, Variation, PCA])  # Texture's logarithms saturate
def test_the_score_grows_with_the_defect(make: Callable[[], Method]) -> None:
    method = learned(make(), parts(12))
    good = parts(1, seed=8)
    scores = [float(method(with_defect(good, strength)).score[0]) for strength in (0, 0.5, 1, 2)]
    assert scores == sorted(scores)
    assert scores[-1] > 1.5 * scores[-2]


@pytest.mark.parametrize(
    ("make", "share", "gap"), [(Template, 0.1, 0.045), (Variation, 0.1, 0.2), (Texture, 0.25, 0.2)]
)
def test_padding_changes_little_inside_and_never_wins(
    make: Callable[[], Method], share: float, gap: float
) -> None:
    good, bad = parts(12), with_defect(parts(1, seed=8))
    expected = learned(make(), good)(bad)
    found = learned(make(), padded(good))(padded(bad))
    torch.testing.assert_close(found.score, expected.score, rtol=0.05, atol=0)
    inside = found.anomaly_map[:, 16:80]
    torch.testing.assert_close(inside[:, 8:-8], expected.anomaly_map[:, 8:-8], rtol=share, atol=gap)
    assert found.anomaly_map.amax() == inside.amax()


@pytest.mark.parametrize("make", ALL)
def test_learning_twice_gives_the_same_to_the_bit(make: Callable[[], Method]) -> None:
    first, second = (learned(make(), parts(12)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("make", ALL)
def test_learning_from_no_image_is_an_error(make: Callable[[], Method]) -> None:
    with pytest.raises(MethodError, match="There is no image to learn from"):
        make().collect([])


# Template


def test_template_of_one_image_without_tolerance_is_the_absolute_difference() -> None:
    image = parts(1)
    method = learned(Template(tolerance=0, match_brightness=False, sigma=0), image)
    other = with_defect(parts(1, seed=1))
    prediction = method(other)
    difference = (other - image).abs().mean(1)
    torch.testing.assert_close(prediction.anomaly_map, difference, atol=2e-5, rtol=0)
    torch.testing.assert_close(prediction.score, difference.amax((1, 2)), atol=2e-5, rtol=0)


def test_template_is_the_median_of_aligned_images() -> None:
    good = parts(9)
    shifts = torch.tensor([[0.0, y, x] for y in (-4, 0, 4) for x in (-6, 0, 6)])
    method = learned(Template(), warp(good, shifts))
    sharp = parts(9, seed=3).median(0).values
    # Up to a common shift (that of the reference), as sharp as the median of parts that never moved.
    commons = [(y, x) for y in (-4, 0, 4) for x in (-6, 0, 6)]
    gaps = [(method.template - sharp.roll(common, (1, 2)))[:, 8:-8, 8:-8].abs().max() for common in commons]
    assert min(gaps) < 0.065
    assert (warp(good, shifts).median(0).values - sharp).abs().max() > 0.22


def test_template_follows_a_moved_part_and_answers_in_the_images_own_pixels() -> None:
    method = learned(Template(), parts(9))
    motion = torch.tensor([[0.1, -5.0, 4.0]])
    good = warp(parts(1, seed=8), motion)
    bad = good.clone()
    bad[:, :, 50:56, 44:50] += 0.22
    assert method(good).score < 0.5 * method(bad).score
    peak = int(method(bad).anomaly_map[0].argmax())
    assert abs(peak // 64 - 52.5) < 2
    assert abs(peak % 64 - 46.5) < 2


def test_smallest_difference_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    image, template = rng.normal(size=(2, 3, 6, 7))
    expected = np.empty((6, 7))
    for y, x in np.ndindex(6, 7):
        near = [(min(max(y + j, 0), 5), min(max(x + i, 0), 6)) for j in (-1, 0, 1) for i in (-1, 0, 1)]
        expected[y, x] = min(np.abs(image[:, y, x] - template[:, j, i]).mean() for j, i in near)
    found = smallest_difference(torch.from_numpy(image)[None], torch.from_numpy(template)[None], 1)
    np.testing.assert_allclose(found[0].numpy(), expected)


def test_brightness_is_matched_but_a_defect_is_not() -> None:
    template = parts(1)
    darker = 0.8 * template - 0.02
    everywhere = torch.ones(1, 64, 64, dtype=torch.bool)
    torch.testing.assert_close(
        matched_brightness(darker, template, everywhere), template, atol=0.0045, rtol=0
    )
    bad = with_defect(darker)
    defect = (matched_brightness(bad, template, everywhere) - template).abs().mean(1)[0]
    assert defect[40:50, 40:50].mean() > 0.9 * 0.22
    assert defect[:40].mean() < 0.05 * 0.22


# Variation


def test_variation_is_the_robust_z_score() -> None:
    images = parts(7)
    method = learned(Variation(floor=0, smoothing=0, sigma=0), images)
    other = with_defect(parts(1, seed=1))

    def compared(pictures: Tensor) -> NDArray[np.float32]:
        planes = pictures.numpy()
        slopes = [ndimage.correlate1d(planes, [-0.5, 0, 0.5], axis=axis, mode="nearest") for axis in (2, 3)]
        return np.concatenate([planes, np.hypot(*slopes)], axis=1)

    normal = compared(images).astype(np.float16).astype(np.float32)
    median = np.median(normal, axis=0)
    deviation = np.median(np.abs(normal - median), axis=0)
    expected = (np.abs(compared(other) - median) / np.maximum(1.4826 * deviation, 12**-0.5 / 255)).mean(1)
    np.testing.assert_allclose(method(other).anomaly_map.numpy(), expected, rtol=1e-3)


def test_variation_forgives_what_it_tolerates() -> None:
    images = parts(7)
    method = learned(Variation(tolerance=0.11), images)
    assert method(images[:1] + 0.09).score == 0
    assert method(images[:1] + 0.2).score > 0


def test_robust_statistics_leave_nan_out() -> None:
    values = torch.tensor([[1.0], [torch.nan], [2.0], [torch.nan], [9.0]])
    center, spread = robust_statistics(values)
    assert center.item() == 2
    assert spread.item() == pytest.approx(1.4826)


def test_variation_ignores_pixels_never_seen_in_training() -> None:
    narrow = parts(7)
    narrow[:, :, :, 40:] = torch.nan
    prediction = learned(Variation(), narrow)(parts(1, seed=1))
    assert torch.isfinite(prediction.anomaly_map).all()
    assert prediction.anomaly_map[0, :, 60:].max() < 0.1 * prediction.score[0]


# Texture


def test_texture_is_the_mahalanobis_distance_to_all_positions() -> None:
    images, other = parts(6), parts(1, seed=1)
    method = learned(Texture(sigma=0), images)

    def statistics(pictures: Tensor) -> NDArray[np.float64]:
        return np.asarray(method.filters(pictures).permute(0, 2, 3, 1).flatten(0, 2).double())

    normal = statistics(images)
    covariance = np.cov(normal.T, bias=True)
    variance = covariance.diagonal()
    covariance = covariance + np.diag(1e-3 * np.maximum(variance, 0.01 * variance.mean()))
    deviation = statistics(other) - normal.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", deviation, np.linalg.inv(covariance), deviation))
    grid = torch.from_numpy(expected.astype(np.float32)).view(1, 1, 16, 16)
    full = torch.nn.functional.interpolate(grid, size=(64, 64), mode="bilinear")[:, 0]
    torch.testing.assert_close(method(other).anomaly_map, full, rtol=1e-3, atol=1e-3)


def test_texture_does_not_care_where_on_the_surface() -> None:
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


# PCA


def test_eigen_images_are_the_principal_components() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 50)) * np.linspace(3, 0.1, 50)
    reference = decomposition.PCA(4).fit(rows)
    mean, basis = eigen_images(torch.from_numpy(rows), 4)
    np.testing.assert_allclose(mean.numpy(), reference.mean_)
    signs = np.sign((basis.numpy() * reference.components_).sum(1))
    np.testing.assert_allclose(basis.numpy() * signs[:, None], reference.components_, atol=1e-6)


def test_eigen_images_are_fewer_for_few_or_equal_images() -> None:
    rows = torch.rand(3, 10)
    assert eigen_images(rows, 8)[1].shape == (2, 10)
    assert torch.isfinite(eigen_images(torch.ones(4, 10), 2)[1]).all()


def test_pca_standardises_by_residuals_of_images_left_out() -> None:
    images = parts(10, size=16)
    method = learned(PCA(components=2, size=16, floor=1e-9), images)
    rows = images.flatten(1).numpy().astype(np.float64)
    residuals = []
    for half, other in ((rows[::2], rows[1::2]), (rows[1::2], rows[::2])):
        model = decomposition.PCA(2).fit(half)
        residuals.append(other - model.inverse_transform(model.transform(other)))
    usual = np.maximum(np.sqrt((np.concatenate(residuals) ** 2).mean(0)), 12**-0.5 / 255)
    np.testing.assert_allclose(method.spread.numpy(), usual, rtol=1e-3)


def test_pca_rebuilds_what_lies_in_its_span() -> None:
    first, second = parts(2)
    method = learned(PCA(components=1, size=64), torch.stack([first, second]))
    between = (0.3 * first + 0.7 * second)[None]
    assert method(between).score < 1e-2
    assert method(with_defect(between)).score > 1


def test_pca_learns_from_one_image() -> None:
    method = learned(PCA(), parts(1))
    assert method(parts(1)).score < 1e-2
    assert torch.isfinite(method(with_defect(parts(1))).score)


# Real images


@pytest.fixture(scope="module")
def bottles() -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """60 good bottles, then every fourth test image with its mask, 128 px."""
    if "BLEMISH_DATA" not in os.environ:
        pytest.skip("BLEMISH_DATA is not set: no real images")
    root = Path(os.environ["BLEMISH_DATA"], "mvtec_ad", "bottle")
    tests = sorted(root.glob("test/*/*.png"))[::4]
    masks = np.zeros((len(tests), 128, 128), bool)
    for mask, path in zip(masks, tests, strict=True):
        if path.parent.name != "good":
            file = root / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
            grey = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
            assert grey is not None
            mask[:] = cv2.resize(grey, (128, 128), interpolation=cv2.INTER_NEAREST) > 127
    return _pictures(sorted(root.glob("train/good/*.png"))[:60]), _pictures(tests), masks


def _pictures(paths: list[Path]) -> Tensor:
    pictures = []
    for path in paths:
        picture = cv2.imread(str(path))
        assert picture is not None
        pictures.append(cv2.resize(picture, (128, 128), interpolation=cv2.INTER_AREA)[:, :, ::-1])
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2) / 255).float()


@pytest.mark.parametrize(
    ("make", "image_auroc", "pixel_auroc"),
    [(Template, 0.85, 0.9), (Variation, 0.9, 0.88), (Texture, 0.85, 0.85), (PCA, 0.95, 0.93)],
)
def test_defects_of_bottles_are_found(
    make: Callable[[], Method],
    image_auroc: float,
    pixel_auroc: float,
    bottles: tuple[Tensor, Tensor, NDArray[np.bool_]],
) -> None:
    normal, tests, masks = bottles
    score, anomaly_map = learned(make(), normal)(tests)
    assert roc_auc_score(masks.any((1, 2)), score.numpy()) >= image_auroc
    assert roc_auc_score(masks.ravel(), anomaly_map.numpy().ravel()) >= pixel_auroc
