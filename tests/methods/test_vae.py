import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from blemish.methods.vae import VAE, divergence
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn

TINY = {"size": 32, "width": 8, "code": 8, "epochs": 20, "batch_size": 4, "learning_rate": 3e-3}


@pytest.fixture(scope="module")
def method() -> VAE:
    return learned()


def learned(**arguments: object) -> VAE:
    method = VAE(**{**TINY, **arguments})  # type: ignore[arg-type]
    learn(method, normal_parts(8))
    return method.eval()


def test_divergence_is_torchs() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.randn(2, 50, 6, dtype=torch.float64)
    code = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    standard = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    torch.testing.assert_close(
        divergence(mean, log_variance), kl_divergence(code, standard), rtol=1e-9, atol=1e-9
    )


def test_divergence_is_zero_for_the_standard_code_only() -> None:
    zeros = torch.zeros(2, 4, 1, 1)
    assert divergence(zeros, zeros).tolist() == [0.0, 0.0]
    assert float(divergence(zeros + 0.1, zeros).min()) > 0
    assert float(divergence(zeros, zeros - 0.1).min()) > 0


def test_bound_of_a_linear_gaussian_model_is_its_log_likelihood() -> None:
    """Probabilistic PCA with orthogonal axes: the code's distribution given the image is known and diagonal."""
    torch.manual_seed(0)
    method = VAE(size=32, deviation=0.7)
    axes = torch.linalg.qr(torch.randn(12, 3, dtype=torch.float64))[0] * torch.tensor([2.0, 1.0, 0.5])
    image = torch.randn(12, dtype=torch.float64)
    noise = 0.7**2
    likelihood = MultivariateNormal(
        torch.zeros(12).double(), axes @ axes.T + noise * torch.eye(12).double()
    ).log_prob(image)

    strengths = axes.square().sum(0)
    mean = (axes.T @ image) / (strengths + noise)
    log_variance = (noise / (strengths + noise)).log()
    draws = mean + torch.randn(200_000, 3, dtype=torch.float64) * (log_variance / 2).exp()
    views = image.view(1, 3, 2, 2).expand(len(draws), 3, 2, 2)
    reconstruction = (draws @ axes.T).view(-1, 3, 2, 2)
    codes = (v.expand(len(draws), 3) for v in (mean, log_variance))
    bound = method.negative_elbo(views, reconstruction, *codes).mean()
    assert float(bound) == pytest.approx(-float(likelihood), rel=3e-3)

    worse = log_variance + 1.0  # any other distribution of the code gives a looser bound
    draws = mean + torch.randn(200_000, 3, dtype=torch.float64) * (worse / 2).exp()
    reconstruction = (draws @ axes.T).view(-1, 3, 2, 2)
    codes = (v.expand(len(draws), 3) for v in (mean, worse))
    assert float(method.negative_elbo(views, reconstruction, *codes).mean()) > float(bound) + 0.1


def test_the_loss_is_the_bound_per_value(method: VAE) -> None:
    """By hand, from codes with a very small variance, so that the random draw hardly matters."""
    views = torch.rand(2, 3, 32, 32)

    class ConstantEncoder(nn.Module):
        def forward(self, views: Tensor) -> Tensor:
            return torch.cat(
                [torch.full((len(views), 8, 1, 1), 0.5), torch.full((len(views), 8, 1, 1), -10.0)], 1
            )

    certain = VAE(**TINY)  # type: ignore[arg-type]
    certain.load_learned(method.state_dict())
    certain.encoder = ConstantEncoder()
    with torch.no_grad():
        loss = certain.training_loss(views)
        reconstruction = certain.decoder(torch.full((2, 8, 1, 1), 0.5))
    values = 3 * 32 * 32
    squares = (views - reconstruction).square().sum() / 2 / (2 * 0.1**2)
    code = 8 * 0.5 * (0.25 + math.exp(-10) + 10 - 1)
    expected = (float(squares) + code) / values + math.log(0.1 * math.sqrt(2 * math.pi))
    assert float(loss) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("score", ["elbo", "pixels", "latent", "gradient"])
def test_every_score_ranks_a_defective_part_above_a_normal_one(method: VAE, score: str) -> None:
    other = VAE(**{**TINY, "score": score})  # type: ignore[arg-type]
    other.load_learned(method.state_dict())
    normal, defective = torch.from_numpy(normal_parts(1, seed=7)), torch.from_numpy(defective_part(1.0)[None])
    with torch.inference_mode():
        scores = other.eval()(torch.cat([normal, defective])).score
    assert float(scores[1]) > float(scores[0])


def test_the_gradient_map_equals_finite_differences_of_the_bound(method: VAE) -> None:
    other = VAE(**{**TINY, "score": "gradient"})  # type: ignore[arg-type]
    other.load_learned(method.state_dict())
    other.double()
    views = torch.rand(1, 3, 32, 32, dtype=torch.float64)

    @torch.no_grad()
    def bound(at: Tensor) -> float:
        mean, log_variance = other.encoded(at)
        return float(other.negative_elbo(at, other.decoder(mean), mean, log_variance))

    gradient = other.bound_gradient(views)
    for place in [(0, 0, 3, 4), (0, 2, 20, 31), (0, 1, 16, 16)]:
        step = torch.zeros_like(views)
        step[place] = 1e-4
        slope = (bound(views + step) - bound(views - step)) / 2e-4
        assert float(gradient[place]) == pytest.approx(slope, rel=0.02, abs=1e-3)
    torch.testing.assert_close(other.compare(views)[0], gradient.abs().mean(1))


def test_the_gradient_map_is_not_exported_and_the_others_are() -> None:
    assert not VAE(score="gradient").exports
    assert VAE(score="elbo").exports


def test_training_lowers_the_loss_and_keeps_codes_near_the_standard_distribution(method: VAE) -> None:
    history = learn(VAE(**{**TINY, "epochs": 60}), normal_parts(8)).losses  # type: ignore[arg-type]
    assert history[-1]["loss"] < history[0]["loss"] - 0.1
    with torch.no_grad():
        mean, log_variance = method.encoded(method.prepare(torch.from_numpy(normal_parts(8)))[0])
    assert float(mean.square().mean()) < 10
    assert float(log_variance.max()) < 1


def test_beta_weighs_the_divergence_in_the_bound() -> None:
    views, mean, log_variance = (
        torch.rand(2, 3, 32, 32),
        torch.full((2, 8, 1, 1), 0.5),
        torch.zeros(2, 8, 1, 1),
    )
    methods = [VAE(size=32, beta=beta) for beta in (0.0, 1.0, 3.0)]
    bounds = [method.negative_elbo(views, views, mean, log_variance) for method in methods]
    torch.testing.assert_close(bounds[1] - bounds[0], divergence(mean, log_variance), atol=1e-2, rtol=0)
    torch.testing.assert_close(bounds[2] - bounds[0], 3 * divergence(mean, log_variance), atol=1e-2, rtol=0)
