import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.blocks.anomaly_map import upsample
from blemish.methods.simplenet import SIGMA, SimpleNet, truncated_l1
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

TINY = {
    "backbone": "compact:random",
    "hidden": 64,
    "noise": 1.0,
    "learning_rate": 2e-3,
    "epochs": 10,
    "batch_size": 2,
}


@pytest.fixture(scope="module")
def method() -> SimpleNet:
    return learned()


def learned(**arguments: object) -> SimpleNet:
    method = SimpleNet(**{**TINY, **arguments})  # type: ignore[arg-type]
    learn(method, normal_parts(6))
    return method.eval()


def separate_layers(method: SimpleNet) -> nn.Sequential:
    return nn.Sequential(method.adaptor, method.first, method.norm, nn.LeakyReLU(0.2), method.last).eval()


def test_the_truncated_loss_is_zero_above_the_margin_and_linear_below_it() -> None:
    assert float(truncated_l1(torch.tensor([0.5, 0.75, 3.0]), 0.5)) == 0.0
    assert float(truncated_l1(torch.tensor([0.5, -0.5]), 0.5)) == 0.5
    assert float(truncated_l1(torch.tensor([0.0, -1.0, 9.0]), 0.5)) == pytest.approx(2.0 / 3)


@pytest.mark.parametrize(
    ("normal", "noisy", "expected"), [(0.5, -0.5, 0.0), (-0.5, 0.5, 2.0), (0.0, 0.0, 1.0)]
)
def test_the_loss_is_zero_for_normal_patches_above_and_noisy_ones_below(
    method: SimpleNet, monkeypatch: pytest.MonkeyPatch, normal: float, noisy: float, expected: float
) -> None:
    def discriminate(adapted: Tensor) -> Tensor:
        half = len(adapted) // 2
        assert not torch.equal(adapted[:half], adapted[half:])
        return torch.cat([torch.full((half,), normal), torch.full((half,), noisy)])

    monkeypatch.setattr(method, "discriminate", discriminate)
    with torch.no_grad():
        prepared = method.prepare(torch.from_numpy(normal_parts(2)))
        assert float(method.training_loss(*prepared)) == pytest.approx(expected)


def test_noise_is_relative_to_the_scale_of_the_features(
    method: SimpleNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []

    def discriminate(adapted: Tensor) -> Tensor:
        seen.append(adapted)
        return adapted[:, 0]

    monkeypatch.setattr(method, "discriminate", discriminate)
    with torch.no_grad():
        patches, inside = method.prepare(torch.from_numpy(normal_parts(6)))
        method.training_loss(patches, inside)
    normal, noisy = seen[0].chunk(2)
    deviations = np.sort(patches.flatten(0, 2).numpy().std(0))
    varying = deviations[deviations > 0]
    unit = varying[(len(varying) - 1) // 2]
    assert float((noisy - normal).std()) == pytest.approx(method.noise * unit, rel=0.02)
    assert torch.equal(normal, method.adaptor(patches.flatten(0, 2)))


def test_scoring_adds_no_noise(method: SimpleNet) -> None:
    images = torch.from_numpy(normal_parts(2, seed=3))
    before = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(method(images).anomaly_map, method(images).anomaly_map)
    assert torch.equal(torch.get_rng_state(), before)


def test_scores_equal_those_of_the_separate_layers(method: SimpleNet) -> None:
    images = torch.from_numpy(np.stack([normal_parts(1, seed=4)[0], defective_part(1.0)]))
    with torch.no_grad():
        grid = -separate_layers(method)(method.embed(images).flatten(0, 2)).view(2, 8, 12)
        score, anomaly_map = method(images)
    assert torch.allclose(score, grid.amax((1, 2)), rtol=1e-4, atol=1e-4)
    assert torch.allclose(anomaly_map, upsample(grid, (64, 96), SIGMA), rtol=1e-4, atol=1e-4)


def test_training_patches_score_below_the_same_patches_with_ten_times_the_noise(method: SimpleNet) -> None:
    with torch.no_grad():
        adapted = method.adaptor(method.embed(torch.from_numpy(normal_parts(6))).flatten(0, 2))
        noise = torch.randn(adapted.shape, generator=torch.Generator().manual_seed(0))
        plain = -method.discriminate(adapted)
        noisy = -method.discriminate(adapted + 10 * method.noise * method.scale * noise)
    assert float((plain < noisy).float().mean()) > 0.95
    assert float(plain.mean()) < 0 < float(noisy.mean())


def test_training_lowers_the_loss() -> None:
    method = SimpleNet(**TINY)  # type: ignore[arg-type]
    losses = [epoch["loss"] for epoch in learn(method, normal_parts(6)).losses]
    assert len(losses) == 10
    assert losses[-1] < 0.7 * losses[0]


def test_learning_rates_follow_half_cosine_decay(method: SimpleNet) -> None:
    assert [method.learning_rate_factor(done) for done in (0.0, 0.5, 1.0)] == pytest.approx([1.0, 0.5, 0.0])
    groups = method.optimizers().param_groups
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(2e-3, 1e-2), (4e-3, 1e-5)]


def test_batch_norm_gets_normal_and_noisy_patches_in_one_batch(method: SimpleNet) -> None:
    again = SimpleNet(**{**TINY, "epochs": 1, "batch_size": 6})  # type: ignore[arg-type]
    learn(again, normal_parts(6))
    assert again.norm.num_batches_tracked is not None
    assert int(again.norm.num_batches_tracked) == 1
    assert method.norm.num_batches_tracked is not None
    assert int(method.norm.num_batches_tracked) == 30


def test_building_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    SimpleNet(**TINY)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_padding_is_not_learned_from() -> None:
    """The values of cells in the padding change neither the scale nor the loss."""
    images = normal_parts(4)
    images[:, :, :32] = np.nan
    method = SimpleNet(**TINY)  # type: ignore[arg-type]
    with torch.no_grad():
        method.collect([torch.from_numpy(images)])
        patches, inside = method.prepare(torch.from_numpy(images))
        assert int(inside.sum()) == 4 * 4 * 12
        changed = torch.where(inside[..., None], patches, 1e9)
        losses = []
        for prepared in (patches, changed):
            torch.manual_seed(0)
            losses.append(float(method.training_loss(prepared, inside.float())))
    assert losses[0] == losses[1]
    deviation = patches[inside].std(0, correction=0)
    assert float(method.scale) == pytest.approx(float(deviation[deviation > 0].median()), rel=1e-4)


def test_paper_preset_builds_on_random_weights() -> None:
    chosen = SimpleNet.presets["paper"]
    method = SimpleNet(**{**chosen.arguments, "backbone": "wide_resnet50_2:random"})
    assert (method.adaptor.in_features, method.hidden, method.epochs, method.batch_size) == (
        1536,
        1024,
        160,
        4,
    )
    assert chosen.preprocess == {"size": (329, 329), "crop": (288, 288)}
