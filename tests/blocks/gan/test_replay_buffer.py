from collections import Counter
from fractions import Fraction
from itertools import product

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from blemish.blocks.gan.replay_buffer import CAPACITY, ReplayBuffer


def numbered(*numbers: float) -> Tensor:
    """Pictures (N, 3, 2, 2), each of one number."""
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None, None].expand(-1, 3, 2, 2).clone()


def numbers(pictures: Tensor) -> list[int]:
    assert (pictures == pictures[:, :1, :1, :1]).all()
    return [int(number) for number in pictures[:, 0, 0, 0]]


def reserved(capacity: int = CAPACITY) -> ReplayBuffer:
    replay = ReplayBuffer(capacity)
    replay.reserve((2, 2))
    return replay


def exact_law(share_new: Fraction) -> dict[tuple[int, int], Fraction]:
    """How likely each answer to pictures 2 and 3 is where 0 and 1 are kept."""
    law: Counter[tuple[int, int]] = Counter()
    for first, second in product((None, 0, 1), repeat=2):
        kept, answers, chance = [0, 1], [], Fraction(1)
        for picture, place in ((2, first), (3, second)):
            chance *= share_new if place is None else (1 - share_new) / 2
            answers.append(picture if place is None else kept[place])
            if place is not None:
                kept[place] = picture
        law[answers[0], answers[1]] += chance  # type: ignore[assignment]
    return dict(law)  # type: ignore[arg-type]


def test_while_there_is_room_the_new_ones_come_back_and_then_at_most_fifty_are_kept() -> None:
    replay = reserved()
    for start in range(0, 48, 6):
        assert numbers(replay.exchange(numbered(*range(start, start + 6)))) == [*range(start, start + 6)]
    assert numbers(replay.exchange(numbered(48, 49, 50)))[:2] == [48, 49]
    for start in range(51, 151, 4):
        replay.exchange(numbered(*range(start, start + 4)))
        assert replay.images.shape == (50, 3, 2, 2)
        assert int(replay.count) == 50
        kept = numbers(replay.images)
        assert len(set(kept)) == 50
        assert max(kept) > 49


def test_half_of_what_comes_back_is_new_in_expectation_and_none_comes_back_twice() -> None:
    torch.manual_seed(0)
    replay = reserved(10)
    replay.exchange(numbered(*range(10)))
    new, returned = 0, []
    for number in range(10, 2010):
        (answer,) = numbers(replay.exchange(numbered(number)))
        new += answer == number
        returned.append(answer)
    assert abs(new - 1000) < 4 * (2000 / 4) ** 0.5
    assert len(set(returned)) == len(returned)


def test_the_law_of_the_exchange_is_the_exact_one_and_no_other() -> None:
    torch.manual_seed(0)
    runs, seen = 2000, Counter[tuple[int, ...]]()
    for _ in range(runs):
        replay = reserved(2)
        replay.exchange(numbered(0, 1))
        seen[tuple(numbers(replay.exchange(numbered(2, 3))))] += 1
    right, wrong = (exact_law(share) for share in (Fraction(1, 2), Fraction(3, 5)))
    assert seen.keys() == right.keys()

    def p_value(law: dict[tuple[int, int], Fraction]) -> float:
        expected = [float(law[key] * runs) for key in sorted(law)]
        return float(chisquare([seen[key] for key in sorted(law)], expected).pvalue)

    assert p_value(right) > 1e-3
    assert p_value(wrong) < 1e-4


def test_what_comes_back_has_no_gradient_and_stays_as_it_is() -> None:
    torch.manual_seed(0)
    replay = reserved(1)
    replay.exchange(numbered(7).requires_grad_())
    answers = [replay.exchange(numbered(7 + step).requires_grad_()) for step in range(1, 20)]
    assert not any(answer.requires_grad for answer in [*answers, replay.images])
    kept, expected = 7, []
    torch.manual_seed(0)
    for step in range(1, 20):
        is_new = bool(torch.rand(()) < 0.5)
        expected.append(7 + step if is_new else kept)
        if not is_new:
            torch.randint(1, ())
            kept = 7 + step
    assert [numbers(answer)[0] for answer in answers] == expected


@pytest.mark.parametrize("filled", [2, 5])
def test_its_state_goes_on_in_another_one(filled: int) -> None:
    replay, other = reserved(4), reserved(4)
    replay.exchange(numbered(*range(filled)))
    other.load_state_dict(replay.state_dict())
    answers = []
    for each in (replay, other):
        torch.manual_seed(1)
        answers.append(numbers(each.exchange(numbered(10, 11, 12, 13, 14))))
    assert answers[0] == answers[1]
    assert torch.equal(replay.images, other.images)


def test_clear_keeps_nothing() -> None:
    replay = reserved(4)
    replay.exchange(numbered(1, 2))
    replay.clear()
    assert replay.images.numel() == 0
    assert int(replay.count) == 0
