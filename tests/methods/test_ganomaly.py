import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from blemish.methods.ganomaly import GANomaly
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

TINY = {"size": 32, "width": 8, "code": 8, "learning_rate": 2e-3, "epochs": 4, "batch_size": 4}


@pytest.fixture(scope="module")
def learned() -> GANomaly:
    method = GANomaly(**TINY)  # type: ignore[arg-type]
    learn(method, normal_parts(6))
    return method.eval()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> GANomaly:
    """With large random weights and in float32."""
    monkeypatch.setattr("blemish.methods.ganomaly.mixed_precision", lambda device: nullcontext())
    torch.manual_seed(0)
    method = GANomaly(size=32, width=8, code=8)
    with torch.no_grad():
        method.collect([])
        for parameter in method.parameters():
            parameter.mul_(5 if parameter.ndim == 4 else 1)
    return method


def random_views(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1


def leaky(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.2 * values)


def normed(values: Tensor, weights: Iterator[Tensor], training: bool) -> Tensor:
    scale, shift, mean, variance, _ = (next(weights) for _ in range(5))
    if training:
        mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
    scaled = (values - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    return scaled * scale[:, None, None] + shift[:, None, None]


def encoded(network: nn.Module, given: Tensor, training: bool) -> tuple[Tensor, Tensor]:
    """Features and codes of the official encoder at 32 × 32, from the weights in their order."""
    weights = iter(list(network.state_dict(keep_vars=True).values()))
    given = leaky(functional.conv2d(given, next(weights), stride=2, padding=1))
    for _ in range(2):
        given = functional.conv2d(given, next(weights), stride=2, padding=1)
        given = leaky(normed(given, weights, training))
    return given, functional.conv2d(given, next(weights))


def decoded(network: nn.Module, codes: Tensor, training: bool) -> Tensor:
    weights = iter(list(network.state_dict(keep_vars=True).values()))
    given = functional.conv_transpose2d(codes, next(weights))
    for _ in range(3):
        given = normed(given, weights, training).clamp_min(0)
        given = functional.conv_transpose2d(given, next(weights), stride=2, padding=1)
    return given.tanh()


def test_losses_equal_those_of_the_paper_by_hand(started: GANomaly) -> None:
    views = random_views()
    codes = encoded(started.encoder, views, True)[1]
    reconstruction = decoded(started.decoder, codes, True)
    second = encoded(started.second_encoder, reconstruction, True)[1]
    (real, real_logits), (fake, fake_logits) = (
        encoded(started.discriminator, v, True) for v in (views, reconstruction)
    )
    terms = [
        (real - fake).square().mean(),
        (views - reconstruction).abs().mean(),
        (codes - second).square().mean(),
    ]
    assert min(float(term.detach()) for term in terms) > 1e-3
    losses = started.train().training_loss(views)
    assert losses.keys() == {"generator", "discriminator"}
    by_hand = terms[0] + 50 * terms[1] + terms[2]
    assert float(losses["generator"].detach()) == pytest.approx(float(by_hand.detach()), rel=1e-4)
    by_hand = -(real_logits.sigmoid().log().mean() + (1 - fake_logits.sigmoid()).log().mean()) / 2
    assert float(losses["discriminator"].detach()) == pytest.approx(float(by_hand.detach()), rel=1e-4)


def gradient(loss: Tensor, parameter: Tensor) -> float:
    (found,) = torch.autograd.grad(loss, [parameter], retain_graph=True, allow_unused=True)
    return 0.0 if found is None else float(found.abs().max())


def test_the_generator_is_trained_on_the_discriminators_features_not_its_output(started: GANomaly) -> None:
    views = random_views()
    losses = started.train().training_loss(views)
    head = started.discriminator.head.get_parameter("weight")
    before_it = started.discriminator.features[-3].get_parameter("weight")  # type: ignore[index]
    assert gradient(losses["generator"], head) == 0.0
    assert gradient(losses["generator"], before_it) > 0
    assert gradient(losses["discriminator"], head) > 0
    outputs = [started.discriminator(v).sigmoid() for v in (views, started.decoder(started.encoder(views)))]
    assert gradient(functional.mse_loss(*outputs), head) > 0, "the control: outputs instead of features"


def test_the_discriminators_loss_has_no_gradient_for_the_generator(started: GANomaly) -> None:
    losses = started.train().training_loss(random_views())
    for parameter in started.generator.parameters():
        assert gradient(losses["discriminator"], parameter) == 0.0
        assert gradient(losses["generator"], parameter) > 0
    groups = {n: o.param_groups[0]["params"] for n, o in started.optimizers().items()}
    found = {id(parameter) for parameters in groups.values() for parameter in parameters}
    assert found == {id(parameter) for parameter in started.parameters()}
    assert {id(p) for p in groups["discriminator"]} == {id(p) for p in started.discriminator.parameters()}


def test_scores_and_errors_equal_those_by_hand(learned: GANomaly) -> None:
    views = random_views()
    with torch.no_grad():
        codes = encoded(learned.encoder, views, False)[1]
        reconstruction = decoded(learned.decoder, codes, False)
        second = encoded(learned.second_encoder, reconstruction, False)[1]
        errors, scores = learned.compare(views)
    assert scores is not None
    assert torch.allclose(scores, (codes - second).square().mean((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(errors, (views - reconstruction).abs().mean(1), rtol=1e-4, atol=1e-5)


def test_the_score_is_latent_or_the_maps_maximum(learned: GANomaly) -> None:
    images = torch.from_numpy(normal_parts(2, seed=3))
    pixels = GANomaly(**{**TINY, "score": "pixels"})  # type: ignore[arg-type]
    pixels.load_learned(learned.state_dict())
    with torch.no_grad():
        latent_score, latent_map = learned(images)
        score, anomaly_map = pixels.eval()(images)
    assert torch.equal(latent_map, anomaly_map)
    assert torch.equal(score, anomaly_map.amax((1, 2)))
    assert not torch.allclose(score, latent_score, rtol=0.1)


def test_batch_norms_hold_the_statistics_of_all_training_images(learned: GANomaly) -> None:
    (views,) = learned.prepare(torch.from_numpy(normal_parts(6)))
    layers = list(learned.encoder.features.children())
    with torch.no_grad():
        seen = [layers[2](layers[1](layers[0](part))) for part in views.chunk(2)]
    norm = layers[3]
    assert isinstance(norm, nn.BatchNorm2d)
    expected_mean = torch.stack([part.mean((0, 2, 3)) for part in seen]).mean(0)
    expected_variance = torch.stack([part.var((0, 2, 3)) for part in seen]).mean(0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert torch.allclose(norm.running_mean, expected_mean, rtol=1e-4, atol=1e-6)
    assert torch.allclose(norm.running_var, expected_variance, rtol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_finishing_keeps_the_mode_of_every_network(training: bool) -> None:
    method = GANomaly(**TINY)  # type: ignore[arg-type]
    method.collect([])
    with torch.no_grad():
        method.train(training).finish([torch.from_numpy(normal_parts(6))])
    assert {module.training for module in method.modules()} == {training}


def scores_of(method: GANomaly) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], float]:
    """Scores of six new normal parts, and of a defective one."""
    images = np.concatenate([normal_parts(6, seed=9), defective_part(1.0)[None]])
    with torch.no_grad():
        scores = method.eval()(torch.from_numpy(images)).score.numpy()
    return scores[:-1], float(scores[-1])


def test_a_defective_part_scores_above_new_normal_parts(learned: GANomaly) -> None:
    normal, defective = scores_of(learned)
    assert defective > normal.mean() + 10 * normal.std()


def test_measured_batch_norm_statistics_separate_defects_better(
    learned: GANomaly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.methods.ganomaly.update_bn", lambda batches, network: None)
    control = GANomaly(**TINY)  # type: ignore[arg-type]
    learn(control, normal_parts(6))
    ratios = [defective / normal.mean() for normal, defective in map(scores_of, (control, learned))]
    assert ratios[0] < 0.5 * ratios[1]


def test_training_and_scoring_on_windows() -> None:
    method = GANomaly(**{**TINY, "patches": True, "standardise": True})  # type: ignore[arg-type]
    learn(method, normal_parts(4))
    with torch.no_grad():
        score, anomaly_map = method.eval()(torch.from_numpy(normal_parts(2, seed=3)))
    assert score.shape == (2,)
    assert anomaly_map.shape == (2, 64, 96)


def test_learning_rates_follow_half_cosine_decay() -> None:
    factors = [GANomaly().learning_rate_factor(done) for done in (0.0, 0.5, 1.0)]
    assert factors == pytest.approx([1.0, 0.5, 0.0])


def test_networks_are_the_published_ones_in_the_papers_preset() -> None:
    method = GANomaly(**GANomaly.presets["paper"].arguments)
    convs = [m for m in method.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64, 128, 256, 512, 100]
    assert all(b.in_channels == a.out_channels for a, b in pairwise(convs))
    assert (method.size, method.learning_rate, method.batch_size, method.epochs) == (64, 2e-4, 64, 15)


def test_training_lowers_the_generators_loss() -> None:
    losses = learn(GANomaly(**{**TINY, "epochs": 10}), normal_parts(6)).losses  # type: ignore[arg-type]
    assert losses[-1]["generator"] < 0.6 * losses[0]["generator"]
    assert all(math.isfinite(row["discriminator"]) for row in losses)
