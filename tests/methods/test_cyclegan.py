from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.blocks.synthetic.procedural import procedural_images
from blemish.methods.cyclegan import CycleGAN
from blemish.testing.parts import normal_parts
from blemish.training import learn
from blemish.training.checkpoint import Checkpoint

TINY = {"size": 32, "width": 4, "blocks": 1, "epochs": 2, "batch_size": 4, "learning_rate": 2e-3}


@pytest.fixture(autouse=True)
def _few_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.methods.square_views.MAX_TEXTURES", 8)


class Affine(nn.Module):
    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.factor = factor
        self.shift = shift

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images + self.shift


class Brightness(nn.Module):
    """A discriminator whose score of each image is its mean, times a factor, plus a shift."""

    def __init__(self, factor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.factor = factor
        self.shift = shift

    def forward(self, images: Tensor) -> Tensor:
        return self.factor * images.mean((1, 2, 3), keepdim=True) + self.shift


def collected(**arguments: object) -> CycleGAN:
    method = CycleGAN(**{**TINY, **arguments})  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        method.collect([])
    return method


def learned(**arguments: object) -> CycleGAN:
    method = CycleGAN(**{**TINY, **arguments})  # type: ignore[arg-type]
    learn(method, normal_parts(4))
    return method.eval()


def losses(method: CycleGAN, images: Tensor) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in method.training_loss(images).items()}


def constant(number: float) -> Tensor:
    return torch.full((4, 3, 32, 32), number)


@pytest.fixture
def dark_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pixel of a defective image is -0.8."""

    def darkened(images: Tensor, textures: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(images, -0.8), torch.ones_like(images[:, :1], dtype=torch.bool)

    monkeypatch.setattr("blemish.methods.cyclegan.add_defects", darkened)


@pytest.mark.usefixtures("dark_defects")
def test_losses_on_constant_images_equal_those_by_hand() -> None:
    method = collected()
    method.to_normal, method.to_defective = Affine(0.5, 0.0), Affine(1.0, 0.25)  # type: ignore[assignment]
    method.normal_discriminator, method.defective_discriminator = Brightness(1.0), Brightness(2.0)  # type: ignore[assignment]
    # normal 0.4 → defective 0.65 → normal 0.325; defective -0.8 → normal -0.4 → defective -0.15
    cycle = abs(0.325 - 0.4) + abs(-0.15 + 0.8)
    identity = abs(0.2 - 0.4) + abs(-0.55 + 0.8)
    fooling = (-0.4 - 1) ** 2 + (2 * 0.65 - 1) ** 2
    normal_discriminator = ((0.4 - 1) ** 2 + (-0.4) ** 2) / 2
    defective_discriminator = ((2 * -0.8 - 1) ** 2 + (2 * 0.65) ** 2) / 2
    found = losses(method, constant(0.4))
    assert found["generator"] == pytest.approx(fooling + 10 * cycle + 5 * identity, rel=1e-6)
    assert found["discriminator"] == pytest.approx(normal_discriminator + defective_discriminator, rel=1e-6)
    assert (found["generator"], found["discriminator"]) == pytest.approx((11.55, 4.485), rel=1e-6)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.0), (0.1, (10 * 2 + 5) * 0.1)])
def test_cycle_and_identity_losses_of_generators_that_add_a_constant(shift: float, expected: float) -> None:
    """The constant counts once in each of the two cycles and once in the identity loss; 0 gives no loss."""
    method = collected()
    method.to_normal, method.to_defective = nn.Identity(), Affine(1.0, shift)  # type: ignore[assignment]
    method.normal_discriminator = method.defective_discriminator = Brightness(0.0, 1.0)  # type: ignore[assignment]
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    assert losses(method, images)["generator"] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_order_of_the_defective_images_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpaired: no loss compares a defective image with the normal one that it was made from."""
    method, images = collected(), torch.rand(4, 3, 32, 32) * 2 - 1
    found = []
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        defective = (-images.flip(3))[order]
        monkeypatch.setattr(
            "blemish.methods.cyclegan.add_defects", lambda views, _, d=defective: (d, views > 2)
        )
        found.append(losses(method, images))
    assert found[0] == pytest.approx(found[1], rel=1e-3)
    monkeypatch.setattr("blemish.methods.cyclegan.add_defects", lambda views, _: (views.flip(2), views > 2))
    assert losses(method, images) != pytest.approx(found[0], rel=1e-3)


