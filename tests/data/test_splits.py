"""Held-out samples: a stable partition that depends on the seed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.splits import hold_out
from blemish.errors import DataError
from blemish.types import Sample


def samples_named(names: list[str]) -> list[Sample]:
    return [Sample(Path(f"{name}.png"), 0, "train") for name in names]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 9999), min_size=2, max_size=60, unique=True),
    st.floats(0.001, 0.999),
    st.integers(0, 2**31),
    st.randoms(use_true_random=False),
)
def test_hold_out_is_a_stable_partition(names: list[int], share: float, seed: int, random: "object") -> None:
    samples = samples_named([str(name) for name in names])
    learned, held = hold_out(samples, share, seed)
    assert {*learned, *held} == set(samples)
    assert len(learned) + len(held) == len(samples)
    assert len(held) == min(max(1, round(share * len(samples))), len(samples) - 1)
    random.shuffle(samples)  # type: ignore[attr-defined]
    assert hold_out(samples, share, seed) == (learned, held)


def test_hold_out_depends_on_the_seed_and_needs_two() -> None:
    samples = samples_named([str(index) for index in range(40)])
    assert len({hold_out(samples, seed=seed)[1] for seed in range(5)}) == 5
    assert len(hold_out(samples)[1]) == 4
    for count in (0, 1):
        with pytest.raises(
            DataError, match=rf"Found {count} different normal training image\(s\), but at least 2 are needed"
        ):
            hold_out(samples[:count])
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="share to hold out must lie between 0 and 1"):
            hold_out(samples, share)
