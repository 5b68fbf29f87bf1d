"""RegAD: its score is PaDiM's on the same features; meta-training, and the weights that it leaves in the cache."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.blocks import spatial_transformer
from blemish.blocks.few_shot_views import AS_IT_IS, View
from blemish.blocks.spatial_transformer import rotation_scale, warp
from blemish.errors import BlemishWarning, MethodError
from blemish.features import trained_weights
from blemish.methods import regad
from blemish.methods.padim import PaDiM
from blemish.methods.regad import RegAD, some_images
from blemish.testing.parts import defective_part, normal_parts, textured
from blemish.training import learn
from tensor_batches import TensorBatches

RANDOM: dict[str, Any] = {"backbone": "compact:random", "dimensions": 8}
TRAINED: dict[str, Any] = {**RANDOM, "views": False, "steps": 2, "batch_size": 2}
OTHERS = [textured(5, (64, 96)), normal_parts(4, seed=9)[..., ::-1].copy()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trained_weights, "cache_folder", lambda: tmp_path / "weights")
    monkeypatch.setattr(regad, "SIDE", 32)  # smaller networks than those in use
    monkeypatch.setattr(spatial_transformer, "HIDDEN", 16)
    return tmp_path / "weights"


def state(method: RegAD) -> dict[str, Tensor]:
    """All tensors but the counts of batches, which the batch norms do not use."""
    counts = "num_batches_tracked"
    return {name: tensor.clone() for name, tensor in method.state_dict().items() if counts not in name}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def trained(auxiliary: list[NDArray[np.float32]], seed: int = 0, **arguments: Any) -> RegAD:
    method = RegAD(**{**TRAINED, **arguments})
    learn(method, normal_parts(3), auxiliary=auxiliary, seed=seed)
    return method.eval()


@torch.no_grad()
@pytest.mark.parametrize(("backbone", "layers"), [("compact:random", (2, 3)), ("resnet18:random", (1, 2, 3))])
def test_without_registration_and_views_it_is_padim(
    backbone: str, layers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randperm", torch.arange)  # both take the first channels
    images = torch.from_numpy(np.stack([defective_part(1.0), normal_parts(1, seed=5)[0]]))
    few = RegAD(backbone=backbone, dimensions=8, views=False, steps=0)
    learn(few, normal_parts(4))
    padim = PaDiM(backbone=backbone, layers=layers, dimensions=8)
    learn(padim, normal_parts(4))
    found, expected = few.eval()(images), padim.eval()(images)
    assert torch.allclose(found.anomaly_map, expected.anomaly_map, rtol=5e-3)
    assert torch.allclose(found.score, expected.score, rtol=5e-3)
    assert torch.equal(few.channels, padim.channels)


@torch.no_grad()
def test_the_gaussians_are_those_of_all_views(monkeypatch: pytest.MonkeyPatch) -> None:
    views = (AS_IT_IS, View(angle=90), View(mirrored=True), View(shift=(0.2, 0)))
    monkeypatch.setattr(regad, "VIEWS", views)
    method = RegAD(**RANDOM, steps=0)
    images = normal_parts(3)
    learn(method, images, batch_size=2)
    seen = torch.cat([method.embed(view.of(torch.from_numpy(images))) for view in views])
    assert len(seen) == 12
    assert torch.allclose(method.gaussians.mean, seen.mean(0), atol=1e-5 * float(seen.abs().max()))


@torch.no_grad()
def test_maps_are_unwarped_to_their_own_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that only warp: after all inverses, each map must show the image where it was."""
    method = RegAD(**RANDOM, steps=0)
    turns = torch.tensor([0.2, -0.3, 0.25]), torch.tensor([1.1, 0.9, 1.05]), torch.tensor([0.95, 1.1, 1.0])
    transforms = rotation_scale(*turns)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack([rows, columns])[None] / 64

    def staged(images: Tensor, after: Any) -> list[Tensor]:
        first = after(1, images)
        second = after(2, first)
        return [second, after(3, second)]

    monkeypatch.setattr(method.features, "staged", staged)
    for stage in range(3):
        matrix = transforms[stage : stage + 1]
        monkeypatch.setattr(method.transformers[stage], "forward", lambda _, m=matrix: m)
    maps, matrices = method.registered(image)
    assert torch.allclose(matrices[1], transforms[0] @ transforms[1] @ transforms[2].expand(1, 2, 2))
    assert (maps[1] - image).abs()[..., 20:-20, 20:-20].max() > 0.02, "the networks must have moved something"
    method.channels = torch.arange(4)
    own = method.embed(image)[:, :, 20:-20, 20:-20]
    assert (own[:, :2] - image[..., 20:-20, 20:-20]).abs().max() < 1e-3
    assert (own[:, 2:] - image[..., 20:-20, 20:-20]).abs().max() < 1e-3
    assert torch.allclose(warp(image, torch.eye(2)[None]), image, atol=1e-5)


