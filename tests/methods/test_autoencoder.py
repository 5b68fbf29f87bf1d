import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import nn

from blemish.blocks.autoencoders.ssim import ssim_map
from blemish.errors import MethodError
from blemish.methods.autoencoder import AutoEncoder
from blemish.methods.reconstruction import RIDGE, TEXTURE, latent_distance, relative_errors
from blemish.testing.parts import DEFECT, SIZE, defective_part, normal_parts
from blemish.training import learn
from tensor_batches import TensorBatches

TINY = {"size": 32, "width": 8, "code": 8, "epochs": 20, "batch_size": 4, "learning_rate": 3e-3}


def learned(images: NDArray[np.float32], **arguments: object) -> AutoEncoder:
    method = AutoEncoder(**{**TINY, **arguments})  # type: ignore[arg-type]
    learn(method, images)
    return method.eval()


@pytest.fixture(scope="module")
def method() -> AutoEncoder:
    return learned(normal_parts(8))


def random_views(count: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 3, 32, 32)


@torch.no_grad()
def test_errors_are_those_of_the_loss(method: AutoEncoder) -> None:
    views = random_views(3)
    reconstruction = method.decoder(method.encoder(views))
    errors, scores = method.compare(views)
    assert scores is None
    torch.testing.assert_close(errors, (views - reconstruction).square().mean(1))
    structure = 1 - ssim_map(views, reconstruction).mean(1)
    for loss, expected in {
        "ssim": structure,
        "l1+ssim": structure + (views - reconstruction).abs().mean(1),
    }.items():
        other = AutoEncoder(**{**TINY, "loss": loss})  # type: ignore[arg-type]
        other.load_learned(method.state_dict())
        torch.testing.assert_close(other.compare(views)[0], expected)


@torch.no_grad()
def test_the_loss_of_a_step_is_the_mean_error(method: AutoEncoder) -> None:
    views = random_views(2)
    torch.testing.assert_close(
        method.training_loss(views), method.compare(views)[0].mean(), rtol=0.02, atol=0
    )


def test_a_perfect_reconstruction_has_no_errors() -> None:
    method = AutoEncoder(size=32, code=3)
    method.encoder = method.decoder = nn.Identity()
    errors, _ = method.compare(random_views(2))
    assert float(errors.abs().max()) == 0.0


@torch.no_grad()
def test_the_latent_score_compares_the_two_codes(method: AutoEncoder) -> None:
    views = random_views(3)
    other = AutoEncoder(**{**TINY, "score": "latent"})  # type: ignore[arg-type]
    other.load_learned(method.state_dict())
    _, scores = other.compare(views)
    codes = other.encoder(views)
    again = other.encoder(other.decoder(codes))
    expected = [float(((a - b) ** 2).sum() / 8) for a, b in zip(codes, again, strict=True)]
    assert scores is not None
    assert scores.tolist() == pytest.approx(expected, rel=1e-5)
    assert float(latent_distance(codes, codes).abs().max()) == 0


def test_it_overfits_a_single_image() -> None:
    method = AutoEncoder(
        size=32,
        width=16,
        code=16,
        epochs=250,
        batch_size=1,
        patience=0,
        learning_rate=3e-3,
        standardise=False,
    )
    history = learn(method, np.repeat(normal_parts(1), 1, axis=0))
    assert history.losses[-1]["loss"] < 1e-4


def test_a_defect_is_localised_better_than_after_training_on_shuffled_pixels() -> None:
    parts = normal_parts(8)
    method = learned(parts, epochs=60)
    rng = np.random.default_rng(0)
    order = rng.permutation(SIZE[0] * SIZE[1])
    shuffled = parts.reshape(8, 3, -1)[:, :, order].reshape(parts.shape)
    control = learned(np.ascontiguousarray(shuffled), epochs=60)
    assert auroc(method) > 0.9
    assert auroc(method) > auroc(control) + 0.1


def auroc(method: AutoEncoder) -> float:
    """AUROC of the anomaly map's pixels against the pixels of the defect."""
    inside = np.zeros(SIZE, bool)
    inside[DEFECT] = True
    with torch.no_grad():
        anomaly_map = method(torch.from_numpy(defective_part(0.15)[None])).anomaly_map[0]
    return float(roc_auc_score(inside.ravel(), anomaly_map.numpy().ravel()))


