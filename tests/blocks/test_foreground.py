import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from blemish.blocks import foreground
from blemish.blocks.foreground import BORDER, IN_CENTRE, OTHER, Foreground, discriminant, places, with_colour
from blemish.blocks.synthetic.procedural import clouds, leaves, stripes
from blemish.features.backbone import Backbone

GRID = (64, 72)
EVERYWHERE = torch.ones(1, *GRID, dtype=torch.bool)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def disc(radius: float, grid: tuple[int, int] = GRID) -> Tensor:
    """A disc in the middle, its radius relative to half of the shorter side: (h, w) bool."""
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in grid)
    return rows[:, None].square() + columns.square() < (radius * min(grid) / 2) ** 2


def features(masks: Tensor, noise: float = 0.3) -> Tensor:
    """Noisy features (N, 8 + 3, h, w) of the object where masks (N, h, w) are true, else of the background."""
    generator = torch.Generator().manual_seed(1)
    kinds = torch.randn(2, 11, generator=generator)
    clean = kinds[masks.long()].movedim(3, 1)
    return clean + noise * torch.randn(clean.shape, generator=generator)


def fitted(batches: list[Tensor], visible: Tensor = EVERYWHERE) -> Foreground:
    block = Foreground()
    for batch in batches:
        block.update(batch, visible.expand(len(batch), -1, -1))
    block.finish()
    return block


