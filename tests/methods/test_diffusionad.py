from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.methods import diffusionad
from blemish.methods.diffusionad import DiffusionAD
from blemish.testing.parts import SIZE, defective_part, normal_parts, textured
from blemish.training import learn
from blemish.training.checkpoint import Checkpoint
from tensor_batches import TensorBatches

TINY: dict[str, Any] = {
    "size": 32,
    "width": 8,
    "attention": 8,
    "segmenter_width": 4,
    "epochs": 2,
    "batch_size": 4,
}


@pytest.fixture(autouse=True)
def _few_textures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.methods.square_views.MAX_TEXTURES", 8)


def collected(images: Tensor | None = None, **arguments: Any) -> DiffusionAD:
    method = DiffusionAD(**{**TINY, **arguments})
    torch.manual_seed(0)
    with torch.no_grad():
        method.collect([torch.from_numpy(textured(3, (64, 64))) if images is None else images])
    return method


def discs(count: int) -> Tensor:
    """A striped disc before a white background: (count, 3, 128, 128)."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128]
    stripes = 0.3 + 0.15 * np.sin(columns / rng.uniform(2, 3, (count, 1, 1)))
    images = np.where((rows - 64) ** 2 + (columns - 64) ** 2 < 40**2, stripes, 0.95)
    return torch.from_numpy(images.astype(np.float32))[:, None].repeat(1, 3, 1, 1)


class Guess(nn.Module):
    """A denoiser that predicts one number for each of `count` noisy images, and keeps the time steps."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.linspace(-0.5, 0.5, count))
        self.times = torch.empty(0)

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        self.times = times
        return self.numbers[:, None, None, None].expand_as(images)


class Oracle(nn.Module):
    """A denoiser that knows the noise."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, images: Tensor, times: Tensor) -> Tensor:
        return self.noise.repeat_interleave(len(images) // 2, 0)


class Difference(nn.Module):
    """A segmenter whose logits are a multiple of the difference between its two images, plus the first channel."""

    def __init__(self, multiple: float) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, both: Tensor) -> Tensor:
        views, reconstruction = both.chunk(2, dim=1)
        return self.multiple * (views - reconstruction).abs().sum(1, keepdim=True) + views[:, :1]


def test_only_images_without_a_defect_count_in_the_loss_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    method = collected()
    guess = Guess(16)
    method.denoiser = guess  # type: ignore[assignment]
    method.segmenter = Difference(0.0)  # type: ignore[assignment]
    images, seen = torch.rand(8, 3, 32, 32), []
    original = method.with_defects

    def kept(views: Tensor, paintable: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(original(views, paintable))
        return seen[-1]

    monkeypatch.setattr(method, "with_defects", kept)
    monkeypatch.setattr(diffusionad, "FOCAL_WEIGHT", 0.0)
    noise = torch.randn(16, 3, 32, 32)
    monkeypatch.setattr(torch, "randn", lambda *size: noise)
    loss = method.training_loss(images, torch.ones(8, 1, 32, 32, dtype=torch.bool))
    loss.backward()
    views, masks = seen[0]
    is_normal = ~masks.flatten(1).any(1)
    assert 0 < int(is_normal.sum()) < 8
    assert guess.numbers.grad is not None
    assert torch.equal(guess.numbers.grad.ne(0), is_normal.repeat(2))
    errors = (guess.numbers.detach()[:, None] - noise.flatten(1)).square().mean(1)
    absolute = (views[:, :1].sigmoid() - masks.float()).abs()
    smooth_l1 = (absolute.square() / 2).mean()  # all are below 1
    assert float(loss.detach()) == pytest.approx(
        float(2 * errors[is_normal.repeat(2)].mean() + smooth_l1)  # the sum over both time steps, rel=1e-4
    )


def test_small_time_steps_are_below_300_and_large_ones_are_not() -> None:
    method = collected()
    guess = Guess(400)
    method.denoiser, method.segmenter = guess, Difference(0.0)  # type: ignore[assignment]
    method.training_loss(torch.rand(200, 3, 32, 32), torch.ones(200, 1, 32, 32, dtype=torch.bool))
    small, large = guess.times.chunk(2)
    assert 0 <= int(small.min()) < 20
    assert 280 <= int(small.max()) < 300 <= int(large.min()) < 330
    assert 970 <= int(large.max()) < 1000


def test_the_segmenter_teaches_the_denoiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """All images have a defect, so no loss of the noise is left."""
    monkeypatch.setattr(diffusionad, "DEFECTIVE", 1.0)
    method = collected()
    method.training_loss(torch.rand(4, 3, 32, 32), torch.ones(4, 1, 32, 32, dtype=torch.bool)).backward()
    last = dict(method.denoiser.last.named_parameters())["2.weight"].grad
    assert last is not None
    assert last.abs().max() > 0


def test_without_foreground_there_is_no_defect() -> None:
    method = collected()
    views = torch.rand(20, 3, 32, 32)
    nowhere, left = torch.zeros(20, 1, 32, 32, dtype=torch.bool), torch.zeros(20, 1, 32, 32, dtype=torch.bool)
    left[..., :16] = True
    painted, masks = method.with_defects(views, nowhere)
    assert torch.equal(painted, views)
    assert not masks.any()
    painted, masks = method.with_defects(views, left)
    assert torch.equal(painted[..., 16:], views[..., 16:])
    assert masks.any()
    assert not masks[..., 16:].any()
    changed = (painted != views).any(1, keepdim=True)
    assert not (changed & ~masks).any()


def test_half_of_the_views_get_a_defect() -> None:
    method = collected()
    everywhere = torch.ones(300, 1, 32, 32, dtype=torch.bool)
    masks = method.with_defects(torch.rand(300, 3, 32, 32), everywhere)[1]
    assert float(masks.flatten(1).any(1).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("patches", [False, True])
def test_defects_lie_on_the_product_where_there_is_a_background(patches: bool) -> None:
    images = discs(6)
    method = collected(images, patches=patches)
    network_images, paintable = method.prepare(images)
    assert network_images.shape[2:] == paintable.shape[2:] == ((128, 128) if patches else (32, 32))
    shares = nn.functional.adaptive_avg_pool2d(paintable.float(), 8).mean((0, 1))  # cells of 16 × 16 pixels
    assert float(shares[2:6, 2:6].mean()) > 0.9
    assert float(shares[:, [0, 7]].mean()) < 0.1
    assert method.training_loss(network_images, paintable).isfinite()


def test_defects_lie_everywhere_on_a_texture() -> None:
    images = torch.from_numpy(textured(4, (64, 64)))
    method = collected(images)
    assert method.features is None
    assert method.prepare(images)[1].all()


def test_what_only_the_training_needs_is_not_part_of_the_model() -> None:
    method = DiffusionAD(**TINY)
    before = method.state_dict().keys()
    learn(method, discs(4).numpy())
    assert method.state_dict().keys() == before
    assert not method.defect_textures.numel()
    assert method.prepare(discs(2))[1].all()


def test_auxiliary_images_are_the_textures_of_the_defects() -> None:
    method = DiffusionAD(**TINY)
    red = torch.tensor([0.9, 0.1, 0.2]).view(1, 3, 1, 1).expand(4, 3, 40, 50)
    method.auxiliary = TensorBatches(red)
    method.collect([discs(2)])
    assert torch.allclose(method.defect_textures, red[..., :32, :32], atol=1e-6)


def test_the_score_is_the_mean_of_the_largest_pixels() -> None:
    """The paper's 50 pixels of 256 × 256 are 3 of 64 × 64; with the true noise nothing is left to segment."""
    method = collected(size=64).eval()
    method.denoiser, method.segmenter = Oracle(method.noise), Difference(1000.0)  # type: ignore[assignment]
    method.learned = torch.ones(1)
    images = torch.rand(2, 3, 64, 64)
    score, anomaly_map = method(images)
    assert torch.allclose(anomaly_map, images[:, 0].sigmoid(), atol=5e-3)
    largest = np.sort(anomaly_map.flatten(1).numpy())[:, -3:]
    assert score.numpy() == pytest.approx(largest.mean(1), rel=1e-5)


