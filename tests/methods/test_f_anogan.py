"""f-AnoGAN: which networks are trained in which phase, resumed training, and the scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from blemish.blocks.gan.gradient_penalty import gradient_penalty
from blemish.methods.f_anogan import FAnoGAN
from blemish.testing.parts import normal_parts
from blemish.training import learn
from blemish.training.checkpoint import Checkpoint

TINY: dict[str, Any] = {
    "size": 16,
    "width": 2,
    "code": 6,
    "gan_steps": 6,
    "encoder_steps": 4,
    "batch_size": 3,
}
Row = dict[str, dict[str, Tensor]]


def built(**arguments: object) -> FAnoGAN:
    """A method with random weights, without training."""
    method = FAnoGAN(**{**TINY, **arguments})
    torch.manual_seed(0)
    with torch.no_grad():
        method.collect([])
    return method


class Watched(FAnoGAN):
    """Records the state of all networks before each step, and the names of the losses of each step."""

    def build(self) -> None:
        super().build()
        self.rows: list[Row] = []
        self.losses: list[list[str]] = []

    def training_loss(self, *prepared: Tensor) -> dict[str, Tensor]:
        self.rows.append(state(self))
        losses = super().training_loss(*prepared)
        self.losses.append(sorted(losses))
        return losses


def state(method: FAnoGAN) -> Row:
    networks: Mapping[str, nn.Module] = {
        name: getattr(method, name) for name in ("generator", "critic", "encoder")
    }
    return {name: {k: t.clone() for k, t in net.state_dict().items()} for name, net in networks.items()}


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.fixture(scope="module")
def watched() -> Watched:
    method = Watched(**TINY, critic_steps=3)
    learn(method, normal_parts(5))
    method.rows.append(state(method))
    return method


def test_the_generator_makes_one_step_per_critic_steps(watched: Watched) -> None:
    both = ["critic", "generator"]
    assert watched.losses == [["critic"], ["critic"], both, ["critic"], ["critic"], both, *[["encoder"]] * 4]
    changes = [
        sum(
            not torch.equal(t, after["generator"][k]) for k, t in before["generator"].items() if "weight" in k
        )
        for before, after in zip(watched.rows[:6], watched.rows[1:7], strict=True)
    ]
    assert [bool(count) for count in changes] == [False, False, True, False, False, True]


def test_generator_and_critic_are_frozen_while_the_encoder_is_trained(watched: Watched) -> None:
    """Including the running statistics of their batch norms."""
    first = watched.rows[6]
    assert any("running_mean" in name for name in first["generator"])
    for before, after in zip(watched.rows[6:], watched.rows[7:], strict=False):
        assert same(first["generator"], after["generator"])
        assert same(first["critic"], after["critic"])
        assert not same(before["encoder"], after["encoder"])
    for row in watched.rows[:7]:
        assert same(row["encoder"], watched.rows[0]["encoder"])
    assert not same(watched.rows[0]["generator"], first["generator"])


def test_in_training_mode_the_generators_batch_norms_would_change() -> None:
    """The control of the test above."""
    method = built()
    before = state(method)
    method.train().generator(torch.randn(3, 6))
    assert not same(before["generator"], state(method)["generator"])


class Interrupted(FAnoGAN):
    """Is interrupted at a step."""

    stop_at = 0

    def training_loss(self, *prepared: Tensor) -> dict[str, Tensor]:
        if int(self.trained) + 1 == self.stop_at:
            raise KeyboardInterrupt
        return super().training_loss(*prepared)


@pytest.mark.parametrize("stop_at", [4, 6, 7, 9])
def test_resumed_training_gives_the_same_weights_in_either_phase(
    watched: Watched, tmp_path: Path, stop_at: int
) -> None:
    for stop in (stop_at, 0):
        method = Interrupted(**TINY, critic_steps=3)
        method.stop_at = stop
        checkpoint = Checkpoint(tmp_path / "state", {"seed": 0}, resume=stop == 0)
        checkpoint.kept_at = float("-inf")
        if stop:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("blemish.training.loop.SECONDS_BETWEEN", 0.0)
                with pytest.raises(KeyboardInterrupt):
                    learn(method, normal_parts(5), checkpoint=checkpoint)
        else:
            learn(method, normal_parts(5), checkpoint=checkpoint)
    found = state(method)
    assert all(same(watched.rows[-1][name], found[name]) for name in found)


def test_the_scores_are_zero_where_the_encoder_inverts_the_generator() -> None:
    method = built(code=3 * 16 * 16)
    views = torch.rand(2, 3, 16, 16) * 2 - 1
    method.encoder = nn.Flatten()  # type: ignore[assignment]
    method.generator = nn.Unflatten(1, (3, 16, 16))  # type: ignore[assignment]
    for score in ("combined", "latent"):
        method.score = score
        errors, scores = method.compare(views)
        assert scores is not None
        assert float(errors.max()) == 0
        assert scores.tolist() == [0.0, 0.0]
    method.generator = nn.Sequential(nn.Unflatten(1, (3, 16, 16)), nn.Hardtanh(-0.5, 0.5))  # type: ignore[assignment]
    with torch.no_grad():
        errors, scores = method.compare(views)
    assert scores is not None
    assert float(errors.max()) > 0.1
    assert float(scores.min()) > 0


def test_scores_and_errors_equal_the_formulas_by_hand() -> None:
    views = torch.rand(2, 3, 16, 16) * 2 - 1
    for score in ("combined", "pixels", "latent"):
        method = built(score=score).eval()
        with torch.no_grad():
            errors, scores = method.compare(views)
            codes = method.encoder(views)
            reconstruction = method.generator(codes)
            features = [method.critic.body(p) for p in (views, reconstruction)]
            second_codes = method.encoder(reconstruction)
        assert torch.allclose(errors, (views - reconstruction).abs().sum(1) / 3)
        if score == "pixels":
            assert scores is None
            continue
        by_pixels = ((views - reconstruction) ** 2).sum((1, 2, 3)) / (3 * 16 * 16)
        by_features = ((features[0] - features[1]) ** 2).sum(1) / (16 * 8)
        by_codes = ((codes - second_codes) ** 2).sum(1) / 6
        expected = by_pixels + by_features if score == "combined" else by_codes
        assert scores is not None
        assert torch.allclose(scores, expected, rtol=1e-4)


def test_the_encoders_loss_is_the_mean_of_the_combined_score() -> None:
    method = built().eval()
    method.trained.fill_(6)
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "blemish.methods.f_anogan.mixed_precision", lambda device: torch.autocast("cpu", enabled=False)
        )
        loss = method.training_loss(images)["encoder"]
        scores = method.compare(images)[1]
    assert scores is not None
    assert float(loss) == pytest.approx(float(scores.mean()), rel=1e-5)


def test_the_critics_loss_does_not_reach_the_generator() -> None:
    method = built(critic_steps=1)
    losses = method.training_loss(torch.rand(3, 3, 16, 16))
    found = torch.autograd.grad(
        losses["critic"], list(method.generator.parameters()), allow_unused=True, retain_graph=True
    )
    assert set(found) == {None}
    wanted = torch.autograd.grad(losses["generator"], list(method.generator.parameters()))
    assert all(bool(gradient.any()) for gradient in wanted if gradient.ndim == 4)


def test_tanh_bounds_the_codes() -> None:
    views = 20 * torch.randn(4, 3, 16, 16)
    for tanh in (False, True):
        method = built(tanh=tanh)
        with torch.no_grad():
            head = method.encoder[1]
            assert isinstance(head, nn.Linear)
            head.weight.mul_(20)
            assert (float(method.encoder(views).abs().max()) <= 1) == tanh


def test_learning_rates_fall_to_zero_in_each_phase_and_steps_are_the_sum() -> None:
    method = FAnoGAN(**{**TINY, "gan_steps": 20, "encoder_steps": 10})
    assert method.steps == 30
    factors = [method.learning_rate_factor(step / 30) for step in (0, 10, 19, 20, 25, 29)]
    assert factors == pytest.approx([1.0, 0.5, 0.00616, 1.0, 0.5, 0.02447], abs=1e-4)


def test_bfloat16_changes_the_penaltys_gradient_little() -> None:
    """So the second derivative needs no float32."""
    method = built(size=32, width=8)
    real, fake = torch.rand(2, 4, 3, 32, 32) * 2 - 1
    gradients = []
    for enabled in (False, True):

        def critic_scores(images: Tensor, enabled: bool = enabled) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                scores: Tensor = method.critic(images)
            return scores.float()

        torch.manual_seed(1)
        weights = [p for p in method.critic.parameters() if p.ndim > 1]
        found = torch.autograd.grad(gradient_penalty(critic_scores, real, fake), weights)
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    exact, rough = gradients
    assert 0 < float((rough - exact).norm() / exact.norm()) < 0.05


def test_the_paper_preset_has_the_published_numbers() -> None:
    method = FAnoGAN(**FAnoGAN.presets["paper"].arguments)
    assert (method.size, method.width, method.code, method.tanh, method.steps) == (64, 64, 128, True, 150_000)
    optimizers = method.optimizers()
    assert type(optimizers["encoder"]) is torch.optim.RMSprop
    adam = optimizers["critic"].param_groups[0]
    assert (adam["lr"], adam["betas"]) == (1e-4, (0.0, 0.9))
    assert optimizers["encoder"].param_groups[0]["lr"] == 5e-5
