from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blemish.blocks.autoencoders.unet import UNet
from blemish.errors import MethodError
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.denoising_autoencoder import DenoisingAutoEncoder
from blemish.methods.square_views import MAX_TEXTURES
from blemish.testing.parts import normal_parts
from blemish.training import learn
from tensor_batches import TensorBatches

SMALL = {"size": 32, "width": 8, "code": 8, "batch_size": 6}
CORRUPTIONS = ("defects", "gaussian", "coarse")


def built(**arguments: object) -> DenoisingAutoEncoder:
    return DenoisingAutoEncoder(**{**SMALL, "epochs": 2, **arguments})  # type: ignore[arg-type]


def collected(**arguments: object) -> DenoisingAutoEncoder:
    torch.manual_seed(0)
    method = built(**arguments)
    with torch.no_grad():
        method.collect([])
    return method


def discs(count: int) -> Tensor:
    """Normal images (count, 3, 32, 32) in 0…1: a soft disc on a line, lighter or darker than the background."""
    rng = np.random.default_rng(count)
    rows, columns = np.mgrid[:32, :32]
    middle = rng.uniform(8, 24, (count, 1, 1))
    disc = np.exp(-((columns - middle) ** 2 + (rows - 16) ** 2) / 60)
    images = rng.uniform(0.35, 0.65, (count, 1, 1)) + 0.3 * rng.choice([-1, 1], (count, 1, 1)) * disc
    return torch.from_numpy(images.astype(np.float32))[:, None].expand(-1, 3, -1, -1)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("patches", [False, True])
def test_without_corruption_it_is_the_autoencoder(corruption: str, patches: bool) -> None:
    plain = AutoEncoder(**SMALL, epochs=2, patches=patches)  # type: ignore[arg-type]
    losses = learn(plain, normal_parts(4), seed=3).losses
    method = built(corruption=corruption, strength=0.0, patches=patches)
    assert learn(method, normal_parts(4), seed=3).losses == losses
    state = method.state_dict()
    assert state.keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    corrupted = built(corruption=corruption, strength=0.5, patches=patches)
    assert learn(corrupted, normal_parts(4), seed=3).losses != losses


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_strength_0_draws_no_random_number(corruption: str) -> None:
    method = collected(corruption=corruption, strength=0.0)
    before = torch.get_rng_state()
    images = discs(3)
    assert method.corrupted(images) is images
    assert torch.equal(torch.get_rng_state(), before)
    assert not method.defect_textures.numel()


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_input_is_the_corrupted_image_and_the_target_the_clean_one(
    corruption: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, images, seen = collected(corruption=corruption), discs(8), []

    def reconstruct(views: Tensor) -> Tensor:
        seen.append(views)
        return images + 0.5

    monkeypatch.setattr(method, "reconstruct", reconstruct)
    assert float(method.training_loss(images)) == pytest.approx(0.25, rel=1e-4)
    assert not torch.equal(seen[0], images)


def test_strength_is_the_standard_deviation_of_the_noise() -> None:
    torch.manual_seed(0)
    images = torch.full((40, 3, 32, 32), 0.5)
    fine, coarse = (
        collected(corruption=kind, strength=0.2).corrupted(images) - images for kind in CORRUPTIONS[1:]
    )
    assert float(fine.std()) == pytest.approx(0.2, rel=0.02)
    neighbours = [float((n[..., 1:] * n[..., :-1]).mean() / n.square().mean()) for n in (fine, coarse)]
    assert neighbours[0] == pytest.approx(0, abs=0.02)
    assert neighbours[1] > 0.4  # 16 cells along the 32 pixels


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_strength_is_the_share_of_images_with_a_defect(strength: float) -> None:
    method = collected(strength=strength)
    images = discs(4).repeat(100, 1, 1, 1)
    changed = (method.corrupted(images) != images).flatten(1).any(1)
    assert float(changed.float().mean()) == pytest.approx(strength, abs=0.07)


def test_auxiliary_images_are_the_textures_of_the_defects() -> None:
    method = built()
    red = torch.tensor([2.0, -2.0, -1.5]).view(1, 3, 1, 1).expand(4, 3, 40, 50)
    method.auxiliary = TensorBatches(red)
    method.collect([])
    assert method.defect_textures.shape == (4, 3, 32, 32)
    assert torch.allclose(method.defect_textures, method.network_images(red), atol=1e-6)


def test_textures_are_not_part_of_the_model() -> None:
    method = collected()
    assert method.defect_textures.shape == (MAX_TEXTURES, 3, 32, 32)
    assert not [name for name in method.state_dict() if "texture" in name]
    learn(method, normal_parts(2))
    assert not method.defect_textures.numel()


def test_it_removes_noise_from_normal_images_better_than_the_autoencoder() -> None:
    """The weights start with unit gain, so that a short training suffices."""
    torch.manual_seed(1)
    clean = discs(16)
    noisy = clean + 0.2 * torch.randn(clean.shape)
    wrong, residuals = [], []
    for method in (
        AutoEncoder(**{**SMALL, "code": 32}),  # type: ignore[arg-type]
        built(code=32, corruption="gaussian", strength=0.2),
    ):
        trained_on(method, discs(24), steps=150)
        with torch.no_grad():
            wrong.append(float((method.reconstruct(noisy) - clean).square().mean()))
            residuals.append(float(method.compare(noisy)[0].mean()))
    assert wrong[1] < 0.8 * wrong[0]
    assert residuals[1] < residuals[0]


def trained_on(method: AutoEncoder, images: Tensor, steps: int) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        method.collect([])
        for module in method.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
    optimizer = method.optimizers()
    for _ in range(steps):
        optimizer.zero_grad()
        method.training_loss(images[torch.randint(len(images), (8,))]).backward()
        optimizer.step()


def test_with_skips_the_network_is_a_u_net() -> None:
    method = built(skips=True, width=4, epochs=15, learning_rate=1e-2, patience=0)
    losses = [epoch["loss"] for epoch in learn(method, normal_parts(12)).losses]
    assert isinstance(method.encoder, UNet)
    assert losses[-1] < 0.7 * losses[0]
    views = discs(2)
    with torch.no_grad():
        expected = (views - method.encoder(views).sigmoid()).square().mean(1)
        assert torch.allclose(method.compare(views)[0], expected)


def test_building_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    built(skips=True)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("preset", DenoisingAutoEncoder.presets)
def test_presets_build(preset: str) -> None:
    method = DenoisingAutoEncoder(**DenoisingAutoEncoder.presets[preset].arguments)
    assert method.skips == (preset in ("coarse", "paper"))
    assert method.strength == (0.9 if preset == "texture" else 0.2)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"strength": 1.5}, r"strength must be a share from 0 to 1 for defects, got 1\.5\."),
        (
            {"skips": True, "score": "latent"},
            r"with skips=True there is no code to compare\. Choose score='pixels'\.",
        ),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(MethodError, match=text):
        DenoisingAutoEncoder(**arguments)
