import math

import pytest

from blemish.blocks.schedules import half_cosine


def test_half_cosine_falls_from_one_to_zero_through_known_values() -> None:
    factors = [half_cosine(done) for done in (0, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1)]
    assert factors == pytest.approx([1, (2 + math.sqrt(2)) / 4, 3 / 4, 1 / 2, 1 / 4, 0])


def test_half_cosine_falls_alike_before_and_after_the_middle() -> None:
    for done in (0.05, 0.2, 0.4):
        assert half_cosine(0.5 - done) + half_cosine(0.5 + done) == pytest.approx(1)