def overlap(a: Tensor, b: Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("radius", [0.5, 0.7, 0.9])
def test_a_painted_disc_is_found(radius: float) -> None:
    masks = disc(radius).expand(6, -1, -1)
    block = fitted([features(masks)])
    assert overlap(block(features(masks)) > 0.5, masks) > 0.97
    assert block.is_object
    assert float(block.separability) > 0.85


def test_discs_are_found_in_images_of_a_backbone() -> None:
    rows, columns = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    masks = torch.stack(
        [(rows - y).square() + (columns - x).square() < 38**2 for y, x in ((60, 66), (66, 64))]
    )
    images = 0.4 + 0.2 * masks[:, None].float().expand(-1, 3, -1, -1) + 0.02 * torch.randn(2, 3, 128, 128)
    found = with_colour(Backbone("compact", (2,))(images)[0], images)
    block = fitted([found], torch.ones(1, 16, 16, dtype=torch.bool))
    cells = torch.nn.functional.adaptive_avg_pool2d(masks[:, None].float(), 16)[:, 0] > 0.5
    assert overlap(block(found) > 0.5, cells) > 0.8
    assert block.is_object


def test_an_object_that_covers_few_of_the_cells_does_not_become_background() -> None:
    masks = disc(0.25).expand(6, -1, -1)
    block = fitted([features(masks)])
    assert overlap(block(features(masks)) > 0.5, masks) > 0.9


def textures(kind: str) -> Tensor:
    """Four images (4, 3, 256, 256) of one texture."""
    if kind == "noise":
        return (0.5 + 0.05 * torch.randn(4, 3, 256, 256)).clamp(0, 1)
    draw = {"clouds": clouds, "leaves": leaves, "stripes": stripes}[kind]
    whole = draw((768, 768), torch.Generator().manual_seed(3))
    corners = ((0, 0), (400, 100), (200, 500), (512, 512))
    return torch.stack([whole[:, y : y + 256, x : x + 256] for y, x in corners])


@pytest.mark.parametrize("kind", ["noise", "clouds", "leaves", "stripes"])
def test_textures_are_no_objects(kind: str) -> None:
    images = textures(kind)
    found = with_colour(Backbone("compact", (2,))(images)[0], images)
    assert not fitted([found], torch.ones(1, 32, 32, dtype=torch.bool)).is_object


def test_images_without_any_variation_are_no_objects() -> None:
    block = fitted([torch.ones(2, 11, *GRID)])
    assert not block.is_object
    assert bool((block(torch.ones(1, 11, *GRID)) == 1).all())


def test_images_of_which_only_outermost_cells_are_visible_are_no_objects() -> None:
    visible = torch.zeros(1, *GRID, dtype=torch.bool)
    visible[:, 0] = True
    assert not fitted([features(disc(0.7).expand(2, -1, -1))], visible).is_object


def test_the_discriminant_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    negative, positive = rng.normal(size=(300, 5)) @ mixing, rng.normal(size=(200, 5)) @ mixing + 0.5
    model = LinearDiscriminantAnalysis(solver="lsqr")
    model.fit(np.concatenate([negative, positive]), [0] * 300 + [1] * 200)
    found = discriminant(torch.from_numpy(negative), torch.from_numpy(positive), torch.zeros(5)).numpy()
    np.testing.assert_allclose(found, model.coef_[0], rtol=1e-6)


def test_one_hundredth_of_the_decision_values_is_clamped_at_either_end() -> None:
    masks = disc(0.7).expand(6, -1, -1)
    maps = features(masks, noise=1.5)
    block = fitted([maps])
    inner = (slice(None), slice(2, -2), slice(2, -2))
    values = (torch.einsum("nchw,c->nhw", maps, block.weight) + block.bias)[inner]
    learned = values.flatten()
    assert float((learned < 0).double().mean()) == pytest.approx(0.01, abs=1e-3)
    assert float((learned > 1).double().mean()) == pytest.approx(0.01, abs=1e-3)


def test_the_outermost_cells_neither_count_nor_have_weights_of_their_own() -> None:
    masks = disc(0.7).expand(4, -1, -1)
    maps = features(masks)
    changed = maps.clone()
    for cells in (changed[:, :, :2], changed[:, :, -2:], changed[..., :2], changed[..., -2:]):
        cells.fill_(100.0)
    torch.manual_seed(0)
    block = fitted([maps])
    torch.manual_seed(0)
    other = fitted([changed])
    assert torch.equal(block.weight, other.weight)
    weights = other(changed)
    assert torch.equal(weights[:, 0], weights[:, 2])
    assert torch.equal(weights[:, :, -1], weights[:, :, -3])


def test_padding_is_not_learned_from() -> None:
    """The border is that of the visible rectangle, and the values outside it do not matter."""
    visible = torch.zeros(1, 64, 112, dtype=torch.bool)
    visible[:, :, 20:92] = True
    masks = torch.zeros(4, 64, 112, dtype=torch.bool)
    masks[:, :, 20:92] = disc(0.7)
    maps = features(masks)
    maps[:, :, :, :20] = maps[:, :, :, 92:] = 1e6
    block = fitted([maps], visible)
    assert overlap((block(maps) > 0.5)[:, :, 20:92], masks[:, :, 20:92]) > 0.97


def test_places_by_brute_force() -> None:
    visible = torch.zeros(2, 30, 60, dtype=torch.bool)
    visible[0], visible[1, 3:23, 10:60] = True, True
    expected = torch.full(visible.shape, OTHER)
    for image, (top, bottom, left, right) in enumerate([(0, 30, 0, 60), (3, 23, 10, 60)]):
        height, width = bottom - top, right - left
        for y in range(top, bottom):
            for x in range(left, right):
                rows, columns = max(1, round(0.0375 * height)), max(1, round(0.0375 * width))
                is_border = min(y - top, bottom - 1 - y) < rows or min(x - left, right - 1 - x) < columns
                across, down = (x + 0.5 - left) / width, (y + 0.5 - top) / height
                is_centre = 0.3 <= across <= 0.7 and 0.3 <= down <= 0.7
                expected[image, y, x] = IN_CENTRE if is_centre else BORDER if is_border else OTHER
    assert torch.equal(places(visible)[visible], expected[visible])


def test_memory_is_bounded_and_the_result_that_of_all_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = disc(0.7).expand(24, -1, -1)
    batches = list(features(masks).split(2))
    monkeypatch.setattr(foreground, "CAPACITY", 3000)
    block = Foreground()
    for batch in batches:
        block.update(batch, EVERYWHERE.expand(2, -1, -1))
        assert sum(len(patches) for patches, _ in block._kept) <= 3000
    block.finish()
    assert overlap(block(batches[-1]) > 0.5, masks[:2]) > 0.97
    assert not block._kept
