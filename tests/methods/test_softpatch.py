import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from blemish.blocks.anomaly_map import upsample
from blemish.errors import MethodError
from blemish.methods import softpatch
from blemish.methods.memory_bank import SIGMA
from blemish.methods.patchcore import PatchCore
from blemish.methods.softpatch import SoftPatch
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import forget, learn, update_method

RANDOM = "compact:random"


@pytest.fixture(autouse=True)
def _without_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softpatch, "projection", torch.eye)


def learned(images: NDArray[np.float32], **arguments: object) -> SoftPatch:
    method = SoftPatch(**{"backbone": RANDOM, "coreset_ratio": 1.0, **arguments})  # type: ignore[arg-type]
    learn(method, images)
    return method.eval()


def embedded(method: SoftPatch, images: NDArray[np.float32]) -> Tensor:
    with torch.no_grad():
        return method.embed(torch.from_numpy(images))


def reference_factors(patches: Tensor, neighbours: int = 6) -> NDArray[np.float64]:
    """Of patches (N, h, w, D) among those at the same position, by scikit-learn: (N, h, w)."""
    factors = np.empty(patches.shape[:3])
    for row in range(patches.shape[1]):
        for column in range(patches.shape[2]):
            lof = LocalOutlierFactor(n_neighbors=neighbours).fit(patches[:, row, column].numpy())
            factors[:, row, column] = -lof.negative_outlier_factor_
    return factors


def test_the_most_unusual_patches_are_dropped_and_the_others_weigh_by_their_factors() -> None:
    images = normal_parts(9)
    method = learned(images)
    factors = reference_factors(embedded(method, images))
    origins = method.memory_bank.origins.numpy()
    assert len(origins) == 9 * 96 - int(0.15 * 9 * 96)
    kept = np.zeros(factors.shape, bool)
    kept[tuple(origins.T)] = True
    assert factors[~kept].min() > factors[kept].max() - 1e-3
    np.testing.assert_allclose(method.weights, factors[tuple(origins.T)], rtol=2e-3)


@pytest.mark.parametrize("neighbours", [1, 9])
def test_map_and_score_are_the_distances_times_the_weight_of_the_nearest_patch(neighbours: int) -> None:
    method = learned(normal_parts(8), coreset_ratio=0.3, neighbours=neighbours)
    method.weights = torch.rand(len(method.weights), generator=torch.Generator().manual_seed(0)) + 0.5
    image = torch.from_numpy(defective_part(1.0))
    bank = method.memory_bank.patches.double()
    distances = torch.cdist(embedded(method, image[None].numpy())[0].flatten(0, 1).double(), bank)
    nearest = distances.min(1)
    weighted = nearest.values * method.weights[nearest.indices]
    worst = int(weighted.argmax())
    support = torch.cdist(bank[nearest.indices[worst]][None], bank)[0].argsort()[:neighbours]
    exponentials = [math.exp(float(distances[worst, k])) for k in support]
    rest = 1 - exponentials[0] / sum(exponentials) if neighbours > 1 else 1.0
    with torch.no_grad():
        prediction = method(image[None])
    assert float(prediction.score) == pytest.approx(rest * float(weighted[worst]), rel=1e-3)
    expected = upsample(weighted.reshape(1, 8, 12), (64, 96), SIGMA)
    assert torch.allclose(prediction.anomaly_map.double(), expected, rtol=1e-3, atol=1e-3)


def test_a_defect_among_the_training_images_is_still_found() -> None:
    noisy = np.concatenate([normal_parts(9), defective_part(1.0)[None]])
    again = torch.from_numpy(defective_part(1.0)[None])
    scores = {}
    for name, method in {
        "soft": learned(noisy, dropped=0.3),
        "clean": learned(noisy[:9], dropped=0.3),
        "patchcore": PatchCore(backbone=RANDOM, coreset_ratio=1.0),
    }.items():
        if isinstance(method, PatchCore):
            learn(method, noisy)
        with torch.no_grad():
            scores[name] = float(method.eval()(again).score)
    assert scores["patchcore"] < 0.05 * scores["soft"]
    assert scores["soft"] == pytest.approx(scores["clean"], rel=0.5)


def test_many_images_are_compared_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    images = normal_parts(16)
    monkeypatch.setattr(softpatch, "PROJECTED", 320)
    monkeypatch.setattr(softpatch, "GROUP_VALUES", 8 * 96 * 320)  # two groups of two batches of four images
    method = learned(images, dropped=0.0)
    patches = embedded(method, images)
    factors = np.concatenate([reference_factors(patches[:8]), reference_factors(patches[8:])])
    np.testing.assert_allclose(
        method.weights, factors[tuple(method.memory_bank.origins.numpy().T)], rtol=2e-3
    )


def test_forgetting_keeps_each_patchs_weight() -> None:
    method = learned(normal_parts(8), dropped=0.0)
    origins, weights = method.memory_bank.origins, method.weights
    before = {
        tuple(origin): weight for origin, weight in zip(origins.tolist(), weights.tolist(), strict=True)
    }
    image = normal_parts(8)[3]
    where = np.zeros((64, 96), bool)
    where[:16, :16] = True
    assert {number for number, *_ in forget(method, image, where)} == {3}
    assert len(method.weights) == len(before) - 4
    assert [
        before[tuple(origin)] for origin in method.memory_bank.origins.tolist()
    ] == method.weights.tolist()


def test_it_cannot_be_updated() -> None:
    method = learned(normal_parts(4))
    with pytest.raises(
        MethodError, match=r"^SoftPatch cannot be updated\. Fit it again with the new images\.$"
    ):
        update_method(method, normal_parts(2, seed=3))


def test_two_images_are_too_few_and_three_are_enough() -> None:
    text = (
        r"^SoftPatch compares the training images with each other and needs at least 3, got 2\. Add images\.$"
    )
    with pytest.raises(MethodError, match=text):
        learned(normal_parts(2))
    images = normal_parts(3)
    method = learned(images, dropped=0.0)
    factors = reference_factors(embedded(method, images), 2)
    np.testing.assert_allclose(
        method.weights, factors[tuple(method.memory_bank.origins.numpy().T)], rtol=2e-3
    )


def test_padding_does_not_enter_the_bank() -> None:
    images = normal_parts(4)
    images[:, :, :32] = np.nan
    method = learned(images, dropped=0.0)
    assert len(method.memory_bank.patches) == 4 * 4 * 12
    assert bool(method.weights.isfinite().all())


def test_paper_preset_builds_on_random_weights() -> None:
    chosen = SoftPatch.presets["paper"]
    method = SoftPatch(**{**chosen.arguments, "backbone": "wide_resnet50_2:random"})
    assert (softpatch.NEIGHBOURS, method.dropped, method.coreset_ratio, method.neighbours) == (
        6,
        0.15,
        0.1,
        1,
    )
    assert chosen.preprocess == {"size": (256, 256), "crop": (224, 224)}
