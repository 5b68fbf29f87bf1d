import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.blocks.memory.epsilon_net import break_closest_pairs, first_come


@settings(deadline=None, max_examples=20)
@given(st.integers(5, 60), st.integers(0, 2**31), st.data())
def test_breaking_closest_pairs_leaves_as_many_as_asked_and_first_ones_of_pairs(
    count: int, seed: int, data: st.DataObject
) -> None:
    points = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
    away = data.draw(st.integers(0, count - 2))
    left = break_closest_pairs(points, away)
    assert len(left) == count - away
    assert torch.equal(left, left.unique())
    if away == 1:
        distances = torch.cdist(points.double(), points.double()) + torch.eye(count) * 1e9
        pair = int(distances.argmin()) // count, int(distances.argmin()) % count
        assert set(range(count)) - set(left.tolist()) == {max(pair)}


def test_first_come_is_a_net_of_brute_force() -> None:
    points = torch.randn(400, 3, generator=torch.Generator().manual_seed(5))
    near = (torch.cdist(points, points) <= 0.8).numpy()
    kept = first_come(near)
    expected: list[int] = []
    for i in range(400):
        if not any(near[i, j] for j in expected):
            expected.append(i)
    assert kept.tolist() == expected