@pytest.mark.parametrize("trained", ["generator", "discriminator"])
def test_a_loss_changes_its_own_networks_only(trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = CycleGAN(**{**TINY, "epochs": 1})  # type: ignore[arg-type]
    before: dict[str, Tensor] = {}

    def one_loss(*prepared: Tensor) -> dict[str, Tensor]:
        if not before:
            before.update({name: p.detach().clone() for name, p in method.named_parameters()})
        return {trained: dict(CycleGAN.training_loss(method, *prepared))[trained]}

    monkeypatch.setattr(method, "training_loss", one_loss)
    learn(method, normal_parts(4))
    moved = {name.split(".")[0] for name, p in method.named_parameters() if not torch.equal(p, before[name])}
    own = {
        "generator": {"to_normal", "to_defective"},
        "discriminator": {"normal_discriminator", "defective_discriminator"},
    }
    assert moved == own[trained]


def test_the_discriminators_loss_has_no_gradient_for_the_generators() -> None:
    method = collected()
    found = method.training_loss(torch.rand(2, 3, 32, 32))
    generators = [*method.to_normal.parameters(), *method.to_defective.parameters()]
    gradients = torch.autograd.grad(found["discriminator"], generators, allow_unused=True, retain_graph=True)
    assert all(gradient is None for gradient in gradients)
    assert all(g.any() for g in torch.autograd.grad(found["generator"], generators))


@pytest.mark.usefixtures("dark_defects")
def test_discriminators_see_old_images_once_the_buffer_is_full() -> None:
    method = collected()
    method.normal_discriminator = method.defective_discriminator = Brightness(1.0)  # type: ignore[assignment]
    method.to_normal = method.to_defective = Affine(0.0, 0.0)  # type: ignore[assignment]
    real = ((0.4 - 1) ** 2 + (-0.8 - 1) ** 2) / 2
    for step in range(13):  # the buffer holds 50 images after 12.5 steps
        assert int(method.made_normal.count) == min(4 * step, 50)
        assert losses(method, constant(0.4))["discriminator"] == pytest.approx(real)
    method.to_normal = method.to_defective = Affine(0.0, 1.0)  # type: ignore[assignment]
    torch.manual_seed(0)
    after_change = [2 * (losses(method, constant(0.4))["discriminator"] - real) for _ in range(4)]
    assert 0 < sum(after_change) < 4 * 2


def test_a_trained_model_holds_neither_generated_images_nor_textures() -> None:
    method = learned()
    assert method.made_normal.images.numel() == method.made_defective.images.numel() == 0
    assert method.defect_textures.numel() == 0


def test_resumed_training_goes_on_with_the_generated_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop.SECONDS_BETWEEN", 0.0)
    whole, broken, resumed = (CycleGAN(**{**TINY, "batch_size": 2}) for _ in range(3))  # type: ignore[arg-type]
    learn(whole, normal_parts(4))
    calls = 0

    def breaking(*prepared: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return dict(CycleGAN.training_loss(broken, *prepared))

    monkeypatch.setattr(broken, "training_loss", breaking)
    with pytest.raises(KeyboardInterrupt):
        learn(broken, normal_parts(4), checkpoint=Checkpoint(tmp_path / "state", {}, resume=False))
    learn(resumed, normal_parts(4), checkpoint=Checkpoint(tmp_path / "state", {}, resume=True))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_errors_and_scores_are_squared_changes() -> None:
    views = torch.rand(2, 3, 32, 32) * 2 - 1
    method = learned(score="mean")
    with torch.no_grad():
        changed = (views - method.to_normal(views)).numpy()
        errors, scores = method.compare(views)
    expected = np.zeros((2, 32, 32))
    for channel in range(3):
        expected += changed[:, channel].astype(np.float64) ** 2 / 3
    np.testing.assert_allclose(errors, expected, rtol=1e-5)
    assert scores is not None
    np.testing.assert_allclose(scores, expected.reshape(2, -1).sum(1) / 32**2, rtol=1e-5)
    assert learned().compare(views)[1] is None


def test_learning_rates_decay_linearly_after_a_tenth() -> None:
    factor = CycleGAN().learning_rate_factor
    assert [factor(done) for done in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([1, 1, 1, 0.5, 0])


def remaining_defects(method: CycleGAN) -> float:
    """Squared distance to the clean images after translation to normal, as a share of that before."""
    with torch.no_grad():
        torch.manual_seed(1)
        clean = method.network_images(torch.from_numpy(normal_parts(32, seed=9)))
        defective = clean.clone()
        defective[:, :, 10:20, 12:22] = 2 * procedural_images(32, (10, 10)) - 1
        translated = method.eval().to_normal(defective)
    return float((translated - clean).square().sum() / (defective - clean).square().sum())


def test_training_makes_the_translation_to_normal_reduce_defects_by_a_third() -> None:
    method = CycleGAN(**{**TINY, "epochs": 10, "learning_rate": 5e-3})  # type: ignore[arg-type]
    learn(method, normal_parts(24))
    assert remaining_defects(method) < 0.7
    assert remaining_defects(collected()) > 1


def test_a_brighter_image_has_a_brighter_translation() -> None:
    method, views = learned(), torch.rand(2, 3, 32, 32) - 0.5
    with torch.no_grad():
        moved = method.to_normal(views + 0.3) - method.to_normal(views)
    assert float(moved.mean()) == pytest.approx(0.3, abs=0.03)
    assert not CycleGAN.presets["paper"].arguments["standardised"]
