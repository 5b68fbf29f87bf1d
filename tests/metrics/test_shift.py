"""Normal test images that score higher than those of the thresholds are told from those that do not."""

import numpy as np
import pytest

from blemish.metrics.shift import Shift


def test_scores_of_one_kind_are_hardly_ever_said_to_be_higher() -> None:
    rng = np.random.default_rng(0)
    draws = [
        Shift.of(rng.exponential(size=50), 50, rng.exponential(size=30), holds=False) for _ in range(1000)
    ]
    assert sum(shift is not None and shift.is_clear for shift in draws) <= 10 + 3 * np.sqrt(10)


@pytest.mark.parametrize(("groups", "of"), [(20, 5), (9, 10)])
def test_neither_are_those_in_groups(groups: int, of: int) -> None:
    rng, clear = np.random.default_rng(0), 0
    for _ in range(1000):
        learned = np.repeat(rng.normal(size=groups), of) + rng.normal(size=groups * of)
        test = np.repeat(rng.normal(size=20), 4) + rng.normal(size=80)
        shift = Shift.of(learned, groups, test, holds=False)
        assert shift is not None
        clear += shift.is_clear
    assert clear <= 10 + 3 * np.sqrt(10)


def test_higher_scores_are_named_with_both_medians() -> None:
    rng = np.random.default_rng(0)
    shift = Shift.of(rng.normal(5, 1, 40), 40, rng.normal(8, 1, 30), holds=False)
    assert shift is not None
    assert shift.is_clear
    assert not shift._replace(holds=True).is_clear
    text = str(shift)
    assert text.startswith(
        "Normal test images score higher than the normal images that the thresholds rest on: median "
    )
    assert f"median {shift.median:.4g} against {shift.learned_median:.4g}" in text


def test_lower_scores_are_no_shift_and_too_few_are_not_compared() -> None:
    shift = Shift.of([5.0, 6, 7, 8], 4, [1.0, 2, 3, 4], holds=False)
    assert shift is not None
    assert not shift.is_clear
    assert Shift.of([5.0, 6, 7, 8], 2, [1.0, 2, 3, 4], holds=False) is None
    assert Shift.of([5.0, 6, 7, 8], 4, [9.0, 9], holds=False) is None
    equal = Shift.of([1.0] * 4, 4, [1.0] * 4, holds=False)
    assert equal is not None
    assert equal.p == 1