def test_the_paper_averages_50_pixels() -> None:
    assert round(diffusionad.TOP_SHARE * 256 * 256) == 50
    method = DiffusionAD(**DiffusionAD.presets["paper"].arguments)
    assert round(sum(p.numel() for p in method.denoiser.parameters()) / 1e6, 1) == 131.7


def test_padding_does_not_count_in_the_score() -> None:
    """A defect at the edge is mirrored into the padding, where it must not count a second time."""
    method = collected(size=64).eval()
    method.denoiser, method.segmenter = Oracle(method.noise), Difference(0.0)  # type: ignore[assignment]
    method.learned = torch.ones(1)
    images = torch.zeros(1, 3, 64, 64)
    images[..., 32, 10] = 1
    padded = images.clone()
    padded[..., :10] = torch.nan
    mirrored = images.clone()
    mirrored[..., 32, 9] = 1
    assert torch.allclose(method(padded).score, method(images).score)
    assert method(mirrored).score > method(padded).score + 0.01


def test_scores_repeat_bit_for_bit_and_depend_on_the_seed() -> None:
    images = torch.from_numpy(np.stack([defective_part(1.0), normal_parts(1)[0]]))

    def predicted(seed: int) -> Tensor:
        method = DiffusionAD(**TINY)
        learn(method, normal_parts(4), seed=seed)
        with torch.no_grad():
            maps = method.eval()(images).anomaly_map
            torch.rand(3)
            assert torch.equal(method(images).anomaly_map, maps)
        assert maps.shape == (2, *SIZE)
        return maps

    first = predicted(0)
    assert torch.equal(predicted(0), first)
    assert not torch.equal(predicted(1), first)


def test_resumed_training_ends_at_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.training.loop.SECONDS_BETWEEN", 0.0)
    whole, broken, resumed = (DiffusionAD(**TINY) for _ in range(3))
    images = discs(4).numpy()
    learn(whole, images)
    calls = 0

    def breaking(*prepared: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return DiffusionAD.training_loss(broken, *prepared)

    monkeypatch.setattr(broken, "training_loss", breaking)
    with pytest.raises(KeyboardInterrupt):
        learn(broken, images, checkpoint=Checkpoint(tmp_path / "state", {}, resume=False))
    learn(resumed, images, checkpoint=Checkpoint(tmp_path / "state", {}, resume=True))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_it_learns_to_predict_the_noise_of_normal_images() -> None:
    images = torch.from_numpy(normal_parts(8, seed=3))
    times = torch.tensor([200, 400]).repeat_interleave(8)

    def error(method: DiffusionAD) -> float:
        views = method.network_images(images)
        with torch.no_grad():
            noisy = method.denoise(views, times, method.noise.repeat_interleave(8, 0))
            return float((method.schedule.norm_guided(*noisy, 1.0) - views).abs().mean())

    fresh = collected(torch.from_numpy(normal_parts(12)))
    method = DiffusionAD(**{**TINY, "epochs": 30}, learning_rate=5e-3, segmenter_learning_rate=1e-2)
    losses = [row["loss"] for row in learn(method, normal_parts(12)).losses]
    assert losses[-1] < 0.4 * losses[0]
    assert error(method.eval()) < 0.75 * error(fresh.eval())