def test_network_images_keep_their_size_or_are_resized() -> None:
    images = torch.rand(2, 3, 64, 96)
    assert torch.equal(AutoEncoder(patches=True).prepare(images)[0], images)
    resized = AutoEncoder(size=32).prepare(images)[0]
    torch.testing.assert_close(resized, images.view(2, 3, 32, 2, 32, 3).mean((3, 5)))


def test_patches_trains_on_windows_and_scores_everywhere() -> None:
    method = learned(normal_parts(6), patches=True)
    whole = method.prepare(torch.from_numpy(normal_parts(2)))[0]
    assert whole.shape == (2, 3, *SIZE)
    assert method.views(whole).shape == (2, 3, 32, 32)
    with torch.no_grad():
        errors, _ = method.errors(torch.from_numpy(defective_part(1.0)[None]))
    assert errors.shape == (1, *SIZE)
    elsewhere = torch.ones(SIZE, dtype=torch.bool)
    elsewhere[DEFECT] = False
    assert float(errors[0, ~elsewhere].mean()) > 2 * float(errors[0, elsewhere].mean())


def test_standardised_errors_are_in_standard_deviations_at_their_position() -> None:
    parts = torch.from_numpy(normal_parts(8))
    method = learned(parts.numpy(), standardise=True).requires_grad_(False)
    errors = torch.stack([method.errors(parts[i : i + 1])[0][0] for i in range(8)])
    variance = errors.var(0)
    deviation = (variance + RIDGE * variance.mean()).sqrt()
    defective = torch.from_numpy(defective_part(1.0)[None])
    expected = (method.errors(defective)[0] - errors.mean(0)).abs() / deviation
    torch.testing.assert_close(
        method.usual_errors.distance(method.errors(defective)[0][:, None]), expected, rtol=1e-3, atol=1e-3
    )
    plain = learned(parts.numpy(), standardise=False).requires_grad_(False)
    assert not torch.allclose(plain(defective).anomaly_map, method(defective).anomaly_map)


def test_relative_errors_compare_an_image_with_itself() -> None:
    method = learned(normal_parts(8), standardise=True).requires_grad_(False)
    part = torch.from_numpy(defective_part(1.0)[None])
    plain = method.errors(part)[0]
    blurred = gaussian_filter(plain[0].double().numpy(), 4.0, mode="nearest") + 1e-5
    expected = np.log(blurred) - np.log(blurred).mean()
    torch.testing.assert_close(
        relative_errors(plain)[0].double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-4
    )
    assert torch.allclose(relative_errors(7 * plain + 6 * 1e-5), relative_errors(plain), atol=1e-4), "grain"


def test_only_relative_errors_above_the_usual_ones_count() -> None:
    method = learned(normal_parts(8), **TEXTURE).requires_grad_(False)
    method.usual_errors.mean += 100.0
    part = torch.from_numpy(defective_part(1.0)[None])
    assert not method(part).anomaly_map.any()
    method.usual_errors.mean -= 100.0
    assert method(part).anomaly_map[0][DEFECT].mean() > 2 * method(part).anomaly_map.mean()


def test_standardising_with_one_image_is_refused_before_training() -> None:
    phases: list[str] = []
    with pytest.raises(
        MethodError, match=r"takes at least 2 training images, got 1\. Add normal images, or set stand"
    ):
        learn(AutoEncoder(**TINY), normal_parts(1), progress=lambda phase, *_: phases.append(phase))  # type: ignore[arg-type]
    assert set(phases) <= {"collecting"}


@torch.no_grad()
def test_textures_are_auxiliary_images_or_procedural_ones() -> None:
    method = AutoEncoder(size=32)
    assert method.textures().shape == (32, 3, 32, 32)
    assert 0 <= float(method.textures().min()) <= float(method.textures().max()) <= 1
    images = torch.from_numpy(normal_parts(4))
    method.auxiliary = TensorBatches(images)
    expected = method.prepare(images)[0]
    torch.testing.assert_close(method.textures(), expected)
