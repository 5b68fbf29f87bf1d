from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from blemish.metrics.ranking import auroc, average_precision, count, f1_max, roc_curve

some_scores = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.one_of(st.sampled_from([-1e6, -2.5, 0.0, 1e-7, 20.0, 1e6]), st.floats(-1e6, 1e6, width=32)),
    ),
    min_size=2,
    max_size=60,
)


def both_classes(pairs: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    labels, scores = [label for label, _ in pairs], [score for _, score in pairs]
    assume(0 < sum(labels) < len(labels))
    return labels, scores


def f1_by_hand(labels: list[int], scores: list[float], threshold: float) -> float:
    called = [score >= threshold for score in scores]
    found = sum(label for label, hit in zip(labels, called, strict=True) if hit)
    return 2 * found / (sum(called) + sum(labels))


@settings(deadline=None, max_examples=60)
@given(some_scores)
def test_ranking_metrics_equal_scikit_learn(pairs: list[tuple[int, float]]) -> None:
    labels, scores = both_classes(pairs)
    assert auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=1e-12)
    expected = reference.average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(some_scores)
def test_best_f1_equals_trying_every_threshold(pairs: list[tuple[int, float]]) -> None:
    labels, scores = both_classes(pairs)
    best = f1_max(labels, scores)
    assert best.value == pytest.approx(max(f1_by_hand(labels, scores, score) for score in scores), abs=1e-12)
    assert f1_by_hand(labels, scores, best.threshold) == pytest.approx(best.value, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(some_scores)
def test_roc_curve_equals_scikit_learn(pairs: list[tuple[int, float]]) -> None:
    labels, scores = both_classes(pairs)
    x, y, _ = reference.roc_curve(labels, scores, drop_intermediate=False)
    curve = roc_curve(labels, scores)
    np.testing.assert_allclose(curve.x, x, atol=1e-12)
    np.testing.assert_allclose(curve.y, y, atol=1e-12)


def test_raw_scores_far_above_one_are_not_squashed() -> None:
    """Scores above about 17 all become 1.0 in float32 when a sigmoid is applied; then this would be 0.5."""
    assert auroc([0, 0, 1, 1], [20.0, 25.0, 30.0, 40.0]) == 1.0
    assert average_precision([0, 0, 1, 1], [20.0, 25.0, 30.0, 40.0]) == 1.0
    assert f1_max([0, 0, 1, 1], [20.0, 25.0, 30.0, 40.0]) == (1.0, 30.0)


def test_constant_scores_say_nothing() -> None:
    labels = [0, 0, 0, 1]
    assert auroc(labels, [7.0] * 4) == 0.5
    assert average_precision(labels, [7.0] * 4) == 0.25
    assert f1_max(labels, [7.0] * 4) == (0.4, 7.0)


@pytest.mark.parametrize("metric", [auroc, average_precision, f1_max, roc_curve])
@pytest.mark.parametrize(("labels", "missing"), [([0, 0], "anomalous"), ([1, 1], "normal")])
def test_one_class_is_an_error(
    metric: Callable[[list[int], list[float]], object], labels: list[int], missing: str
) -> None:
    with pytest.raises(ValueError, match=f"needs both classes, but no label is {missing}"):
        metric(labels, [0.1, 0.2])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_scores_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(ValueError, match="finite numbers, but some are NaN or infinite"):
        auroc([0, 1], [0.5, bad])


def test_labels_are_checked() -> None:
    with pytest.raises(ValueError, match=r"must be 0 \(normal\) or 1"):
        auroc([0, 2], [0.5, 0.6])
    with pytest.raises(ValueError, match=r"equal length, got \(2,\) and \(3,\)"):
        auroc([0, 1], [0.5, 0.6, 0.7])


def test_a_thinned_curve_keeps_ends_and_shape() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 5000)
    curve = count(labels, random.normal(size=5000) + labels).roc_curve()
    thin = curve.thinned(500)
    assert 400 < len(thin.x) <= 500
    assert (thin.x[0], thin.y[0], thin.x[-1], thin.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(thin.y, thin.x) == pytest.approx(np.trapezoid(curve.y, curve.x), abs=1e-3)
    assert thin.thinned(500) is thin
