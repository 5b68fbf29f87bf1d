import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.synthetic.colour_jitter import colour_jitter
from blemish.errors import MethodError
from blemish.methods.efficientad import EfficientAD
from blemish.testing.parts import defective_part, normal_parts
from blemish.training import learn
from tensor_batches import TensorBatches

RANDOM = "pdn_small:random"
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def collected(images: Tensor, **arguments: object) -> EfficientAD:
    method = EfficientAD(**{"backbone": RANDOM, **arguments})  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        method.eval().collect(TensorBatches(images))
    return method


@pytest.fixture(scope="module")
def learned() -> EfficientAD:
    method = EfficientAD(backbone=RANDOM, steps=3)
    learn(method, normal_parts(6))
    return method.eval()


@torch.no_grad()
def test_teacher_features_are_standardised_over_the_normal_images() -> None:
    images = torch.from_numpy(normal_parts(7))
    features = collected(images).teacher_features(images)
    values = features.transpose(0, 1).flatten(1)
    varying = values.std(1) > 0.5  # a channel may be constant on these images
    assert varying.float().mean() > 0.9
    assert float(values[varying].mean(1).abs().max()) < 0.1
    assert float((values[varying].std(1) - 1).abs().max()) < 0.1


@torch.no_grad()
def test_prepared_features_are_the_teachers() -> None:
    images = torch.from_numpy(normal_parts(2))
    method = collected(images)
    kept, features = method.prepare(images)
    expected = (method.teacher(images) - method.mean) / method.deviation
    assert torch.equal(kept, images)
    assert features.dtype == torch.float32
    error = (features - expected).square().mean() / expected.square().mean()
    assert float(error) < 1e-3  # computed in half precision where the processor does


def test_the_loss_is_the_sum_of_its_four_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed again with a full pass of each network, in evaluation mode and full precision."""
    monkeypatch.setattr("blemish.blocks.mixed_precision.torch.cpu._is_avx512_bf16_supported", lambda: False)
    images = torch.from_numpy(normal_parts(2))
    method = collected(images)
    with torch.no_grad():
        prepared = method.prepare(images)
        torch.manual_seed(4)
        found = float(method.training_loss(*prepared))
        torch.manual_seed(4)
        jittered = colour_jitter(images, 0.2)
        other = method._penalty_images(images)
        teacher = (method.teacher(images) - method.mean) / method.deviation
        teacher_jittered = (method.teacher(jittered) - method.mean) / method.deviation
        images, jittered, other = ((part - MEAN) / STD for part in (images, jittered, other))
        error = (teacher - method.student(images)[:, :384]).square()
        threshold = np.quantile(error.double().numpy(), 0.999)
        hard = error[error.double() >= threshold].mean()
        penalty = method.student(other)[:, :384].square().mean()
        autoencoder = method.autoencoder(jittered, (8, 16))
        autoencoder_loss = (teacher_jittered - autoencoder).square().mean()
        second_head_loss = (autoencoder - method.student(jittered)[:, 384:]).square().mean()
    assert found == pytest.approx(float(hard + penalty + autoencoder_loss + second_head_loss), rel=1e-4)


def test_training_changes_student_and_autoencoder_but_not_the_teacher() -> None:
    images = torch.from_numpy(normal_parts(3))
    method = collected(images)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    optimizer = method.optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    with torch.no_grad():
        prepared = method.prepare(images)
    for _ in range(2):
        method.train()
        optimizer.zero_grad()
        loss = method.training_loss(*prepared)
        loss.backward()
        optimizer.step()
    for name, tensor in method.state_dict().items():
        trained = name.startswith(("student.", "autoencoder."))
        assert torch.equal(tensor, before[name]) != trained, name
    assert not any(module.training for module in method.teacher.modules())


@torch.no_grad()
def test_the_map_of_a_bright_pixel_peaks_at_that_pixel(
    learned: EfficientAD, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the map of the teacher's changes: 56 cells and a border of 4 on every side, enlarged to 256 pixels."""
    plain = torch.zeros(1, 3, 256, 256)
    method = copy.deepcopy(learned)

    unchanged = method.teacher(plain)

    def changes(images: Tensor) -> tuple[Tensor, Tensor]:
        change = (method.teacher(images) - unchanged).square().mean(1)
        return change, change

    monkeypatch.setattr(method, "raw_maps", changes)
    for scale in (method.student_scale, method.autoencoder_scale):
        scale.quantiles = torch.tensor([0.0, 0.1])
    for row, column in ((60, 201), (33, 97), (222, 40)):
        image = plain.clone()
        image[:, :, row, column] = 10
        anomaly_map = method(image).anomaly_map[0]
        weight = anomaly_map / anomaly_map.sum()
        found = [float((weight.sum(axis) * torch.arange(256)).sum()) for axis in (1, 0)]
        assert abs(found[0] - row) <= 4
        assert abs(found[1] - column) <= 4


