"""Held-out samples: a stable partition that depends on the seed."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.data.splits import draw_shots, hold_out
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


def test_shots_are_drawn_by_the_seed_and_all_others_held_out() -> None:
    samples = samples_named([str(index) for index in range(20)])
    two, four = (draw_shots(samples, shots, seed=3) for shots in (2, 4))
    for shots, (learned, held) in ((2, two), (4, four)):
        assert len(learned) == shots
        assert sorted([*learned, *held], key=lambda sample: int(sample.path.stem)) == samples
    assert {*two[0]} < {*four[0]}
    assert draw_shots(samples[::-1], 4, seed=3) == four
    assert len({draw_shots(samples, 4, seed)[0] for seed in range(5)}) == 5
    assert len(draw_shots(samples, 19)[1]) == 1


def test_shots_that_are_too_many_or_too_few() -> None:
    samples = samples_named(["a", "b", "c"])
    for shots in (3, 7):
        with pytest.raises(
            DataError,
            match=rf"^--shots {shots} \(shots={shots}\) needs normal images of other groups for the thresholds, beside "
            r"those to learn from, but there are 3 different ones in 3 groups\. Lower --shots \(shots=\), or add "
            r"normal images\.$",
        ):
            draw_shots(samples, shots)
    for wrong in (0, -1, 1.5, "2"):
        with pytest.raises(ValueError, match="The number of shots must be a whole number from 1, got "):
            draw_shots(samples, wrong)  # type: ignore[arg-type]


def test_groups_are_not_parted() -> None:
    samples = samples_named([f"{number:02}" for number in range(20)])
    groups = [number // 4 for number in range(20)]
    for seed in range(5):
        learned, held = hold_out(samples, 0.2, seed, groups)
        parts = [{int(sample.path.stem) // 4 for sample in part} for part in (learned, held)]
        assert len(held) == 4
        assert not parts[0] & parts[1]


def test_the_smallest_group_is_held_out_if_there_is_no_room_for_any() -> None:
    samples = samples_named([f"{number:02}" for number in range(10)])
    learned, held = hold_out(samples, 0.1, 0, [0] * 6 + [1] * 4)
    assert [sample.path.stem for sample in held] == ["06", "07", "08", "09"]
    assert len(learned) == 6
