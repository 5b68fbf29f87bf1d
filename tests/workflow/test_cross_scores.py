"""Folds, what is learned in which pass, and scores that are comparable between folds."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.data.images import write_image
from blemish.scoring import Scored, Scorer
from blemish.types import Progress, Sample, no_progress
from blemish.workflow import cross_scores as module
from blemish.workflow.cross_scores import ALWAYS_LEARNED, Recipe, assign_folds, cross_scores, standardised
from tiny_product import SMALL, draw_part, normal_samples

AVERAGE = Recipe("average", {"gain": 2.0}, SMALL, 0, "cpu")


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[set[Path]]:
    """The images that each model learned from, in the order of the fits."""
    fits: list[set[Path]] = []
    fit = Recipe.scorer

    def watched(recipe: Recipe, samples: Sequence[Sample], progress: Progress) -> Scorer:
        fits.append({sample.path for sample in samples})
        return fit(recipe, samples, progress)

    monkeypatch.setattr(module.Recipe, "scorer", watched)
    return fits


@given(st.integers(5, 40), st.integers(2, 5), st.integers(0, 3))
def test_folds_are_balanced_and_groups_share_theirs(count: int, folds: int, seed: int) -> None:
    groups = [[0, 3], [1, 2, 4]]
    fold_of = assign_folds(groups, range(count), folds, seed)
    assert all(len({fold_of[number] for number in group}) == 1 for group in groups)
    sizes = Counter(fold_of)
    assert max(sizes.values()) - min(sizes[fold] for fold in range(folds)) <= 3  # the largest group


def test_folds_depend_on_the_seed_only() -> None:
    first, again, other = (assign_folds([], range(20), 5, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_no_image_is_scored_by_a_model_that_learned_from_it(tmp_path: Path, learned: list[set[Path]]) -> None:
    samples = normal_samples(tmp_path, 12)
    fold_of = np.arange(12) % 3
    taken: list[tuple[int, int, Path | None]] = []

    def take(fold: int, number: int, scored: Scored) -> None:
        taken.append((fold, number, scored.path))

    found = cross_scores(AVERAGE, samples, fold_of, [], take, no_progress)
    assert len(learned) == 6  # three folds, two passes
    for fold in range(3):
        others = {sample.path for sample, own in zip(samples, fold_of.tolist(), strict=True) if own != fold}
        assert learned[fold] == others
        assert learned[3 + fold] < others | {samples[0].path}
    assert sorted(number for _, number, _ in taken) == list(range(12))
    assert all(samples[number].path == path and fold == number % 3 for fold, number, path in taken)
    assert np.isfinite(found.z).all()


def test_the_second_pass_does_not_learn_from_the_highest_scores_of_the_first(
    tmp_path: Path, learned: list[set[Path]]
) -> None:
    samples = normal_samples(tmp_path, 12)
    worst = normal_samples(tmp_path, 12)[7].path
    write_image(worst, draw_part(7, defect=1.0))
    found = cross_scores(AVERAGE, samples, np.arange(12) % 3, [], lambda *_: None, no_progress)
    assert int(found.z.argmax()) == 7
    left_out = {sample.path for sample in samples} - learned[3] - learned[4] - learned[5]
    assert len(left_out) == 2  # 15 % of 12, rounded up
    assert worst in left_out


def test_copies_are_left_out_together_and_something_is_left_to_learn_from(
    tmp_path: Path, learned: list[set[Path]]
) -> None:
    """Of few images with many copies, the highest scores can be all that a model would learn from."""
    samples = normal_samples(tmp_path, 12)
    for number in range(8):
        write_image(samples[number].path, draw_part(0))
    copies = [list(range(8))]
    fold_of = np.array(assign_folds(copies, range(12), 5, 0))
    found = cross_scores(AVERAGE, samples, fold_of, copies, lambda *_: None, no_progress)
    assert np.isfinite(found.z).all()
    paths = [sample.path for sample in samples]
    for second in learned[5:]:
        assert len(second & set(paths[:8])) in (0, 8)
        assert len(second - set(paths[:8])) >= 2 or second & set(paths[:8])
    left_out = set(paths).difference(*learned[5:])
    assert len(left_out) in (1, 8)  # 15 % of 5 different images


def test_few_different_images_are_all_learned_where_others_would_be_missing(
    tmp_path: Path, learned: list[set[Path]]
) -> None:
    samples = normal_samples(tmp_path, 3)
    fold_of = np.arange(3)
    cross_scores(AVERAGE, samples, fold_of, [], lambda *_: None, no_progress)
    assert [len(paths) for paths in learned] == [2] * 6


def test_images_that_are_always_learned_are_not_scored(tmp_path: Path, learned: list[set[Path]]) -> None:
    samples = normal_samples(tmp_path, 6)
    fold_of = np.array([ALWAYS_LEARNED, ALWAYS_LEARNED, 0, 0, 1, 1])
    found = cross_scores(AVERAGE, samples, fold_of, [], lambda *_: None, no_progress)
    assert np.isnan(found.scores).tolist() == [True, True, False, False, False, False]
    assert np.isnan(found.z).tolist() == np.isnan(found.scores).tolist()
    assert all({samples[0].path, samples[1].path} <= fit for fit in learned)


def test_large_folds_are_standardised_each_by_itself() -> None:
    numbers = np.random.default_rng(0).normal(size=100)
    fold_of = np.arange(100) % 2
    other_scale = np.where(fold_of == 1, 1000 + 50 * numbers, numbers)
    z = standardised(other_scale, fold_of)
    assert z == pytest.approx(standardised(numbers, fold_of))
    for fold in (0, 1):
        part = z[fold_of == fold]
        assert np.median(part) == pytest.approx(0)
        assert 1.4826 * np.median(np.abs(part)) == pytest.approx(1)


def test_small_folds_are_standardised_together() -> None:
    scores = np.array([1.0, 2, 3, 4, 100])
    assert standardised(scores, np.array([0, 1, 0, 1, 0])) == pytest.approx((scores - 3) / 1.4826)
