import math

import pytest
import torch
from torch import Tensor

from blemish.blocks.memory.image_retrieval import ImageRetrieval, block_histograms, trimmed_divergence

WORDS = 3


@pytest.fixture
def codes() -> Tensor:
    return torch.randint(WORDS, (4, 11, 17), generator=torch.Generator().manual_seed(0))


def test_histograms_by_brute_force(codes: Tensor) -> None:
    found = block_histograms(codes, WORDS)
    assert found.shape == (4, 25, WORDS)
    for image in range(4):
        counts = torch.zeros(5, 5, WORDS)
        for y in range(11):
            for x in range(17):
                counts[y * 5 // 11, x * 5 // 17, codes[image, y, x]] += 1
        assert torch.allclose(found[image].view(5, 5, WORDS), counts / counts.sum(2, keepdim=True))


def test_blocks_without_cells_do_not_count() -> None:
    found = block_histograms(torch.zeros(1, 2, 3, dtype=torch.int64), 1)
    assert int(found.sum()) == 6
    assert float(trimmed_divergence(found, found)) == 0


def test_the_divergence_is_the_sum_over_the_best_blocks_by_brute_force(codes: Tensor) -> None:
    queries, references = block_histograms(codes[:2], WORDS), block_histograms(codes[2:], WORDS)
    found = trimmed_divergence(queries, references)
    for n in range(2):
        for m in range(2):
            blocks = []
            for block in range(25):
                p, q = (h[block].double().tolist() for h in (queries[n], references[m]))
                blocks.append(sum(p[k] * math.log((p[k] + 1e-8) / (q[k] + 1e-8)) for k in range(WORDS)))
            assert float(found[n, m]) == pytest.approx(sum(sorted(blocks)[:20]), rel=1e-5)


def test_the_divergence_is_that_of_the_query_from_the_reference() -> None:
    """A word that only the reference has costs little, one that only the query has costs much."""
    one = block_histograms(torch.zeros(1, 10, 10, dtype=torch.int64), 2)
    both = block_histograms((torch.arange(100).view(1, 10, 10) % 2), 2)
    assert float(trimmed_divergence(one, both)) == pytest.approx(20 * math.log(2), rel=1e-4)
    assert float(trimmed_divergence(both, one)) > 100


def scene(turns: int, seed: int) -> Tensor:
    """Features (1, 2, 20, 20) of an L-shaped part, turned by 90° so many times."""
    part = torch.zeros(20, 20)
    part[3:17, 3:8] = part[12:17, 3:17] = 1
    noise = 0.1 * torch.randn(1, 2, 20, 20, generator=torch.Generator().manual_seed(seed))
    return torch.stack([part.rot90(turns), 1 - part.rot90(turns)])[None] + noise


def retrieval(images: Tensor) -> ImageRetrieval:
    torch.manual_seed(0)
    found = ImageRetrieval()
    found.learn_words(images.movedim(1, 3).flatten(0, 2))
    found.histograms = found.describe(images, torch.ones(len(images), 20, 20, dtype=torch.bool))
    return found


def test_images_of_the_same_orientation_are_found() -> None:
    stored = torch.cat([scene(k % 4, seed=k) for k in range(16)])
    found = retrieval(stored)
    inside = torch.ones(1, 20, 20, dtype=torch.bool)
    for turns in range(4):
        query = scene(turns, seed=100 + turns)
        query[:, :, 8:12, 8:12] = 0.5  # a defect
        nearest = found.nearest(found.describe(query, inside), 4)
        assert sorted(nearest[0].tolist()) == [turns, turns + 4, turns + 8, turns + 12]


def test_each_cell_is_counted_as_its_nearest_word_or_as_outside() -> None:
    found = retrieval(torch.cat([scene(k % 4, seed=k) for k in range(4)]))
    image, inside = scene(1, seed=9), torch.zeros(1, 20, 20, dtype=torch.bool)
    inside[:, :, 5:] = True
    distances = torch.cdist(image.movedim(1, 3).flatten(0, 2), found.words)
    codes = torch.where(inside.flatten(), distances.argmin(1), len(found.words)).view(1, 20, 20)
    assert torch.equal(found.describe(image, inside), block_histograms(codes, len(found.words) + 1))


def test_the_first_of_equal_images_are_found() -> None:
    found = retrieval(scene(0, seed=0).expand(9, -1, -1, -1))
    assert found.nearest(found.histograms[:2], 3).tolist() == [[0, 1, 2], [0, 1, 2]]
