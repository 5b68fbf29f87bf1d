"""Runs are found where there are some, and not where there are none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.metrics.runs import find_runs

Vectors = NDArray[np.float32]


def in_runs(rng: np.random.Generator, lengths: list[int], own: float) -> Vectors:
    """Vectors of runs, whose images deviate by `own` from that of the run."""
    shared = np.repeat(rng.standard_normal((len(lengths), 20)), lengths, axis=0)
    return (shared + own * rng.standard_normal(shared.shape)).astype(np.float32)


@pytest.mark.parametrize("own", [0.05, 0.5])
@pytest.mark.parametrize("lengths", [[10] * 9, [6, 12, 9, 15, 8, 10], [30, 30]])
def test_runs_end_where_they_were_drawn(own: float, lengths: list[int]) -> None:
    runs = find_runs(in_runs(np.random.default_rng(0), lengths, own))
    ends = {run[-1] + 1 for run in runs}
    assert set(np.cumsum(lengths).tolist()) <= ends
    assert [number for run in runs for number in run] == list(range(sum(lengths)))


def test_independent_images_are_hardly_ever_taken_for_runs() -> None:
    rng = np.random.default_rng(0)
    found = sum(len(find_runs(rng.standard_normal((60, 12)).astype(np.float32), s)) < 60 for s in range(200))
    assert found <= 5


def test_a_drift_without_breaks_is_divided_as_far_as_neighbours_resemble_each_other() -> None:
    walk = np.cumsum(np.random.default_rng(0).standard_normal((90, 20)), 0).astype(np.float32)
    lengths = [len(run) for run in find_runs(walk)]
    assert 2 <= len(lengths) <= 10
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("count", [1, 2, 9])
def test_few_images_are_no_runs(count: int) -> None:
    assert find_runs(np.zeros((count, 3), np.float32)) == [[number] for number in range(count)]


def test_equal_images_are_no_runs() -> None:
    assert len(find_runs(np.ones((30, 4), np.float32))) == 30
