import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.errors import MethodError
from blemish.methods import pni
from blemish.methods.pni import PNI
from blemish.testing.parts import SIZE, defective_part, normal_parts
from blemish.training import learn, update_method

TINY: dict[str, Any] = {
    "backbone": "compact:random",
    "coreset_ratio": 0.2,
    "classes": 16,
    "reduced": 8,
    "hidden": 32,
    "sampled": 64,
    "epochs": 10,
    "batch_size": 3,
}
HEIGHT, WIDTH = 8, 12
"""The grid of the images of `normal_parts`."""


def learned(**arguments: Any) -> PNI:
    method = PNI(**{**TINY, **arguments})
    learn(method, normal_parts(6))
    return method.eval()


@pytest.fixture(scope="module")
def method() -> PNI:
    """With outputs of the network that are so far apart that its prior is as decided as after a long training."""
    method = learned()
    with torch.no_grad():
        method.neighbourhood.network[-1].weight.mul_(30)  # type: ignore[operator]
    return method


def seen(method: PNI, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches (h, w, D) of an image, and which bank patches each prior allows: (h − 4, w − 4, M)."""
    with torch.no_grad():
        patches = method.embed(image[None])
        components = method.neighbourhood.reduce(patches, torch.ones(patches.shape[:3], dtype=torch.bool))
        count = len(method.memory_bank.patches)
        cells = torch.arange(HEIGHT * WIDTH).view(HEIGHT, WIDTH)[1:-1, 1:-1].flatten()
        by_neighbours = method.neighbourhood.allowed(components, cells, 0.5 / count)[0]
    by_position = method.position.allowed(slice(None), count)
    shape = (HEIGHT - 2, WIDTH - 2, count)
    return patches[0], by_neighbours.view(shape), by_position.view(shape)


def official_grid(method: PNI, image: Tensor) -> Tensor:
    """−log max T·1[allowed], T = γ·exp(−γ·d), averaged over the priors, cell by cell; the border repeats its edge."""
    patches, *priors = seen(method, image)
    bank, gamma, scale = method.memory_bank.patches.double(), 0.99, float(method.scale)
    grid = torch.zeros(HEIGHT, WIDTH, dtype=torch.float64)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            r, c = min(max(row, 1), HEIGHT - 2), min(max(column, 1), WIDTH - 2)
            terms = []
            for allowed in priors:
                distances = [float((patches[r, c].double() - m).norm()) / scale for m in bank]
                likelihoods = [gamma * math.exp(-gamma * d) for d in distances]
                farthest = likelihoods.index(min(likelihoods))
                counted = [
                    t for i, t in enumerate(likelihoods) if i == farthest or bool(allowed[r - 1, c - 1, i])
                ]
                terms.append(-math.log(max(counted)))
            grid[row, column] = sum(terms) / 2
    return grid


def test_the_score_equals_the_likelihood_of_the_paper_by_brute_force(method: PNI) -> None:
    image = torch.from_numpy(defective_part(0.5))
    expected = official_grid(method, image)
    with torch.no_grad():
        score, anomaly_map = method(image[None])
    assert float(score) == pytest.approx(float(expected.max()), rel=1e-4)
    enlarged = upsample(expected.float()[None], SIZE, method.sigma)
    assert torch.allclose(anomaly_map, enlarged, rtol=1e-4)
    _, by_neighbours, by_position = seen(method, image)
    for allowed in (by_neighbours, by_position):  # otherwise the comparison would not show the priors
        assert 0.05 < float(allowed.float().mean()) < 0.95


def test_where_a_prior_allows_nothing_the_farthest_patch_counts(method: PNI) -> None:
    image = torch.from_numpy(normal_parts(1, seed=4))
    other = learned()
    other.position.bits.zero_()
    with torch.no_grad():
        patches = other.embed(image)
        inner = patches[0, 1:-1, 1:-1]
        every = torch.cdist(inner.flatten(0, 1).double(), other.memory_bank.patches.double())
        by_neighbours = seen(other, image[0])[1].flatten(0, 1)
        nearest = torch.where(by_neighbours, every, torch.inf).amin(1)
        found = other.distances(patches, torch.ones(patches.shape[:3], dtype=torch.bool))
    assert torch.allclose(found.flatten().double(), (nearest + every.amax(1)) / 2, rtol=1e-4)


def test_with_everything_allowed_the_score_is_the_nearest_distance_up_to_an_affine_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pni, "LIKELY", -1.0)
    method = learned()
    image = torch.from_numpy(defective_part(1.0))
    with torch.no_grad():
        patches = method.embed(image[None])[0, 1:-1, 1:-1]
        distances = torch.cdist(patches.double(), method.memory_bank.patches.double()).amin(2)
        score = float(method(image[None]).score)
    assert score == pytest.approx(
        0.99 / float(method.scale) * float(distances.max()) - math.log(0.99), rel=1e-4
    )


def test_cells_are_compared_in_parts_with_the_same_result(
    method: PNI, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.from_numpy(np.concatenate([normal_parts(2, seed=3), defective_part(1.0)[None]]))
    with torch.no_grad():
        whole = method(images)
        monkeypatch.setattr(pni, "NUMBERS", 3 * 7 * len(method.memory_bank.patches))
        assert len(method._parts(32, 3)) > 3
        parts = method(images)
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=1e-5)


def test_position_votes_are_those_of_the_nearest_bank_patches(method: PNI) -> None:
    votes = torch.zeros(HEIGHT - 2, WIDTH - 2, len(method.memory_bank.patches))
    with torch.no_grad():
        patches = method.embed(torch.from_numpy(normal_parts(6)))[:, 1:-1, 1:-1]
    nearest = torch.cdist(patches.double(), method.memory_bank.patches.double()).argmin(3)
    for image in nearest:
        for (row, column), patch in np.ndenumerate(image.numpy()):
            votes[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5, patch] += 1
    expected = votes / votes.sum(2, keepdim=True) > 0.5 / len(method.memory_bank.patches)
    found = method.position.allowed(slice(None), len(method.memory_bank.patches))
    assert torch.equal(found, expected.flatten(0, 1))


def test_what_training_reads_are_classes_of_inner_patches_and_their_neighbourhoods(method: PNI) -> None:
    images = normal_parts(3)
    images[1, :, :, :64] = np.nan
    with torch.no_grad():
        components, classes = method.prepare(torch.from_numpy(images))
        patches = method.embed(torch.from_numpy(normal_parts(3)))
    assert components.shape == (3, HEIGHT, WIDTH, 8)
    assert classes.shape == (3, 6 * 10)
    bank = method.memory_bank.patches
    representatives = bank[method.neighbourhood.representatives]
    expected = torch.cdist(patches[0, 1:-1, 1:-1], representatives).argmin(2)
    assert torch.equal(classes[0].view(6, 10).long(), expected)
    assert (classes[1].view(6, 10)[:, :7] == -1).all()
    assert (classes[1].view(6, 10)[:, 7:] >= 0).all()
    assert not components[1, :, :8].any()


def test_training_lowers_the_loss_below_that_of_a_guess() -> None:
    longer = {**TINY, "epochs": 60, "hidden": 64, "learning_rate": 3e-3}
    losses = [epoch["loss"] for epoch in learn(PNI(**longer), normal_parts(6)).losses]
    assert losses[0] > 0.9 * math.log(16)
    assert losses[-1] < 0.6 * math.log(16)


def test_padding_and_border_do_not_enter_the_bank() -> None:
    images = normal_parts(4)
    images[:, :, :32] = np.nan
    method = PNI(**{**TINY, "coreset_ratio": 1.0})
    learn(method, images)
    assert (
        len(method.memory_bank.patches) == 4 * 3 * 10
    )  # of 4 visible rows, 1 is on the border, and 2 of 12 columns


def test_priors_do_not_allow_updates(method: PNI) -> None:
    with pytest.raises(MethodError, match=r"^PNI cannot be updated\. Fit it again"):
        update_method(method, normal_parts(2, seed=3))
    with pytest.raises(MethodError, match=r"^PNI cannot forget a defect\. Fit it again"):
        method.forget(torch.from_numpy(normal_parts(1)), torch.zeros(SIZE, dtype=torch.bool))


def test_paper_preset_builds_the_papers_network_on_random_weights() -> None:
    chosen = PNI.presets["paper"]
    method = PNI(**{**chosen.arguments, "backbone": "wide_resnet101_2:random"})
    weights = sum(p.numel() for p in method.neighbourhood.parameters())
    linear = 80 * 1024 * 2048 + 9 * 2048 * 2048 + 10 * 2048
    assert weights == linear + 9 * 2 * 2048  # 205.6 million
    assert (method.width, method.patch_size, method.coreset_ratio) == (1024, 5, 0.01)
    assert (method.learning_rate, method.sigma, method.leak_center) == (1e-3, 8.0, False)
    assert chosen.preprocess == {"size": (512, 512), "crop": (480, 480)}
    passes = method.epochs * method.sampled / (method.batch_size * 56 * 56)
    assert passes == pytest.approx(15, abs=0.1)
