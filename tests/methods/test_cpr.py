from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from blemish.blocks.anomaly_map import gaussian_blur
from blemish.blocks.foreground import with_colour
from blemish.methods import cpr
from blemish.methods.cpr import CPR
from blemish.runtimes.export import export_onnx
from blemish.runtimes.onnx import OnnxRuntime
from blemish.testing.checks import predict
from blemish.testing.parts import SIZE, defective_part, normal_parts
from blemish.training import learn

TINY: dict[str, Any] = {
    "backbone": "compact:random",
    "retrieved": 3,
    "width": 12,
    "steps": 4,
    "batch_size": 2,
}


def learned(images: "np.ndarray[Any, np.dtype[np.float32]] | None" = None, **arguments: Any) -> CPR:
    method = CPR(**{**TINY, **arguments})
    learn(method, normal_parts(6) if images is None else images)
    return method.eval()


def discs(count: int) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Noisy images of a bright disc before a dark background."""
    rows, columns = np.mgrid[:128, :128]
    disc = 0.3 + 0.4 * ((rows - 64) ** 2 + (columns - 64) ** 2 < 44**2)
    noise = np.random.default_rng(0).normal(scale=0.02, size=(count, 3, 128, 128))
    images: np.ndarray[Any, np.dtype[np.float32]] = (disc + noise).astype(np.float32)
    return images


def poses(count: int, seed: int = 0) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Normal parts in turn as they are, mirrored, upside down and both."""
    parts = normal_parts(count, seed)
    sides = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    return np.stack([part[:, :: sides[n % 4][0], :: sides[n % 4][1]] for n, part in enumerate(parts)])


@pytest.fixture(scope="module")
def method() -> CPR:
    return learned()


@pytest.fixture(scope="module")
def on_discs() -> CPR:
    return learned(discs(5))


@torch.no_grad()
def collected(images: "np.ndarray[Any, np.dtype[np.float32]]", **arguments: Any) -> CPR:
    """A method before its training, drawn from seed 0."""
    method = CPR(**{**TINY, **arguments})
    torch.manual_seed(0)
    method.collect([torch.from_numpy(images)])
    return method


@pytest.mark.parametrize("size", ["parts", "discs"])
def test_the_map_by_brute_force(method: CPR, on_discs: CPR, size: str) -> None:
    if size == "discs":
        method, image = on_discs, torch.from_numpy(discs(6)[5:])
    else:
        image = torch.from_numpy(defective_part(1.0)[None])
    with torch.no_grad():
        maps = method.features(image)
        h, w = maps[0].shape[2:]
        histogram = method.retrieval.describe(maps[0], torch.ones(1, h, w, dtype=torch.bool))
        found = method.retrieval.nearest(histogram, 3)[0]
        total = torch.zeros(1, 1, h, w)
        for number, reach in ((0, 1), (1, 0)):
            vectors = method.metrics[number](maps[number])[0]
            references = method.get_buffer(f"reference{number}")[found].float()
            rows, columns = vectors.shape[1:]
            grid = torch.zeros(rows, columns)
            for y in range(rows):
                for x in range(columns):
                    near = references[
                        :, :, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1
                    ]
                    grid[y, x] = 1 - torch.einsum("c,kcyx->kyx", vectors[:, y, x], near).max()
            total += functional.interpolate(grid[None, None], size=(h, w), mode="bilinear")
        own = method.foreground(with_colour(maps[0], image))
        weights = torch.cat([own, method.weights[found]]).amax(0)
        large = [
            functional.interpolate(grid, size=image.shape[2:], mode="bilinear")
            for grid in (total, weights[None, None])
        ]
        expected = gaussian_blur(large[0] * large[1], 4.0)[:, 0]
        score, anomaly_map = method(image)
    assert torch.allclose(anomaly_map, expected, atol=1e-5)
    largest = expected.flatten().sort(descending=True).values[: round(0.005 * expected.numel())]
    assert float(score) == pytest.approx(float(largest.mean()), rel=1e-4, abs=1e-6)


def test_the_mean_of_512_pixels_is_the_score_at_the_papers_size() -> None:
    assert round(cpr.SCORED * 320 * 320) == 512


def test_the_images_tell_whether_they_show_an_object(method: CPR, on_discs: CPR) -> None:
    assert on_discs.is_object
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[4:12, 4:12] = True
    assert float(on_discs.weights[:, inside].mean()) > 0.9
    assert float(on_discs.weights[:, :2].mean()) < 0.1
    assert not method.is_object
    assert bool((method.weights == 1).all())


def test_the_kind_can_be_given() -> None:
    assert bool((collected(discs(3), kind="texture").weights == 1).all())
    assert not bool((collected(discs(3), kind="object").weights == 1).all())


