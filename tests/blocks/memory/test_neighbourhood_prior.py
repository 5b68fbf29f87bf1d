from typing import Any

import pytest
import torch
from torch import Tensor

from blemish.blocks.memory.coreset import farthest_first
from blemish.blocks.memory.neighbourhood_prior import OUTSIDE, NeighbourhoodPrior

ALL = torch.arange(6 * 7)


def started(bank: int = 40, width: int = 12, **arguments: Any) -> NeighbourhoodPrior:
    settings = {"reduced": 5, "window": 5, "classes": 8, "hidden": 16, "linear_layers": 3, **arguments}
    torch.manual_seed(0)
    prior = NeighbourhoodPrior(width, **settings)
    with torch.no_grad():
        prior.start(drawn(bank, width))
    return prior.eval().requires_grad_(False)


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_brute_force(components: Tensor, window: int, left_out: int) -> Tensor:
    """What the network sees, cell by cell."""
    images, height, width, count = components.shape
    rows = []
    for image in range(images):
        for row in range(height):
            for column in range(width):
                values = []
                for number in range(window * window):
                    r = row + number // window - window // 2
                    c = column + number % window - window // 2
                    if number != left_out:
                        is_inside = 0 <= r < height and 0 <= c < width
                        values.append(components[image, r, c] if is_inside else torch.zeros(count))
                rows.append(torch.cat(values))
    return torch.stack(rows).view(images, height * width, -1)


@pytest.mark.parametrize(
    ("window", "leak_center", "left_out"), [(5, False, 12), (5, True, 13), (9, False, 40), (9, True, 41)]
)
def test_the_neighbourhood_lacks_the_centre_or_in_the_official_layout_the_cell_after_it(
    window: int, leak_center: bool, left_out: int
) -> None:
    """Of the 81 cells of a 9 × 9 window, the authors' code removes number 41; the centre is number 40."""
    prior = started(window=window, leak_center=leak_center)
    components = drawn(2, 6, 7, 5)
    found = prior.neighbourhoods(components, ALL)
    assert torch.equal(found, by_brute_force(components, window, left_out))
    cells = torch.tensor([13, 0, 41])
    assert torch.equal(prior.neighbourhoods(components, cells), found[:, cells])


@pytest.mark.parametrize("leak_center", [False, True])
def test_another_centre_changes_the_input_only_if_it_leaks(leak_center: bool) -> None:
    prior = started(leak_center=leak_center)
    components = drawn(1, 6, 7, 5)
    cell = torch.tensor([2 * 7 + 3])
    before, outputs = prior.neighbourhoods(components, cell), prior.logits(components, cell)
    components[0, 2, 3] += 10
    assert torch.equal(prior.neighbourhoods(components, cell), before) != leak_center
    assert torch.equal(prior.logits(components, cell), outputs) != leak_center


def test_a_bank_patch_is_allowed_if_its_class_is_probable_at_temperature_2() -> None:
    prior = started()
    components = drawn(2, 6, 7, 5)
    logits = prior.logits(components, ALL).double()
    probabilities = torch.exp(logits / 2) / torch.exp(logits / 2).sum(1, keepdim=True)
    threshold = float(probabilities.median()) + 1e-4
    found = prior.allowed(components, ALL, threshold)
    assert found.shape == (2, 42, 40)
    for patch in range(40):
        expected = probabilities[:, prior.members[patch]] > threshold
        assert torch.equal(found[..., patch].flatten(), expected)
    assert 0 < int(found.sum()) < found.numel()


def test_classes_are_the_nearest_representatives() -> None:
    prior = started()
    bank, patches = drawn(40, 12), drawn(30, 12, seed=2)
    representatives = bank[prior.representatives]
    assert torch.equal(prior.classes_of(patches, bank), torch.cdist(patches, representatives).argmin(1))
    assert torch.equal(prior.members, torch.cdist(bank, representatives).argmin(1))
    assert torch.equal(prior.members[prior.representatives], torch.arange(8))


def test_greedy_on_a_bank_of_greedy_chooses_what_it_chose_first() -> None:
    """With the same start: the first of all patches is put far away, so that it is the start both times."""
    points = drawn(300, 6)
    points[17] = 100
    torch.manual_seed(0)
    order = farthest_first(points, 60)
    bank = points[order][torch.randperm(60)]
    again = bank[farthest_first(bank, 15)]
    assert torch.equal(again, points[order[:15]])


def test_components_keep_the_distances_that_they_can_and_are_zero_outside() -> None:
    prior = started(bank=60, reduced=99)
    assert prior.reduced == 12
    patches, inside = drawn(2, 3, 4, 12, seed=3), torch.ones(2, 3, 4, dtype=torch.bool)
    whole = prior.reduce(patches, inside).flatten(0, 2)
    plain = patches.flatten(0, 2)
    assert torch.allclose(torch.cdist(whole, whole), torch.cdist(plain, plain), atol=1e-4)
    inside[1, 2] = False
    cut = prior.reduce(patches, inside)
    assert torch.equal(cut[inside], whole.view(2, 3, 4, 12)[inside])
    assert not cut[1, 2].any()


def test_a_bank_smaller_than_classes_and_components_is_enough() -> None:
    prior = started(bank=3)
    components = prior.reduce(drawn(1, 6, 7, 12), torch.ones(1, 6, 7, dtype=torch.bool))
    assert prior.logits(components, ALL).shape == (42, 3)
    assert prior.allowed(components, ALL, 0.5 / 3).shape == (1, 42, 3)


def test_the_loss_is_the_cross_entropy_of_the_cells_inside_the_image() -> None:
    prior = started()
    components, cells = drawn(2, 6, 7, 5), torch.tensor([3, 8])
    logits = prior.logits(components, cells)
    classes = torch.tensor([[4, OUTSIDE], [0, 7]])
    chosen = [logits[0].log_softmax(0)[4], logits[2].log_softmax(0)[0], logits[3].log_softmax(0)[7]]
    expected = -sum(float(x) for x in chosen) / 3
    assert float(prior.loss(components, cells, classes)) == pytest.approx(expected, rel=1e-5)