def test_an_episode_is_of_one_product_and_no_image_supports_itself() -> None:
    torch.manual_seed(0)
    method = RegAD(**{**RANDOM, "supports": 3, "batch_size": 4})
    method.episodes = [torch.full((6, 3, 2, 2), 100.0), torch.zeros(4, 3, 2, 2)]
    for product in method.episodes:
        product += torch.arange(len(product)).view(-1, 1, 1, 1)
    shown: list[list[float]] = []

    def registered(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        shown.append(images[:, 0, 0, 0].tolist())
        return [images], []

    method.registered = registered  # type: ignore[method-assign]
    found: list[tuple[Tensor, Tensor]] = []
    method.head.forward = lambda query, support: found.append((query, support))  # type: ignore[method-assign,assignment,return-value]
    for _ in range(20):
        method.training_loss()
    assert {numbers[0] >= 100 for numbers in shown} == {True, False}
    for numbers, (query, support) in zip(shown, found, strict=True):
        queries, others = numbers[:4], np.array(numbers[4:]).reshape(4, 3)
        assert len({number >= 100 for number in numbers}) == 1
        assert len(set(queries)) == 4
        for chosen, supports in zip(queries, others.tolist(), strict=True):
            assert len({chosen, *supports}) == 4
        assert query[:, 0, 0, 0].tolist() == queries
        assert support[:, 0, 0, 0].tolist() == pytest.approx(others.mean(1).tolist())


def test_meta_training_trains_all_networks_and_the_next_fit_finds_the_weights(
    cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = RegAD(**TRAINED)
    first_weights = {name: p.clone() for name, p in method.features.named_parameters()}
    history = learn(method, normal_parts(3), auxiliary=OTHERS)
    assert len(history.losses) == 1
    assert all(-1 <= row["loss"] <= 1 for row in history.losses)
    moved = [
        name for name, p in method.features.named_parameters() if not torch.equal(p, first_weights[name])
    ]
    assert "network.stem.0.weight" in moved
    assert any(p.abs().max() > 0 for p in method.transformers[0].last.weight)  # type: ignore[union-attr]
    (file,) = cache.iterdir()
    monkeypatch.setattr(RegAD, "training_loss", None)
    again = RegAD(**TRAINED)
    assert learn(again, normal_parts(3), auxiliary=OTHERS).losses == []
    assert same(state(method), state(again))
    assert caplog.messages == [
        f"RegAD is trained on 2 auxiliary products. Its weights are then kept in {file}, for further fits with the "
        "same auxiliary images.",
        f"RegAD uses its trained weights in {file}.",
    ]
    assert (again.episodes, again.file) == ([], None)


def test_the_order_of_the_products_does_not_matter(cache: Path) -> None:
    first = state(trained(OTHERS))
    for file in cache.iterdir():
        file.unlink()
    assert same(first, state(trained(OTHERS[::-1])))


def test_another_product_finds_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained(OTHERS)
    monkeypatch.setattr(RegAD, "training_loss", None)
    method = RegAD(**{**TRAINED, "dimensions": 5, "views": True})
    learn(method, textured(2, (64, 96)), auxiliary=OTHERS)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, dict(method.named_parameters())[name])


def test_one_product_is_one_product() -> None:
    assert regad.training_notice(1, Path("a")).startswith(
        "RegAD is trained on one auxiliary product. Its weights "
    )


def test_what_decides_the_weights_is_in_the_name_of_their_file() -> None:
    def file(auxiliary: list[NDArray[np.float32]] = OTHERS, seed: int = 0, **arguments: Any) -> Path:
        method = RegAD(**{**TRAINED, **arguments})
        method.auxiliary_products = tuple(TensorBatches(torch.from_numpy(images)) for images in auxiliary)
        torch.manual_seed(seed)
        with torch.no_grad():
            method.collect([])
        assert method.file is not None
        return method.file

    same = [file(), file(views=True, dimensions=3, ridge=1.0), file(OTHERS[::-1])]
    other = [
        file(seed=1),
        file(steps=1),
        file(learning_rate=0.1),
        file(supports=1),
        file(batch_size=3),
        file(OTHERS[:1]),
        file(backbone="resnet18:random"),
    ]
    assert len({*same}) == 1
    assert len({*same, *other}) == 1 + len(other)


def test_a_damaged_file_is_trained_anew(cache: Path) -> None:
    expected = state(trained(OTHERS))
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.warns(
        BlemishWarning, match=rf"^The trained weights in {file} are damaged: .* trained anew\.$"
    ):
        found = trained(OTHERS)
    assert same(state(found), expected)
    assert same(state(trained(OTHERS)), expected), "the file is whole again"


def test_without_auxiliary_products_a_warning_says_what_it_falls_back_to() -> None:
    method = RegAD(**TRAINED)
    with pytest.warns(
        BlemishWarning,
        match=r"^RegAD has no auxiliary products to train its features on, so it uses those of the backbone as "
        r"they are, without registration\. Give images of other products with --auxiliary \(auxiliary=\), or "
        r"--set steps=0 if that is intended\.$",
    ):
        history = learn(method, normal_parts(3))
    assert history.losses == []
    assert torch.equal(method.transformers[2](torch.rand(1, 192, 5, 5)), torch.eye(2)[None])


def test_a_product_needs_a_query_and_its_supports() -> None:
    with pytest.raises(
        MethodError,
        match=r"^An auxiliary product has 4 images, but a query and 4 supports are 5\. Add images of it, or "
        r"leave it out\.$",
    ):
        trained(OTHERS, supports=4)


@pytest.mark.parametrize("backbone", ["hf:facebook/dinov2-small", "timm:resnet18", "none"])
def test_the_backbone_must_be_one_that_can_be_trained(backbone: str) -> None:
    with pytest.raises(
        MethodError,
        match=rf"^RegAD trains its backbone, which must be one of compact, resnet18, .*, but is '{backbone}'\.",
    ):
        RegAD(backbone=backbone)


def test_the_paper_preset_uses_all_channels_and_positions() -> None:
    method = RegAD(**{**RegAD.presets["paper"].arguments, "backbone": "resnet18:random"})
    assert method.dimensions == sum(method.features.channels) == 448
    assert method.cell_size((224, 224)) == (4.0, 4.0)
    assert method.learned_bytes((224, 224), 4) == 4 * 56 * 56 * (448 + 448 * 449 // 2)


def test_several_images_at_once_are_registered_independently() -> None:
    method = trained(OTHERS, learning_rate=0.1)
    images = torch.from_numpy(normal_parts(2, seed=3))
    with torch.no_grad():
        together = method.embed(images)
        single = torch.cat([method.embed(image[None]) for image in images])
    assert torch.allclose(together, single, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


@pytest.fixture(autouse=True)
def _messages_are_caught(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING, logger="blemish"):
        yield


def test_of_a_large_product_evenly_spaced_images_are_read_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(regad, "MOST_IMAGES", 4)
    read: list[int] = []

    class Watched(TensorBatches):
        def image(self, index: int) -> Tensor:
            read.append(index)
            return super().image(index)

    product = Watched(torch.arange(10.0).view(-1, 1, 1, 1).expand(10, 3, 4, 4))
    assert some_images(product)[:, 0, 0, 0].tolist() == read == [0, 3, 6, 9]
