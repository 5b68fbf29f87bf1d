import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import rotate
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import upsample
from blemish.methods.anomalydino import SIGMA, AnomalyDINO
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

Images = NDArray[np.float32]
TINY = {"backbone": "compact:random", "layers": (2, 3), "rotations": 1}


def learned(images: Images, **arguments: object) -> AnomalyDINO:
    method = AnomalyDINO(**{**TINY, **arguments})  # type: ignore[arg-type]
    learn(method, images)
    return method.eval()


def features(method: AnomalyDINO, images: Images) -> Tensor:
    """Not normalised, (N, h, w, D)."""
    with torch.no_grad():
        fine, coarse = method.features(torch.from_numpy(np.ascontiguousarray(images)))
    coarse = functional.interpolate(coarse, size=fine.shape[2:], mode="bilinear", align_corners=False)
    return torch.cat([fine, coarse], 1).permute(0, 2, 3, 1).double()


def distances(method: AnomalyDINO, images: Images, references: Images) -> Tensor:
    """1 - cos to the most similar patch, (N, h, w)."""
    patches, bank = features(method, images), features(method, references).flatten(0, 2)
    lengths = patches.square().sum(3).sqrt()[..., None] * bank.square().sum(1).sqrt()
    return 1 - (patches @ bank.T / lengths).amax(3)


def textures(count: int, side: int = 96) -> Images:
    """Square images without symmetry."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1).numpy()


def test_map_and_score_are_cosine_distances_by_brute_force() -> None:
    method = learned(normal_parts(4))
    images = np.stack([defective_part(1.0), normal_parts(1, seed=7)[0]])
    grid = distances(method, images, normal_parts(4))
    with torch.no_grad():
        found = method(torch.from_numpy(images))
    assert torch.allclose(found.score.double(), grid.amax((1, 2)), rtol=1e-3)  # 1 % of 96 cells is one
    expected = upsample(grid, (64, 96), SIGMA)
    assert torch.allclose(found.anomaly_map.double(), expected, rtol=1e-3, atol=1e-6)


def test_the_score_is_the_mean_of_the_highest_hundredth_of_the_patches() -> None:
    method = learned(textures(3))
    images = np.tile(textures(1), (1, 1, 2, 2))  # 24 × 24 cells
    grid = distances(method, images, textures(3)).flatten().sort().values
    with torch.no_grad():
        score = float(method(torch.from_numpy(images)).score)
    assert score == pytest.approx(float(grid[-5:].mean()), rel=1e-3)


@pytest.mark.parametrize("quarter", range(4))
def test_patches_of_images_turned_by_quarters_are_in_the_bank(quarter: int) -> None:
    images = textures(2)
    method = learned(images, rotations=8)
    turned = torch.from_numpy(np.rot90(images, quarter, (2, 3)).copy())
    with torch.no_grad():
        found = method.bank.nearest(method.embed(turned).flatten(0, 2))[0]
    assert float(found.max()) < 1e-2
    with torch.no_grad():
        other = learned(images).bank.nearest(method.embed(turned).flatten(0, 2))[0]
    assert (float(other.max()) < 1e-2) == (quarter == 0)


def test_patches_of_images_turned_by_eighths_are_in_the_bank_where_they_lie_in_the_image() -> None:
    images = textures(2)
    method = learned(images, rotations=8)
    for angle in (45, 135, 225, 315):
        turned = rotate(images, angle, (2, 3), reshape=False, order=1, mode="nearest").astype(np.float32)
        inside = rotate(np.ones((96, 96)), angle, reshape=False, order=1)
        seen = torch.from_numpy(inside.reshape(12, 8, 12, 8).mean((1, 3)) > 0.6)
        with torch.no_grad():
            patches = method.embed(torch.from_numpy(turned))[:, seen].flatten(0, 1)
            assert float(method.bank.nearest(patches)[0].max()) < 2e-2
    quarters, eighths = 4 * 2 * 144, len(method.bank.points) - 4 * 2 * 144
    assert 0.75 * quarters < eighths < 0.9 * quarters  # an octagon of 0.83 of the square is seen


def test_more_patches_than_the_budget_are_reduced_to_a_coreset() -> None:
    images = textures(4)
    method = learned(images, rotations=2, bank_size=100)
    every = learned(images, rotations=2).bank.points
    points = method.bank.points
    assert len(every) == 4 * 2 * 144
    assert len(points) == 100
    assert float(torch.cdist(points.double(), every.double()).amin(1).max()) < 1e-4
    gaps = torch.cdist(every, points).amin(1)
    sampled = torch.cdist(every, every[torch.randperm(len(every), generator=torch.Generator())[:100]]).amin(1)
    assert float(gaps.max()) < 0.8 * float(sampled.max())


def test_padding_does_not_enter_the_bank() -> None:
    images = textures(2)
    images[:, :, :32] = np.nan
    assert len(learned(images).bank.points) == 2 * 8 * 12
    turned = learned(images, rotations=4).bank.points
    assert len(turned) == 4 * 2 * 8 * 12


def scenes(count: int, seed: int = 0) -> Images:
    """A striped disk before a smooth background, which is brighter at every other image."""
    rows, columns = np.mgrid[:96, :96].astype(np.float32)
    disk = (rows - 48) ** 2 + (columns - 48) ** 2 < 30**2
    noise = 0.01 * np.random.default_rng(seed).normal(size=(count, 3, 96, 96))
    return (np.where(disk, 0.5 + 0.4 * np.sin(columns + rows / 2), 0.2) + noise).astype(np.float32)


def test_with_the_foreground_only_a_mark_on_the_background_does_not_score() -> None:
    images = scenes(3, seed=1)
    images[1, :, 4:14, 4:14] -= 0.15  # on the background
    images[2, :, 44:54, 44:54] = 0.9  # on the product
    found = {}
    for foreground in (False, True):
        method = learned(scenes(4), foreground=foreground, rotations=2)
        with torch.no_grad():
            found[foreground] = method(torch.from_numpy(images))
    plain, masked = found[False].score, found[True].score
    assert float(plain[1]) > 2 * float(plain[0])
    assert float(masked[1]) < 1.5 * float(masked[0])
    assert float(masked[2]) > 2 * float(masked[0])
    assert float(found[True].anomaly_map[1, :16, :16].max()) < 1e-3 * float(masked[2])


def test_the_background_is_learned_so_that_it_is_known_at_the_outline() -> None:
    """The scored foreground is dilated, so it holds cells of the background."""
    assert len(learned(scenes(4), foreground=True).bank.points) == 4 * 144


def test_paper_preset() -> None:
    chosen = AnomalyDINO.presets["paper"]
    defaults = {name: one.default for name, one in AnomalyDINO.declared.arguments.items()}
    assert defaults | dict(chosen.arguments) == {
        "backbone": "hf:facebook/dinov2-small",
        "layers": (12,),
        "rotations": 8,
        "foreground": False,
        "bank_size": 1_000_000,
    }
    assert chosen.preprocess == {"size": (448, 448)}