@torch.no_grad()
def test_map_is_the_mean_of_both_calibrated_maps_with_a_zero_border(learned: EfficientAD) -> None:
    images = torch.from_numpy(np.stack([defective_part(1.0), defective_part(0.0)]))
    teacher = (learned.teacher(images) - learned.mean) / learned.deviation
    student = learned.student((images - MEAN) / STD)
    autoencoder = learned.autoencoder((images - MEAN) / STD, (8, 16))
    grid = torch.zeros(2, 16, 24)
    for difference, scale in (
        (teacher - student[:, :384], learned.student_scale),
        (autoencoder - student[:, 384:], learned.autoencoder_scale),
    ):
        low, high = scale.quantiles.tolist()
        grid[:, 4:12, 4:20] += 0.5 * 0.1 * (difference.square().mean(1) - low) / (high - low)
    expected = functional.interpolate(grid[:, None], size=(64, 96), mode="bilinear")[:, 0]
    prediction = learned(images)
    assert torch.allclose(prediction.anomaly_map, expected, rtol=1e-3, atol=1e-4)
    assert torch.allclose(prediction.score, expected.amax((1, 2)), rtol=1e-3)


def test_the_scales_are_quantiles_over_the_held_out_images() -> None:
    held_out = normal_parts(5, seed=3)
    method = EfficientAD(backbone=RANDOM, steps=2)
    learn(method, normal_parts(6), held_out=held_out)
    assert method.uses_held_out
    assert method.held_out is None
    with torch.no_grad():
        maps = method.eval().raw_maps(torch.from_numpy(held_out))
    for values, scale in zip(maps, (method.student_scale, method.autoencoder_scale), strict=True):
        expected = np.quantile(values.numpy(), [0.9, 0.995])
        assert scale.quantiles.tolist() == pytest.approx(expected.tolist(), rel=1e-3)


@torch.no_grad()
def test_without_held_out_images_the_scales_are_quantiles_over_the_training_images(
    learned: EfficientAD,
) -> None:
    maps = learned.raw_maps(torch.from_numpy(normal_parts(6)))
    for values, scale in zip(maps, (learned.student_scale, learned.autoencoder_scale), strict=True):
        expected = np.quantile(values.numpy(), [0.9, 0.995])
        assert scale.quantiles.tolist() == pytest.approx(expected.tolist(), rel=1e-3)


@torch.no_grad()
def test_dropout_only_in_training(learned: EfficientAD) -> None:
    images = torch.from_numpy(normal_parts(1))
    first, second = (learned.autoencoder(images, (8, 16)) for _ in range(2))
    assert torch.equal(first, second)
    in_training = copy.deepcopy(learned).train()
    first, second = (in_training.autoencoder(images, (8, 16)) for _ in range(2))
    assert not torch.equal(first, second)


def test_the_penalty_sees_the_middle_of_a_fresh_auxiliary_image_in_every_step() -> None:
    method = EfficientAD(backbone=RANDOM)
    assert method.auxiliary_scale == 2
    numbered = torch.arange(100.0).view(-1, 1, 1, 1).expand(100, 3, 128, 192).clone()
    numbered[:, :, :32] = numbered[:, :, -32:] = numbered[:, :, :, :48] = numbered[:, :, :, -48:] = -1
    method.auxiliary = TensorBatches(numbered)
    images = torch.zeros(50, 3, 64, 96)
    torch.manual_seed(0)
    first, second = method._penalty_images(images), method._penalty_images(images)
    assert first.shape == (50, 3, 64, 96)
    assert float(first.min()) >= 0, "the margin of an image is seen"
    assert len(first[:, 0, 0, 0].round().unique()) > 25
    assert not torch.equal(first, second)


def test_penalty_images_are_grey_with_a_probability_of_three_tenths() -> None:
    method = EfficientAD(backbone=RANDOM)
    method.auxiliary = TensorBatches(torch.rand(4, 3, 8, 8))
    torch.manual_seed(0)
    drawn = method._penalty_images(torch.zeros(2000, 3, 4, 4))
    is_grey = (drawn[:, :1] == drawn).all((1, 2, 3))
    assert float(is_grey.float().mean()) == pytest.approx(0.3, abs=0.04)


def test_without_auxiliary_images_the_penalty_images_are_procedural_fresh_and_seeded() -> None:
    method, images = EfficientAD(backbone=RANDOM), torch.zeros(2, 3, 64, 96)
    torch.manual_seed(1)
    first, second = method._penalty_images(images), method._penalty_images(images)
    torch.manual_seed(1)
    assert torch.equal(method._penalty_images(images), first)
    assert not torch.equal(first, second)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


@torch.no_grad()
def test_weights_start_as_those_of_torchs_layers() -> None:
    method = collected(torch.from_numpy(normal_parts(2)))
    for module in [*method.student.modules(), *method.autoencoder.modules()]:
        if isinstance(module, torch.nn.Conv2d) and module.weight.numel() > 5000:
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert float(module.weight.abs().max()) == pytest.approx(bound, rel=0.02)
            assert module.bias is not None
            assert 0 < float(module.bias.abs().max()) <= bound


def test_learning_rate_falls_to_a_tenth_for_the_last_twentieth() -> None:
    method = EfficientAD(backbone=RANDOM)
    assert [method.learning_rate_factor(done) for done in (0.0, 0.9499, 0.95, 0.999)] == [1.0, 1.0, 0.1, 0.1]


def test_images_too_small_are_refused() -> None:
    with pytest.raises(
        MethodError, match=r"Images of 32 × 96 pixels are too small for a PDN: give at least 36 × 36\."
    ):
        collected(torch.zeros(2, 3, 32, 96))
