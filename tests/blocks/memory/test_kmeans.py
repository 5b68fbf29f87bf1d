import torch
from sklearn.cluster import KMeans

from blemish.blocks.memory.kmeans import kmeans, nearest_centre


def blobs(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(8, 5, generator=generator)
    return (centres[:, None] + torch.randn(8, 40, 5, generator=generator)).flatten(0, 1)


def test_every_point_belongs_to_its_nearest_centre() -> None:
    points = blobs()
    torch.manual_seed(0)
    centres, members = kmeans(points, 8)
    assert torch.equal(members, torch.cdist(points.double(), centres.double()).argmin(1))


def test_clusters_are_about_as_tight_as_scikit_learn_s_from_the_same_start() -> None:
    points = blobs()
    torch.manual_seed(3)
    start = points[torch.randperm(len(points))[:8]]
    torch.manual_seed(3)
    centres, members = kmeans(points, 8, rounds=50)
    ours = float((points - centres[members]).square().sum())
    theirs = (
        KMeans(8, init=start.numpy(), n_init=1, max_iter=50, algorithm="lloyd").fit(points.numpy()).inertia_
    )
    assert ours <= 1.01 * theirs


def test_empty_clusters_are_dropped() -> None:
    points = torch.tensor([[0.0], [0.0], [0.0], [5.0]])
    torch.manual_seed(0)
    centres, members = kmeans(points, 4)
    assert len(centres) == 2
    assert sorted(torch.bincount(members).tolist()) == [1, 3]


def test_blocks_do_not_change_the_nearest_centre() -> None:
    points, centres = blobs(1), blobs(2)[:50]
    assert torch.equal(nearest_centre(points, centres), torch.cdist(points, centres).argmin(1))