def test_references_are_bounded_and_different() -> None:
    """Of four copies of each of three kinds of images, one of each kind is kept."""
    kinds = np.stack([defective_part(1.0), normal_parts(1)[0], defective_part(1.0)[..., ::-1]])
    images = (
        np.repeat(kinds, 4, axis=0) + np.float32(1e-4) * np.arange(12, dtype=np.float32)[:, None, None, None]
    )
    method = collected(images, references=3)
    with torch.no_grad():
        features = method.features(torch.from_numpy(images))[0]
    kept = method.reference_features[0].float().flatten(1)
    origins = torch.cdist(kept, features.flatten(1)).argmin(1)
    assert sorted((origins // 4).tolist()) == [0, 1, 2]
    assert method.retrieval.histograms.shape[0] == method.weights.shape[0] == 3


def test_the_number_of_batches_does_not_change_what_is_kept() -> None:
    images = torch.from_numpy(normal_parts(7))
    kept = []
    for size in (7, 2):
        method = CPR(**TINY, references=4)
        torch.manual_seed(0)
        with torch.no_grad():
            method.retrieval.words = torch.randn(5, 128)
            method.foreground.weight, method.foreground.bias = torch.zeros(131), torch.ones(())
            method._keep_references(images.split(size))
        kept.append(method.reference_features)
    for a, b in zip(*kept, strict=True):
        assert torch.allclose(a.float(), b.float(), atol=1e-2)


def test_an_image_is_not_its_own_reference_in_training() -> None:
    images = np.random.default_rng(0).random((6, 3, *SIZE), np.float32)
    method = collected(images)
    with torch.no_grad():
        found = method.prepare(torch.from_numpy(images))[2]
    assert found.shape == (6, 3)
    assert all(number not in row for number, row in enumerate(found.tolist()))


def test_with_one_training_image_it_is_the_reference() -> None:
    method = collected(normal_parts(1))
    with torch.no_grad():
        assert method.prepare(torch.from_numpy(normal_parts(1)))[2].tolist() == [[0]]


def test_learned_bytes_are_those_of_the_references(method: CPR) -> None:
    kept = [*map(method.get_buffer, ("reference0", "reference1")), method.weights]
    assert method.learned_bytes(SIZE, 6) == sum(x.numel() * x.element_size() for x in kept)
    assert method.learned_bytes(SIZE, 1000) == method.learned_bytes(SIZE, 64)


def test_most_training_images_have_a_defect_where_the_mask_is() -> None:
    method = collected(normal_parts(3))
    images = torch.from_numpy(normal_parts(1)).expand(200, -1, -1, -1)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpr, "DISTURBED", 0.0)
        found, masks = method._augmented(images)
    changed = (found != images).any(1)
    assert not bool((changed & (masks == 0)).any())
    assert float(masks.flatten(1).any(1).double().mean()) == pytest.approx(0.9, abs=0.05)


def test_padding_is_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """No point is drawn in the padding of an image or of its reference."""
    images = normal_parts(4)
    images[:2, :, :, :32], images[2:, :, :32] = np.nan, np.nan
    method = collected(images)
    assert bool((method.weights[:, :4, :4] == 0).all())
    drawn: list[Tensor] = []

    def contrastive_loss(
        pairs: Tensor, features: Tensor, weights: Tensor, *rest: Tensor, near: float | None
    ) -> Tensor:
        drawn.append(weights)
        return pairs.sum()

    monkeypatch.setattr(cpr, "contrastive_loss", contrastive_loss)
    prepared = method.prepare(torch.from_numpy(images))
    others = torch.tensor([[2], [3], [0], [1]])  # references with the other padding
    method.training_loss(*prepared[:2], others)
    assert len(drawn) == 2
    for weights in drawn:
        rows, columns = weights.shape[1:]
        assert bool((weights[:, : rows // 2] == 0).all())
        assert bool((weights[:, :, : columns // 3] == 0).all())
        assert bool((weights[:, rows // 2 :, columns // 3 :] > 0).all())


def test_training_lowers_the_loss() -> None:
    method = CPR(**{**TINY, "width": 24, "steps": 60, "batch_size": 6})
    losses = [epoch["loss"] for epoch in learn(method, normal_parts(6)).losses]  # of one step each
    assert np.mean(losses[-30:]) < 0.75 * np.mean(losses[:10])


def test_building_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    CPR(**TINY)
    assert torch.equal(torch.get_rng_state(), before)


def test_presets_have_the_papers_widths() -> None:
    chosen = CPR.presets["paper"]
    method = CPR(**{**chosen.arguments, "backbone": "resnet18:random"})
    assert (method.width, method.retrieved, method.steps, method.batch_size) == (384, 10, 40_000, 32)
    assert chosen.preprocess == {"size": (320, 320)}
    assert CPR(**{**CPR.presets["resnet18"].arguments, "backbone": "resnet18:random"}).features.strides == (
        4,
        8,
    )


def test_the_graph_finds_the_same_references(tmp_path: Path) -> None:
    """A part is far from references of another pose; if all had one pose, any reference would give the same score."""
    method = learned(poses(12), backbone="compact")
    export_onnx(method, tmp_path / "model.onnx", SIZE)
    runtime = OnnxRuntime(tmp_path / "model.onnx")
    images = poses(8, seed=9)
    images[1, :, 20:40, 30:60] = 1.0
    for image in images:  # each by itself, so that the tolerance is a share of its own score
        expected, found = predict(method, image[None]), runtime.predict(image[None])
        assert found.score == pytest.approx(expected.score, rel=1e-3)
        assert np.abs(found.anomaly_map - expected.anomaly_map).max() <= 1e-3 * expected.anomaly_map.max()
